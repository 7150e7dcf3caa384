//! A tree in a folder of a larger tar.

use cache::layer::{Content, Entry, EntryKind, LayerError, LayerSink};

/// Puts everything below a folder.
pub(crate) struct Below<'a> {
    pub(crate) folder: &'a str,
    pub(crate) sink: &'a mut dyn LayerSink,
}

impl Below<'_> {
    fn path(&self, path: &[u8]) -> Vec<u8> {
        [self.folder.as_bytes(), b"/", path].concat()
    }
}

impl LayerSink for Below<'_> {
    fn entry(&mut self, entry: &Entry, content: Content<'_>) -> Result<(), LayerError> {
        let kind = match &entry.kind {
            EntryKind::Hardlink { target } => EntryKind::Hardlink { target: self.path(target) },
            kind => kind.clone(),
        };
        let entry = Entry { path: self.path(&entry.path), kind, ..entry.clone() };
        self.sink.entry(&entry, content)
    }
}
