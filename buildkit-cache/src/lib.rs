//! BuildKit's build cache as it lies in registries: read, asked and written.
//!
//! A cache is a [`config::Config`] and blobs; [`artifact`] says how they lie in a registry. [`Cache`] is one
//! that is asked which records a [`Step`] has, input by input from the sources up; [`Export`] is one that
//! is written the same way. Knows no files, no network and no builds.

pub mod artifact;
pub mod cache;
pub mod config;
pub mod content;
mod exec;
pub mod export;
mod file;
mod go;
pub mod key;
mod path;
pub mod source;
pub mod step;
pub mod vertex;

pub use artifact::{Artifact, Shape};
pub use cache::{Blob, Cache, Made};
pub use config::{Config, InvalidConfig};
pub use export::Export;
pub use source::Identity;
pub use step::{Input, Records, Selector, Step, StepInput};
