//! The distribution protocol: resolve, pull and push images.
//!
//! [`Registries`] talks to registries for one [`Config`] and one set of [`Credentials`]. It verifies
//! everything by digest and decides which credentials a host gets; [`http_client`] does connections,
//! redirects and limits. It does not know where blobs are kept: they go into a [`BlobSink`] and
//! come from an [`http_client::BodySource`].
//!
//! Read [`Registries`], then `endpoint` (one host: authentication, mirrors), then `transfer`
//! (blobs that come) and `upload` (blobs that go).

mod answer;
mod attempts;
mod auth;
mod cause;
mod challenge;
mod config;
mod copy;
mod credentials;
mod endpoint;
mod error;
mod kind;
mod login;
mod protocol;
mod push;
mod registries;
mod resolve;
mod scope;
mod sink;
mod tags;
mod token;
mod transfer;
mod upload;

pub use cause::Cause;
pub use config::{Config, HostConfig, KeyPair};
pub use copy::Copied;
pub use credentials::{
    Credential, CredentialAnswer, Credentials, CredentialsError, Forgotten, Keeper, Kept,
};
pub use error::{Error, chain};
pub use kind::ErrorKind;
pub use login::Login;
pub use protocol::ProtocolError;
pub use registries::Registries;
pub use resolve::Resolved;
pub use sink::{BlobSink, MemorySink};
pub use upload::{EarlyUpload, Pushed};
