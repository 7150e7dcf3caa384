//! Logs: everything a step has printed, whole, on disk.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use crate::bucket::Bucket;
use crate::error::StoreError;
use crate::store::Store;

/// Writes one step's log; readers see it as it grows, after each flush.
#[derive(Debug)]
pub struct LogWriter {
    file: BufWriter<File>,
    path: PathBuf,
}

impl Store {
    /// Starts (or continues) the log of `step` in `build`. Characters that have no place in a
    /// file name become `_`.
    pub fn log_writer(&self, build: &str, step: &str) -> Result<LogWriter, StoreError> {
        let path = self.log_path(build, step);
        let directory = path.parent().expect("a log has a directory");
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|error| StoreError::io("create", directory, error))?;
        let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let file = opened.map_err(|error| StoreError::io("open", &path, error))?;
        Ok(LogWriter { file: BufWriter::new(file), path })
    }

    /// Where the log of `step` in `build` is, or would be.
    pub fn log_path(&self, build: &str, step: &str) -> PathBuf {
        self.bucket(Bucket::Logs).join(file_name(build)).join(format!("{}.log", file_name(step)))
    }

    /// The builds that have logs, newest first.
    pub fn logged_builds(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.bucket(Bucket::Logs)) else { return Vec::new() };
        let build = |entry: io::Result<std::fs::DirEntry>| {
            let entry = entry.ok()?;
            Some((entry.metadata().ok()?.modified().ok()?, entry.file_name().into_string().ok()?))
        };
        let mut builds: Vec<_> = entries.filter_map(build).collect();
        builds.sort();
        builds.into_iter().rev().map(|(_, name)| name).collect()
    }
}

impl LogWriter {
    /// Where the log is.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// `name` as a file name that leads nowhere else.
fn file_name(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    let plain: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).take(200).collect();
    if plain.trim_matches('.').is_empty() { format!("_{plain}") } else { plain }
}
