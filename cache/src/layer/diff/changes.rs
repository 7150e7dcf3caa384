//! From what was seen of a tree to the entries of its layer.

use std::collections::HashMap;
use std::collections::hash_map;
use std::os::fd::AsFd as _;

use rustix::fs::Stat;

use super::look::{self, Change, Held, Seen};
use super::walk::Entered;
use crate::layer::{Content, name};
use crate::layer::{Entry, EntryKind, LayerError, LayerSink, LeftOut};
use crate::stamp::{DirectoryStamp, EntryStamp, TreeStamp};

/// Gives changes to a sink, in the order in which they were seen.
pub(super) struct ChangeWriter<'a> {
    sink: &'a mut dyn LayerSink,
    /// There are no layers below: everything is written as it stands.
    alone: bool,
    /// The directories on the way from the root.
    levels: Vec<OpenDirectory>,
    /// First path of each file with several names, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    warnings: Vec<LeftOut>,
    /// A directory was left out whose content belongs to the stamp.
    is_partial: bool,
}

struct OpenDirectory {
    path: Vec<u8>,
    /// The directory's own entry, while it is not known whether anything in it changed.
    pending: Option<Entry>,
    stamp: DirectoryStamp,
}

impl<'a> ChangeWriter<'a> {
    pub(super) fn new(sink: &'a mut dyn LayerSink, alone: bool, root: &Stat) -> Self {
        let root =
            OpenDirectory { path: Vec::new(), pending: None, stamp: DirectoryStamp::new(root) };
        Self {
            sink,
            alone,
            levels: vec![root],
            links: HashMap::new(),
            warnings: Vec::new(),
            is_partial: false,
        }
    }

    pub(super) fn write(&mut self, seen: Seen) -> Result<(), LayerError> {
        match seen {
            Seen::Enter(entered) => self.enter(*entered),
            Seen::Leave => {
                self.leave();
                Ok(())
            }
            Seen::Deleted(path) => self.whiteout(path),
            Seen::Name { path, stamp, change } => {
                self.stamp(&path, &stamp);
                self.change(path, change)
            }
        }
    }

    /// What there was to say, and the tree's stamp.
    pub(super) fn finish(self) -> (Vec<LeftOut>, Option<TreeStamp>) {
        let root = self.levels.first().filter(|_| !self.is_partial);
        let stamp = root.map(|root| root.stamp.finish_tree());
        (self.warnings, stamp)
    }

    fn enter(&mut self, entered: Entered) -> Result<(), LayerError> {
        let Entered { entry, stat, form, unchanged } = entered;
        let path = entry.path.clone();
        let pending = if unchanged {
            Some(entry)
        } else {
            self.emit(&entry, Content::None)?;
            None
        };
        if form.opaque && self.alone {
            self.emit(&Entry::new(path.clone(), EntryKind::Opaque, 0), Content::None)?;
        }
        self.levels.push(OpenDirectory { path, pending, stamp: DirectoryStamp::new(&stat) });
        Ok(())
    }

    /// The root is left last, and stays.
    fn leave(&mut self) {
        if self.levels.len() > 1
            && let Some(level) = self.levels.pop()
        {
            self.stamp(&level.path, &level.stamp.finish());
        }
    }

    fn stamp(&mut self, path: &[u8], stamp: &EntryStamp) {
        let parent = self.levels.last_mut().expect("the root stays");
        parent.stamp.add(name::split(path).1, stamp);
    }

    fn change(&mut self, path: Vec<u8>, change: Change) -> Result<(), LayerError> {
        match change {
            Change::Nothing => Ok(()),
            Change::Whiteout => self.whiteout(path),
            Change::LeftOut(warning) => {
                self.is_partial |= matches!(warning, LeftOut::ReservedName(_));
                self.warnings.push(warning);
                Ok(())
            }
            Change::Entry { mut entry, content, linked } => {
                if let Some(target) = self.first_name(&path, linked) {
                    entry.kind = EntryKind::Hardlink { target };
                    return self.emit(&entry, Content::None);
                }
                match content {
                    Held::None => self.emit(&entry, Content::None),
                    Held::Bytes(bytes) => self.emit(&entry, Content::Bytes(&bytes)),
                    Held::In(directory) => {
                        let file = look::open(directory.as_fd(), &path)?;
                        self.emit(&entry, Content::File(&file))
                    }
                }
            }
        }
    }

    /// The path under which this file was already written, if it was.
    fn first_name(&mut self, path: &[u8], linked: Option<(u64, u64)>) -> Option<Vec<u8>> {
        match self.links.entry(linked?) {
            hash_map::Entry::Occupied(first) => Some(first.get().clone()),
            hash_map::Entry::Vacant(first) => {
                first.insert(path.to_vec());
                None
            }
        }
    }

    fn whiteout(&mut self, path: Vec<u8>) -> Result<(), LayerError> {
        self.emit(&Entry::new(path, EntryKind::Whiteout, 0), Content::None)
    }

    /// Writes an entry, and before it the directories it is in that were not written yet.
    fn emit(&mut self, entry: &Entry, content: Content<'_>) -> Result<(), LayerError> {
        for level in &mut self.levels {
            if let Some(directory) = level.pending.take() {
                self.sink.entry(&directory, Content::None)?;
            }
        }
        self.sink.entry(entry, content)
    }
}
