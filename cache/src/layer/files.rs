//! The files of a layer's tar, read again in their order.

use std::io::{BufReader, Read, Seek};

use super::archive::Archive;
use super::name;

/// Bytes that are read at once.
const BUFFER: usize = 1 << 20;

/// Walks through the regular files of an uncompressed tar. Where the tar is damaged it ends: who
/// reads again what was written before has another way.
pub struct TarFiles<R> {
    archive: Archive<BufReader<R>>,
    path: Vec<u8>,
    size: u64,
}

impl<R: Read + Seek> TarFiles<R> {
    /// Starts before the first file.
    pub fn new(tar: R) -> Self {
        let archive = Archive::new(BufReader::with_capacity(BUFFER, tar));
        Self { archive, path: Vec::new(), size: 0 }
    }

    /// Goes on to the next file; false at the end.
    pub fn advance(&mut self) -> bool {
        loop {
            if self.archive.leap().is_err() {
                return false;
            }
            let Ok(Some(member)) = self.archive.next() else { return false };
            if member.type_flag != b'0' || member.sparse.is_some() {
                continue;
            }
            let Ok(path) = name::clean(&member.path) else { return false };
            (self.path, self.size) = (path, member.size);
            return true;
        }
    }

    /// Where the current file is in the layer.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// How many bytes the current file has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads the current file into `content`, in place of what is there; to be asked once a file.
    pub fn read(&mut self, content: &mut Vec<u8>) -> bool {
        content.clear();
        let read = self.archive.content().read_to_end(content);
        read.is_ok_and(|length| length as u64 == self.size)
    }
}
