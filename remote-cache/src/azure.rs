//! Writing blobs as Azure's storage takes them ("Put Blob", "Put Block", "Put Block List" of its REST
//! interface), and what it lets in.

mod shared_key;

use std::sync::Arc;

use data_encoding::BASE64;
use futures_util::{StreamExt as _, TryStreamExt as _};
use http_client::header::{HeaderName, HeaderValue};
use http_client::{BodySource, Deadline, Method, Payload, Request, Url};
use tokio_util::bytes::Bytes;

use crate::object_error::ObjectError;
use crate::server::{Ask, Server};

pub(crate) use shared_key::SharedKey;

/// Blobs up to this many bytes are sent as one, larger ones in blocks of this size …
const BLOCK: u64 = 64 << 20;
/// … of which so many travel at once.
const AT_ONCE: usize = 4;

/// Sets one of Azure's headers.
fn set(request: &mut Request, name: &'static str, value: &'static str) {
    request.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
}

/// Says which version of the interface is spoken.
pub(crate) fn speak(request: &mut Request) {
    set(request, "x-ms-version", "2021-12-02");
}

/// Writes a blob; `sign` makes each request one that the server takes.
///
/// # Errors
/// [`ObjectError`] if it does not take it.
pub(crate) async fn put(
    server: &Server,
    url: &Url,
    source: Arc<dyn BodySource>,
    size: u64,
    sign: impl Fn(Request) -> Ask,
) -> Result<(), ObjectError> {
    let send = async |mut request: Request, payload, size| {
        speak(&mut request);
        request.payload = payload;
        let deadline = Deadline::for_transfer(server.limits(), size);
        server.send(&sign(request), deadline).await.map(drop)
    };
    if size <= BLOCK {
        let mut request = Request::new(Method::PUT, url.clone());
        set(&mut request, "x-ms-blob-type", "BlockBlob");
        return send(request, Payload::Stream { source, from: 0, size }, size).await;
    }
    let count = size.div_ceil(BLOCK);
    let blocks = (0..count).map(|number| {
        let (from, source) = (number * BLOCK, source.clone());
        let length = BLOCK.min(size - from);
        let request = Request::new(Method::PUT, block_url(url, number));
        send(request, Payload::Stream { source, from, size: length }, length)
    });
    let sent = futures_util::stream::iter(blocks).buffer_unordered(AT_ONCE);
    sent.try_collect::<Vec<()>>().await?;
    let mut list = url.clone();
    list.query_pairs_mut().append_pair("comp", "blocklist");
    let body = Bytes::from(block_list(count));
    let length = body.len() as u64;
    send(Request::new(Method::PUT, list), Payload::Bytes(body), length).await
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
