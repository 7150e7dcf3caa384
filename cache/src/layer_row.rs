//! A layer's row: what it says, how two processes fill it in, and what goes into the trash and comes
//! out of it together with it.

use oci::DiffId;
use serde::{Deserialize, Serialize};

use crate::clock::now;
use crate::database::{Kind, Row, Write};
use crate::form;
use crate::layer_id::LayerId;
use crate::stamp::Stamp;
use crate::stamps::Stamped;
use crate::trash::{self, Epoch};

/// A layer's row. Fields are filled in over time, as they become known.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct LayerRow {
    /// Which directory of `layers-v1` has the tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) directory: Option<LayerId>,
    /// Where the tree is instead, when it is a change of another's. There is one of the two at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) delta: Option<Delta>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) diff_id: Option<DiffId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tar_size: Option<u64>,
    /// The layer's plain tar was made from its tree, which gives it back byte for byte.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) gives_tar: bool,
    /// See [`crate::stamp`]. Those before knew no inodes and change times.
    #[serde(default, rename = "stamp-v2", skip_serializing_if = "Option::is_none")]
    pub(crate) stamp: Option<String>,
    /// Room that the tree takes on disk, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    /// See [`crate::LayerInfo::warnings`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) warnings: Option<Vec<String>>,
}

/// A tree in two directories, of which the lower is another layer's whole tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Delta {
    /// Which directory of `layers-v1` has what changed.
    pub(crate) directory: LayerId,
    /// The other layer, which is kept as long as this one, and its directory, which has the same name.
    pub(crate) over: LayerId,
}

impl LayerRow {
    /// The directory that is this layer's own.
    pub(crate) fn own_directory(&self) -> Option<&LayerId> {
        self.directory.as_ref().or(self.delta.as_ref().map(|delta| &delta.directory))
    }

    /// The layer whose tree belongs below this one's.
    pub(crate) fn over(&self) -> Option<&LayerId> {
        self.delta.as_ref().map(|delta| &delta.over)
    }

    /// What this row says, and what `other` says where it says nothing.
    pub(crate) fn or(self, other: Self) -> Self {
        let tree = if self.own_directory().is_some() { &self } else { &other };
        let is_the_same = self.own_directory() == other.own_directory();
        let stamp = tree.stamp.clone().or_else(|| other.stamp.clone().filter(|_| is_the_same));
        Self {
            directory: tree.directory.clone(),
            delta: tree.delta.clone(),
            stamp,
            diff_id: self.diff_id.or(other.diff_id),
            tar_size: self.tar_size.or(other.tar_size),
            gives_tar: self.gives_tar || other.gives_tar,
            bytes: self.bytes.or(other.bytes),
            warnings: self.warnings.or(other.warnings),
        }
    }

    /// Takes back out of the trash what the row of the layer `id`, which is about to be written, counts on:
    /// it was there already, since another layer has the same tar.
    pub(crate) fn restore_needs(&self, write: &Write<'_>, id: &LayerId) -> rusqlite::Result<()> {
        if let Some(over) = self.over() {
            restore_layer(write, over)?;
        }
        let Some(diff_id) = &self.diff_id else { return Ok(()) };
        let key = diff_id.0.as_str().as_bytes();
        if write.get(Kind::DiffId, key)?.is_none() {
            let value = id.as_str().as_bytes().to_vec();
            write.put(Kind::DiffId, key, &Row { value, used: now() })?;
        }
        form::restore_forms(write, diff_id)
    }

    pub(crate) fn row(&self) -> Row {
        Row { value: serde_json::to_vec(self).expect("a layer's row is JSON"), used: now() }
    }

    pub(crate) fn parse(row: &Row) -> Option<Self> {
        serde_json::from_slice(&row.value).ok()
    }
}

/// The row to be written when another process may have filled in fields that this one has not.
pub(crate) fn merged(write: &Write<'_>, key: &[u8], row: &Row) -> rusqlite::Result<Row> {
    let Some(found) = write.get(Kind::Layer, key)? else { return Ok(row.clone()) };
    let (Some(ours), Some(theirs)) = (LayerRow::parse(row), LayerRow::parse(&found)) else {
        return Ok(row.clone());
    };
    Ok(ours.or(theirs).row())
}

/// Adds the stamp of its tree to a layer's row, and how large the tree is, if it still has that tree.
pub(crate) fn put_stamp(write: &Write<'_>, stamped: &Stamped) -> rusqlite::Result<()> {
    let key = stamped.layer.as_str().as_bytes();
    let found = write.get(Kind::Layer, key)?;
    let row = found.as_ref().and_then(LayerRow::parse);
    match row.filter(|row| row.own_directory() == Some(&stamped.directory)) {
        Some(row) => {
            let Stamp { digest, bytes } = stamped.stamp.clone();
            let row = LayerRow { stamp: Some(digest), bytes: Some(bytes), ..row };
            write.put(Kind::Layer, key, &row.row())
        }
        None => Ok(()),
    }
}

/// Adds to a layer's row how large its tree is. That does not count as a use of the layer.
pub(crate) fn put_size(write: &Write<'_>, id: &LayerId, bytes: u64) -> rusqlite::Result<()> {
    let key = id.as_str().as_bytes();
    let Some(found) = write.get(Kind::Layer, key)? else { return Ok(()) };
    let Some(row) = LayerRow::parse(&found) else { return Ok(()) };
    let row = LayerRow { bytes: Some(bytes), ..row }.row();
    write.put(Kind::Layer, key, &Row { used: found.used, ..row })
}

/// Moves a directory of `layers-v1` that was of `layer` into the trash, out of which nobody takes it
/// back. The epoch is still to be closed.
pub(crate) fn discard_directory(
    write: &Write<'_>,
    layer: &LayerId,
    directory: &LayerId,
) -> rusqlite::Result<Epoch> {
    let epoch = trash::open_epoch(write)?;
    let row = LayerRow { directory: Some(directory.clone()), ..LayerRow::default() };
    // No layer has such an id; who holds the layer may use the directory, see `name`.
    let key = format!("{layer} {directory}");
    trash::discard(write, epoch, Kind::Layer, key.as_bytes(), &row.row())?;
    Ok(epoch)
}

/// Takes a layer back out of the trash, with everything it may be read from.
pub(crate) fn restore_layer(write: &Write<'_>, layer: &LayerId) -> rusqlite::Result<()> {
    let Some(row) = trash::restore(write, Kind::Layer, layer.as_str().as_bytes())? else {
        return Ok(());
    };
    let Some(row) = LayerRow::parse(&row) else { return Ok(()) };
    if let Some(over) = row.over() {
        restore_layer(write, over)?;
    }
    let Some(diff_id) = row.diff_id else { return Ok(()) };
    trash::restore(write, Kind::DiffId, diff_id.0.as_str().as_bytes())?;
    form::restore_forms(write, &diff_id)
}
