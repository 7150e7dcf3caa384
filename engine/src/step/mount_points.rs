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

/// Where a sandbox mounts files, in the one directory that has them, and where directories.
struct Places {
    directory: &'static str,
    files: &'static [&'static str],
    directories: &'static [&'static str],
}

/// As with BuildKit, a step's layer gets the directories.
const OF_STEP: Places =
    Places { directory: "etc", files: &["hosts", "resolv.conf"], directories: &[] };
/// As with Docker, nothing of this shows in what a container has changed.
const OF_CONTAINER: Places = Places {
    directory: "etc",
    files: &["hosts", "resolv.conf", "hostname"],
    directories: &["dev", "proc", "sys"],
};

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
        let root = store.temporary_directory().join("mount-points");
        let root = OF_STEP.make(root).map_err(failed)?;
        Ok(made.insert(root).clone())
    }
}

/// The same for a container.
pub(crate) fn of_container(store: &Store) -> Result<PathBuf, BuildError> {
    let root = store.temporary_directory().join("container");
    OF_CONTAINER.make(root).map_err(failed)
}

fn failed(error: io::Error) -> BuildError {
    BuildError::system("failed to make places to mount on").because(error)
}

impl Places {
    /// A layer at `root` that has them.
    fn make(&self, root: PathBuf) -> io::Result<PathBuf> {
        // Whatever the umask: a step may run as anybody.
        let readable =
            |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode));
        for name in self.directories.iter().chain([&self.directory]) {
            let directory = root.join(name);
            std::fs::create_dir_all(&directory)?;
            readable(&directory, 0o755)?;
        }
        for name in self.files {
            let file = root.join(self.directory).join(name);
            File::create(&file)?;
            readable(&file, 0o644)?;
        }
        Ok(root)
    }
}
