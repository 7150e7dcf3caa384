//! What cache mounts held elsewhere, brought here before the first step that mounts one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use cache::{Allowance, Store};
use futures_util::{StreamExt as _, TryStreamExt as _};
use oci::{Descriptor, Digest};
use registry::chain;
use remote_cache::{Contents, Index, Place, Unbundle};
use tokio::sync::OwnedMutexGuard;

use super::Source;
use crate::progress::event::StepId;

/// Blobs that are fetched at once.
const AT_ONCE: usize = 6;

/// Contents of cache mounts in the caches of one build.
#[derive(Default)]
pub(crate) struct SharedMounts {
    pub(super) sources: Vec<Arc<MountSource>>,
    /// Ids of the mounts that steps had, where somebody wants to know.
    pub(super) used: Option<Mutex<BTreeSet<String>>>,
    /// Held while a mount is brought here.
    bringing: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// What is to be empty at first, whatever a cache has.
    emptied: Mutex<BTreeSet<String>>,
}

/// What one cache has.
pub(super) struct MountSource {
    source: Arc<Source>,
    /// For each mount the newest, and what was written at the same time, the newest first.
    contents: BTreeMap<String, Vec<Contents>>,
    /// It has shown that what it says does not hold.
    is_broken: AtomicBool,
}

/// What a cache mount held, ready to be put into its directory.
pub(crate) struct Brought {
    /// The mount's.
    pub(crate) id: String,
    from: Arc<MountSource>,
    /// The newest first.
    archives: Vec<Archive>,
    /// Names of everything that it came from.
    names: Vec<String>,
    /// Nobody else brings the same meanwhile.
    _alone: OwnedMutexGuard<()>,
}

struct Archive {
    index: Index,
    bundles: Vec<File>,
}

impl SharedMounts {
    pub(super) fn new(is_written: bool) -> Self {
        Self { used: is_written.then(Mutex::default), ..Self::default() }
    }

    /// Takes note of what a cache has.
    pub(super) fn add(&mut self, source: &Arc<Source>, all: Vec<Contents>) {
        let mut contents: BTreeMap<String, Vec<Contents>> = BTreeMap::new();
        for one in all {
            contents.entry(one.id.clone()).or_default().push(one);
        }
        if !contents.is_empty() {
            let source = source.clone();
            let is_broken = AtomicBool::new(false);
            self.sources.push(Arc::new(MountSource { source, contents, is_broken }));
        }
    }

    /// Mounts of these ids, whatever they were first filled from, begin empty in this build.
    pub(crate) fn begin_empty(&self, ids: &BTreeSet<String>) {
        self.emptied.lock().expect("no panic while held").extend(ids.iter().cloned());
    }

    /// Takes note that a step has the mount `id`; if the store has none, fetches what the first cache that knows it
    /// says that it held. What a cache does not have is not there, with a warning.
    pub(crate) async fn bring(&self, store: &Store, id: &str) -> Option<Brought> {
        if let Some(used) = &self.used {
            used.lock().expect("no panic while held").insert(id.to_owned());
        }
        let is_known = |from: &&Arc<MountSource>| from.contents.contains_key(id);
        if !self.sources.iter().any(|from| is_known(&from)) || self.begins_empty(id) {
            return None;
        }
        let alone = self.turn(id).lock_owned().await;
        if store.has_cache_mount(id) {
            return None;
        }
        for from in self.sources.iter().filter(is_known) {
            if let Some((archives, names)) = from.fetch(id).await {
                let (id, from) = (id.to_owned(), from.clone());
                return Some(Brought { id, from, archives, names, _alone: alone });
            }
        }
        None
    }

    fn turn(&self, id: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut bringing = self.bringing.lock().expect("no panic while held");
        bringing.entry(id.to_owned()).or_default().clone()
    }

    fn begins_empty(&self, id: &str) -> bool {
        let emptied = self.emptied.lock().expect("no panic while held");
        emptied.contains(id.lines().next().unwrap_or_default())
    }
}

impl MountSource {
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed)
    }

    pub(super) fn place(&self) -> &Place {
        &self.source.place
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Contents> {
        self.contents.values().flatten()
    }

    async fn fetch(&self, id: &str) -> Option<(Vec<Archive>, Vec<String>)> {
        if self.is_broken() {
            return None;
        }
        let name = format!("fetching cache mount {} from {}", short(id), self.source.name);
        let step = self.source.steps.internal(&name);
        let all = &self.contents[id];
        match self.fetch_all(all, step.step).await {
            Ok(archives) => {
                step.done();
                let names = all.iter().map(Contents::name);
                let before = all.iter().flat_map(|contents| contents.after.iter().cloned());
                let mut known = BTreeSet::new();
                let names = names.chain(before).filter(|name| known.insert(name.clone()));
                Some((archives, names.collect()))
            }
            Err(message) => {
                step.failed(&message);
                self.give_up(&message);
                None
            }
        }
    }

    /// From now on nothing that it says of mounts counts.
    fn give_up(&self, message: &str) {
        if !self.is_broken.swap(true, Ordering::Relaxed) {
            self.source.steps.warn(format!(
                "cache mounts in the cache {} are not used any more: {message}",
                self.source.name
            ));
        }
    }

    async fn fetch_all(&self, all: &[Contents], step: StepId) -> Result<Vec<Archive>, String> {
        let mut indexes = Vec::with_capacity(all.len());
        for contents in all {
            let index = self.source.place.index(contents).await;
            indexes.push(index.map_err(|error| chain(&error))?);
        }
        let bundles = indexes.iter().flat_map(|index| &index.bundles);
        let wanted: BTreeMap<Digest, Descriptor> =
            bundles.map(|bundle| (bundle.blob.digest.clone(), bundle.blob.clone())).collect();
        let mut room = Allowance::in_store(&self.source.store.temporary_directory());
        for blob in wanted.values() {
            room.take_file(blob.size).map_err(|error| chain(&error))?;
        }
        let fetches = wanted.into_iter().map(|(digest, blob)| {
            let source = self.source.clone();
            async move { Ok::<_, String>((digest, source.fetch_blob(&blob, step).await?)) }
        });
        let fetched = futures_util::stream::iter(fetches).buffer_unordered(AT_ONCE);
        let files: HashMap<Digest, File> = fetched.try_collect().await?;
        let archive = |index: &Index| {
            let files = index.bundles.iter().map(|bundle| files[&bundle.blob.digest].try_clone());
            let bundles = files.collect::<Result<_, _>>().map_err(|error| chain(&error))?;
            Ok(Archive { index: index.clone(), bundles })
        };
        indexes.iter().map(archive).collect()
    }
}

impl Brought {
    /// Puts it into `target`, a new directory; says whether it could. If not, `target` is empty.
    pub(crate) fn fill(&self, target: &Path, ignore_owner: bool) -> bool {
        let filled = self.archives.iter().try_for_each(|archive| {
            let files = archive.bundles.iter().map(File::try_clone).collect::<Result<_, _>>();
            let files = files.map_err(|error| chain(&error))?;
            let archive = Unbundle::new(&archive.index, files);
            cache::mount::fill(target, archive, ignore_owner).map_err(|error| chain(&error))
        });
        match filled {
            Ok(()) => {
                cache::mount::put_came_from(target, &self.names);
                true
            }
            Err(message) => {
                self.from.give_up(&message);
                let emptied = cache::mount::empty(target);
                if let Err(error) = emptied {
                    let what = format!("failed to empty cache mount {}", short(&self.id));
                    self.from.source.steps.warn(format!("{what}: {}", chain(&error)));
                }
                false
            }
        }
    }
}

/// A mount as users know it: without the empty namespace in front, and what it was first filled from behind.
pub(super) fn short(id: &str) -> String {
    let id = id.lines().next().unwrap_or_default();
    format!("`{}`", id.strip_prefix('/').unwrap_or(id))
}
