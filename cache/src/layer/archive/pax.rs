//! PAX records: what a ustar header has no room for.

use std::collections::BTreeMap;

use super::member::{ArchiveError, Member, bound, id};
use super::number;

/// The records of one PAX header by key; of several with one key the last counts.
#[derive(Debug, Default)]
pub(super) struct Records {
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Offsets and lengths of the oldest sparse format, which repeats its keys.
    pub(super) sparse_pairs: Vec<u64>,
}

const XATTR: &[u8] = b"SCHILY.xattr.";

impl Records {
    pub(super) fn parse(mut data: &[u8]) -> Result<Self, ArchiveError> {
        let mut records = Self::default();
        while !data.is_empty() {
            let (key, value, rest) = split_record(data).ok_or(ArchiveError::Pax)?;
            records.add(key, value)?;
            data = rest;
        }
        Ok(records)
    }

    fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), ArchiveError> {
        let is_text = matches!(key, b"path" | b"linkpath" | b"uname" | b"gname");
        if key.contains(&0) || is_text && value.contains(&0) {
            return Err(ArchiveError::Pax);
        }
        let is_length = match key {
            b"GNU.sparse.offset" => false,
            b"GNU.sparse.numbytes" => true,
            _ => {
                self.records.insert(key.to_vec(), value.to_vec());
                return Ok(());
            }
        };
        if (self.sparse_pairs.len() % 2 == 1) != is_length {
            return Err(ArchiveError::SparseMap);
        }
        self.sparse_pairs.push(number::decimal(value).ok_or(ArchiveError::SparseMap)?);
        Ok(())
    }

    /// A record that is there and not empty: an empty one takes back what was said before.
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        self.records.get(key.as_bytes()).map(|value| &value[..]).filter(|value| !value.is_empty())
    }

    /// A record that is a number.
    pub(super) fn number(&self, key: &'static str) -> Result<Option<u64>, ArchiveError> {
        let value = self.get(key).map(number::decimal);
        value.map(|value| value.ok_or(ArchiveError::Field(key))).transpose()
    }

    /// Lets the records speak instead of the header.
    pub(super) fn apply(&self, member: &mut Member) -> Result<(), ArchiveError> {
        if let Some(path) = self.get("path") {
            member.path = path.to_vec();
        }
        if let Some(link) = self.get("linkpath") {
            member.link = link.to_vec();
        }
        if let Some(size) = self.number("size")? {
            member.size = size;
        }
        if let Some(uid) = self.get("uid") {
            member.uid = id(number::decimal(uid), "user")?;
        }
        if let Some(gid) = self.get("gid") {
            member.gid = id(number::decimal(gid), "group")?;
        }
        if let Some(mtime) = self.get("mtime") {
            let (seconds, nanoseconds) = number::time(mtime).ok_or(ArchiveError::Field("time"))?;
            member.mtime = bound(seconds, nanoseconds);
        }
        for (key, value) in &self.records {
            if let Some(name) = key.strip_prefix(XATTR).filter(|name| !name.is_empty()) {
                member.xattrs.insert(name.to_vec(), value.clone());
            }
        }
        Ok(())
    }
}

/// Takes one `LENGTH KEY=VALUE\n` off `data`; the length is that of the whole record.
fn split_record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(20).position(|&byte| byte == b' ')?;
    let length: usize = number::decimal(&data[..space])?;
    let (record, rest) = data.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    (!key.is_empty()).then_some((key, value, rest))
}
