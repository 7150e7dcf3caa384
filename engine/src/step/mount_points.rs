//! What every root has beneath its layers: places for a sandbox to mount on.
//!
//! Without them the sandbox would make them in the layer of the step and take them away again, which
//! leaves a directory in every layer that each later look-up has to pass through.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use cache::Store;

use crate::error::BuildError;

/// Files that a sandbox mounts over, in the one directory that has them.
const DIRECTORY: &str = "etc";
const FILES: [&str; 2] = ["hosts", "resolv.conf"];

/// A layer of a session's own with these places, made when it is first needed.
#[derive(Default)]
pub(crate) struct MountPoints {
    made: Mutex<Option<PathBuf>>,
}

impl MountPoints {
    /// Its directory. Where it cannot be made nothing may run: the step's layer would be another one.
    pub(crate) fn of(&self, store: &Store) -> Result<PathBuf, BuildError> {
        let mut made = self.made.lock().expect("no panic while held");
        if let Some(known) = &*made {
            return Ok(known.clone());
        }
        let root = make(store.temporary_directory().join("mount-points"))
            .map_err(|e| BuildError::system("failed to make places to mount on").because(e))?;
        Ok(made.insert(root).clone())
    }
}

fn make(root: PathBuf) -> io::Result<PathBuf> {
    let directory = root.join(DIRECTORY);
    std::fs::create_dir_all(&directory)?;
    // Whatever the umask: a step may run as anybody.
    let readable = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode));
    readable(&directory, 0o755)?;
    for name in FILES {
        let file = directory.join(name);
        File::create(&file)?;
        readable(&file, 0o644)?;
    }
    Ok(root)
}
