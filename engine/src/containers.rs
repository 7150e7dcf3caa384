//! Containers that stay when their command has ended: listed, removed, and made images of.

mod changes;
mod commit;

use cache::{ContainerRecord, Store};

use crate::blocking::blocking;
use crate::error::BuildError;
use crate::workspace::Workspace;

pub use cache::{Container as StoredContainer, ContainerState};
pub use commit::CommitRequest;

/// Containers that an error names.
const NAMED_IN_ERRORS: usize = 3;

/// What came of [`Workspace::prune_containers`].
#[derive(Debug, Clone, Default)]
pub struct PrunedContainers {
    /// Those that were removed, or would be.
    pub containers: Vec<ContainerRecord>,
    /// Bytes that they had.
    pub freed: u64,
}

impl Workspace {
    /// All containers, the newest first.
    pub async fn containers(&self) -> Result<Vec<StoredContainer>, BuildError> {
        let store = self.store.clone();
        blocking(move || store.containers().map_err(failed)).await
    }

    /// Removes the container that has this name, or whose id begins so. It must not run.
    pub async fn remove_container(&self, text: &str) -> Result<(), BuildError> {
        let (store, text) = (self.store.clone(), text.to_owned());
        blocking(move || {
            let container = named(&store, &text)?;
            match store.remove_container(&container).map_err(failed)? {
                Some(_) => Ok(()),
                None => Err(running(&container)),
            }
        })
        .await
    }

    /// Removes the containers that `takes` chooses and that do not run; with `dry_run` only says which.
    pub async fn prune_containers(
        &self,
        takes: impl Fn(&ContainerRecord) -> bool + Send + 'static,
        dry_run: bool,
    ) -> Result<PrunedContainers, BuildError> {
        let store = self.store.clone();
        blocking(move || {
            let mut pruned = PrunedContainers::default();
            for container in store.containers().map_err(failed)? {
                if !takes(&container.record) || container.is_running() {
                    continue;
                }
                let freed = match dry_run {
                    true => Some(container.bytes()),
                    false => store.remove_container(&container).map_err(failed)?,
                };
                // Nothing, if it has just been started.
                if let Some(freed) = freed {
                    pruned.freed += freed;
                    pruned.containers.push(container.record);
                }
            }
            if !dry_run {
                pruned.freed += store.remove_damaged_containers().map_err(failed)?;
            }
            Ok(pruned)
        })
        .await
    }
}

/// The container that has this name, or whose id begins so.
pub(crate) fn find(store: &Store, text: &str) -> Result<Option<StoredContainer>, BuildError> {
    store.container(text).map_err(failed)
}

fn named(store: &Store, text: &str) -> Result<StoredContainer, BuildError> {
    if let Some(container) = find(store, text)? {
        return Ok(container);
    }
    let known = store.containers().map_err(failed)?;
    let names: Vec<&str> = known.iter().map(|container| container.record.name.as_str()).collect();
    let hint = match names.as_slice() {
        [] => "`mybuild run --name NAME` leaves one".to_owned(),
        names if names.len() <= NAMED_IN_ERRORS => format!("there is {}", names.join(", ")),
        names => format!("`mybuild ps -a` shows the {} there are", names.len()),
    };
    Err(BuildError::input(format!("no container `{text}` in the store")).with_hint(hint))
}

fn running(container: &StoredContainer) -> BuildError {
    BuildError::refused(format!("container `{}` is running", container.record.name))
        .with_hint("end its command first")
}

fn failed(error: cache::StoreError) -> BuildError {
    BuildError::system("failed to use the store's containers").because(error)
}
