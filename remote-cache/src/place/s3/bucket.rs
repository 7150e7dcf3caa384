//! Requests to a bucket, each signed with a key that is good now.

use std::sync::Arc;
use std::time::Duration;

use http_client::{Deadline, Limits, Method, Payload, Request, Response, Url};
use rusty_s3::{Credentials, S3Action, UrlStyle};

use super::{InvalidS3, S3Options};
use crate::access::{AwsKeys, aws_domain};
use crate::object_error::{ObjectError, found};
use crate::server::Server;

/// How long a signed URL is good for.
const SIGNED: Duration = Duration::from_secs(900);

/// A bucket, and who lets us use it.
pub(super) struct Bucket {
    bucket: rusty_s3::Bucket,
    keys: AwsKeys,
    server: Arc<Server>,
}

impl Bucket {
    pub(super) fn new(options: &S3Options, limits: Limits) -> Result<Self, InvalidS3> {
        let (region, name) = (&options.region, &options.bucket);
        let endpoint = match &options.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => format!("https://s3.{region}.{}", aws_domain(region)),
        };
        let invalid = || InvalidS3::Endpoint(endpoint.clone());
        let url: Url = endpoint.parse().map_err(|_| invalid())?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(invalid());
        }
        let style = if options.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let bucket = rusty_s3::Bucket::new(url, style, name.clone(), region.clone())
            .map_err(|_| InvalidS3::Bucket { bucket: name.clone(), endpoint: endpoint.clone() })?;
        let keys = AwsKeys::new(options.access.clone(), limits.clone());
        let server = Arc::new(Server::new(bucket.base_url(), limits));
        Ok(Self { bucket, keys, server })
    }

    pub(super) fn server(&self) -> &Arc<Server> {
        &self.server
    }

    #[cfg(test)]
    pub(super) fn url(&self, key: &str) -> Url {
        self.bucket.object_url(key)
    }

    pub(super) async fn key(&self) -> Result<Option<Credentials>, ObjectError> {
        Ok(self.keys.get().await?)
    }

    /// What of a bucket is asked for.
    pub(super) fn of(&self) -> &rusty_s3::Bucket {
        &self.bucket
    }

    pub(super) async fn get(&self, key: &str) -> Result<Request, ObjectError> {
        let credentials = self.key().await?;
        Ok(request(Method::GET, &self.bucket.get_object(credentials.as_ref(), key)))
    }

    /// An object's bytes.
    pub(super) async fn read(&self, key: &str, cap: u64) -> Result<Vec<u8>, ObjectError> {
        self.server.ask(&self.get(key).await?.into(), cap).await
    }

    /// A page of the list of objects whose keys begin with `prefix`.
    pub(super) async fn list(
        &self,
        prefix: &str,
        next: Option<&str>,
        cap: u64,
    ) -> Result<Vec<u8>, ObjectError> {
        let credentials = self.key().await?;
        let mut list = self.bucket.list_objects_v2(credentials.as_ref());
        list.with_prefix(prefix);
        if let Some(token) = next {
            list.with_continuation_token(token);
        }
        self.server.ask(&request(Method::GET, &list).into(), cap).await
    }

    /// Size of an object; `None` if there is none.
    pub(super) async fn size(&self, key: &str) -> Result<Option<u64>, ObjectError> {
        let credentials = self.key().await?;
        let head = request(Method::HEAD, &self.bucket.head_object(credentials.as_ref(), key));
        let deadline = Deadline::for_request(self.server.limits());
        let answer = found(self.server.send(&head.into(), deadline).await)?;
        Ok(answer.and_then(|answer| answer.content_length()))
    }

    /// Removes an object, if it is there.
    pub(super) async fn remove(&self, key: &str) -> Result<(), ObjectError> {
        let credentials = self.key().await?;
        let delete = self.bucket.delete_object(credentials.as_ref(), key);
        let deadline = Deadline::for_request(self.server.limits());
        let delete = request(Method::DELETE, &delete).into();
        found(self.server.send(&delete, deadline).await).map(drop)
    }

    pub(super) async fn put(
        &self,
        key: &str,
        payload: Payload,
        size: u64,
    ) -> Result<(), ObjectError> {
        let credentials = self.key().await?;
        let put = request(Method::PUT, &self.bucket.put_object(credentials.as_ref(), key));
        self.send(put, payload, size).await.map(drop)
    }

    /// Sends a request with a body; `size` is how many bytes it may take the time of.
    pub(super) async fn send(
        &self,
        mut request: Request,
        payload: Payload,
        size: u64,
    ) -> Result<Response, ObjectError> {
        request.payload = payload;
        let deadline = Deadline::for_transfer(self.server.limits(), size);
        self.server.send(&request.into(), deadline).await
    }
}

pub(super) fn request<'a>(method: Method, action: &impl S3Action<'a>) -> Request {
    Request::new(method, action.sign(SIGNED))
}
