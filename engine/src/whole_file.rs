//! Files that appear, or replace others, only when all of them is there.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::io::Errno;

/// What names of unfinished files begin with, where they need one.
const PREFIX: &str = ".mybuild-";
/// The umask applies, as to any file a user makes.
const MODE: u32 = 0o666;

/// Writes a file that replaces `path` only when all of it is there. What is no regular file (a
/// pipe, a terminal) is written in place; a link leads to what is replaced.
///
/// Until then it has no name where the file system can do that, so that even a killed program
/// leaves nothing behind.
pub fn replace_file(
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
            write(&mut file)?;
            name(&file, folder, path)
        }
        None => {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(MODE);
            let mut file =
                tempfile::Builder::new().prefix(PREFIX).permissions(mode).tempfile_in(folder)?;
            write(file.as_file_mut())?;
            file.persist(path).map_err(|e| e.error)?;
            Ok(())
        }
    }
}

/// A file without a name; `None` where the file system has no such files.
fn unnamed(folder: &Path) -> io::Result<Option<File>> {
    match cache::unnamed::create(folder, MODE) {
        Ok(file) => Ok(Some(file)),
        Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Ok(None),
            _ => Err(error),
        },
    }
}

/// Gives the file its name. A name that is taken can only be replaced by a rename.
fn name(file: &File, folder: &Path, path: &Path) -> io::Result<()> {
    let link = |to: &Path| cache::unnamed::name(file, to);
    match link(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let named = tempfile::Builder::new().prefix(PREFIX).make_in(folder, link)?;
            named.persist(path).map_err(|e| e.error)?;
            Ok(())
        }
        linked => linked,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_file_is_there_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let names = || std::fs::read_dir(&folder).unwrap().count();
        for content in ["first", "second"] {
            let before = names();
            replace_file(&path, |file| {
                file.write_all(content.as_bytes())?;
                let supported = unnamed(folder.path())?.is_some();
                assert_eq!(names() == before, supported, "an unfinished file has no name");
                Ok(())
            })
            .unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
            assert_eq!(names(), 1);
        }
        let failed = replace_file(&path, |_| Err(io::ErrorKind::Other.into()));
        assert!(failed.is_err());
        assert_eq!((std::fs::read_to_string(&path).unwrap().as_str(), names()), ("second", 1));
    }
}
