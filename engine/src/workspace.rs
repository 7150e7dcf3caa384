//! A store in use.

use std::sync::Arc;

use cache::{PruneFilter, Snapshotter, Store};
use oci::Reference;
use registry::{Registries, chain};
use tokio_util::sync::CancellationToken;

use crate::blocking::blocking;
use crate::client::Client;
use crate::error::BuildError;
use crate::gc;
use crate::machine::Machine;
use crate::progress::steps::Steps;
use crate::source::http::{Fetching, HttpFiles};
use crate::step::sandbox::Sandbox;

/// The store, open for one piece of work, and what it takes to do it.
pub struct Workspace {
    pub(crate) store: Store,
    pub(crate) registries: registry::Config,
    pub(crate) machine: Arc<Machine>,
    pub(crate) sandbox: Arc<Sandbox>,
    /// What the store keeps to.
    pub(crate) rules: Arc<[PruneFilter]>,
}

impl Workspace {
    /// Says that the program ends once `cancel` is cancelled: from then on nothing waits for the disk for more
    /// than a moment. What the store could not commit by then has to be done again, what it could not remove
    /// goes with the next session.
    pub fn ends_with(&self, cancel: &CancellationToken) {
        let (stopper, cancel) = (self.store.stopper(), cancel.clone());
        tokio::spawn(async move {
            cancel.cancelled().await;
            stopper.stop();
        });
    }

    /// Registries as this client may use them.
    pub(crate) fn registries(&self, client: &dyn Client) -> Arc<Registries> {
        Arc::new(Registries::new(self.registries.clone(), client.credentials()))
    }

    /// The same for a push. If it is `insecure`, those of `names` may speak plain HTTP, or show a certificate
    /// that nobody trusts.
    pub(crate) fn registries_for_push(
        &self,
        client: &dyn Client,
        names: &[Reference],
        insecure: bool,
    ) -> Arc<Registries> {
        let mut config = self.registries.clone();
        for name in names.iter().filter(|_| insecure) {
            config.trust_blindly(name.domain());
        }
        Arc::new(Registries::new(config, client.credentials()))
    }

    /// What a build of this client fetches over HTTP, each file of at most `size_max` bytes; nothing
    /// where it is `offline`.
    pub(crate) fn http_files(
        &self,
        client: &Arc<dyn Client>,
        offline: bool,
        size_max: Option<u64>,
    ) -> Arc<HttpFiles> {
        let (store, machine) = (self.store.clone(), self.machine.clone());
        let how = Fetching { limits: self.registries.limits.clone(), offline, size_max };
        Arc::new(HttpFiles::new(store, machine, client.clone(), how))
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn tell_store_warnings(&self, steps: &Steps) {
        for warning in self.store.take_warnings() {
            steps.warn(chain(&warning));
        }
    }

    /// What the steps have written may be more than the store is to keep.
    pub(crate) fn make_room_again(&self) {
        if self.store.has_made_room() {
            gc::make_room(&self.store, &self.rules);
        }
    }

    pub(crate) async fn flush(&self) -> Result<(), BuildError> {
        if !self.store.is_dirty() {
            return Ok(());
        }
        let store = self.store.clone();
        let failed = |e| BuildError::system("failed to write to the store").because(e);
        blocking(move || store.flush().map_err(failed)).await
    }

    /// How layers are put together here. The first time in a store that is tried.
    pub(crate) async fn snapshotter(&self) -> Result<Snapshotter, BuildError> {
        let (store, machine) = (self.store.clone(), self.machine.clone());
        match machine.known_snapshotter(&store) {
            Some(known) => Ok(known),
            None => blocking(move || machine.snapshotter(&store)).await,
        }
    }

    pub(crate) async fn tell_snapshotter(&self, steps: &Steps) -> Result<(), BuildError> {
        if self.snapshotter().await? == Snapshotter::Copy {
            let root = self.store.root().display();
            steps.warn(format!(
                "overlay mounts do not work in `{root}`: files are copied for every step"
            ));
        }
        Ok(())
    }
}
