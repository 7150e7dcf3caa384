//! Trees as one tar.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use cache::layer::{Content, Entry, EntryKind, LayerError, LayerSink, TarSink, Time};
use executor::Host;

use crate::file_op::{self, FileOpError, Target, copy_directory, copy_job};
use crate::tree::View;

/// A tree that becomes a part of a tar.
pub(crate) struct TarPart {
    /// Where it goes; `None` for the root.
    pub(crate) folder: Option<String>,
    pub(crate) view: Arc<View>,
    /// Replaces all times.
    pub(crate) time: Option<i64>,
}

/// Writes all files of `parts` to `out` as one tar.
pub(crate) fn write_all(
    host: &Host,
    scratch: &Path,
    parts: &[TarPart],
    out: impl Write + Send,
    is_stopped: &(dyn Fn() -> bool + Sync),
) -> Result<(), FileOpError> {
    let mut sink = TarSink::new(out);
    for part in parts {
        let op = copy_directory("/", None, part.time);
        let inputs = [Some(part.view.as_ref())];
        let job = copy_job(host, scratch, &op, &inputs, is_stopped);
        match &part.folder {
            None => drop(file_op::apply(&job, Target::Sink(&mut sink))?),
            Some(folder) => {
                let mut entry = Entry::new(folder.as_bytes(), EntryKind::Directory, 0o755);
                entry.mtime = Time { seconds: part.time.unwrap_or(0), nanoseconds: 0 };
                sink.entry(&entry, Content::None)?;
                let mut below = Below { folder, sink: &mut sink };
                file_op::apply(&job, Target::Sink(&mut below))?;
            }
        }
    }
    sink.finish()?;
    Ok(())
}

/// Puts everything below a folder.
struct Below<'a> {
    folder: &'a str,
    sink: &'a mut dyn LayerSink,
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
