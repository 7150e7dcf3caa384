//! Caches that builders share: records of steps, and layers, in a registry, an object store or a directory.
//!
//! Many write, and nobody overwrites what another has written. Read [`Record`] (what is said of a step), [`Pack`]
//! (records on their way), [`Packs`] (reading all, adding some), then [`Place`] (where).
//!
//! What a cache says is never trusted: a record's layers count once their bytes have the digests that it names,
//! which is for the caller to check, and records may have to be signed.

mod download;
mod error;
mod exchange;
mod name;
mod object_error;
mod pack;
mod place;
mod record;
mod signature;

pub use error::Error;
pub use exchange::Packs;
pub use object_error::ObjectError;
pub use pack::{InvalidPack, PACK_MAX, Pack, Signed};
pub use place::{Directory, InRegistry, InvalidS3, Place, S3, S3Credentials, S3Options};
pub use record::{Layer, Record};
pub use signature::{InvalidKey, Signature, SigningKey, VerifyingKey};
