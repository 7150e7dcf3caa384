//! Answers.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, LOCATION, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use tokio_util::bytes::Bytes;
use url::Url;

use crate::deadline::Deadline;
use crate::error::Error;
use crate::redirect::{self, PlainHttp, RedirectError};

/// An answer whose body is still to be read: before the deadline of its request, and without a
/// pause longer than [`Limits::idle`](crate::Limits::idle).
pub struct Response {
    pub(crate) inner: reqwest::Response,
    pub(crate) method: Method,
    pub(crate) plain_http: PlainHttp,
    pub(crate) idle: Duration,
    pub(crate) deadline: Deadline,
}

impl Response {
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.inner.status()
    }

    /// The URL of the answer, which redirects may have changed.
    pub fn url(&self) -> &Url {
        self.inner.url()
    }

    /// All headers.
    pub fn headers(&self) -> &HeaderMap {
        self.inner.headers()
    }

    /// A header, if present and text.
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// The announced length of the body in bytes.
    pub fn content_length(&self) -> Option<u64> {
        self.inner.content_length()
    }

    /// The URL in `Location` (RFC 9110, section 10.2.2).
    ///
    /// # Errors
    /// [`RedirectError`] if there is none, or [`redirect::check`] does not allow it.
    pub fn location(&self) -> Result<Url, RedirectError> {
        let text = self.header(&LOCATION).ok_or(RedirectError::NoLocation)?;
        let url = self.url().join(text).map_err(RedirectError::InvalidLocation)?;
        redirect::check(self.url(), &url, self.plain_http)?;
        Ok(url)
    }

    /// The [`location`](Self::location) of a redirect that the request's method may follow; `None`
    /// for an answer of another kind.
    ///
    /// # Errors
    /// Those of [`location`](Self::location).
    pub fn redirect(&self) -> Result<Option<Url>, RedirectError> {
        if !redirect::is_redirect(self.status().as_u16(), &self.method) {
            return Ok(None);
        }
        self.location().map(Some)
    }

    /// The delay in `Retry-After` (RFC 9110, section 10.2.3), if it is in seconds. A date is ignored.
    pub fn retry_after(&self) -> Option<Duration> {
        self.header(&RETRY_AFTER)?.trim().parse().ok().map(Duration::from_secs)
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// The connection's failure, [`Error::TimedOut`] or [`Error::Deadline`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let chunk = self.deadline.wait("the next bytes", self.idle, self.inner.chunk()).await?;
        Ok(chunk?)
    }

    /// The whole body, which must not be larger than `cap` bytes.
    ///
    /// # Errors
    /// [`Error::TooLarge`], and those of [`chunk`](Self::chunk).
    pub async fn body(mut self, cap: u64) -> Result<Vec<u8>, Error> {
        if self.content_length().is_some_and(|length| length > cap) {
            return Err(Error::TooLarge(cap));
        }
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if body.len() as u64 + chunk.len() as u64 > cap {
                return Err(Error::TooLarge(cap));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// As much of the body as is received within `patience`, at most `cap` bytes.
    pub async fn start(mut self, cap: usize, patience: Duration) -> Vec<u8> {
        let deadline = self.deadline.at_most(patience);
        let mut body = Vec::new();
        while let Ok(Ok(Some(chunk))) =
            deadline.wait("the start of a body", Duration::MAX, self.inner.chunk()).await
        {
            body.extend_from_slice(&chunk);
            if body.len() >= cap {
                body.truncate(cap);
                break;
            }
        }
        body
    }
}
