//! Records: which step, by its key, has given which layers.

use std::collections::BTreeMap;

use oci::{Descriptor, Digest, Platform, Reference};
use serde::{Deserialize, Serialize};

use crate::clock::now;
use crate::database::{Kind, Row, Write};
use crate::layer_id::LayerId;
use crate::layer_row;
use crate::store::Store;

/// The result of a step that was run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The step's canonical key.
    pub key: Digest,
    /// Its outputs, each a stack of layers, bottom first.
    pub outputs: Vec<Vec<LayerId>>,
    /// What went into the key, by name, each as digits that differ where it differs: to say later why a
    /// step had to run again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, String>,
    /// The step as users know it.
    pub name: String,
    /// When it was run, in seconds since 1970.
    pub created: i64,
    /// How long it took, in milliseconds.
    pub duration: u64,
    /// What the user was told about the result, to be told again whenever it is used. A record that was
    /// looked up has here what its layers say, too, the first time in a session.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What else the caller wants to find with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<String, String>,
}

/// What a registry last said about a reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedReference {
    /// What the reference led to.
    pub descriptor: Descriptor,
    /// When it was asked, in seconds since 1970.
    pub when: i64,
}

impl RememberedReference {
    pub(crate) fn parse(row: &Row) -> Option<Self> {
        serde_json::from_slice(&row.value).ok()
    }
}

impl Store {
    /// The record of the step with this canonical key, if all its layers are there.
    pub fn record(&self, key: &Digest) -> Option<Record> {
        let row = self.get(Kind::Record, key.as_str().as_bytes())?;
        let mut record = Record::parse(&row)?;
        let warnings = &mut record.warnings;
        let is_whole = record.key == *key
            && record.outputs.iter().flatten().all(|layer| self.see(layer, warnings));
        if !is_whole {
            return None;
        }
        self.touch(Kind::Record, key.as_str().as_bytes(), &row);
        Some(record)
    }

    /// Keeps the result of a step. Its layers must have been sealed or added before.
    pub fn put_record(&self, record: &Record) {
        let value = serde_json::to_vec(record).expect("a record is JSON");
        self.put(Kind::Record, record.key.as_str().as_bytes(), value);
    }

    /// Every record, in no particular order, whether or not its layers are still there.
    pub fn records(&self) -> Vec<Record> {
        let rows = self.scan(Kind::Record, &[]);
        rows.iter().filter_map(|(_, row)| Record::parse(row)).collect()
    }

    /// The record that `key` is an alias of, whether or not its layers are still there.
    pub fn last_record(&self, key: &Digest) -> Option<Record> {
        let row = self.get(Kind::Record, self.alias(key)?.as_str().as_bytes())?;
        Record::parse(&row)
    }

    /// The canonical key that a definition key has led to.
    pub fn alias(&self, definition: &Digest) -> Option<Digest> {
        let row = self.get(Kind::Alias, definition.as_str().as_bytes())?;
        self.touch(Kind::Alias, definition.as_str().as_bytes(), &row);
        std::str::from_utf8(&row.value).ok()?.parse().ok()
    }

    /// Keeps which canonical key a definition key leads to.
    pub fn put_alias(&self, definition: &Digest, canonical: &Digest) {
        let value = canonical.as_str().as_bytes().to_vec();
        self.put(Kind::Alias, definition.as_str().as_bytes(), value);
    }

    /// Keeps what a registry has said now.
    pub fn remember_reference(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
        descriptor: &Descriptor,
    ) {
        let remembered = RememberedReference { descriptor: descriptor.clone(), when: now() };
        let value = serde_json::to_vec(&remembered).expect("a descriptor is JSON");
        self.put(Kind::Reference, &reference_key(reference, platform), value);
    }

    /// What a registry has last said.
    pub fn remembered_reference(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
    ) -> Option<RememberedReference> {
        let key = reference_key(reference, platform);
        let row = self.get(Kind::Reference, &key)?;
        self.touch(Kind::Reference, &key, &row);
        RememberedReference::parse(&row)
    }

    /// A finding about this machine that was kept under `name`.
    pub fn setting(&self, name: &str) -> Option<String> {
        let row = self.get(Kind::Setting, name.as_bytes())?;
        String::from_utf8(row.value.clone()).ok()
    }

    /// Keeps a finding about this machine.
    pub fn put_setting(&self, name: &str, value: &str) {
        self.put(Kind::Setting, name.as_bytes(), value.as_bytes().to_vec());
    }

    /// Whether a layer can be used. What this session has once seen it keeps. The layer's `warnings` are
    /// added the first time.
    pub(crate) fn see(&self, layer: &LayerId, warnings: &mut Vec<String>) -> bool {
        if self.inner.seen().contains(layer) {
            return true;
        }
        let Some(found) = self.layer(layer) else { return false };
        warnings.extend(found.warnings);
        self.inner.seen().insert(layer.clone());
        true
    }
}

impl Record {
    /// The record of something that was made now.
    pub fn new(key: Digest, outputs: Vec<Vec<LayerId>>) -> Self {
        Self {
            key,
            outputs,
            parts: BTreeMap::new(),
            name: String::new(),
            created: now(),
            duration: 0,
            warnings: Vec::new(),
            notes: BTreeMap::new(),
        }
    }

    pub(crate) fn parse(row: &Row) -> Option<Self> {
        serde_json::from_slice(&row.value).ok()
    }

    /// Takes back out of the trash what the record needs.
    pub(crate) fn restore_needs(&self, write: &Write<'_>) -> rusqlite::Result<()> {
        for layer in self.outputs.iter().flatten() {
            layer_row::restore_layer(write, layer)?;
        }
        Ok(())
    }
}

fn reference_key(reference: &Reference, platform: Option<&Platform>) -> Vec<u8> {
    let platform = platform.map(Platform::to_string).unwrap_or_default();
    format!("{reference} {platform}").into_bytes()
}
