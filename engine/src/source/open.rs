//! Opening files of which nothing is known.

use std::fs::File;
use std::path::Path;

/// Opens a regular file; with a `jail`, `path` is resolved as if that were the root.
pub(crate) fn open_regular(jail: Option<&Path>, path: &Path) -> std::io::Result<File> {
    use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = match jail {
        None => open(path, flags, Mode::empty())?,
        Some(jail) => {
            let jail =
                open(jail, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            openat2(&jail, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)?
        }
    };
    let file = File::from(opened);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(std::io::Error::other("it is not a regular file")),
    }
}
