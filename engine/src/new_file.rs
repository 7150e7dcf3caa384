//! Files that take another's place only when they are whole.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat};
use rustix::io::Errno;

use crate::umask::give_file;

/// Writes a file that replaces `path` only when all of it is there; a process that is stopped before, or killed,
/// leaves nothing. What is no regular file (a pipe, a terminal) is written in place; a link leads to
/// what is replaced.
pub(crate) fn replace(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    // `/dev/stdout` is such a link: a name in /dev must never become a file.
    let target = std::fs::canonicalize(path);
    let path = target.as_deref().unwrap_or(path);
    if std::fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir()) {
        return write(&mut File::options().write(true).open(path)?);
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match unnamed(folder)? {
        Some(mut file) => {
            give_file(&file)?;
            write(&mut file)?;
            give_name(&file, path, folder)
        }
        None => {
            let mut file = temporary_name().tempfile_in(folder)?;
            give_file(file.as_file())?;
            write(file.as_file_mut())?;
            file.persist(path).map(drop).map_err(|e| e.error)
        }
    }
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
