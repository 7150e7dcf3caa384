//! Writing blobs as Azure's storage takes them ("Put Blob", "Put Block", "Put Block List" of its REST
//! interface), and what it lets in.

mod shared_key;

use std::sync::Arc;
use std::time::SystemTime;

use data_encoding::BASE64;
use futures_util::{StreamExt as _, TryStreamExt as _};
use http_client::header::{HeaderName, HeaderValue};
use http_client::{Authorization, BodySource, Deadline, Method, Payload, Request, Response, Url};
use tokio_util::bytes::Bytes;

use crate::access::AzureTokens;
use crate::object_error::ObjectError;
use crate::server::{Ask, Server};

pub(crate) use shared_key::SharedKey;

/// Blobs up to this many bytes are sent as one, larger ones in blocks of this size …
const BLOCK: u64 = 64 << 20;
/// … of which so many travel at once.
const AT_ONCE: usize = 4;

/// A server, and what lets in there.
pub(crate) struct Account {
    pub(crate) server: Arc<Server>,
    pub(crate) access: Access,
}

/// What lets in.
pub(crate) enum Access {
    /// The address itself.
    Address,
    /// The account's key.
    Key(SharedKey),
    /// Who we are.
    Identity(AzureTokens),
}

impl Account {
    /// The request as the server takes it.
    ///
    /// # Errors
    /// [`ObjectError`] if nobody lets us in.
    pub(crate) async fn sign(&self, mut request: Request) -> Result<Ask, ObjectError> {
        set(&mut request, "x-ms-version", HeaderValue::from_static("2021-12-02"));
        if let Access::Address = self.access {
            return Ok(request.into());
        }
        let date = HeaderValue::from_str(&http_date(SystemTime::now())).expect("a date is text");
        set(&mut request, "x-ms-date", date);
        let authorization = match &self.access {
            Access::Address => None,
            Access::Key(key) => Some(key.authorization(&request)),
            Access::Identity(tokens) => {
                Some(Authorization::new(tokens.header().await?, &request.url))
            }
        };
        Ok(Ask { authorization, request })
    }

    /// Sends a request until it succeeds, or no more.
    ///
    /// # Errors
    /// [`ObjectError`] of the last attempt.
    pub(crate) async fn send(
        &self,
        request: Request,
        deadline: Deadline,
    ) -> Result<Response, ObjectError> {
        self.server.send(&self.sign(request).await?, deadline).await
    }

    /// The body of the answer, of `cap` bytes at most.
    ///
    /// # Errors
    /// [`ObjectError`] of the last attempt.
    pub(crate) async fn ask(&self, request: Request, cap: u64) -> Result<Vec<u8>, ObjectError> {
        self.server.ask(&self.sign(request).await?, cap).await
    }

    /// Writes a blob.
    ///
    /// # Errors
    /// [`ObjectError`] if the server does not take it.
    pub(crate) async fn put(
        &self,
        url: &Url,
        source: Arc<dyn BodySource>,
        size: u64,
    ) -> Result<(), ObjectError> {
        if size <= BLOCK {
            let mut request = Request::new(Method::PUT, url.clone());
            set(&mut request, "x-ms-blob-type", HeaderValue::from_static("BlockBlob"));
            return self.put_one(request, source, 0, size).await;
        }
        let count = size.div_ceil(BLOCK);
        let blocks = (0..count).map(|number| {
            let from = number * BLOCK;
            let request = Request::new(Method::PUT, block_url(url, number));
            self.put_one(request, source.clone(), from, BLOCK.min(size - from))
        });
        let sent = futures_util::stream::iter(blocks).buffer_unordered(AT_ONCE);
        sent.try_collect::<Vec<()>>().await?;
        let mut list = url.clone();
        list.query_pairs_mut().append_pair("comp", "blocklist");
        let mut request = Request::new(Method::PUT, list);
        request.payload = Payload::Bytes(Bytes::from(block_list(count)));
        let deadline = Deadline::for_request(self.server.limits());
        self.send(request, deadline).await.map(drop)
    }

    async fn put_one(
        &self,
        mut request: Request,
        source: Arc<dyn BodySource>,
        from: u64,
        size: u64,
    ) -> Result<(), ObjectError> {
        request.payload = Payload::Stream { source, from, size };
        let deadline = Deadline::for_transfer(self.server.limits(), size);
        self.send(request, deadline).await.map(drop)
    }
}

/// Sets one of Azure's headers.
fn set(request: &mut Request, name: &'static str, value: HeaderValue) {
    request.headers.insert(HeaderName::from_static(name), value);
}

/// The date of a request (RFC 9110, section 5.6.7).
fn http_date(time: SystemTime) -> String {
    let time = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Ids of blocks are of one length.
fn block_id(number: u64) -> String {
    BASE64.encode(format!("{number:08x}").as_bytes())
}

fn block_url(url: &Url, number: u64) -> Url {
    let mut url = url.clone();
    url.query_pairs_mut().append_pair("comp", "block").append_pair("blockid", &block_id(number));
    url
}

fn block_list(count: u64) -> String {
    let blocks: String =
        (0..count).map(|number| format!("<Latest>{}</Latest>", block_id(number))).collect();
    format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>{blocks}</BlockList>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_that_of_http() {
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_435_361_952);
        assert_eq!(http_date(time), "Fri, 26 Jun 2015 23:39:12 GMT");
    }
}
