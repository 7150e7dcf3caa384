//! What comes from outside of a build: the Dockerfile, contexts, archives and images.

pub(crate) mod archive;
pub(crate) mod contexts;
pub(crate) mod git;
pub(crate) mod http;
pub(crate) mod ignore_file;
pub(crate) mod image;
pub(crate) mod input;
pub(crate) mod layout;
pub(crate) mod named;
pub(crate) mod newest;
pub(crate) mod open;
pub(crate) mod remote;
pub(crate) mod wanted;
