//! The context that the recorded builds were made from.

use std::collections::BTreeMap;
use std::convert::Infallible;

use buildkit_cache::content::{Entry, Kind, Tree};
use oci::Hasher;

/// A tree in memory: each path with what it is and its content.
pub(crate) struct Memory(BTreeMap<Vec<u8>, (Entry, Vec<u8>)>);

impl Tree for Memory {
    type Error = Infallible;

    fn entry(&self, path: &[u8]) -> Result<Option<Entry>, Infallible> {
        Ok(self.0.get(path).map(|(entry, _)| entry.clone()))
    }

    fn names(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, Infallible> {
        let parent = |path: &[u8]| path.iter().rposition(|b| *b == b'/').unwrap_or(0);
        let name = |path: &Vec<u8>| path.rsplit(|b| *b == b'/').next().unwrap().to_vec();
        let within =
            self.0.keys().filter(|known| !known.is_empty() && known[..parent(known)] == *path);
        let mut names: Vec<_> = within.map(name).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn read(&self, path: &[u8], hasher: &mut Hasher) -> Result<(), Infallible> {
        hasher.update(&self.0[path].1);
        Ok(())
    }
}

fn entry(kind: Kind, mode: u32, size: usize) -> Entry {
    Entry { kind, mode, uid: 0, gid: 0, size: size as u64, xattrs: BTreeMap::new() }
}

/// A tree of `(path, mode, content)`; a path that ends in `/` is a directory, `path -> target` a link.
pub(crate) fn memory(names: &[(&str, u32, &str)]) -> Memory {
    let entries = names.iter().map(|&(name, mode, content)| {
        let (path, kind) = match (name.split_once(" -> "), name.strip_suffix('/')) {
            (Some((path, target)), _) => (path, Kind::Symlink(target.into())),
            (None, Some(path)) => (path, Kind::Directory),
            (None, None) => (name, Kind::File),
        };
        (path.into(), (entry(kind, mode, content.len()), content.into()))
    });
    Memory(entries.collect())
}

/// The files of the context.
pub(crate) fn context() -> Memory {
    memory(&[
        ("a.txt", 0o644, "hello\n"),
        ("b.txt", 0o755, "b\n"),
        ("dir/", 0o755, ""),
        ("dir/c.txt", 0o644, "c\n"),
        ("dir/link -> ../a.txt", 0o777, ""),
        ("dir/sub/", 0o755, ""),
        ("dir/sub/d.txt", 0o644, "d\n"),
    ])
}
