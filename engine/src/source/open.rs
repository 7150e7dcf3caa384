//! Opening and reading files of which nothing is known.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::error::{BoxedError, BuildError};

/// Largest Dockerfile or ignore file that is read, in bytes.
pub(crate) const TEXT_MAX: u64 = 16 << 20;

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

/// Whether something has this name; where a link leads is found out when it is opened. With a `jail`,
/// which `path` is below, the way there is resolved as if that were the root.
pub(crate) fn is_there(jail: Option<&Path>, path: &Path) -> bool {
    use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};
    let Some((jail, below)) = jail.and_then(|jail| Some((jail, path.strip_prefix(jail).ok()?)))
    else {
        return path.symlink_metadata().is_ok();
    };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = open(jail, flags | OFlags::DIRECTORY, Mode::empty()).and_then(|jail| {
        openat2(&jail, below, flags | OFlags::NOFOLLOW, Mode::empty(), ResolveFlags::IN_ROOT)
    });
    found.is_ok()
}

/// Reads a small file; never waits for a pipe, never reads without end. With a `jail`,
/// which `path` is below, links are resolved as if it were the root.
pub(crate) fn read_text(jail: Option<&Path>, path: &Path) -> Result<Vec<u8>, BuildError> {
    let shown = jail.and_then(|jail| path.strip_prefix(jail).ok()).unwrap_or(path);
    let failed = |why: BoxedError| {
        BuildError::input(format!("failed to read `{}`", shown.display())).because(why)
    };
    let file = open_regular(jail, if jail.is_some() { shown } else { path })
        .map_err(|e| failed(e.into()))?;
    let mut bytes = Vec::new();
    file.take(TEXT_MAX + 1).read_to_end(&mut bytes).map_err(|e| failed(e.into()))?;
    if bytes.len() as u64 > TEXT_MAX {
        return Err(failed("it is larger than 16 MiB".into()));
    }
    Ok(bytes)
}
