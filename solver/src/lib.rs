//! Which steps must run, in what order, and which may run at once.
//!
//! [`Scheduler`] is a state machine: it is fed events and asks for work, without threads, clocks or
//! I/O. [`drive`] runs it on tokio against a [`Worker`], which knows what an op does and where
//! results live; this crate knows neither.
//!
//! Every vertex is looked up twice: by *definition* (its op and the keys of its inputs) and, if
//! that fails and it takes in file trees, by *content* (its op and digests of what it really takes
//! in). Keys are found before results: a vertex whose result nobody needs never runs.
//!
//! Read [`key`], then [`scheduler`], then [`drive`].

pub mod drive;
pub mod key;
pub mod scheduler;
pub mod slots;

pub use drive::{Executed, Found, Source, Worker, drive};
pub use key::{
    CacheKey, ContentInput, content_inputs, content_key, definition_key, without_sources,
};
pub use scheduler::{Event, Request, Scheduler};
pub use slots::Slots;
