//! The caller's umask counts for what the caller is given, and for nothing else.
//!
//! What goes into a layer, into the store or into a sandbox must not depend on who calls. So the
//! program puts the caller's umask aside when it starts, and makes everything with the usual one;
//! what it makes for the caller gets its mode here.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::Mode;

/// Everybody may read, the owner may write.
const USUAL: u32 = 0o022;

static CALLERS: OnceLock<Mode> = OnceLock::new();

/// Replaces the umask this program was started with, and remembers it. To be called at the start of
/// `main`, while there is one thread.
pub fn put_umask_aside() {
    callers();
}

fn callers() -> u32 {
    let put_aside = || rustix::process::umask(Mode::from_raw_mode(USUAL));
    CALLERS.get_or_init(put_aside).as_raw_mode()
}

/// Gives a new file the mode that any program of the caller's would have made it with.
pub fn give_file(file: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o666 & !callers()))
}

/// Makes a directory, and those above it that are missing, with the mode that any program of the
/// caller's would have made them with.
pub(crate) fn make_directories(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => give_directory(path),
        Err(_) if path.is_dir() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => {
                make_directories(parent)?;
                make_directories(path)
            }
            _ => Err(error),
        },
        Err(error) => Err(error),
    }
}

fn give_directory(path: &Path) -> io::Result<()> {
    // The directory above may have given it a set-group-id bit.
    let inherited = std::fs::metadata(path)?.mode() & 0o7000;
    std::fs::set_permissions(path, Permissions::from_mode(inherited | (0o777 & !callers())))
}
