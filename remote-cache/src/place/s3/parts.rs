//! Large objects in parts ("multipart upload"): an object of one request has at most 5 GB, and one connection
//! is seldom as fast as several.

use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _};
use http_client::header::ETAG;
use http_client::{BodySource, Deadline, Method, Payload};
use rusty_s3::actions::{CompleteMultipartUploadResponse, CreateMultipartUpload};
use tokio_util::bytes::Bytes;

use super::bucket::{Bucket, request};
use crate::object_error::ObjectError;

/// Objects up to this many bytes are sent as one, larger ones in parts of this size, or larger ones …
pub(super) const PART: u64 = 64 << 20;
/// … if there would be more of them.
const PARTS_MAX: u64 = 10_000;
/// So many travel at once.
const AT_ONCE: usize = 4;
/// The longest answer, in bytes.
const ANSWER_MAX: u64 = 64 << 10;

/// Writes an object of `size` bytes. What there is of it when that fails is removed: parts cost, and nobody sees them.
pub(super) async fn put(
    bucket: &Bucket,
    key: &str,
    source: &Arc<dyn BodySource>,
    size: u64,
) -> Result<(), ObjectError> {
    let upload = Upload { id: begin(bucket, key).await?, bucket, key };
    let written = upload.write(source, size).await;
    if written.is_err() {
        // The first error counts; rules of the bucket remove what is left.
        let _ = upload.abort().await;
    }
    written
}

async fn begin(bucket: &Bucket, key: &str) -> Result<String, ObjectError> {
    let credentials = bucket.key().await?;
    let create = bucket.of().create_multipart_upload(credentials.as_ref(), key);
    let answer = bucket.server().ask(&request(Method::POST, &create).into(), ANSWER_MAX).await?;
    let text = String::from_utf8(answer).map_err(|_| ObjectError::Answer)?;
    let answer = CreateMultipartUpload::parse_response(&text).map_err(|_| ObjectError::Answer)?;
    Ok(answer.upload_id().to_owned())
}

/// An object that nobody sees yet.
struct Upload<'a> {
    bucket: &'a Bucket,
    key: &'a str,
    id: String,
}

impl Upload<'_> {
    async fn write(&self, source: &Arc<dyn BodySource>, size: u64) -> Result<(), ObjectError> {
        let part = part_size(size);
        let parts = (0..size.div_ceil(part)).map(|number| {
            let (from, source) = (number * part, source.clone());
            self.part(number, Payload::Stream { source, from, size: part.min(size - from) }, part)
        });
        let sent = futures_util::stream::iter(parts).buffered(AT_ONCE);
        let tags: Vec<String> = sent.try_collect().await?;
        self.complete(&tags, size).await
    }

    /// Sends a part; its tag names it in the end.
    async fn part(&self, number: u64, payload: Payload, size: u64) -> Result<String, ObjectError> {
        let number = u16::try_from(number + 1).expect("there are at most ten thousand");
        let credentials = self.bucket.key().await?;
        let part = self.bucket.of();
        let part = part.upload_part(credentials.as_ref(), self.key, number, &self.id);
        let answer = self.bucket.send(request(Method::PUT, &part), payload, size).await?;
        answer.header(&ETAG).map(str::to_owned).ok_or(ObjectError::Answer)
    }

    /// Has the parts be the object. A server may find out that they are not after it has said yes.
    async fn complete(&self, tags: &[String], size: u64) -> Result<(), ObjectError> {
        let credentials = self.bucket.key().await?;
        let tags = tags.iter().map(String::as_str);
        let bucket = self.bucket.of();
        let complete =
            bucket.complete_multipart_upload(credentials.as_ref(), self.key, &self.id, tags);
        let request = request(Method::POST, &complete);
        let body = Payload::Bytes(Bytes::from(complete.body()));
        let answer = self.bucket.send(request, body, size).await?.body(ANSWER_MAX).await?;
        let text = String::from_utf8(answer).map_err(|_| ObjectError::Answer)?;
        let parsed = CompleteMultipartUploadResponse::parse(&text);
        parsed.map(drop).map_err(|_| ObjectError::NotTaken)
    }

    async fn abort(&self) -> Result<(), ObjectError> {
        let credentials = self.bucket.key().await?;
        let abort = self.bucket.of();
        let abort = abort.abort_multipart_upload(credentials.as_ref(), self.key, &self.id);
        let deadline = Deadline::for_request(self.bucket.server().limits());
        let request = request(Method::DELETE, &abort);
        self.bucket.server().send(&request.into(), deadline).await.map(drop)
    }
}

/// Parts of this size are few enough for an object of `size` bytes.
fn part_size(size: u64) -> u64 {
    PART.max(size.div_ceil(PARTS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_has_as_many_parts_as_a_server_takes() {
        for (size, part, count) in [
            (PART + 1, PART, 2),
            (PART * PARTS_MAX, PART, PARTS_MAX),
            (PART * PARTS_MAX + 1, PART + 1, PARTS_MAX),
            (5 << 40, 549_755_814, PARTS_MAX),
        ] {
            assert_eq!(part_size(size), part, "{size}");
            assert_eq!(size.div_ceil(part), count, "{size}");
        }
    }
}
