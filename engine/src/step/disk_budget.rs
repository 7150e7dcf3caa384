//! How much of the disk a step may take.
//!
//! No quota of the kernel's does for directories of any file system, so somebody looks from time to
//! time: what a step writes between two looks, and no further.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::blocking::blocking;
use crate::error::BuildError;

/// Between two looks at the disk.
const PAUSE: Duration = Duration::from_millis(100);
/// Looking at many files takes its time: at most one part in so many.
const SHARE: u32 = 20;
/// What is left free for everything else: a hundredth of the disk, within these bounds in bytes.
const RESERVE: (u64, u64) = (8 << 20, 256 << 20);

/// The budget of one step.
pub(crate) struct DiskBudget {
    limit: Option<u64>,
    /// Where it writes.
    directories: Vec<PathBuf>,
}

/// Why a step may write no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overrun {
    /// It has written more than the bytes it was given.
    Budget(u64),
    /// It has filled the disk up to the bytes that are to stay free.
    Reserve(u64),
}

impl DiskBudget {
    pub(crate) fn new(limit: Option<u64>, directories: Vec<PathBuf>) -> Self {
        Self { limit, directories }
    }

    /// Waits until the step has taken too much.
    pub(crate) async fn overrun(&self) -> Result<Overrun, BuildError> {
        let mut pause = PAUSE;
        loop {
            tokio::time::sleep(pause).await;
            let started = Instant::now();
            if let Some(overrun) = self.look().await? {
                return Ok(overrun);
            }
            pause = PAUSE.max(started.elapsed() * SHARE);
        }
    }

    /// What a step that has ended has taken too much, if it was given a number: between two looks it
    /// may have written anything.
    pub(crate) async fn final_look(&self) -> Result<Option<Overrun>, BuildError> {
        match self.limit {
            Some(_) => self.look().await,
            None => Ok(None),
        }
    }

    async fn look(&self) -> Result<Option<Overrun>, BuildError> {
        let (limit, directories) = (self.limit, self.directories.clone());
        blocking(move || {
            let written = || directories.iter().map(|dir| cache::size_of(dir)).sum();
            let found = match limit {
                Some(limit) => (written() > limit).then_some(Overrun::Budget(limit)),
                None => {
                    directories.first().map(|dir| reserve(dir, &written)).transpose()?.flatten()
                }
            };
            Ok(found)
        })
        .await
    }
}

/// Whether the disk is filled up, and by the step: what others have taken is not its fault.
fn reserve(directory: &Path, written: &dyn Fn() -> u64) -> Result<Option<Overrun>, BuildError> {
    let stat = rustix::fs::statvfs(directory).map_err(|errno| {
        BuildError::system("failed to look at the room on the disk").because(errno)
    })?;
    let [total, free] = [stat.f_blocks, stat.f_bavail].map(|blocks| blocks * stat.f_frsize);
    let reserve = (total / 100).clamp(RESERVE.0, RESERVE.1);
    Ok((free < reserve && written() > reserve).then_some(Overrun::Reserve(reserve)))
}
