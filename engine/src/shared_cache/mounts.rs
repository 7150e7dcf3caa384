//! What cache mounts held elsewhere, brought here before the first step that mounts one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use cache::layer::LayerError;
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
    /// The newest first.
    archives: Vec<Archive>,
    /// Names of contents that nobody can read any more.
    lost: Vec<String>,
    /// Nobody else brings the same meanwhile.
    _alone: OwnedMutexGuard<()>,
}

/// Contents that were fetched.
struct Archive {
    from: Arc<MountSource>,
    contents: Contents,
    index: Index,
    bundles: Vec<File>,
}

/// Why contents are not available.
struct Failure {
    message: String,
    /// Nor will anybody else have them.
    is_lasting: bool,
}

impl Failure {
    /// Of a cache's.
    fn of_cache(error: &remote_cache::Error) -> Self {
        Self { message: chain(error), is_lasting: error.is_lasting() }
    }

    /// Of this machine's.
    fn here(error: &(dyn std::error::Error + 'static)) -> Self {
        Self { message: chain(error), is_lasting: false }
    }

    /// Of an archive that cannot be put into a directory, unless there was no room for it.
    fn of_archive(error: &LayerError) -> Self {
        let mut causes =
            std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
        Self { message: chain(error), is_lasting: !causes.any(cache::is_out_of_space) }
    }
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
        let mut lost = Vec::new();
        for from in self.sources.iter().filter(is_known) {
            let archives = from.fetch(id, &mut lost).await;
            if !archives.is_empty() {
                return Some(Brought { id: id.to_owned(), archives, lost, _alone: alone });
            }
        }
        let archives = Vec::new();
        (!lost.is_empty()).then(|| Brought { id: id.to_owned(), archives, lost, _alone: alone })
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

    /// Fetches what can be fetched; adds to `lost` the names of what never will be.
    async fn fetch(self: &Arc<Self>, id: &str, lost: &mut Vec<String>) -> Vec<Archive> {
        if self.is_broken() {
            return Vec::new();
        }
        let name = format!("fetching cache mount {} from {}", quoted(id), self.source.name);
        let step = self.source.steps.internal(&name);
        let (mut archives, mut files, mut failed) = (Vec::new(), HashMap::new(), None);
        for contents in &self.contents[id] {
            match self.fetch_one(contents, &mut files, step.step).await {
                Ok(archive) => archives.push(archive),
                Err(failure) => {
                    self.give_up(&failure.message);
                    lost.extend(failure.is_lasting.then(|| contents.name()));
                    failed.get_or_insert(failure.message);
                }
            }
        }
        match failed {
            None => step.done(),
            Some(message) => step.failed(&message),
        }
        archives
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

    /// Fetches contents, as far as their blobs are not among `files`.
    async fn fetch_one(
        self: &Arc<Self>,
        contents: &Contents,
        files: &mut HashMap<Digest, File>,
        step: StepId,
    ) -> Result<Archive, Failure> {
        let index = self.source.place.index(contents).await.map_err(|e| Failure::of_cache(&e))?;
        let mut wanted: BTreeMap<Digest, Descriptor> = BTreeMap::new();
        let mut room = Allowance::in_store(&self.source.store.temporary_directory());
        for bundle in index.bundles.iter().filter(|b| !files.contains_key(&b.blob.digest)) {
            if wanted.insert(bundle.blob.digest.clone(), bundle.blob.clone()).is_none() {
                room.take_file(bundle.blob.size).map_err(|error| Failure::here(&error))?;
            }
        }
        let fetches = wanted.into_iter().map(|(digest, blob)| {
            let source = self.source.clone();
            async move { Ok((digest, source.fetch_blob(&blob, step).await?)) }
        });
        let fetched = futures_util::stream::iter(fetches).buffer_unordered(AT_ONCE);
        let fetched: Result<Vec<_>, remote_cache::Error> = fetched.try_collect().await;
        files.extend(fetched.map_err(|error| Failure::of_cache(&error))?);
        let bundles = index.bundles.iter().map(|bundle| files[&bundle.blob.digest].try_clone());
        let bundles = bundles.collect::<Result<_, _>>().map_err(|error| Failure::here(&error))?;
        Ok(Archive { from: self.clone(), contents: contents.clone(), index, bundles })
    }
}

impl Archive {
    fn fill(&self, target: &Path, ignore_owner: bool) -> Result<(), Failure> {
        let files = self.bundles.iter().map(File::try_clone).collect::<Result<_, _>>();
        let files = files.map_err(|error| Failure::here(&error))?;
        let archive = Unbundle::new(&self.index, files);
        let filled = cache::mount::fill(target, archive, ignore_owner);
        filled.map_err(|error| Failure::of_archive(&error))
    }
}

impl Brought {
    /// Puts what can be read of it into `target`, a new directory; says whether anything was. If not, `target` is
    /// empty.
    pub(crate) fn fill(&self, target: &Path, ignore_owner: bool) -> bool {
        let mut archives: Vec<&Archive> = self.archives.iter().collect();
        let mut lost = self.lost.clone();
        loop {
            let filled = archives.iter().enumerate().try_for_each(|(at, archive)| {
                archive.fill(target, ignore_owner).map_err(|failure| (at, failure))
            });
            let Err((at, Failure { message, is_lasting })) = filled else { break };
            let archive = archives.remove(at);
            archive.from.give_up(&message);
            lost.extend(is_lasting.then(|| archive.contents.name()));
            if let Err(error) = cache::mount::empty(target) {
                let what = format!("failed to empty cache mount {}", quoted(&self.id));
                archive.from.source.steps.warn(format!("{what}: {}", chain(&error)));
                return false;
            }
        }
        let names = archives.iter().map(|archive| archive.contents.name());
        let before = archives.iter().flat_map(|archive| archive.contents.after.iter().cloned());
        // What is written next replaces what cannot be read any more, too.
        let mut known = BTreeSet::new();
        let names = names.chain(lost).chain(before).filter(|name| known.insert(name.clone()));
        cache::mount::put_came_from(target, &names.collect::<Vec<_>>());
        !archives.is_empty()
    }
}

/// A mount as messages call it.
pub(super) fn quoted(id: &str) -> String {
    format!("`{}`", cache::mount::shown(id))
}
