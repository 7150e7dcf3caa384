//! Why a path is not in a tree, for the person who named it.

use rustix::fs::OFlags;

use super::{Kind, Lookup, Stat, TreeError, View, path, resolve};
use crate::near::{NAMES_MAX, near_name};

/// Why a path is not in a tree, and what may be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// It is there, but this pattern of the ignore file leaves it out.
    Ignored {
        /// The pattern.
        pattern: String,
    },
    /// On the way to it there is a link whose target is not in the tree.
    DeadLink {
        /// Where the link is.
        link: String,
        /// What it says.
        target: String,
    },
    /// Nothing has that name, but this is near it.
    Near(String),
    /// Nothing is near it.
    Unknown,
}

/// The tree with what the ignore file hides.
struct Whole<'v>(&'v View);

impl Lookup for Whole<'_> {
    fn lookup(&self, path: &[u8]) -> Result<Option<(Kind, Vec<u8>)>, TreeError> {
        let Ok(fd) = self.0.open(path, OFlags::PATH) else { return Ok(None) };
        let Ok(stat) = Stat::of(&fd) else { return Ok(None) };
        let link = rustix::fs::readlinkat(&fd, c"", Vec::new());
        let link = link.map_or(Vec::new(), std::ffi::CString::into_bytes);
        Ok((!stat.is_whiteout()).then_some((stat.kind, link)))
    }

    fn names(&self, dir: &[u8]) -> Result<Vec<Vec<u8>>, TreeError> {
        self.0.list_names(dir)
    }
}

impl View {
    /// Why `text` leads nowhere in this tree.
    pub fn missing(&self, text: &[u8]) -> Missing {
        let whole = Whole(self);
        let text = path::clean(text);
        let there = resolve(&whole, &text, true).ok().filter(|found| found.kind.is_some());
        if let Some(found) = there {
            let hidden = [found.path, text];
            let pattern = hidden.iter().find_map(|path| self.ignored()?.excluding(path));
            return pattern.map_or(Missing::Unknown, |pattern| Missing::Ignored { pattern });
        }
        if let Some((link, target)) = first_link(&whole, &text) {
            return Missing::DeadLink { link, target };
        }
        let near = self.near_sibling(&text).or_else(|| self.elsewhere(&text));
        near.map_or(Missing::Unknown, Missing::Near)
    }

    /// The path with the first name that is missing replaced by one that is near it.
    fn near_sibling(&self, text: &[u8]) -> Option<String> {
        let names: Vec<&[u8]> = path::components(text).collect();
        let at = |count: usize| names[..count].join(&b'/');
        let known = (0..names.len()).rev().find(|count| self.is_there(&at(*count)))?;
        let directory = self.resolve(&at(known), true).ok()?.path;
        let wanted = std::str::from_utf8(names[known]).ok()?;
        let near = near_name(wanted, &self.shown_names(&directory))?;
        let rest = names[known + 1..].iter().map(|name| name.to_vec());
        let near = [at(known), near.into_bytes()].into_iter().chain(rest);
        let near: Vec<Vec<u8>> = near.filter(|name| !name.is_empty()).collect();
        self.is_there(&near.join(&b'/')).then(|| show(&near.join(&b'/')))
    }

    /// A file of the same name at the root, or directly below one of the root's directories.
    fn elsewhere(&self, text: &[u8]) -> Option<String> {
        let (_, name) = path::split(text)?;
        let directories = self.shown_names(b"").into_iter().map(String::into_bytes);
        let mut places = std::iter::once(Vec::new()).chain(directories);
        let found = places.find_map(|place| {
            let place = path::join(&place, name);
            (place != text && self.is_there(&place)).then_some(place)
        });
        found.map(|found| show(&found))
    }

    fn is_there(&self, text: &[u8]) -> bool {
        self.resolve(text, true).is_ok_and(|found| found.kind.is_some())
    }

    fn shown_names(&self, directory: &[u8]) -> Vec<String> {
        let names = self.list_names(directory).unwrap_or_default().into_iter().take(NAMES_MAX);
        let shown = names.filter(|name| self.is_there(&path::join(directory, name)));
        shown.filter_map(|name| String::from_utf8(name).ok()).collect()
    }
}

/// The first link on the way of `text`, and its target.
fn first_link(tree: &impl Lookup, text: &[u8]) -> Option<(String, String)> {
    let mut at = Vec::new();
    for name in path::components(text) {
        path::push(&mut at, name);
        if let Ok(Some((Kind::Symlink, target))) = tree.lookup(&at) {
            return Some((show(&at), String::from_utf8_lossy(&target).into_owned()));
        }
    }
    None
}

/// As a source is written: relative to the root.
fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
