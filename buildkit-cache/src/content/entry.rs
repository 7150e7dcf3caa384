//! One name of a tree.

use std::collections::BTreeMap;

use oci::Hasher;

/// What a name is, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What kind of thing.
    pub kind: Kind,
    /// Permission bits, with those for set-user-id, set-group-id and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size of a file in bytes.
    pub size: u64,
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Kinds of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, and what it says.
    Symlink(Vec<u8>),
    /// A character device. (Numbers of devices are in no digest.)
    Character,
    /// A block device.
    Block,
    /// A named pipe.
    Fifo,
}

impl Entry {
    /// A hasher that has taken in the metadata: fields of a tar header, and the attributes that count.
    pub(super) fn hasher(&self) -> Hasher {
        let Self { mode, uid, gid, .. } = self;
        let (kind, link, size, mode) = match &self.kind {
            Kind::File => ('0', &b""[..], self.size, mode & 0o7777),
            Kind::Directory => ('5', &b""[..], 0, mode & 0o7777),
            Kind::Symlink(target) => ('2', &target[..], 0, mode & 0o7777 | 0o777),
            Kind::Character => ('3', &b""[..], 0, mode & 0o7777),
            Kind::Block => ('4', &b""[..], 0, mode & 0o7777),
            Kind::Fifo => ('6', &b""[..], 0, mode & 0o7777),
        };
        let mut hasher = Hasher::sha256();
        let fields = format!("namemode{mode}uid{uid}gid{gid}size{size}typeflag{kind}linkname");
        hasher.update(fields.as_bytes());
        hasher.update(link);
        hasher.update(b"unamegnamedevmajor0devminor0");
        for (name, value) in self.xattrs.iter().filter(|(name, _)| counts(name)) {
            hasher.update(name);
            hasher.update(value);
        }
        hasher
    }
}

fn counts(name: &[u8]) -> bool {
    name == b"security.capability"
        || !name.starts_with(b"security.") && !name.starts_with(b"system.")
}
