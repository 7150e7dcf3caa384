//! Adding to caches what the cache mounts of a build hold now.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cache::layer::LeftOut;
use cache::{CacheMount, Store};
use futures_util::{StreamExt as _, TryStreamExt as _};
use oci::{Descriptor, Digest};
use registry::chain;
use remote_cache::{Bundled, Contents, Index, Known, NewBundle, Packs, Place};
use tokio_util::bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::export::{AT_ONCE, Export};
use super::mounts::{SharedMounts, quoted};
use crate::blocking::blocking;
use crate::error::BuildError;
use crate::progress::event::{Event, StepId};
use crate::request::CacheTarget;
use crate::stop::Stoppable;
use crate::units;

/// A mount that others have for longer than this stays where it is.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of what a cache has, the indexes of so many mounts are asked for what need not be sent again, the newest ones.
const INDEXES_MAX: usize = 64;

/// A mount that was read.
struct Packed {
    bundled: Bundled,
    index: Vec<u8>,
    contents: Contents,
    left_out: Vec<LeftOut>,
}

impl SharedMounts {
    /// Sends to `place`, which has `packs`, what the mounts of this build hold, and gives back what is to be said of
    /// them. One that cannot be read, that others have, or that is too large is left out, with a warning.
    pub(super) async fn export(
        &self,
        export: &Export<'_>,
        target: &CacheTarget,
        place: &Place,
        packs: &Packs,
        step: StepId,
    ) -> Result<Vec<Contents>, BuildError> {
        let (Some(max), Some(used)) = (target.mounts, &self.used) else { return Ok(Vec::new()) };
        let ids: Vec<String> = used.lock().expect("no panic while held").iter().cloned().collect();
        let mut mounts = measured(export.store, ids).await?;
        if mounts.is_empty() {
            return Ok(Vec::new());
        }
        // A large one is not to be what keeps all others out.
        mounts.sort_by_key(|(_, size)| *size);
        let keys: Vec<_> = target.sign.iter().map(|key| key.verifying_key()).collect();
        let there = packs.mounts(&keys);
        let known = Arc::new(self.known(place, &there).await);
        let (mut left, mut all) = (max, Vec::new());
        for (id, size) in mounts {
            let packed = match size <= left {
                true => pack(export, &id, &known, left).await?,
                false => Err(too_large(size, left)),
            };
            match packed {
                Err(why) => export.steps.warn(format!(
                    "cache mount {} is not in the cache {}: {why}",
                    quoted(&id),
                    target.location.name()
                )),
                Ok(packed) => {
                    left = left.saturating_sub(packed.bundled.size);
                    tell_left_out(export, &id, &packed.left_out);
                    let digest = &packed.contents.index.digest;
                    if !there.iter().any(|known| known.id == id && known.index.digest == *digest) {
                        all.push(send(export, place, packed, step).await?);
                    }
                }
            }
        }
        Ok(all)
    }

    /// What need not be sent: of what the cache at `place` has, and of what was read from others, whose blobs may be in
    /// the same place. What cannot be found out of it is sent.
    async fn known(&self, place: &Place, there: &[&Contents]) -> Known {
        // What has lied once may do so again.
        if self.sources.iter().any(|from| from.is_broken()) {
            return Known::default();
        }
        let others = self
            .sources
            .iter()
            .flat_map(|from| from.all().map(|contents| (from.place(), contents)));
        let all = there.iter().map(|contents| (place, *contents)).chain(others);
        let mut asked: HashSet<Digest> = HashSet::new();
        let all = all.filter(|(_, contents)| asked.insert(contents.index.digest.clone()));
        let asks = all.take(INDEXES_MAX).map(|(place, contents)| place.index(contents));
        let asks = futures_util::stream::iter(asks).buffer_unordered(AT_ONCE);
        let indexes: Vec<Index> = asks.filter_map(async |index| index.ok()).collect().await;
        let bundles = indexes.iter().flat_map(|index| &index.bundles).map(|bundle| &bundle.blob);
        let mut asked: HashSet<&Digest> = HashSet::new();
        let asks = bundles.filter(|blob| asked.insert(&blob.digest)).map(async |blob| {
            let is_there = place.has(blob).await.unwrap_or(false);
            is_there.then(|| blob.digest.clone())
        });
        let asks = futures_util::stream::iter(asks).buffer_unordered(AT_ONCE);
        let found: HashSet<Digest> = asks.filter_map(async |found| found).collect().await;
        Known::new(&indexes, |blob| found.contains(&blob.digest))
    }
}

/// The mounts that are there, each with the room that it takes in bytes.
async fn measured(store: &Store, ids: Vec<String>) -> Result<Vec<(String, u64)>, BuildError> {
    let store = store.clone();
    blocking(move || {
        let sizes = ids.into_iter().filter_map(|id| {
            let size = store.cache_mount_size(&id)?;
            Some((id, size))
        });
        Ok(sizes.collect())
    })
    .await
}

/// Reads a mount, nobody else having it; or says why that cannot be.
async fn pack(
    export: &Export<'_>,
    id: &str,
    known: &Arc<Known>,
    max: u64,
) -> Result<Result<Packed, String>, BuildError> {
    let (store, stop, known) = (export.store.clone(), export.stop.clone(), known.clone());
    let id = id.to_owned();
    blocking(move || {
        let begun = Instant::now();
        let is_over = || stop.is_cancelled() || begun.elapsed() > PATIENCE;
        let held = store.cache_mount_alone(&id, &is_over);
        let packed = match held {
            Ok(Some(mount)) => read(&store, &mount, &id, &known, (max, &stop)),
            Ok(None) => Err("another build has it".to_owned()),
            Err(error) => Err(chain(&error)),
        };
        match stop.is_cancelled() {
            true => Err(BuildError::Canceled),
            false => Ok(packed),
        }
    })
    .await
}

fn read(
    store: &Store,
    mount: &CacheMount,
    id: &str,
    known: &Known,
    (max, stop): (u64, &CancellationToken),
) -> Result<Packed, String> {
    let (reader, writer) = std::io::pipe().map_err(|error| chain(&error))?;
    let (written, bundled) = std::thread::scope(|scope| {
        let written = scope.spawn(move || mount.write_archive(&mut { writer }));
        // One byte more shows that there are too many.
        let archive = std::io::Read::take(Stoppable::new(reader, stop), max.saturating_add(1));
        let file = || tempfile::tempfile_in(store.temporary_directory());
        let bundled = remote_cache::bundle(archive, known, &file);
        (written.join().expect("who reads the mount does not panic"), bundled)
    });
    let bundled = bundled.map_err(|error| chain(&error))?;
    if bundled.size > max {
        return Err(too_large(bundled.size, max));
    }
    let left_out = written.map_err(|error| chain(&error))?;
    let index = bundled.index.to_bytes();
    let contents = Contents {
        id: id.to_owned(),
        created: jiff::Timestamp::now().as_second(),
        size: bundled.size,
        after: mount.came_from(),
        index: Index::descriptor(&index),
        bundles: bundled.index.bundles.iter().map(|bundle| bundle.blob.clone()).collect(),
    };
    let names = std::iter::once(contents.name()).chain(contents.after.iter().cloned());
    mount.put_came_from(&names.collect::<Vec<_>>());
    Ok(Packed { bundled, index, contents, left_out })
}

fn too_large(size: u64, max: u64) -> String {
    let (size, max) = (units::told(size), units::told(max));
    format!("it has {size}, and `mounts-max-size` leaves {max}")
}

fn tell_left_out(export: &Export<'_>, id: &str, left_out: &[LeftOut]) {
    for what in left_out {
        export.steps.warn(format!("cache mount {}: {what}", quoted(id)));
    }
}

/// Sends the bundles that are new, and then the index.
async fn send(
    export: &Export<'_>,
    place: &Place,
    packed: Packed,
    step: StepId,
) -> Result<Contents, BuildError> {
    let failed = |e| BuildError::system("failed to write to the cache").because(e);
    let upload = async |bundle: &NewBundle| {
        place.upload(&bundle.blob, bundle.body()).await.map_err(failed)?;
        tell_sent(export, &bundle.blob, step);
        Ok::<_, BuildError>(())
    };
    let uploads = futures_util::stream::iter(packed.bundled.new.iter().map(upload));
    uploads.buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    let Packed { index, contents, .. } = packed;
    place.upload(&contents.index, Arc::new(Bytes::from(index))).await.map_err(failed)?;
    Ok(contents)
}

fn tell_sent(export: &Export<'_>, blob: &Descriptor, step: StepId) {
    let (item, current, total) = (blob.digest.short(), blob.size, Some(blob.size));
    export.steps.event(Event::Transfer { step, item, current, total, done: true });
}
