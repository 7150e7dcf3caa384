//! A tree as BuildKit digests it.

use std::io::Read as _;

use buildkit_cache::content::{self, Entry};
use oci::Hasher;

use super::{Kind, NodeId, Reason, TreeError, View, path, read};

const BUFFER: usize = 128 << 10;

impl content::Tree for View {
    type Error = TreeError;

    fn entry(&self, path: &[u8]) -> Result<Option<Entry>, TreeError> {
        // BuildKit never sees the directory that a client's files are in.
        if path.is_empty() && self.is_context() || self.lstat(path)?.is_none() {
            return Ok(None);
        }
        let tree = self.single(path)?;
        let node = tree.node(NodeId::ROOT);
        let kind = match node.stat.kind {
            Kind::Directory => content::Kind::Directory,
            // A client sends a socket as an empty file.
            Kind::File | Kind::Socket => content::Kind::File,
            Kind::Symlink => content::Kind::Symlink(node.link().to_vec()),
            Kind::Fifo => content::Kind::Fifo,
            Kind::CharDevice => content::Kind::Character,
            Kind::BlockDevice => content::Kind::Block,
        };
        Ok(Some(Entry {
            size: if node.stat.kind == Kind::File { node.stat.size } else { 0 },
            kind,
            mode: node.stat.mode.into(),
            uid: node.stat.uid,
            gid: node.stat.gid,
            xattrs: node.xattrs().cloned().unwrap_or_default(),
        }))
    }

    fn names(&self, directory: &[u8]) -> Result<Vec<Vec<u8>>, TreeError> {
        let mut names = self.list_names(directory)?;
        let mut failed = None;
        names.retain(|name| {
            let mut at = directory.to_vec();
            path::push(&mut at, name);
            match self.lstat(&at) {
                Ok(found) => found.is_some(),
                Err(error) => {
                    failed.get_or_insert(error);
                    false
                }
            }
        });
        failed.map_or(Ok(names), Err)
    }

    fn read(&self, path: &[u8], hasher: &mut Hasher) -> Result<(), TreeError> {
        let fail = |error: std::io::Error| TreeError::File {
            call: "read",
            path: super::path::show(path),
            reason: Reason(read::errno_of(&error)),
        };
        let mut file = self.open_regular(path).map_err(fail)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            match file.read(&mut buffer).map_err(fail)? {
                0 => return Ok(()),
                length => hasher.update(&buffer[..length]),
            }
        }
    }
}
