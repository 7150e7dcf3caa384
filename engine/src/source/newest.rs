//! When what is in an archive was last changed.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use tar::EntryType;

/// An archive is looked through up to here, in bytes.
const SIZE_MAX: u64 = 1 << 40;

/// Time of the newest regular file in a tar, compressed or not, in seconds since 1970. Nothing if it is
/// no archive, as for BuildKit.
pub(crate) fn newest_member(file: &File) -> Option<i64> {
    let (_, plain) = cache::layer::compress::decompress(file).ok()?;
    let mut archive = tar::Archive::new(plain.take(SIZE_MAX));
    let mut newest = None;
    for entry in archive.entries().ok()? {
        let entry = entry.ok()?;
        if matches!(entry.header().entry_type(), EntryType::Regular | EntryType::Continuous) {
            newest = newest.max(i64::try_from(entry.header().mtime().ok()?).ok());
        }
    }
    newest
}

/// The same of an archive that was unpacked to `directory`.
pub(crate) fn newest_file(directory: &Path) -> io::Result<Option<i64>> {
    let mut newest = None;
    for entry in walkdir::WalkDir::new(directory) {
        let entry = entry?;
        if entry.file_type().is_file() {
            newest = newest.max(Some(entry.metadata()?.mtime()));
        }
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use super::*;

    fn archive(members: &[(&str, EntryType, u64)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, mtime) in members {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(*kind);
            header.set_mtime(*mtime);
            header.set_size(0);
            builder.append_data(&mut header, name, io::empty()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn newest(bytes: &[u8]) -> Option<i64> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        newest_member(&file)
    }

    #[test]
    fn the_newest_file_of_an_archive_counts() {
        let (file, directory) = (EntryType::Regular, EntryType::Directory);
        let whole =
            archive(&[("a", file, 5), ("b", file, 9), ("c", file, 7), ("d", directory, 11)]);
        assert_eq!(newest(&whole), Some(9));
        assert_eq!(newest(&archive(&[("d", directory, 11)])), None);
        assert_eq!(newest(b"FROM scratch\n"), None);
        assert_eq!(newest(b""), None);
        // Whatever comes from outside is read to its end or not at all.
        for cut in 0..whole.len() {
            assert!(newest(&whole[..cut]).is_none_or(|time| [5, 9].contains(&time)), "{cut}");
        }
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..2000 {
            let mut damaged = whole.clone();
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let at = state as usize % damaged.len();
            damaged[at] ^= (state >> 32) as u8;
            newest(&damaged);
        }
    }
}
