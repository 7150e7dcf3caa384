//! A main context from another machine, once it is here.

use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::Arc;

use parser::lower::MainContext;

use crate::tree::View;

/// A main context from another machine. It is a layer like others, read where it is.
pub(crate) struct RemoteContext {
    /// Its address, for messages.
    pub(crate) shown: String,
    /// What lowering makes of it.
    pub(crate) main: MainContext,
    pub(crate) files: Arc<View>,
    /// It is a Dockerfile and nothing else, of this name.
    pub(crate) dockerfile: Option<PathBuf>,
}

impl RemoteContext {
    /// The directory that its names are resolved beneath, for as long as this is there; none if it is empty.
    pub(crate) fn root(&self) -> Option<PathBuf> {
        let root = self.files.descriptor()?;
        Some(PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd())))
    }
}
