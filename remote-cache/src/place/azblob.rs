//! A cache in a container of Azure's blob storage: packs at `PREFIX/manifests/NAME/PACK.json`, blobs at
//! `PREFIX/blobs/DIGEST`, as BuildKit's attributes place them.

use std::sync::Arc;

use http_client::{BodySource, Deadline, Limits, Method, Request, Url};
use oci::Descriptor;
use registry::BlobSink;
use tokio_util::bytes::Bytes;

use super::{LIST_MAX, PAGES_MAX};
use crate::access::{AzureIdentity, AzureTokens};
use crate::azure::{Access, Account, SharedKey};
use crate::download;
use crate::error::Error;
use crate::name;
use crate::object_error::{ObjectError, found};
use crate::pack::PACK_MAX;
use crate::server::{Object, Server};
use crate::xml;

/// Where a container is, and who may use it.
#[derive(Clone, PartialEq, Eq)]
pub struct AzblobOptions {
    /// The account's address, with a signature in its query if that is what lets in.
    pub account_url: String,
    /// The account.
    pub account: String,
    /// What lets in.
    pub access: AzureAccess,
    /// The container.
    pub container: String,
    /// Before all names.
    pub prefix: String,
    /// Before the names of blobs, behind [`Self::prefix`].
    pub blobs_prefix: String,
    /// Before the names of packs, behind [`Self::prefix`].
    pub manifests_prefix: String,
    /// Which of the caches there may be in the container.
    pub name: String,
}

/// What lets us into an account.
#[derive(Clone, PartialEq, Eq)]
pub enum AzureAccess {
    /// The signature in its address.
    Address,
    /// The account's key, in base64.
    Key(String),
    /// Who we are.
    Identity(AzureIdentity),
}

impl std::fmt::Debug for AzblobOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AzblobOptions({}/{})", self.container, self.name)
    }
}

/// Why the options cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAzblob {
    /// The account's address.
    #[error("`{0}` is not an HTTP address")]
    Url(String),
    /// The key.
    #[error("the account's key is not base64")]
    Key,
}

/// A cache in a container.
pub struct Azblob {
    inner: Arc<Inner>,
    packs: String,
    blobs: String,
}

struct Inner {
    container: Url,
    account: Account,
}

impl Azblob {
    /// The cache of these options. Opens no connection.
    ///
    /// # Errors
    /// [`InvalidAzblob`] if an address or a key cannot be made of them.
    pub fn new(options: &AzblobOptions, limits: Limits) -> Result<Self, InvalidAzblob> {
        let account = options.account_url.parse().ok();
        let account =
            account.filter(|url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let shown = || options.account_url.split('?').next().unwrap_or_default().to_owned();
        let account = account.ok_or_else(|| InvalidAzblob::Url(shown()))?;
        let access = match &options.access {
            AzureAccess::Address => Access::Address,
            AzureAccess::Key(key) => {
                let key = SharedKey::new(&options.account, key).ok_or(InvalidAzblob::Key)?;
                Access::Key(key)
            }
            AzureAccess::Identity(identity) => {
                Access::Identity(AzureTokens::new(identity.clone(), limits.clone()))
            }
        };
        let container = below(&account, &options.container);
        let server = Arc::new(Server::new(&account, limits));
        let inner = Inner { container, account: Account { server, access } };
        Ok(Self {
            packs: joined(&[&options.prefix, &options.manifests_prefix, &options.name]),
            blobs: joined(&[&options.prefix, &options.blobs_prefix]),
            inner: Arc::new(inner),
        })
    }

    fn at(&self, name: &str) -> Url {
        below(&self.inner.container, &format!("{}/{}", self.packs, name::file(name)))
    }

    fn blob(&self, blob: &Descriptor) -> Url {
        below(&self.inner.container, &joined(&[&self.blobs, blob.digest.as_str()]))
    }

    /// A container that is not there has none.
    pub(super) async fn names(&self) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        let mut marker = String::new();
        for _ in 0..PAGES_MAX {
            let mut url = self.inner.container.clone();
            url.query_pairs_mut()
                .append_pair("restype", "container")
                .append_pair("comp", "list")
                // Not what lies in folders of it, which are other caches.
                .append_pair("delimiter", "/")
                .append_pair("prefix", &format!("{}/", self.packs));
            if !marker.is_empty() {
                url.query_pairs_mut().append_pair("marker", &marker);
            }
            let request = Request::new(Method::GET, url);
            let page = found(self.inner.account.ask(request, LIST_MAX).await)?;
            let Some(page) = page else { break };
            let page = String::from_utf8(page).map_err(|_| ObjectError::List)?;
            let (more, next) = read_page(&page).ok_or(ObjectError::List)?;
            names.extend(more);
            marker = next;
            if marker.is_empty() {
                break;
            }
        }
        Ok(names)
    }

    pub(super) async fn pack(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let request = Request::new(Method::GET, self.at(name));
        Ok(found(self.inner.account.ask(request, PACK_MAX).await)?)
    }

    pub(super) async fn put_pack(&self, name: &str, bytes: Vec<u8>) -> Result<(), Error> {
        let (url, size) = (self.at(name), bytes.len() as u64);
        let source = Arc::new(Bytes::from(bytes));
        Ok(self.inner.put(&url, source, size).await?)
    }

    pub(super) async fn remove_pack(&self, name: &str) -> Result<(), Error> {
        let account = &self.inner.account;
        let deadline = Deadline::for_request(account.server.limits());
        let request = Request::new(Method::DELETE, self.at(name));
        Ok(found(account.send(request, deadline).await).map(drop)?)
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
        let (inner, url, size) = (self.inner.clone(), self.blob(blob), blob.size);
        let object = Object::new(inner.account.server.clone(), size, move |range| {
            let mut request = Request::new(Method::GET, url.clone());
            request.ask_for(range, size);
            let inner = inner.clone();
            Box::pin(async move { inner.account.sign(request).await })
        });
        download::fetch(object, blob, sink, progress).await
    }

    pub(super) async fn has(&self, blob: &Descriptor) -> Result<bool, Error> {
        let account = &self.inner.account;
        let deadline = Deadline::for_request(account.server.limits());
        let request = Request::new(Method::HEAD, self.blob(blob));
        let answer = found(account.send(request, deadline).await)?;
        Ok(answer.is_some_and(|answer| answer.content_length() == Some(blob.size)))
    }

    pub(super) async fn upload(
        &self,
        blob: &Descriptor,
        source: Arc<dyn BodySource>,
    ) -> Result<bool, Error> {
        if self.has(blob).await? {
            return Ok(false);
        }
        self.inner.put(&self.blob(blob), source, blob.size).await?;
        Ok(true)
    }
}

impl Inner {
    /// Writes a blob, into a container that is made if it is not there.
    async fn put(
        &self,
        url: &Url,
        source: Arc<dyn BodySource>,
        size: u64,
    ) -> Result<(), ObjectError> {
        let put = || self.account.put(url, source.clone(), size);
        if found(put().await)?.is_some() {
            return Ok(());
        }
        self.make_container().await?;
        put().await
    }

    async fn make_container(&self) -> Result<(), ObjectError> {
        let mut url = self.container.clone();
        url.query_pairs_mut().append_pair("restype", "container");
        let deadline = Deadline::for_request(self.account.server.limits());
        match self.account.send(Request::new(Method::PUT, url), deadline).await {
            // Somebody else was faster.
            Err(error) if error.status() == Some(409) => Ok(()),
            made => made.map(drop),
        }
    }
}

/// Parts of a name with a slash between them.
fn joined(parts: &[&str]) -> String {
    let parts = parts.iter().map(|part| part.trim_matches('/')).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("/")
}

fn below(url: &Url, path: &str) -> Url {
    let mut url = url.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path.split('/'));
    }
    url
}

/// The names of packs on a page of a list, and what the next page is asked for with.
fn read_page(page: &str) -> Option<(Vec<String>, String)> {
    page.contains("<EnumerationResults").then_some(())?;
    let names = xml::texts(page, "Name");
    let names =
        names.filter_map(|path| path.rsplit('/').next().and_then(name::of_file).map(str::to_owned));
    Some((names.collect(), xml::texts(page, "NextMarker").last().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn options() -> AzblobOptions {
        AzblobOptions {
            account_url: "https://acct.blob.core.windows.net".to_owned(),
            account: "acct".to_owned(),
            access: AzureAccess::Key("c2VjcmV0".to_owned()),
            container: "box".to_owned(),
            prefix: "ci/".to_owned(),
            blobs_prefix: "blobs".to_owned(),
            manifests_prefix: "manifests".to_owned(),
            name: "main".to_owned(),
        }
    }

    #[test]
    fn blobs_are_where_the_options_say() {
        let url = |options: &AzblobOptions| {
            Azblob::new(options, Limits::default()).unwrap().at("pack").to_string()
        };
        let behind = "box/ci/manifests/main/pack.json";
        assert_eq!(url(&options()), format!("https://acct.blob.core.windows.net/{behind}"));
        let emulator = "http://127.0.0.1:1/acct/?sv=1&sig=a%2Bb".to_owned();
        let own = AzblobOptions { account_url: emulator, ..options() };
        assert_eq!(url(&own), format!("http://127.0.0.1:1/acct/{behind}?sv=1&sig=a%2Bb"));
        let own = AzblobOptions { prefix: String::new(), blobs_prefix: String::new(), ..options() };
        let blob = Descriptor::new("x", oci::Digest::of(b""), 0);
        let place = Azblob::new(&own, Limits::default()).unwrap();
        assert_eq!(place.blob(&blob).path(), format!("/box/{}", blob.digest));
        for wrong in ["", "ftp://host", "host:9000"] {
            let own = AzblobOptions { account_url: wrong.to_owned(), ..options() };
            assert!(Azblob::new(&own, Limits::default()).is_err(), "{wrong}");
        }
        let own = AzblobOptions { access: AzureAccess::Key("?".to_owned()), ..options() };
        assert_eq!(Azblob::new(&own, Limits::default()).err(), Some(InvalidAzblob::Key));
    }

    #[test]
    fn a_list_is_read_page_by_page() {
        let name = "0000000001-0123456789abcdef01234567";
        let blob = |name: &str| format!("<Blob><Name>{name}</Name><Properties/></Blob>");
        let blobs =
            [blob(&format!("a&amp;b/{name}.json")), blob("a/other.json"), blob("a/")].concat();
        let page = |next: &str| {
            format!(
                "<?xml?><EnumerationResults A=\"b\"><Blobs>{blobs}</Blobs>{next}</EnumerationResults>"
            )
        };
        let names = vec![name.to_owned()];
        assert_eq!(read_page(&page("<NextMarker/>")), Some((names.clone(), String::new())));
        let more = page("<NextMarker>2!4</NextMarker>");
        assert_eq!(read_page(&more), Some((names, "2!4".to_owned())));
        assert_eq!(read_page("<html>"), None);
    }

    proptest! {
        #[test]
        fn no_list_makes_reading_fail_otherwise(text in "(<EnumerationResults)?[<>/NameMrkt!]{0,60}") {
            if let Some((names, _)) = read_page(&text) {
                prop_assert!(names.iter().all(|name| name::is_name(name)));
            }
        }
    }
}
