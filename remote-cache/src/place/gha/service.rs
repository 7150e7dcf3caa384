//! The cache service, in both of its versions: entries under keys, which are never changed.

use std::sync::Arc;

use http_client::{BodySource, Url};

use super::v1::V1;
use super::v2::V2;
use crate::object_error::ObjectError;
use crate::server::Server;

/// What the service finds entries by besides their keys: the digest of "mybuild shared cache 1".
pub(super) const VERSION: &str = "71c8d15c0bc286daf727798de25e01f8f83302a5dc4e866eccc9128d70f5e0f3";

/// The service.
pub(super) enum Service {
    V1(V1),
    V2(V2),
}

/// An entry that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its key.
    pub(super) key: String,
    /// Where its content is, for some minutes.
    pub(super) address: String,
}

impl Service {
    /// The newest entry of those whose keys begin with the first of `keys` with which any does.
    pub(super) async fn find(&self, keys: &[String]) -> Result<Option<Entry>, ObjectError> {
        match self {
            Self::V1(service) => service.find(keys).await,
            Self::V2(service) => service.find(keys).await,
        }
    }

    /// Writes an entry, unless somebody has its key: whether it is ours.
    pub(super) async fn create(
        &self,
        key: &str,
        source: Arc<dyn BodySource>,
        size: u64,
    ) -> Result<bool, ObjectError> {
        match self {
            Self::V1(service) => match service.reserve(key, size).await? {
                Some(id) => service.write(id, source, size).await?,
                None => return Ok(false),
            },
            Self::V2(service) => match service.reserve(key).await? {
                Some(address) => service.write(key, &address, source, size).await?,
                None => return Ok(false),
            },
        }
        Ok(true)
    }

    /// The server that has an entry's content, and where.
    pub(super) fn content(&self, entry: &Entry) -> Result<(Url, Arc<Server>), ObjectError> {
        let (Self::V1(V1(caller)) | Self::V2(V2(caller))) = self;
        caller.other(&entry.address)
    }
}
