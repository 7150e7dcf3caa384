//! Requests and their bodies.

use std::io::{self, Read as _};
use std::sync::Arc;

use futures_util::stream;
use reqwest::Method;
use reqwest::header::HeaderMap;
use tokio::sync::mpsc;
use tokio_util::bytes::Bytes;
use url::Url;

use crate::redirect::PlainHttp;

const UPLOAD_CHUNK: usize = 256 << 10;

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
        /// Its length in bytes.
        size: u64,
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

/// Reads a body on a blocking thread, a few chunks ahead of the network.
pub(crate) fn stream_body(source: Arc<dyn BodySource>) -> reqwest::Body {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(4);
    tokio::task::spawn_blocking(move || {
        let read = || -> io::Result<()> {
            let mut reader = source.open(0)?;
            loop {
                let mut chunk = Vec::with_capacity(UPLOAD_CHUNK);
                let length = reader.by_ref().take(UPLOAD_CHUNK as u64).read_to_end(&mut chunk)?;
                if length == 0 || sender.blocking_send(Ok(chunk.into())).is_err() {
                    return Ok(());
                }
            }
        };
        if let Err(error) = read() {
            // Fails if the request has ended, and then the error does not matter.
            drop(sender.blocking_send(Err(error)));
        }
    });
    let chunks =
        stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    reqwest::Body::wrap_stream(chunks)
}
