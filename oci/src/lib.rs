//! The nouns of the OCI specifications: digests, references, platforms, descriptors, manifests and
//! image configs. Knows no files, no network and no builds.

pub mod config;
pub mod digest;
pub mod layout;
pub mod manifest;
pub mod platform;
pub mod reference;

pub use config::{
    ContainerConfig, Empty, HealthConfig, History, ImageConfig, InvalidConfig, RootFs,
};
pub use digest::{ChainId, DiffId, Digest, Hasher, InvalidDigest};
pub use manifest::{Descriptor, Document, Index, InvalidManifest, Manifest, media_type};
pub use platform::{InvalidPlatform, Platform};
pub use reference::{AnyReference, InvalidReference, RawReference, Reference};
