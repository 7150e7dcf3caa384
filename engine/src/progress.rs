//! What a build tells of itself.

pub(crate) mod event;
pub(crate) mod steps;
