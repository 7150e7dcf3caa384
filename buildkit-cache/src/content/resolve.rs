//! Following a path inside a tree: the root is `/`, and `..` stops there.

use super::{ContentError, Kind, Tree, join, show};

/// So many links may be on the way.
const LINKS_MAX: usize = 255;

/// Where `path` leads without links, whether or not anything is there. The last name is followed, too,
/// where `follow` is set.
pub(super) fn resolve<T: Tree>(
    tree: &T,
    path: &[u8],
    follow: bool,
) -> Result<Vec<u8>, ContentError<T::Error>> {
    let mut todo: Vec<Vec<u8>> = names_reversed(path).collect();
    let mut done: Vec<u8> = Vec::new();
    let mut links = 0;
    while let Some(name) = todo.pop() {
        match &name[..] {
            b"" | b"." => continue,
            b".." => {
                done.truncate(done.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                continue;
            }
            _ => {}
        }
        let next = join(&done, &name);
        let entry = tree.entry(&next).map_err(ContentError::Read)?;
        let target = match entry.map(|entry| entry.kind) {
            Some(Kind::Symlink(target)) if follow || !todo.is_empty() => target,
            _ => {
                done = next;
                continue;
            }
        };
        links += 1;
        if links > LINKS_MAX {
            return Err(ContentError::TooManyLinks(show(path)));
        }
        if target.starts_with(b"/") {
            done.clear();
        }
        todo.extend(names_reversed(&target));
    }
    Ok(done)
}

fn names_reversed(path: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    path.split(|byte| *byte == b'/').rev().filter(|name| !name.is_empty()).map(<[u8]>::to_vec)
}
