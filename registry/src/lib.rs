//! The distribution protocol: resolve, pull and push images.
//!
//! [`Registries`] talks to registries for one [`Config`] and one set of [`Credentials`]. It verifies
//! everything by digest, follows redirects itself so that no credential leaves its host, and
//! bounds time, size and attempts of whatever a registry does. It does not know where blobs are
//! kept: they go into a [`BlobSink`] and come from a [`BlobSource`].
//!
//! Read [`Registries`], then `endpoint` (one host: request, authentication, redirects), then
//! `transfer` (blobs).

mod attempts;
mod auth;
mod challenge;
mod config;
mod credentials;
mod deadline;
mod endpoint;
mod error;
mod pace;
mod push;
mod redirect;
mod registries;
mod resolve;
mod retry;
mod sink;
mod transfer;

pub use config::{Config, HostConfig, KeyPair, Limits};
pub use credentials::{Credential, Credentials, CredentialsError};
pub use error::{Cause, Error, ErrorKind};
pub use push::{BlobSource, Pushed};
pub use registries::Registries;
pub use resolve::Resolved;
pub use sink::{BlobSink, MemorySink};
