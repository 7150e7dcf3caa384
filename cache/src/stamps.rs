//! The stamps that a session makes of the trees it has finished.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::background::{Background, Work};
use crate::layer_id::LayerId;
use crate::mutex::lock;
use crate::stamp::{Stamp, stamp};

/// How long stamps that are being made are waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// The stamps that a session makes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stamps(Arc<Made>);

#[derive(Debug, Default)]
struct Made {
    /// Those that wait for the next commit.
    waiting: Mutex<Vec<Stamped>>,
    /// Trees whose stamp somebody brings who reads them, and where they are.
    unstamped: Mutex<HashMap<LayerId, PathBuf>>,
    /// Stamps that are being made.
    going_on: Background,
}

/// A stamp on its way into the row of its layer.
#[derive(Debug, Clone)]
pub(crate) struct Stamped {
    pub(crate) layer: LayerId,
    /// The directory of `layers-v1` whose stamp it is.
    pub(crate) directory: LayerId,
    pub(crate) stamp: Stamp,
}

impl Stamps {
    /// Somebody will read this tree and bring its stamp.
    pub(crate) fn expect(&self, id: &LayerId, directory: PathBuf) {
        self.unstamped().insert(id.clone(), directory);
    }

    /// Makes those stamps that nobody has brought, and waits for those that are being made.
    pub(crate) fn finish(&self) {
        let unstamped = std::mem::take(&mut *self.unstamped());
        for (id, directory) in unstamped {
            if let Ok(stamp) = stamp(&directory) {
                self.add(&id, &directory, stamp);
            }
        }
        self.0.going_on.wait(PATIENCE);
    }

    /// Room on disk of the trees whose stamps wait for a commit, in bytes.
    pub(crate) fn sizes(&self) -> HashMap<LayerId, u64> {
        let waiting = lock(&self.0.waiting);
        waiting.iter().map(|made| (made.layer.clone(), made.stamp.bytes)).collect()
    }

    /// Begins to make one, which [`Self::finish`] waits for.
    pub(crate) fn begin(&self) -> Work {
        self.0.going_on.begin()
    }

    /// Whether any waits for a commit, or will.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.0.waiting).is_empty() && self.unstamped().is_empty() && self.0.going_on.is_idle()
    }

    /// Those that wait for a commit.
    pub(crate) fn take(&self) -> Vec<Stamped> {
        std::mem::take(&mut *lock(&self.0.waiting))
    }

    pub(crate) fn unstamped(&self) -> MutexGuard<'_, HashMap<LayerId, PathBuf>> {
        lock(&self.0.unstamped)
    }

    pub(crate) fn add(&self, id: &LayerId, fs: &Path, stamp: Stamp) {
        let directory = fs.parent().and_then(Path::file_name).expect("a tree is in a directory");
        let directory = LayerId::from_key(directory.as_bytes());
        lock(&self.0.waiting).push(Stamped { layer: id.clone(), directory, stamp });
    }
}
