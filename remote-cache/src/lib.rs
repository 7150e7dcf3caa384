//! Caches that builders share: records of steps, and layers, in a registry, an object store or a directory.
//!
//! Many write, and nobody overwrites what another has written. Read [`Record`] (what is said of a step), [`Pack`]
//! (records on their way), [`Packs`] (reading all, adding some), then [`Place`] (where). [`Contents`] is what is said
//! of a cache mount, whose archive goes by [`bundle()`] into blobs and comes back by [`Unbundle`].
//!
//! What a cache says is never trusted: a record's layers count once their bytes have the digests that it names,
//! which is for the caller to check, and records may have to be signed.

mod access;
mod azure;
mod bundle;
mod contents;
mod download;
mod embedded;
mod error;
mod exchange;
mod index;
mod lease;
mod lost;
mod name;
mod object_error;
mod pack;
mod place;
mod record;
mod refusal;
mod server;
mod signature;
mod signed;
mod unbundle;
mod xml;

pub use access::{
    AwsAccess, AzureIdentity, ContainerToken, ManagedIdentity, S3Credentials, aws_domain,
};
pub use bundle::{Bundled, Known, NewBundle, bundle};
pub use contents::Contents;
pub use embedded::{EMBEDDED_MAX, embed, embedded};
pub use error::Error;
pub use exchange::{News, Packs};
pub use index::{Bundle, Index, InvalidIndex};
pub use object_error::{AccessError, ObjectError};
pub use pack::{InvalidPack, PACK_MAX, Pack};
pub use place::{
    Azblob, AzblobOptions, AzureAccess, Directory, Gha, GhaOptions, GhaVersion, InRegistry,
    InvalidAzblob, InvalidGha, InvalidS3, Place, S3, S3Options,
};
pub use record::{Layer, Record};
pub use refusal::Code;
pub use signature::{InvalidKey, Signable, Signature, SigningKey, VerifyingKey, Words};
pub use signed::Signed;
pub use unbundle::Unbundle;
