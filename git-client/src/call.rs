//! One run of the program: what it is told, and what it works on.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::Path;

use crate::access::Access;

/// Protocols that are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocols {
    /// Those of servers.
    Remote,
    /// Reading a repository of our own.
    Local,
}

/// One run of the program.
pub(crate) struct Call<'a> {
    pub(crate) arguments: Vec<OsString>,
    /// The repository.
    pub(crate) repository: Option<&'a Path>,
    /// Where files are checked out; it is the current directory.
    pub(crate) work_tree: Option<&'a Path>,
    /// The index that is used in place of the repository's.
    pub(crate) index: Option<&'a Path>,
    pub(crate) protocols: Protocols,
    pub(crate) access: Option<&'a Access>,
    pub(crate) settings: Vec<(String, String)>,
    /// What else it reads.
    pub(crate) reads: Option<&'a Path>,
    /// Kept open by everything that is started.
    pub(crate) held: Option<&'a OwnedFd>,
    /// Somebody else is waited for.
    pub(crate) is_remote: bool,
    /// Bytes of memory that each process may take.
    pub(crate) memory: u64,
}

/// More than `git` takes for the largest repositories.
const MEMORY: u64 = 4 << 30;

impl<'a> Call<'a> {
    pub(crate) fn new<T: Into<OsString>>(arguments: impl IntoIterator<Item = T>) -> Self {
        Self {
            arguments: arguments.into_iter().map(Into::into).collect(),
            repository: None,
            work_tree: None,
            index: None,
            reads: None,
            protocols: Protocols::Remote,
            access: None,
            settings: Vec::new(),
            held: None,
            is_remote: false,
            memory: MEMORY,
        }
    }

    pub(crate) fn remote(self, access: &'a Access) -> Self {
        Self { access: Some(access), is_remote: true, ..self }
    }
}
