//! Forms: a layer as a blob, plain or compressed, one row for each.

use std::collections::HashSet;
use std::fmt;

use oci::{Descriptor, DiffId};

use crate::database::{Kind, Row, Write};
use crate::store::Store;
use crate::trash;

/// How a layer was compressed: what the bytes of the result depend on besides its content.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Encoder {
    /// `gzip`, `zstd`, …
    pub algorithm: String,
    /// Level, as the algorithm counts.
    pub level: i32,
    /// Changes whenever the same input would give other bytes.
    pub version: u32,
}

impl fmt::Display for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.algorithm, self.level, self.version)
    }
}

impl Store {
    /// Notes that the layer with this `diff_id` is also there as a blob.
    pub fn add_blob_form(&self, diff_id: &DiffId, blob: &Descriptor) {
        self.put_form(diff_id, "", blob);
    }

    /// Notes what compressing a layer has given, so that it is done once.
    pub fn add_compressed(&self, diff_id: &DiffId, encoder: &Encoder, blob: &Descriptor) {
        self.put_form(diff_id, &encoder.to_string(), blob);
    }

    /// What compressing a layer has given, if it is still there.
    pub fn compressed(&self, diff_id: &DiffId, encoder: &Encoder) -> Option<Descriptor> {
        let row = self.get(Kind::Form, &form_key(diff_id, &encoder.to_string()))?;
        let descriptor = parse_form(&row)?;
        self.has_blob(&descriptor.digest).then_some(descriptor)
    }

    /// The layer as blobs. Prune may just have thrown them away, together with the layer's row or by
    /// themselves after it was found.
    pub(crate) fn forms(&self, diff_id: &DiffId) -> Vec<Descriptor> {
        let prefix = form_prefix(diff_id);
        let mut rows = loop {
            let rows = self.scan(Kind::Form, &prefix);
            if !rows.is_empty() || !self.take_back_forms(diff_id) {
                break rows;
            }
        };
        rows.sort_by_key(|(key, _)| !is_own_form(&key[prefix.len()..]));
        let mut forms: Vec<Descriptor> =
            rows.iter().filter_map(|(_, row)| parse_form(row)).collect();
        let mut seen = HashSet::new();
        forms.retain(|form| seen.insert(form.digest.clone()));
        forms
    }

    fn put_form(&self, diff_id: &DiffId, encoder: &str, blob: &Descriptor) {
        // It may be there already. Without success it may go like any other, and is made again.
        let _ = self.inner.lease.hold(diff_id.0.as_str());
        let value = serde_json::to_vec(blob).expect("a descriptor is JSON");
        let key = match encoder {
            "" => form_key(diff_id, blob.digest.as_str()),
            encoder => form_key(diff_id, encoder),
        };
        self.put(Kind::Form, &key, value);
    }
}

pub(crate) fn form_prefix(diff_id: &DiffId) -> Vec<u8> {
    form_key(diff_id, "")
}

/// Whether a form is a blob that the layer came or was made as, not what compressing it has given.
fn is_own_form(form: &[u8]) -> bool {
    std::str::from_utf8(form).is_ok_and(|form| form.parse::<oci::Digest>().is_ok())
}

fn form_key(diff_id: &DiffId, form: &str) -> Vec<u8> {
    format!("{diff_id} {form}").into_bytes()
}

pub(crate) fn parse_form(row: &Row) -> Option<Descriptor> {
    serde_json::from_slice(&row.value).ok()
}

/// Takes all forms of a layer back out of the trash, with their blobs.
pub(crate) fn restore_forms(write: &Write<'_>, diff_id: &DiffId) -> rusqlite::Result<()> {
    for (key, _) in write.scan(Kind::Trash, &forms_in_trash(diff_id))? {
        restore_thrown_form(write, &key[1..])?;
    }
    Ok(())
}

/// Takes a form of a layer back out of the trash, with its blob.
pub(crate) fn restore_thrown_form(write: &Write<'_>, key: &[u8]) -> rusqlite::Result<()> {
    let form = trash::restore(write, Kind::Form, key)?;
    form.map_or(Ok(()), |form| restore_blob(write, &form))
}

/// The same for a form that is about to be written.
pub(crate) fn restore_form(write: &Write<'_>, key: &[u8], row: &Row) -> rusqlite::Result<()> {
    restore_thrown_form(write, key)?;
    restore_blob(write, row)
}

fn restore_blob(write: &Write<'_>, form: &Row) -> rusqlite::Result<()> {
    if let Some(descriptor) = parse_form(form) {
        trash::restore(write, Kind::Blob, descriptor.digest.as_str().as_bytes())?;
    }
    Ok(())
}

/// What the keys of a layer's forms begin with when they were thrown away.
pub(crate) fn forms_in_trash(diff_id: &DiffId) -> Vec<u8> {
    trash::trash_key(Kind::Form, &form_prefix(diff_id))
}
