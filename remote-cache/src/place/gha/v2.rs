//! Version 2 of the service, which github.com speaks: Twirp calls in JSON, contents at Azure's blob storage
//! under signed addresses.

use std::sync::Arc;

use http_client::{BodySource, Method};
use serde::{Deserialize, Serialize};

use super::caller::{Caller, free, read};
use super::service::{Entry, VERSION};
use crate::azure::{Access, Account};
use crate::object_error::{ObjectError, found};

const SERVICE: &str = "twirp/github.actions.results.api.v1.CacheService";

pub(super) struct V2(pub(super) Caller);

#[derive(Serialize)]
struct Key<'a> {
    key: &'a str,
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    restore_keys: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
}

/// All that the answers say, each a part of it.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    ok: bool,
    #[serde(default, alias = "signedDownloadUrl")]
    signed_download_url: String,
    #[serde(default, alias = "signedUploadUrl")]
    signed_upload_url: String,
    #[serde(default, alias = "matchedKey")]
    matched_key: String,
}

impl V2 {
    async fn call(&self, method: &str, body: &Key<'_>) -> Result<Answer, ObjectError> {
        let request = self.0.json(Method::POST, &format!("{SERVICE}/{method}"), body);
        read(&self.0.ask(&self.0.with_token(request, "application/json")).await?)
    }

    /// What the first of `keys` that anything begins with leads to.
    pub(super) async fn find(&self, keys: &[String]) -> Result<Option<Entry>, ObjectError> {
        let body =
            Key { key: &keys[0], version: VERSION, restore_keys: Some(keys), size_bytes: None };
        let answer = found(self.call("GetCacheEntryDownloadURL", &body).await)?;
        let entry =
            |answer: Answer| Entry { key: answer.matched_key, address: answer.signed_download_url };
        Ok(answer.filter(|answer| answer.ok).map(entry))
    }

    /// Where the content of `key` goes; `None` if somebody has the key.
    pub(super) async fn reserve(&self, key: &str) -> Result<Option<String>, ObjectError> {
        let body = Key { key, version: VERSION, restore_keys: None, size_bytes: None };
        match free(self.call("CreateCacheEntry", &body).await)? {
            Some(answer) if answer.ok => Ok(Some(answer.signed_upload_url)),
            Some(_) => Err(ObjectError::NotTaken),
            None => Ok(None),
        }
    }

    pub(super) async fn write(
        &self,
        key: &str,
        address: &str,
        source: Arc<dyn BodySource>,
        size: u64,
    ) -> Result<(), ObjectError> {
        let (url, server) = self.0.other(address)?;
        Account { server, access: Access::Address }.put(&url, source, size).await?;
        let body = Key { key, version: VERSION, restore_keys: None, size_bytes: Some(size) };
        let answer = self.call("FinalizeCacheEntryUpload", &body).await?;
        if answer.ok { Ok(()) } else { Err(ObjectError::NotTaken) }
    }
}
