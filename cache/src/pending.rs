//! What this process has finished and not yet committed. It is visible here at once, to other
//! processes after the next commit.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use oci::{Descriptor, Digest};

use crate::database::{Kind, Row};
use crate::lock::FileLock;
use crate::stamps::Stamped;

pub(crate) type Key = (Kind, Box<[u8]>);

/// Finished work in memory.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) blobs: HashMap<Digest, PendingBlob>,
    pub(crate) rows: HashMap<Key, PendingRow>,
    /// Image name → its descriptor, or nothing when it is to be untagged.
    pub(crate) tags: BTreeMap<String, PendingTag>,
    /// When rows were last used; written along with something else, or when `use_is_news`.
    pub(crate) used: HashMap<Key, i64>,
    /// A row was used that prune takes for much older.
    pub(crate) use_is_news: bool,
    /// Given back after the commit that makes their work visible to others.
    pub(crate) claims: Vec<FileLock>,
    /// Trees were finished that no `syncfs` has covered yet.
    pub(crate) unsynced_trees: bool,
    /// Counts changes, so that a commit forgets only what it has seen.
    version: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct PendingBlob {
    pub(crate) temporary: PathBuf,
    pub(crate) size: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct PendingRow {
    pub(crate) row: Arc<Row>,
    version: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct PendingTag {
    pub(crate) target: Option<Descriptor>,
    version: u64,
}

/// What one commit writes.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) blobs: Vec<(Digest, PendingBlob)>,
    pub(crate) rows: Vec<(Key, Arc<Row>)>,
    pub(crate) tags: Vec<(String, Option<Descriptor>)>,
    pub(crate) used: Vec<(Key, i64)>,
    pub(crate) claims: Vec<FileLock>,
    pub(crate) stamps: Vec<Stamped>,
    pub(crate) unsynced_trees: bool,
    version: u64,
}

impl Batch {
    /// Whether it brings bytes to the disk besides rows.
    pub(crate) fn has_data(&self) -> bool {
        !self.blobs.is_empty() || self.unsynced_trees
    }
}

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.blobs.is_empty()
            && self.rows.is_empty()
            && self.tags.is_empty()
            && self.claims.is_empty()
            && !self.unsynced_trees
            && !self.use_is_news
    }

    pub(crate) fn put(&mut self, kind: Kind, key: &[u8], row: Row) {
        self.version += 1;
        let row = PendingRow { row: Arc::new(row), version: self.version };
        self.rows.insert((kind, key.into()), row);
    }

    pub(crate) fn get(&self, kind: Kind, key: &[u8]) -> Option<Arc<Row>> {
        self.rows.get(&(kind, key.into())).map(|pending| pending.row.clone())
    }

    pub(crate) fn tag(&mut self, name: &str, target: Option<Descriptor>) {
        self.version += 1;
        self.tags.insert(name.to_owned(), PendingTag { target, version: self.version });
    }

    /// Everything so far, for a commit. It stays visible until [`Pending::committed`].
    pub(crate) fn batch(&mut self, stamps: Vec<Stamped>) -> Batch {
        let rows = self.rows.iter().map(|(key, pending)| (key.clone(), pending.row.clone()));
        let tags = self.tags.iter().map(|(name, tag)| (name.clone(), tag.target.clone()));
        Batch {
            blobs: self.blobs.iter().map(|(digest, blob)| (digest.clone(), blob.clone())).collect(),
            rows: rows.collect(),
            tags: tags.collect(),
            used: self.used.iter().map(|(key, when)| (key.clone(), *when)).collect(),
            claims: std::mem::take(&mut self.claims),
            stamps,
            unsynced_trees: std::mem::take(&mut self.unsynced_trees),
            version: self.version,
        }
    }

    /// Forgets what is now on disk. Rows and tags that changed since are kept.
    pub(crate) fn committed(&mut self, batch: &Batch) {
        for (digest, _) in &batch.blobs {
            self.blobs.remove(digest);
        }
        for (key, _) in &batch.rows {
            if self.rows.get(key).is_some_and(|row| row.version <= batch.version) {
                self.rows.remove(key);
            }
        }
        for (name, _) in &batch.tags {
            if self.tags.get(name).is_some_and(|tag| tag.version <= batch.version) {
                self.tags.remove(name);
            }
        }
        for (key, when) in &batch.used {
            if self.used.get(key) == Some(when) {
                self.used.remove(key);
            }
        }
        self.use_is_news &= !self.used.is_empty();
    }

    /// Takes back what a failed commit could not write; rows, blobs and tags never left.
    pub(crate) fn failed(&mut self, batch: Batch) {
        self.claims.extend(batch.claims);
        self.unsynced_trees |= batch.unsynced_trees;
    }
}
