//! A cache in an object store that speaks S3: packs at `PREFIX/manifests/NAME/PACK.json`, blobs at
//! `PREFIX/blobs/DIGEST`, as BuildKit's attributes place them.
//!
//! Requests are signed into their URLs (AWS Signature Version 4, query parameters), which are good for minutes.

mod bucket;
mod parts;

use std::sync::Arc;

use http_client::{BodySource, Limits, Payload};
use oci::Descriptor;
use registry::BlobSink;
use rusty_s3::actions::ListObjectsV2;
use tokio_util::bytes::Bytes;

use self::bucket::Bucket;
use super::{LIST_MAX, PAGES_MAX};
use crate::access::AwsAccess;
use crate::download;
use crate::error::Error;
use crate::name;
use crate::object_error::{ObjectError, found};
use crate::pack::PACK_MAX;
use crate::server::Object;

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
    /// Who lets us in.
    pub access: AwsAccess,
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
    /// The bucket's name, with that address.
    #[error(
        "no address can be made of the bucket `{bucket}` and `{endpoint}`: with `use_path_style=true` it stands in the path"
    )]
    Bucket {
        /// The bucket.
        bucket: String,
        /// The server's address.
        endpoint: String,
    },
}

/// A cache in a bucket.
pub struct S3 {
    bucket: Arc<Bucket>,
    packs: String,
    blobs: String,
}

impl S3 {
    /// The cache of these options. Opens no connection.
    ///
    /// # Errors
    /// [`InvalidS3`] if an address cannot be made of them.
    pub fn new(options: &S3Options, limits: Limits) -> Result<Self, InvalidS3> {
        let at = |middle: &str, end: &str| format!("{}{middle}{end}", options.prefix);
        Ok(Self {
            packs: at(&options.manifests_prefix, &format!("{}/", options.name)),
            blobs: at(&options.blobs_prefix, ""),
            bucket: Arc::new(Bucket::new(options, limits)?),
        })
    }

    fn at(&self, name: &str) -> String {
        format!("{}{}", self.packs, name::file(name))
    }

    fn blob(&self, blob: &Descriptor) -> String {
        format!("{}{}", self.blobs, blob.digest)
    }

    pub(super) async fn names(&self) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        let mut next: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let body = self.bucket.list(&self.packs, next.as_deref(), LIST_MAX).await?;
            let text = String::from_utf8(body).map_err(|_| ObjectError::List)?;
            let page = ListObjectsV2::parse_response(&text).map_err(|_| ObjectError::List)?;
            for object in page.contents {
                let name = object.key.strip_prefix(&self.packs).and_then(name::of_file);
                names.extend(name.map(str::to_owned));
            }
            next = page.next_continuation_token;
            if next.is_none() {
                break;
            }
        }
        Ok(names)
    }

    pub(super) async fn pack(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(found(self.bucket.read(&self.at(name), PACK_MAX).await)?)
    }

    pub(super) async fn put_pack(&self, name: &str, bytes: Vec<u8>) -> Result<(), Error> {
        let payload = Payload::Bytes(Bytes::from(bytes));
        self.bucket.put(&self.at(name), payload, PACK_MAX).await.map_err(Error::from)
    }

    pub(super) async fn remove_pack(&self, name: &str) -> Result<(), Error> {
        Ok(self.bucket.remove(&self.at(name)).await?)
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
        let (bucket, key, size) = (self.bucket.clone(), self.blob(blob), blob.size);
        let object = Object::new(bucket.server().clone(), size, move |range| {
            let (bucket, key) = (bucket.clone(), key.clone());
            Box::pin(async move {
                let mut request = bucket.get(&key).await?;
                request.ask_for(range, size);
                Ok(request.into())
            })
        });
        download::fetch(object, blob, sink, progress).await
    }

    pub(super) async fn has(&self, blob: &Descriptor) -> Result<bool, Error> {
        Ok(self.bucket.size(&self.blob(blob)).await? == Some(blob.size))
    }

    pub(super) async fn upload(
        &self,
        blob: &Descriptor,
        source: Arc<dyn BodySource>,
    ) -> Result<bool, Error> {
        if self.has(blob).await? {
            return Ok(false);
        }
        let key = self.blob(blob);
        if blob.size <= parts::PART {
            let payload = Payload::Stream { source, from: 0, size: blob.size };
            self.bucket.put(&key, payload, blob.size).await?;
        } else {
            parts::put(&self.bucket, &key, &source, blob.size).await?;
        }
        Ok(true)
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
            access: AwsAccess::Anonymous,
        }
    }

    #[test]
    fn objects_are_where_the_options_say() {
        let url = |options: &S3Options| {
            let place = S3::new(options, Limits::default()).unwrap();
            place.bucket.url(&place.at("pack")).to_string()
        };
        let behind = "/ci/manifests/main/pack.json";
        assert_eq!(url(&options()), format!("https://bucket.s3.eu-west-1.amazonaws.com{behind}"));
        let china = S3Options { region: "cn-north-1".to_owned(), ..options() };
        assert_eq!(url(&china), format!("https://bucket.s3.cn-north-1.amazonaws.com.cn{behind}"));
        let endpoint = Some("http://127.0.0.1:9000".to_owned());
        let own = S3Options { endpoint, path_style: true, ..options() };
        assert_eq!(url(&own), format!("http://127.0.0.1:9000/bucket{behind}"));
        let own = S3Options { path_style: false, ..own };
        let message = S3::new(&own, Limits::default()).err().unwrap().to_string();
        assert!(message.contains("`bucket` and `http://127.0.0.1:9000`"), "{message}");
        for wrong in ["", "ftp://host", "host:9000", "http://"] {
            let own = S3Options { endpoint: Some(wrong.to_owned()), ..options() };
            assert!(S3::new(&own, Limits::default()).is_err(), "{wrong}");
        }
    }
}
