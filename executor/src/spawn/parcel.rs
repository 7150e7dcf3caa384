//! What is sent along with a job.

use std::os::fd::OwnedFd;

use crate::job::{Blob, FdIndex};

/// Descriptors and bytes, which the job names by number and range.
#[derive(Default)]
pub(super) struct Parcel {
    pub(super) fds: Vec<OwnedFd>,
    pub(super) bytes: Vec<u8>,
}

impl Parcel {
    pub(super) fn add(&mut self, fd: OwnedFd) -> FdIndex {
        self.fds.push(fd);
        self.fds.len() - 1
    }

    pub(super) fn blob(&mut self, bytes: &[u8]) -> Blob {
        let start = self.bytes.len();
        self.bytes.extend(bytes);
        start..self.bytes.len()
    }
}
