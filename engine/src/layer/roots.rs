//! Roots of layer trees that stay open from one comparison to the next.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::process::{Resource, getrlimit};

/// What part of the descriptors that this process may have are kept here: one in so many.
const SHARE: u64 = 4;

/// The trees that later layers of a build are compared with: each is below all that come after it.
#[derive(Default)]
pub(crate) struct Roots(Mutex<HashMap<PathBuf, Arc<OwnedFd>>>);

impl Roots {
    /// The tree at `directory`.
    pub(crate) fn open(&self, directory: &Path) -> io::Result<Arc<OwnedFd>> {
        if let Some(known) = self.0.lock().expect("no panic while held").get(directory) {
            return Ok(known.clone());
        }
        let root = Arc::new(OwnedFd::from(File::open(directory)?));
        let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / SHARE;
        let mut known = self.0.lock().expect("no panic while held");
        if (known.len() as u64) < most {
            known.insert(directory.to_owned(), root.clone());
        }
        Ok(root)
    }
}
