//! A cache in the service that keeps entries for the jobs of GitHub Actions, and that others speak, too.
//!
//! An entry has a key and is never changed; nothing lists entries, but the newest of those whose keys begin with
//! some text is found. So packs have numbers, for each git ref that may be written a line of its own (`line`),
//! and blobs are found by their digests. Numbers are never used twice: who finds one taken takes the next.

mod caller;
mod content;
mod line;
mod service;
mod token;
mod v1;
mod v2;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use http_client::header::HeaderValue;
use http_client::{BodySource, Limits, Url};
use oci::Descriptor;
use registry::BlobSink;
use tokio::sync::OnceCell;
use tokio_util::bytes::Bytes;

use self::caller::Caller;
use self::content::Content;
use self::line::{Line, Newest};
use self::service::{Entry, Service};
use self::token::Refs;
use self::v1::V1;
use self::v2::V2;
use super::Summary;
use crate::download;
use crate::error::Error;
use crate::object_error::ObjectError;

/// Numbers behind the newest that are tried before a pack is not written.
const TRIES: u64 = 256;
/// Entries of one blob: the first that was not abandoned counts.
const COPIES: u32 = 8;
/// How long one request may take with all its attempts when nothing is said about that.
const REQUEST: Duration = Duration::from_secs(120);
/// How long somebody else who has begun to write a blob is waited for, and how often is looked.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(1);

/// Where the service is, and who asks.
#[derive(Clone, PartialEq, Eq)]
pub struct GhaOptions {
    /// Its address.
    pub url: String,
    /// What it speaks.
    pub version: GhaVersion,
    /// The job's token.
    pub token: String,
    /// Which of the caches there may be.
    pub scope: String,
    /// How long one request may take with all its attempts; `None` for the usual time.
    pub timeout: Option<Duration>,
}

/// Version of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GhaVersion {
    /// REST, of Gitea, act and GitHub's servers in other houses.
    V1,
    /// Twirp, of github.com.
    V2,
}

impl std::fmt::Debug for GhaOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GhaOptions({} of {})", self.scope, self.url)
    }
}

/// Why the options cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGha {
    /// The server's address.
    #[error("`{0}` is not an HTTP address")]
    Url(String),
    /// The token.
    #[error("the token is not one for an HTTP header")]
    Token,
}

/// A cache in the service.
pub struct Gha {
    service: Arc<Service>,
    /// The lines that may be read.
    lines: Vec<Line>,
    /// The one that is written.
    own: Option<Line>,
    newest: OnceCell<Vec<Newest>>,
    patience: Duration,
}

impl Gha {
    /// The cache of these options. Opens no connection.
    ///
    /// # Errors
    /// [`InvalidGha`] if an address or a header cannot be made of them.
    pub fn new(options: &GhaOptions, limits: Limits) -> Result<Self, InvalidGha> {
        let url: Option<Url> = options.url.parse().ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url = url.ok_or_else(|| InvalidGha::Url(options.url.clone()))?;
        let token = HeaderValue::from_str(&format!("Bearer {}", options.token));
        let mut token = token.map_err(|_| InvalidGha::Token)?;
        token.set_sensitive(true);
        let request = options.timeout.unwrap_or(REQUEST);
        let limits = Limits { idle: limits.idle.min(request), request, ..limits };
        let caller = Caller::new(url, token, limits);
        let service = match options.version {
            GhaVersion::V1 => Service::V1(V1(caller)),
            GhaVersion::V2 => Service::V2(V2(caller)),
        };
        let refs = Refs::of(&options.token);
        let line = |name: &String| Line::new(name, &options.scope);
        Ok(Self {
            service: Arc::new(service),
            lines: refs.readable.iter().map(line).collect(),
            own: refs.writable.as_ref().map(line),
            newest: OnceCell::new(),
            patience: request.min(PATIENCE),
        })
    }

    /// The newest packs, one a line: asked for once.
    async fn newest(&self) -> Result<&[Newest], Error> {
        let find = || async {
            let newest = self.lines.iter().map(|line| line.newest(&self.service));
            Ok(try_join_all(newest).await?.into_iter().flatten().collect())
        };
        Ok(self.newest.get_or_try_init(find).await.map_err(failed)?)
    }

    pub(super) async fn summary(&self) -> Result<Summary, Error> {
        let newest = self.newest().await?;
        let fetches = newest.iter().map(|newest| async {
            let bytes = Content::bytes(&self.service, &newest.entry).await?;
            Ok((newest.name(), bytes))
        });
        Ok(Summary::Packs(try_join_all(fetches).await.map_err(failed)?))
    }

    pub(super) async fn names(&self) -> Result<Vec<String>, Error> {
        Ok(self.newest().await?.iter().flat_map(Newest::names).collect())
    }

    pub(super) async fn pack(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let key = self.lines.iter().find_map(|line| line.key_of(name));
        let Some(key) = key else { return Ok(None) };
        match self.find_exactly(&key).await? {
            Some(entry) => Ok(Some(Content::bytes(&self.service, &entry).await.map_err(failed)?)),
            None => Ok(None),
        }
    }

    async fn find_exactly(&self, key: &str) -> Result<Option<Entry>, Error> {
        let found = self.service.find(&[key.to_owned()]).await.map_err(failed)?;
        Ok(found.filter(|entry| entry.key.eq_ignore_ascii_case(key)))
    }

    /// Behind the newest of its line; what another writes at the same time has another number.
    pub(super) async fn put_pack(&self, bytes: Vec<u8>) -> Result<(), Error> {
        let own = self.own.as_ref().ok_or(Error::ReadOnly)?;
        let (size, bytes) = (bytes.len() as u64, Bytes::from(bytes));
        let highest = self.newest().await?.iter().find(|newest| newest.line == *own);
        let first = highest.map_or(1, |newest| newest.highest + 1);
        for number in first..first + TRIES {
            let (key, source) = (own.key(number), Arc::new(bytes.clone()));
            if self.service.create(&key, source, size).await.map_err(failed)? {
                return Ok(());
            }
        }
        Err(Error::Crowded)
    }

    pub(super) async fn has(&self, blob: &Descriptor) -> Result<bool, Error> {
        Ok(self.blob(blob).await?.is_some())
    }

    /// The entry of a blob.
    async fn blob(&self, blob: &Descriptor) -> Result<Option<Entry>, Error> {
        let keys = [blob_prefix(blob)];
        let found = self.service.find(&keys).await.map_err(failed)?;
        Ok(found.filter(|entry| entry.key.starts_with(&keys[0])))
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
        let entry = self.blob(blob).await?.ok_or_else(|| Error::Gone(blob.digest.clone()))?;
        let content = Content::new(&self.service, entry, blob.size).map_err(failed)?;
        download::fetch(content, blob, sink, progress).await
    }

    pub(super) async fn upload(
        &self,
        blob: &Descriptor,
        source: Arc<dyn BodySource>,
    ) -> Result<bool, Error> {
        if self.own.is_none() {
            return Err(Error::ReadOnly);
        }
        if self.has(blob).await? {
            return Ok(false);
        }
        for copy in 1..=COPIES {
            let key = format!("{}{copy}", blob_prefix(blob));
            let created = self.service.create(&key, source.clone(), blob.size).await;
            if created.map_err(failed)? {
                return Ok(true);
            }
            if self.appears(blob).await? {
                return Ok(false);
            }
        }
        Err(Error::Crowded)
    }

    /// Waits for a blob that somebody else has begun to write, who may have ended in the middle of it.
    async fn appears(&self, blob: &Descriptor) -> Result<bool, Error> {
        let until = tokio::time::Instant::now() + self.patience;
        while tokio::time::Instant::now() < until {
            if self.has(blob).await? {
                return Ok(true);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(false)
    }
}

/// A failed call. Whose token is not accepted will not be helped by another attempt.
fn failed(error: ObjectError) -> Error {
    match error.status() {
        Some(401 | 403) => Error::Token(error),
        _ => error.into(),
    }
}

fn blob_prefix(blob: &Descriptor) -> String {
    format!("mybuild-blob-{}-", blob.digest)
}
