//! Version 1 of the service, which Gitea, act and GitHub's servers in other houses speak: REST, contents in
//! pieces to the service itself.

use std::sync::Arc;

use http_client::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue};
use http_client::{BodySource, Deadline, Method, Payload};
use serde::{Deserialize, Serialize};

use super::caller::{Caller, free, read};
use super::service::{Entry, VERSION};
use crate::object_error::{ObjectError, found};

const SERVICE: &str = "_apis/artifactcache";
const ACCEPT: &str = "application/json;api-version=6.0-preview.1";
/// Bytes of a piece.
const PIECE: u64 = 32 << 20;

pub(super) struct V1(pub(super) Caller);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    #[serde(default)]
    cache_key: String,
    #[serde(default)]
    archive_location: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reserve<'a> {
    key: &'a str,
    version: &'a str,
    cache_size: u64,
}

#[derive(Deserialize)]
struct Reserved {
    #[serde(rename = "cacheId", alias = "cacheID")]
    id: i64,
}

#[derive(Serialize)]
struct Size {
    size: u64,
}

impl V1 {
    pub(super) async fn find(&self, keys: &[String]) -> Result<Option<Entry>, ObjectError> {
        let mut request = self.0.request(Method::GET, &format!("{SERVICE}/cache"));
        let query = [("keys", &*keys.join(",")), ("version", VERSION)];
        request.url.query_pairs_mut().extend_pairs(query);
        let answer = found(self.0.ask(&self.0.with_token(request, ACCEPT)).await)?;
        // Nothing at all is said of what is not there.
        let Some(answer) = answer.filter(|answer| !answer.is_empty()) else { return Ok(None) };
        let Found { cache_key: key, archive_location: address } = read(&answer)?;
        Ok((!key.is_empty()).then_some(Entry { key, address }))
    }

    /// The number under which the content of `key` goes; `None` if somebody has the key.
    pub(super) async fn reserve(&self, key: &str, size: u64) -> Result<Option<i64>, ObjectError> {
        let body = Reserve { key, version: VERSION, cache_size: size };
        let request = self.0.json(Method::POST, &format!("{SERVICE}/caches"), &body);
        let answer = free(self.0.ask(&self.0.with_token(request, ACCEPT)).await)?;
        answer.map(|answer| read::<Reserved>(&answer).map(|reserved| reserved.id)).transpose()
    }

    pub(super) async fn write(
        &self,
        id: i64,
        source: Arc<dyn BodySource>,
        size: u64,
    ) -> Result<(), ObjectError> {
        let path = format!("{SERVICE}/caches/{id}");
        for from in (0..size).step_by(PIECE as usize) {
            let length = PIECE.min(size - from);
            let mut request = self.0.request(Method::PATCH, &path);
            let range = format!("bytes {from}-{}/*", from + length - 1);
            let range = HeaderValue::from_str(&range).expect("numbers fit into a header");
            request.headers.insert(CONTENT_RANGE, range);
            let kind = HeaderValue::from_static("application/octet-stream");
            request.headers.insert(CONTENT_TYPE, kind);
            request.payload = Payload::Stream { source: source.clone(), from, size: length };
            let deadline = Deadline::for_transfer(self.0.server.limits(), length);
            self.0.server.send(&self.0.with_token(request, ACCEPT), deadline).await?;
        }
        let request = self.0.json(Method::POST, &path, &Size { size });
        self.0.ask(&self.0.with_token(request, ACCEPT)).await.map(drop)
    }
}
