//! Files that take another's place only when they are whole.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat};
use rustix::io::Errno;
use tempfile::TempPath;

use crate::umask::give_file;

/// A file that takes the place of its name only when all of it is there: dropped before, or killed with
/// the process, it leaves nothing. What is no regular file (a pipe, a terminal) is written in place; a link
/// leads to what is replaced.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    path: PathBuf,
    state: State,
}

#[derive(Debug)]
enum State {
    /// It is what has the name.
    InPlace,
    /// It has no name yet.
    Unnamed,
    /// It has one of its own, where the file system has no files without.
    Temporary(TempPath),
}

impl NewFile {
    /// Starts the file that is to be at `path`, with the mode that the caller's umask gives.
    pub fn create(path: &Path) -> io::Result<Self> {
        // `/dev/stdout` is such a link: a name in /dev must never become a file.
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if std::fs::metadata(&path).is_ok_and(|m| !m.is_file() && !m.is_dir()) {
            let file = File::options().write(true).open(&path)?;
            return Ok(Self { file, path, state: State::InPlace });
        }
        let (file, state) = match unnamed(folder(&path))? {
            Some(file) => (file, State::Unnamed),
            None => {
                let (file, name) = temporary_name().tempfile_in(folder(&path))?.into_parts();
                (file, State::Temporary(name))
            }
        };
        give_file(&file)?;
        Ok(Self { file, path, state })
    }

    /// Gives it its name.
    pub fn commit(self) -> io::Result<()> {
        match self.state {
            State::InPlace => Ok(()),
            State::Unnamed => give_name(&self.file, &self.path, folder(&self.path)),
            State::Temporary(name) => name.persist(&self.path).map_err(|e| e.error),
        }
    }

    /// What it is to be called.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }
}

/// Writes a [`NewFile`] and gives it its name.
pub(crate) fn replace(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = NewFile::create(path)?;
    write(file.file())?;
    file.commit()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file without a name in `folder`; none where the file system has no such files.
fn unnamed(folder: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR) {
        // A kernel or file system that does not know of them takes it for opening a directory to write.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Ok(None),
        file => Ok(Some(file?.into())),
    }
}

fn give_name(file: &File, path: &Path, folder: &Path) -> io::Result<()> {
    let link = |path: &Path| {
        let descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
        linkat(CWD, descriptor, CWD, path, AtFlags::SYMLINK_FOLLOW)
    };
    match link(path) {
        Err(Errno::EXIST) => {}
        linked => return Ok(linked?),
    }
    // Only a name can take another one's place.
    let temporary = temporary_name().make_in(folder, |path| Ok(link(path)?))?;
    temporary.into_temp_path().persist(path).map_err(|e| e.error)
}

fn temporary_name() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".mybuild-");
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_there_whole_or_as_it_was() {
        use std::io::Write as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for (fails, expected) in [(true, None), (false, Some("1")), (true, Some("1"))] {
            let written = replace(&path, |file| {
                file.write_all(b"1")?;
                // While it is written it has no name: nothing that a kill could leave.
                assert!(!names(directory.path()).iter().any(|name| name.starts_with('.')));
                if fails { Err(io::Error::other("it fails")) } else { Ok(()) }
            });
            assert_eq!(written.is_err(), fails);
            assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), expected);
            let all: &[&str] = if expected.is_some() { &["file"] } else { &[] };
            assert_eq!(names(directory.path()), all);
        }
        replace(&path, |file| file.write_all(b"another")).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "another");
        assert_eq!(names(directory.path()), ["file"]);
    }
}
