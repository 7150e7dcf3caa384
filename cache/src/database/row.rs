//! Rows: what they are about, the statements for them, and how it is noticed that one is damaged.

pub(super) const GET: &str = "SELECT value, used, sum FROM entry WHERE kind = ?1 AND key = ?2";
pub(super) const SCAN: &str = "SELECT key, value, used, sum FROM entry
    WHERE kind = ?1 AND key >= ?2 AND (?3 IS NULL OR key < ?3) ORDER BY key";
pub(super) const PUT: &str =
    "INSERT INTO entry (kind, key, value, used, sum) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT DO UPDATE SET value = ?3, used = ?4, sum = ?5";
pub(super) const TOUCH: &str = "UPDATE entry SET used = max(used, ?3) WHERE kind = ?1 AND key = ?2";
pub(super) const DELETE: &str = "DELETE FROM entry WHERE kind = ?1 AND key = ?2";

/// What a row is about. The numbers are the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Digest → size of a blob that was durable before the row was written.
    Blob = 1,
    /// Layer id → what is known of the layer.
    Layer = 2,
    /// Diff id → layer id.
    DiffId = 3,
    /// Diff id, encoder, digest → descriptor of the layer as a blob.
    Form = 4,
    /// Canonical key → record of a step.
    Record = 5,
    /// Definition key → canonical key.
    Alias = 6,
    /// Reference and platform → what a registry said.
    Reference = 7,
    /// Name → a remembered finding about this machine.
    Setting = 8,
    /// Kind and key of a row on its way out → epoch and value.
    Trash = 9,
    /// Epoch → the sessions it waits for.
    Epoch = 10,
    /// Domain and key → layers that were made beside the steps.
    Memo = 11,
    /// Blob and repository → nothing: the one is in the other.
    Origin = 12,
}

impl Kind {
    pub(crate) const ALL: [Self; 12] = [
        Self::Blob,
        Self::Layer,
        Self::DiffId,
        Self::Form,
        Self::Record,
        Self::Alias,
        Self::Reference,
        Self::Setting,
        Self::Trash,
        Self::Epoch,
        Self::Memo,
        Self::Origin,
    ];

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// A row's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) value: Vec<u8>,
    /// Seconds since 1970.
    pub(crate) used: i64,
}

/// A row and its key.
pub(crate) type KeyedRow = (Vec<u8>, Row);

/// Row damaged: its checksum does not match.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DamagedRow;

pub(super) fn checked(
    kind: Kind,
    key: &[u8],
    value: Vec<u8>,
    used: i64,
    sum: i64,
) -> Result<Row, DamagedRow> {
    if checksum(kind, key, &value) == sum { Ok(Row { value, used }) } else { Err(DamagedRow) }
}

pub(super) fn checksum(kind: Kind, key: &[u8], value: &[u8]) -> i64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[kind as u8]).update(&(key.len() as u64).to_le_bytes());
    hasher.update(key).update(value);
    let hash = hasher.finalize();
    let (first, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
    i64::from_le_bytes(*first)
}
