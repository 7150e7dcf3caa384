//! Reading all of a cache's records, and adding to them.
//!
//! Whoever writes a pack puts into it what he has read of the packs before, as long as that is little, and says
//! so. Who reads begins with the newest, and fetches what that does not include: what others wrote at the same
//! time. So nothing is ever overwritten, and hardly anything is read twice.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use oci::Digest;

use crate::contents::{self, Contents};
use crate::error::Error;
use crate::name;
use crate::pack::{PACK_MAX, Pack};
use crate::place::{Place, Summary};
use crate::record::Record;
use crate::signature::{SigningKey, VerifyingKey};
use crate::signed::Signed;

/// How many packs are fetched at once.
const AT_ONCE: usize = 8;
/// Of packs that no other includes, only so many are read, the newest ones.
const PACKS_MAX: usize = 256;
/// Packs larger than this, in bytes, stay what they are: nobody copies them into another.
const MERGED_MAX: usize = 1 << 20;
/// A pack that another includes stays for so long.
const SUPERFLUOUS: Duration = Duration::from_secs(24 * 3600);
/// So many are removed at one time.
const REMOVED_MAX: usize = 64;

/// All that a cache holds.
#[derive(Debug, Default)]
pub struct Packs {
    packs: Vec<Found>,
    /// The names that the place lists; `None` if it does not.
    listed: Option<BTreeSet<String>>,
    /// What could not be read, each in a line.
    pub warnings: Vec<String>,
    /// What another program has put where the newest pack is expected: a manifest or an index.
    pub other: Option<Vec<u8>>,
}

/// A pack that was read.
#[derive(Debug)]
struct Found {
    name: Option<String>,
    /// Of its bytes.
    digest: Digest,
    size: usize,
    pack: Pack,
    /// Records that it has were left out.
    is_shorter: bool,
}

impl Packs {
    /// Reads all records of a cache; none if nothing is there. What cannot be understood is left out, with a
    /// warning.
    ///
    /// # Errors
    /// [`Error`] if the place cannot be reached.
    pub async fn read(place: &Place) -> Result<Self, Error> {
        let (summary, names) = place.overview().await?;
        let mut packs = Self::default();
        match summary {
            Summary::None => {}
            Summary::Pack(bytes) => packs.take("the newest records", None, &bytes),
            Summary::Packs(newest) => {
                for (name, bytes) in newest {
                    packs.take(&name.clone(), Some(name), &bytes);
                }
            }
            Summary::Other(bytes) => packs.other = Some(bytes),
        }
        let mut names = match names {
            Ok(names) => {
                packs.listed = Some(names.iter().cloned().collect());
                names
            }
            // Not every registry lists its tags to everybody.
            Err(error) if !packs.packs.is_empty() => {
                packs.warnings.push(registry::chain(&error));
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        if let Some(newest) = packs.packs.first_mut().filter(|newest| newest.name.is_none()) {
            newest.name = names.iter().find(|name| name::fits(name, &newest.digest)).cloned();
        }
        names.retain(|name| !packs.has(name));
        names.sort_by(|a, b| b.cmp(a));
        names.truncate(PACKS_MAX);
        // The newest of them may include most of the others.
        while !names.is_empty() {
            let some: Vec<String> = names.drain(..names.len().min(AT_ONCE)).collect();
            let fetched = some.into_iter().map(|name| async move {
                let read = place.pack(&name).await;
                (name, read)
            });
            let fetched: Vec<_> =
                futures_util::stream::iter(fetched).buffered(AT_ONCE).collect().await;
            for (name, read) in fetched {
                match read {
                    Ok(Some(bytes)) => packs.take(&name.clone(), Some(name), &bytes),
                    // Somebody has removed it meanwhile.
                    Ok(None) => {}
                    Err(error) => packs.warnings.push(registry::chain(&error)),
                }
            }
            names.retain(|name| !packs.has(name));
        }
        Ok(packs)
    }

    fn take(&mut self, what: &str, name: Option<String>, bytes: &[u8]) {
        let parsed = match bytes.len() as u64 {
            size if size > PACK_MAX => Err(crate::pack::InvalidPack::TooLarge),
            _ => Pack::parse(bytes),
        };
        match parsed {
            Ok(pack) => {
                let (digest, size) = (Digest::of(bytes), bytes.len());
                self.packs.push(Found { name, digest, size, pack, is_shorter: false });
            }
            Err(error) => self.warnings.push(format!("{what}: {error}")),
        }
    }

    fn has(&self, name: &String) -> bool {
        self.packs
            .iter()
            .any(|found| found.name.as_ref() == Some(name) || found.pack.includes.contains(name))
    }

    /// The records that one of `keys` has signed; without keys, all. Of several of one step the oldest counts,
    /// for everybody.
    pub fn records(&self, keys: &[VerifyingKey]) -> Vec<&Record> {
        let mut by_key: BTreeMap<&Digest, &Record> = BTreeMap::new();
        let signed = self.packs.iter().flat_map(|found| &found.pack.records);
        let order = |record: &Record| (record.created, format!("{:?}", record.outputs));
        for signed in signed.filter(|signed| signed.is_trusted(keys)) {
            let record = &signed.said;
            let known = by_key.entry(&record.key).or_insert(record);
            if *known != record && order(record) < order(known) {
                *known = record;
            }
        }
        by_key.into_values().collect()
    }

    pub(crate) fn all_records(&self) -> impl Iterator<Item = &Record> {
        self.packs.iter().flat_map(|found| &found.pack.records).map(|signed| &signed.said)
    }

    /// Leaves records out, here and in what is written next; gives their keys.
    pub(crate) fn leave_out(&mut self, is_out: impl Fn(&Record) -> bool) -> HashSet<Digest> {
        let mut keys = HashSet::new();
        for found in &mut self.packs {
            let out = |signed: &mut Signed<Record>| is_out(&signed.said);
            let out: Vec<_> = found.pack.records.extract_if(.., out).collect();
            found.is_shorter |= !out.is_empty();
            keys.extend(out.into_iter().map(|signed| signed.said.key));
        }
        keys
    }

    /// What cache mounts held, by what one of `keys` has signed; without keys, by everything. For each mount the
    /// newest, and what others wrote at the same time.
    pub fn mounts(&self, keys: &[VerifyingKey]) -> Vec<&Contents> {
        let all = self.packs.iter().flat_map(|found| &found.pack.mounts);
        let trusted: Vec<_> = all.filter(|signed| signed.is_trusted(keys)).collect();
        let heads = contents::heads(trusted.iter().copied());
        heads.into_iter().map(|signed| &signed.said).collect()
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.packs.iter().all(|found| found.pack.records.is_empty() && found.pack.mounts.is_empty())
    }

    /// Adds `news`, whose blobs are there, to what has been read from `place`. Records that are there are not
    /// written again; without anything new nothing is.
    ///
    /// # Errors
    /// [`Error`] if the place does not take them; [`Error::Taken`] if another program's image or cache stands where
    /// they were to go.
    pub async fn add(
        &self,
        place: &Place,
        news: News,
        key: Option<&SigningKey>,
    ) -> Result<usize, Error> {
        let mine: Vec<VerifyingKey> = key.iter().map(|key| key.verifying_key()).collect();
        let known: HashSet<&Digest> = self.records(&mine).into_iter().map(|r| &r.key).collect();
        let records = news.records.into_iter().filter(|record| !known.contains(&record.key));
        let records: Vec<_> = records.map(|record| Signed::new(record, key)).collect();
        let mounts: Vec<_> = news.mounts.into_iter().map(|said| Signed::new(said, key)).collect();
        let count = records.len() + mounts.len();
        if count == 0 && !self.packs.iter().any(|found| found.is_shorter) {
            return Ok(0);
        }
        if let (Some(_), Place::Registry(place)) = (&self.other, place) {
            return Err(Error::Taken(place.reference().familiar()));
        }
        let pack = self.merged(records, mounts);
        let bytes = pack.to_bytes();
        place.put_pack(bytes, &pack.blobs()).await?;
        self.remove(place, &pack.includes).await;
        Ok(count)
    }

    /// Removes packs that `includes` names, since all that counts of them is in another that is there. Young ones
    /// stay: somebody may be about to read them who has not seen the other. What cannot be removed, the next one
    /// who adds something removes.
    async fn remove(&self, place: &Place, includes: &[String]) {
        let now = SystemTime::now();
        let is_old =
            |name: &&String| name::written(name).is_some_and(|written| written + SUPERFLUOUS < now);
        let is_there = |name: &&String| self.listed.as_ref().is_some_and(|all| all.contains(*name));
        let removals = includes.iter().filter(is_there).filter(is_old).take(REMOVED_MAX);
        let removals = removals.map(|name| place.remove_pack(name));
        let removals = futures_util::stream::iter(removals).buffer_unordered(AT_ONCE);
        removals.for_each(|_| std::future::ready(())).await;
    }

    /// A pack of what is new and of what is in the smaller packs.
    fn merged(&self, mut records: Vec<Signed<Record>>, mut mounts: Vec<Signed<Contents>>) -> Pack {
        let mut found: Vec<&Found> = self.packs.iter().filter(|f| f.name.is_some()).collect();
        // Of which records were left out has to be replaced, however large it is.
        found.sort_by_key(|found| (!found.is_shorter, found.size));
        let mut room = MERGED_MAX;
        let mut includes = BTreeSet::new();
        for Found { name, size, pack, is_shorter, .. } in found {
            room = match room.checked_sub(*size) {
                Some(left) => left,
                None if *is_shorter => 0,
                None => break,
            };
            includes.extend(name.iter().cloned());
            // What is not there any more need not be named for ever.
            let is_there =
                |name: &&String| self.listed.as_ref().is_none_or(|all| all.contains(*name));
            includes.extend(pack.includes.iter().filter(is_there).cloned());
            for signed in &pack.records {
                if !records.contains(signed) {
                    records.push(signed.clone());
                }
            }
            mounts.extend(pack.mounts.iter().cloned());
        }
        let mounts = contents::heads(mounts.iter()).into_iter().cloned().collect();
        Pack { includes: includes.into_iter().collect(), records, mounts }
    }
}

/// What is added to a cache.
#[derive(Debug, Default)]
pub struct News {
    /// Records of steps.
    pub records: Vec<Record>,
    /// What cache mounts held.
    pub mounts: Vec<Contents>,
}
