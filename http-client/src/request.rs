//! Requests and their bodies.

use std::io;
use std::sync::Arc;

use reqwest::Method;
use reqwest::header::HeaderMap;
use tokio_util::bytes::Bytes;
use url::Url;

use crate::redirect::PlainHttp;

/// A request, without the credentials that only its own host may see.
pub struct Request {
    /// The method.
    pub method: Method,
    /// The URL.
    pub url: Url,
    /// Headers, which are sent to redirect targets, too.
    pub headers: HeaderMap,
    /// The body.
    pub payload: Payload,
    /// Where redirects may lead by plain HTTP.
    pub plain_http: PlainHttp,
}

impl Request {
    /// A request without headers and body.
    pub fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            payload: Payload::Empty,
            plain_http: PlainHttp::SameHost,
        }
    }
}

/// A request's body, which can be sent more than once.
#[derive(Clone)]
pub enum Payload {
    /// No body.
    Empty,
    /// A body in memory.
    Bytes(Bytes),
    /// A body that is read while it is sent.
    Stream {
        /// Where it is read from.
        source: Arc<dyn BodySource>,
        /// How many bytes of the source come before it.
        from: u64,
        /// Its length in bytes.
        size: u64,
    },
    /// A body whose length is not known before its end, in pieces (RFC 9112, section 7.1) or frames.
    Growing {
        /// Where it is read from, to its end.
        source: Arc<dyn BodySource>,
    },
}

/// A body to upload. It is read on a blocking thread, and again when the upload is retried.
pub trait BodySource: Send + Sync {
    /// Opens the body, `from` bytes after its start.
    fn open(&self, from: u64) -> io::Result<Box<dyn io::Read + Send>>;
}

impl BodySource for Bytes {
    fn open(&self, from: u64) -> io::Result<Box<dyn io::Read + Send>> {
        let mut body = io::Cursor::new(self.clone());
        body.set_position(from);
        Ok(Box::new(body))
    }
}
