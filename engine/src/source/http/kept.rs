//! What the store knows of a URL: the file that was there, and by what it is known again.

use std::collections::BTreeMap;

use cache::{LayerId, Record, Store};
use http_client::Validators;
use llb::HttpSource;
use oci::Digest;

use super::remote::Remote;
use super::{Fetched, content_key};

/// Names of a record's notes.
const ETAG: &str = "etag";
const LAST_MODIFIED: &str = "last-modified";
const DIGEST: &str = "digest";
const NAME: &str = "name";
const MODIFIED: &str = "modified";

/// What was at a URL the last time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) validators: Validators,
    layer: LayerId,
    digest: Digest,
    name: String,
    modified: Option<i64>,
}

impl Kept {
    pub(super) fn new(fetched: &Fetched, validators: Validators) -> Self {
        Self {
            validators,
            layer: fetched.layer.clone(),
            digest: fetched.digest.clone(),
            name: fetched.name.clone(),
            modified: fetched.modified,
        }
    }

    /// What is kept under the key `asked`, whole.
    pub(super) fn find(store: &Store, asked: &Digest) -> Option<Self> {
        let record = store.record(asked)?;
        let note = |name: &str| record.notes.get(name).cloned();
        Some(Self {
            validators: Validators { etag: note(ETAG), last_modified: note(LAST_MODIFIED) },
            layer: record.outputs.first()?.first()?.clone(),
            digest: note(DIGEST)?.parse().ok()?,
            name: note(NAME)?,
            modified: match note(MODIFIED) {
                Some(seconds) => Some(seconds.parse().ok()?),
                None => None,
            },
        })
    }

    /// Keeps it.
    pub(super) fn put(self, store: &Store, asked: &Digest, remote: &Remote) {
        let notes = [
            (ETAG, self.validators.etag),
            (LAST_MODIFIED, self.validators.last_modified),
            (DIGEST, Some(self.digest.to_string())),
            (NAME, Some(self.name)),
            (MODIFIED, self.modified.map(|seconds| seconds.to_string())),
        ];
        let notes = notes.into_iter().filter_map(|(name, note)| Some((name.to_owned(), note?)));
        let mut record = Record::new(asked.clone(), vec![vec![self.layer]]);
        record.notes = notes.collect::<BTreeMap<_, _>>();
        record.name = remote.title();
        store.put_record(&record);
    }

    pub(super) fn fetched(self, source: &HttpSource) -> Fetched {
        let key = content_key(source, &self.name, &self.digest, self.modified.as_ref());
        let Self { layer, digest, name, modified, .. } = self;
        Fetched { key, layer, digest, name, modified }
    }
}
