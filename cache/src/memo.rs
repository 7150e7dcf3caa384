//! Memos: layers that the builder made beside its steps, and by what they are found again.
//!
//! A step's layer in another form, or the files of a context. They are not steps, so they are not listed as
//! steps. They keep their layers and age as records do.

use oci::Digest;
use serde::{Deserialize, Serialize};

use crate::clock::now;
use crate::database::{KeyedRow, Kind, Row, Write};
use crate::layer_id::LayerId;
use crate::layer_row;
use crate::store::Store;

/// What was made beside the steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memo {
    /// Its layers; none where only the time is of interest.
    pub layers: Vec<LayerId>,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// What the user was told about it, to be told again whenever it is used. A memo that was looked up
    /// has here what its layers say, too, the first time in a session.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Store {
    /// What was made under `key` of `domain`, if all its layers are there.
    pub fn memo(&self, domain: &str, key: &Digest) -> Option<Memo> {
        let key = row_key(domain, key);
        let row = self.get(Kind::Memo, &key)?;
        let memo = self.whole_memo(&row)?;
        self.touch(Kind::Memo, &key, &row);
        Some(memo)
    }

    /// Keeps what was made, in place of what was there. Its layers must have been sealed or added before.
    /// `domain` says in a few words what it is, since users see it beside its layers.
    pub fn put_memo(&self, domain: &str, key: &Digest, memo: &Memo) {
        let value = serde_json::to_vec(memo).expect("a memo is JSON");
        self.put(Kind::Memo, &row_key(domain, key), value);
    }

    /// The memo in a row, if all its layers are there.
    pub(crate) fn whole_memo(&self, row: &Row) -> Option<Memo> {
        let mut memo = Memo::parse(row)?;
        let warnings = &mut memo.warnings;
        memo.layers.iter().all(|layer| self.see(layer, warnings)).then_some(memo)
    }
}

impl Memo {
    /// Of what was made now.
    pub fn new(layers: Vec<LayerId>) -> Self {
        Self { layers, created: now(), warnings: Vec::new() }
    }

    pub(crate) fn parse(row: &Row) -> Option<Self> {
        serde_json::from_slice(&row.value).ok()
    }

    /// Takes back out of the trash what the memo needs.
    pub(crate) fn restore_needs(&self, write: &Write<'_>) -> rusqlite::Result<()> {
        self.layers.iter().try_for_each(|layer| layer_row::restore_layer(write, layer))
    }
}

fn row_key(domain: &str, key: &Digest) -> Vec<u8> {
    format!("{domain} {key}").into_bytes()
}

/// The domain of a memo.
pub(crate) fn domain((key, _): &KeyedRow) -> &str {
    std::str::from_utf8(key).ok().and_then(|key| key.rsplit_once(' ')).map_or("", |split| split.0)
}
