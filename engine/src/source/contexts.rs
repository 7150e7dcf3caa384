//! The client's directories that a build reads.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use cache::Store;
use llb::{LocalSource, VertexId};
use registry::chain;

use crate::blocking::blocking;
use crate::client::{Client, Fetched};
use crate::error::BuildError;
use crate::machine::Machine;
use crate::progress::steps::Steps;
use crate::tree::{self, View};

/// Where the files of a local context are.
#[derive(Debug, Clone)]
pub(crate) enum Directory {
    /// The client's own files, read in place: they are root's in the build, and the ignore file hides some.
    InPlace(PathBuf),
    /// The same on another machine, by its name there.
    Distant(String),
    /// What an archive held, with the owners that it names; nothing of it is hidden.
    Unpacked(PathBuf),
}

/// Contexts as one attempt at a build sees them: each file as it was when it was first looked at.
pub(crate) struct Contexts {
    machine: Arc<Machine>,
    client: Arc<dyn Client>,
    /// Those that are at hand already, by name.
    directories: BTreeMap<String, Directory>,
    views: Mutex<HashMap<VertexId, Arc<View>>>,
}

impl Contexts {
    /// Of these directories, by name, and of others that the client has.
    pub(crate) fn new(
        machine: Arc<Machine>,
        client: Arc<dyn Client>,
        directories: BTreeMap<String, Directory>,
    ) -> Self {
        Self { machine, client, directories, views: Mutex::default() }
    }

    /// Where the client has those that are its own files.
    pub(crate) fn directories_in_place(&self) -> impl Iterator<Item = &Path> {
        self.directories.values().filter_map(|directory| match directory {
            Directory::InPlace(path) => Some(path.as_path()),
            Directory::Distant(name) => Some(Path::new(name)),
            Directory::Unpacked(_) => None,
        })
    }

    /// The view of a local context; one a vertex. Only `paths` are read of it; `told` hears what
    /// is fetched.
    pub(crate) async fn view(
        &self,
        store: &Store,
        vertex: VertexId,
        local: &LocalSource,
        paths: Option<Vec<String>>,
        told: Fetched,
    ) -> Result<Arc<View>, BuildError> {
        if let Some(view) = self.views.lock().expect("no panic while held").get(&vertex) {
            return Ok(view.clone());
        }
        let known = self.directories.get(&local.name).cloned();
        let (local, store) = (local.clone(), store.clone());
        let (machine, client) = (self.machine.clone(), self.client.clone());
        let view = blocking(move || {
            let directory = match known {
                Some(Directory::Distant(name)) => {
                    let follow_paths = paths.unwrap_or_default();
                    let part = LocalSource { name, follow_paths, ..local.clone() };
                    Directory::InPlace(client.local(&part, &told)?)
                }
                Some(directory) => directory,
                None => Directory::InPlace(client.local(&local, &told)?),
            };
            let patterns = local.exclude_patterns;
            let view = match directory {
                Directory::InPlace(directory) => {
                    let index = cache::StatIndex::load(&store, &directory);
                    tree::view_of_context(&directory, patterns, Some(index))
                }
                Directory::Distant(_) => unreachable!("it was fetched"),
                Directory::Unpacked(directory) => {
                    tree::view_of_layers(machine.host(), &[directory])
                }
            };
            view.map_err(BuildError::from)
        })
        .await?;
        let view = Arc::new(view);
        self.views.lock().expect("no panic while held").insert(vertex, view.clone());
        Ok(view)
    }

    /// Ends what still reads contexts: the process would wait for it at its end.
    pub(crate) fn abandon(&self) {
        self.views.lock().expect("no panic while held").values().for_each(|view| view.abandon());
    }

    /// Writes back what was learnt of the contexts' files.
    pub(crate) async fn save_indexes(&self, steps: &Arc<Steps>) {
        let views: Vec<Arc<View>> = {
            let views = self.views.lock().expect("no panic while held");
            views.values().filter(|view| view.index_has_news()).cloned().collect()
        };
        if views.is_empty() {
            return;
        }
        let steps = steps.clone();
        let saved = blocking(move || {
            for view in views {
                if let Err(error) = view.save_index() {
                    steps
                        .warn(format!("the next build reads the context again: {}", chain(&error)));
                }
            }
            Ok(())
        });
        saved.await.expect("warnings only");
    }
}
