//! A cache in an object store that speaks S3: packs at `PREFIX/manifests/NAME/PACK.json`, blobs at
//! `PREFIX/blobs/DIGEST`, as BuildKit's attributes place them.
//!
//! Requests are signed into their URLs (AWS Signature Version 4, query parameters), which are good for minutes.

use std::sync::Arc;
use std::time::Duration;

use http_client::{BodySource, Deadline, Limits, Method, Payload, Request, Url};
use oci::Descriptor;
use registry::BlobSink;
use rusty_s3::actions::ListObjectsV2;
use rusty_s3::{Bucket, Credentials, S3Action as _, UrlStyle};
use tokio_util::bytes::Bytes;

use crate::download;
use crate::error::Error;
use crate::name;
use crate::object_error::ObjectError;
use crate::pack::PACK_MAX;
use crate::server::{Object, Server};

/// How long a signed URL is good for.
const SIGNED: Duration = Duration::from_secs(900);
/// The largest list of objects, in bytes.
const LIST_MAX: u64 = 8 << 20;
/// Pages of a list that are read, of a thousand names each.
const PAGES_MAX: usize = 100;
const ENDING: &str = ".json";

/// Where a bucket is, and who may use it.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Options {
    /// The server; `None` for Amazon's in the region.
    pub endpoint: Option<String>,
    /// Whether the bucket is a part of the path rather than of the host's name.
    pub path_style: bool,
    /// The bucket.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// Before all names.
    pub prefix: String,
    /// Before the names of blobs, behind [`Self::prefix`].
    pub blobs_prefix: String,
    /// Before the names of packs, behind [`Self::prefix`].
    pub manifests_prefix: String,
    /// Which of the caches there may be in the bucket.
    pub name: String,
    /// Access key, secret key, and a token if they are temporary; `None` for what everybody may do.
    pub credentials: Option<S3Credentials>,
}

/// An access key of S3.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Credentials {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: String,
    /// The session it belongs to.
    pub token: Option<String>,
}

impl std::fmt::Debug for S3Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "S3Options({}/{})", self.bucket, self.name)
    }
}

/// Why the options cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidS3 {
    /// The server's address.
    #[error("`{0}` is not an HTTP address")]
    Endpoint(String),
    /// The bucket's name.
    #[error("`{0}` is not a name for a bucket")]
    Bucket(String),
}

/// A cache in a bucket.
pub struct S3 {
    inner: Arc<Inner>,
    packs: String,
    blobs: String,
}

struct Inner {
    bucket: Bucket,
    credentials: Option<Credentials>,
    server: Arc<Server>,
}

impl S3 {
    /// The cache of these options. Opens no connection.
    ///
    /// # Errors
    /// [`InvalidS3`] if an address cannot be made of them.
    pub fn new(options: &S3Options, limits: Limits) -> Result<Self, InvalidS3> {
        let endpoint = match &options.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => format!("https://s3.{}.amazonaws.com", options.region),
        };
        let invalid = || InvalidS3::Endpoint(endpoint.clone());
        let url: Url = endpoint.parse().map_err(|_| invalid())?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(invalid());
        }
        let style = if options.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let bucket = Bucket::new(url, style, options.bucket.clone(), options.region.clone())
            .map_err(|_| InvalidS3::Bucket(options.bucket.clone()))?;
        let credentials = options.credentials.as_ref().map(|key| match &key.token {
            Some(token) => Credentials::new_with_token(&key.id, &key.secret, token),
            None => Credentials::new(&key.id, &key.secret),
        });
        let server = Arc::new(Server::new(bucket.base_url(), limits));
        let at = |middle: &str, end: &str| format!("{}{middle}{end}", options.prefix);
        Ok(Self {
            packs: at(&options.manifests_prefix, &format!("{}/", options.name)),
            blobs: at(&options.blobs_prefix, ""),
            inner: Arc::new(Inner { bucket, credentials, server }),
        })
    }

    fn at(&self, name: &str) -> String {
        format!("{}{name}{ENDING}", self.packs)
    }

    pub(super) async fn names(&self) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        let mut next: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let inner = &self.inner;
            let mut list = inner.bucket.list_objects_v2(inner.credentials.as_ref());
            list.with_prefix(self.packs.as_str());
            if let Some(token) = &next {
                list.with_continuation_token(token.as_str());
            }
            let request = Request::new(Method::GET, list.sign(SIGNED));
            let body = inner.server.ask(&request.into(), LIST_MAX).await?;
            let text = String::from_utf8(body).map_err(|_| ObjectError::List)?;
            let page = ListObjectsV2::parse_response(&text).map_err(|_| ObjectError::List)?;
            for object in page.contents {
                let name = object.key.strip_prefix(&self.packs);
                let name = name.and_then(|name| name.strip_suffix(ENDING));
                names.extend(name.filter(|name| name::is_name(name)).map(str::to_owned));
            }
            next = page.next_continuation_token;
            if next.is_none() {
                break;
            }
        }
        Ok(names)
    }

    pub(super) async fn pack(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let key = self.at(name);
        let get = self.inner.bucket.get_object(self.inner.credentials.as_ref(), &key);
        let request = Request::new(Method::GET, get.sign(SIGNED));
        match self.inner.server.ask(&request.into(), PACK_MAX).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn put_pack(&self, name: &str, bytes: Vec<u8>) -> Result<(), Error> {
        let payload = Payload::Bytes(Bytes::from(bytes));
        self.inner.put(&self.at(name), payload, PACK_MAX).await.map_err(Error::from)
    }

    pub(super) async fn fetch<S, P>(
        &self,
        blob: &Descriptor,
        sink: S,
        progress: P,
    ) -> Result<S, Error>
    where
        S: BlobSink + 'static,
        P: FnMut(u64) + Send + 'static,
    {
        let inner = self.inner.clone();
        let key = format!("{}{}", self.blobs, blob.digest);
        let size = blob.size;
        let object = Object::new(inner.server.clone(), size, move |range| {
            let get = inner.bucket.get_object(inner.credentials.as_ref(), &key);
            let mut request = Request::new(Method::GET, get.sign(SIGNED));
            request.ask_for(range, size);
            request.into()
        });
        download::fetch(object, blob, sink, progress).await
    }

    pub(super) async fn has(&self, blob: &Descriptor) -> Result<bool, Error> {
        let key = format!("{}{}", self.blobs, blob.digest);
        Ok(self.inner.size(&key).await? == Some(blob.size))
    }

    pub(super) async fn upload(
        &self,
        blob: &Descriptor,
        source: Arc<dyn BodySource>,
    ) -> Result<bool, Error> {
        if self.has(blob).await? {
            return Ok(false);
        }
        let key = format!("{}{}", self.blobs, blob.digest);
        let payload = Payload::Stream { source, from: 0, size: blob.size };
        self.inner.put(&key, payload, blob.size).await?;
        Ok(true)
    }
}

impl Inner {
    /// Size of an object; `None` if there is none.
    async fn size(&self, key: &str) -> Result<Option<u64>, ObjectError> {
        let head = self.bucket.head_object(self.credentials.as_ref(), key);
        let request = Request::new(Method::HEAD, head.sign(SIGNED));
        let deadline = Deadline::for_request(self.server.limits());
        match self.server.send(&request.into(), deadline).await {
            Ok(response) => Ok(response.content_length()),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn put(&self, key: &str, payload: Payload, size: u64) -> Result<(), ObjectError> {
        let put = self.bucket.put_object(self.credentials.as_ref(), key);
        let mut request = Request::new(Method::PUT, put.sign(SIGNED));
        request.payload = payload;
        let deadline = Deadline::for_transfer(self.server.limits(), size);
        self.server.send(&request.into(), deadline).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> S3Options {
        S3Options {
            endpoint: None,
            path_style: false,
            bucket: "bucket".to_owned(),
            region: "eu-west-1".to_owned(),
            prefix: "ci/".to_owned(),
            blobs_prefix: "blobs/".to_owned(),
            manifests_prefix: "manifests/".to_owned(),
            name: "main".to_owned(),
            credentials: None,
        }
    }

    #[test]
    fn objects_are_where_the_options_say() {
        let url = |options: &S3Options| {
            let place = S3::new(options, Limits::default()).unwrap();
            let key = place.at("pack");
            let get = place.inner.bucket.get_object(None, &key);
            get.sign(SIGNED).as_str().split('?').next().unwrap().to_owned()
        };
        let behind = "/ci/manifests/main/pack.json";
        assert_eq!(url(&options()), format!("https://bucket.s3.eu-west-1.amazonaws.com{behind}"));
        let endpoint = Some("http://127.0.0.1:9000".to_owned());
        let own = S3Options { endpoint, path_style: true, ..options() };
        assert_eq!(url(&own), format!("http://127.0.0.1:9000/bucket{behind}"));
        for wrong in ["", "ftp://host", "host:9000", "http://"] {
            let own = S3Options { endpoint: Some(wrong.to_owned()), ..options() };
            assert!(S3::new(&own, Limits::default()).is_err(), "{wrong}");
        }
    }
}
