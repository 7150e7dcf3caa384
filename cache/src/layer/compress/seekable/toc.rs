//! The table of contents that eStargz and zstd:chunked share (stargz-snapshotter's docs/estargz.md;
//! zstd:chunked adds fields).

use std::collections::BTreeMap;

use data_encoding::BASE64;
use jiff::Timestamp;
use serde::Serialize;

use super::Entry;
use super::frames::Frame;
use crate::layer::Time;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Toc {
    pub(super) version: u32,
    pub(super) entries: Vec<TocEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tar_split_digest: Option<String>,
}

/// A file, or from its second on a chunk of one.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TocEntry {
    r#type: &'static str,
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    link_name: String,
    #[serde(skip_serializing_if = "is_zero")]
    mode: u64,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
    #[serde(skip_serializing_if = "is_zero")]
    uid: u64,
    #[serde(skip_serializing_if = "is_zero")]
    gid: u64,
    #[serde(rename = "modtime", skip_serializing_if = "Option::is_none")]
    modified: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    dev_major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    dev_minor: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    end_offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_size: u64,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_digest: Option<String>,
}

/// In what the two formats differ.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// The last chunk has no size, a file of one chunk a chunk's digest; the start of 1970 is no time.
    Estargz,
    /// Files of one chunk have no chunk; each says where its content ends.
    ZstdChunked,
}

/// All entries, each with its chunks behind it; `None` for what has no type in these tables.
pub(super) fn entries(
    entries: &[Entry],
    frames: &[Frame],
    dialect: Dialect,
) -> Option<Vec<TocEntry>> {
    let mut all = Vec::with_capacity(entries.len());
    for entry in entries {
        let chunks = &frames[entry.chunks.clone()];
        let mut file = file(entry, dialect)?;
        if let [first, .., last] | [first @ last] = chunks {
            file.offset = first.start;
            if dialect == Dialect::ZstdChunked {
                file.end_offset = last.end;
            }
        }
        if dialect == Dialect::Estargz || chunks.len() > 1 {
            let first = chunks.first().map(|chunk| (chunk, entry.chunk(0, dialect)));
            if let Some((chunk, (_, size))) = first {
                file.chunk_digest = Some(chunk.digest.to_string());
                file.chunk_size = size;
            }
        }
        let name = file.name.clone();
        all.push(file);
        for (number, chunk) in chunks.iter().enumerate().skip(1) {
            let (chunk_offset, chunk_size) = entry.chunk(number, dialect);
            all.push(TocEntry {
                r#type: "chunk",
                name: name.clone(),
                offset: chunk.start,
                chunk_offset,
                chunk_size,
                chunk_digest: Some(chunk.digest.to_string()),
                ..TocEntry::default()
            });
        }
    }
    Some(all)
}

impl Entry {
    /// Where a chunk of it begins, and its size as the table has it.
    fn chunk(&self, number: usize, dialect: Dialect) -> (u64, u64) {
        let chunk = super::CHUNK as u64;
        let start = number as u64 * chunk;
        let is_last = number + 1 == self.chunks.len();
        let size = match (is_last, dialect) {
            (false, _) => chunk,
            (true, Dialect::Estargz) => 0,
            (true, Dialect::ZstdChunked) => self.member.content_size() - start,
        };
        (start, size)
    }
}

fn file(entry: &Entry, dialect: Dialect) -> Option<TocEntry> {
    let member = &entry.member;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let xattrs = member.xattrs.iter().map(|(key, value)| (text(key), BASE64.encode(value)));
    Some(TocEntry {
        r#type: kind(member.type_flag)?,
        name: text(&member.path),
        link_name: text(&member.link),
        mode: member.mode.into(),
        size: member.content_size(),
        uid: member.uid.into(),
        gid: member.gid.into(),
        modified: time(member.mtime, dialect),
        dev_major: member.device.0.into(),
        dev_minor: member.device.1.into(),
        xattrs: xattrs.collect(),
        digest: entry.digest.as_ref().map(ToString::to_string),
        ..TocEntry::default()
    })
}

fn kind(type_flag: u8) -> Option<&'static str> {
    Some(match type_flag {
        b'0' | b'7' => "reg",
        b'1' => "hardlink",
        b'2' => "symlink",
        b'3' => "char",
        b'4' => "block",
        b'5' => "dir",
        b'6' => "fifo",
        _ => return None,
    })
}

fn time(time: Time, dialect: Dialect) -> Option<String> {
    let nanoseconds = match dialect {
        Dialect::Estargz if time.seconds == 0 => return None,
        Dialect::Estargz => 0,
        Dialect::ZstdChunked => i32::try_from(time.nanoseconds).ok()?,
    };
    Some(Timestamp::new(time.seconds, nanoseconds).ok()?.to_string())
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
