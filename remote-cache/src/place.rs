//! Where a shared cache is. Each kind of place stores packs under names that are never used twice, one summary
//! that whoever writes last leaves, and blobs under their digests.

mod azblob;
mod directory;
mod gha;
mod in_registry;
mod s3;

use std::sync::Arc;
use std::time::SystemTime;

use http_client::BodySource;
use oci::{Descriptor, Reference};
use registry::{BlobSink, MemorySink, Registries};

use crate::contents::Contents;
use crate::error::Error;
use crate::index::{INDEX_MAX, Index, InvalidIndex};
use crate::name;

pub use azblob::{Azblob, AzblobOptions, AzureAccess, InvalidAzblob};
pub use directory::Directory;
pub use gha::{Gha, GhaOptions, GhaVersion, InvalidGha};
pub use in_registry::InRegistry;
pub use s3::{InvalidS3, S3, S3Options};

/// The largest page of a list of objects, in bytes.
const LIST_MAX: u64 = 8 << 20;
/// Pages of a list that are read, of some thousand names each.
const PAGES_MAX: usize = 100;

/// A shared cache's place.
pub enum Place {
    /// A repository of a registry.
    Registry(InRegistry),
    /// A directory.
    Directory(Directory),
    /// A bucket of an object store.
    S3(S3),
    /// The cache service of GitHub Actions.
    Gha(Gha),
    /// A container of Azure's blob storage.
    Azblob(Azblob),
}

/// What stands where the newest pack is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Summary {
    /// Nothing.
    None,
    /// A pack, whose name has to be found.
    Pack(Vec<u8>),
    /// Packs with their names.
    Packs(Vec<(String, Vec<u8>)>),
    /// Another program's: a manifest or an index.
    Other(Vec<u8>),
}

impl Place {
    /// The cache that `reference` names in its registry.
    ///
    /// # Errors
    /// [`Error::Tag`] if there is no room in tags for the names of packs.
    pub fn registry(registries: Arc<Registries>, reference: &Reference) -> Result<Self, Error> {
        InRegistry::new(registries, reference).map(Self::Registry)
    }

    /// The cache called `tag` in a directory.
    pub fn directory(path: &std::path::Path, tag: &str) -> Self {
        Self::Directory(Directory::new(path, tag))
    }

    /// What stands where the newest pack is expected, and the names of all packs: where nothing can be listed, of
    /// those that there may be.
    pub(crate) async fn overview(&self) -> Result<(Summary, Result<Vec<String>, Error>), Error> {
        match self {
            Self::Registry(place) => {
                let (summary, names) = futures_util::join!(place.summary(), place.names());
                Ok((summary?, names))
            }
            Self::Directory(place) => Ok((Summary::None, place.names().await)),
            Self::S3(place) => Ok((Summary::None, place.names().await)),
            Self::Azblob(place) => Ok((Summary::None, place.names().await)),
            Self::Gha(place) => Ok((place.summary().await?, place.names().await)),
        }
    }

    /// A pack's bytes; `None` if there is none of this name.
    pub(crate) async fn pack(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        match self {
            Self::Registry(place) => place.pack(name).await,
            Self::Directory(place) => place.pack(name).await,
            Self::S3(place) => place.pack(name).await,
            Self::Gha(place) => place.pack(name).await,
            Self::Azblob(place) => place.pack(name).await,
        }
    }

    /// Writes a pack, whose `blobs` are there, under a name that nothing has.
    pub(crate) async fn put_pack(&self, bytes: Vec<u8>, blobs: &[Descriptor]) -> Result<(), Error> {
        let name = name::new(&bytes, SystemTime::now());
        match self {
            Self::Registry(place) => place.put_pack(&name, bytes, blobs).await,
            Self::Directory(place) => place.put_pack(&name, bytes).await,
            Self::S3(place) => place.put_pack(&name, bytes).await,
            Self::Gha(place) => place.put_pack(bytes).await,
            Self::Azblob(place) => place.put_pack(&name, bytes).await,
        }
    }

    /// Removes a pack, where that is for those to do who add to a cache: registries have rules of their own, and
    /// GitHub removes what nobody used for a week.
    pub(crate) async fn remove_pack(&self, name: &str) -> Result<(), Error> {
        match self {
            Self::Directory(place) => place.remove_pack(name).await,
            Self::S3(place) => place.remove_pack(name).await,
            Self::Azblob(place) => place.remove_pack(name).await,
            Self::Registry(_) | Self::Gha(_) => Ok(()),
        }
    }

    /// Fetches a blob into `sink`, which gets exactly its bytes. `progress` hears how many it has.
    ///
    /// # Errors
    /// [`Error`] if it is not there, or has other content.
    pub async fn fetch<S, P>(&self, blob: &Descriptor, sink: S, progress: P) -> Result<S, Error>
    where
        S: BlobSink + 'static,
        P: FnMut(u64) + Send + 'static,
    {
        match self {
            Self::Registry(place) => place.fetch(blob, sink, progress).await,
            Self::Directory(place) => place.fetch(blob, sink, progress).await,
            Self::S3(place) => place.fetch(blob, sink, progress).await,
            Self::Gha(place) => place.fetch(blob, sink, progress).await,
            Self::Azblob(place) => place.fetch(blob, sink, progress).await,
        }
    }

    /// Where the bytes of what a cache mount held are.
    ///
    /// # Errors
    /// [`Error`] if that is not there, has other content, or cannot be understood.
    pub async fn index(&self, contents: &Contents) -> Result<Index, Error> {
        let invalid = |source| Error::Index { id: contents.id.clone(), source };
        if contents.index.size > INDEX_MAX {
            return Err(invalid(InvalidIndex::Form("too long".to_owned())));
        }
        let sink = MemorySink::new(&contents.index.digest);
        let bytes = self.fetch(&contents.index, sink, |_| {}).await?.into_bytes();
        Index::parse(&bytes, contents.size).map_err(invalid)
    }

    /// Whether blobs may go that packs name: nothing but their age keeps them.
    pub(crate) fn may_lose(&self) -> bool {
        match self {
            Self::Registry(_) | Self::Directory(_) => false,
            Self::S3(_) | Self::Azblob(_) | Self::Gha(_) => true,
        }
    }

    /// Whether a blob is there. One of another length is not it.
    ///
    /// # Errors
    /// [`Error`] if the place does not say.
    pub async fn has(&self, blob: &Descriptor) -> Result<bool, Error> {
        match self {
            Self::Registry(place) => place.has(blob).await,
            Self::Directory(place) => place.has(blob).await,
            Self::S3(place) => place.has(blob).await,
            Self::Gha(place) => place.has(blob).await,
            Self::Azblob(place) => place.has(blob).await,
        }
    }

    /// Brings a blob there; whether it had to travel.
    ///
    /// # Errors
    /// [`Error`] if the place does not take it.
    pub async fn upload(
        &self,
        blob: &Descriptor,
        source: Arc<dyn BodySource>,
    ) -> Result<bool, Error> {
        match self {
            Self::Registry(place) => place.upload(blob, source).await,
            Self::Directory(place) => place.upload(blob, source).await,
            Self::S3(place) => place.upload(blob, source).await,
            Self::Gha(place) => place.upload(blob, source).await,
            Self::Azblob(place) => place.upload(blob, source).await,
        }
    }
}
