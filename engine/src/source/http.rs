//! Files that a build fetches over HTTP. Each is asked for once a build, kept in the store with what the
//! server says it is, and fetched again only when the server says that it is another.
//!
//! Keys, names and times are BuildKit's (`source/http/source.go` there).

mod cause;
mod kept;
mod layer;
mod name;
mod remote;
mod transfer;

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::sync::{Arc, Mutex};

use buildkit_cache::Identity;
use cache::{LayerId, Record, Store};
use http_client::{Connections, Limits, StatusCode, Tls, Url, Validators};
use jiff::Timestamp;
use llb::HttpSource;
use oci::Digest;
use parser::credentials::without_credentials;
use solver::CacheKey;
use tokio::sync::OnceCell;

use crate::client::Client;
use crate::error::BuildError;
use crate::machine::Machine;
use crate::progress::event::{Event, StepId, Stream};
use crate::progress::steps::Steps;
use crate::source::open::open_regular;

use cause::Cause;
use kept::Kept;
use remote::Remote;
use transfer::Body;

/// How often a file that another one replaces while it is fetched is begun again.
const BEGINNINGS: usize = 3;

/// What a build fetches over HTTP.
pub(crate) struct HttpFiles {
    store: Store,
    machine: Arc<Machine>,
    client: Arc<dyn Client>,
    how: Fetching,
    hosts: Mutex<HashMap<String, Arc<Connections>>>,
    /// Files without a checksum: servers are asked what they are once a build.
    asked: Mutex<HashMap<Digest, Arc<OnceCell<Fetched>>>>,
}

/// How files are fetched.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fetching {
    pub(crate) limits: Limits,
    /// No server is asked: see [`BuildError::offline`].
    pub(crate) offline: bool,
    /// Bytes that a file may have; `None` for what the store has room for.
    pub(crate) size_max: Option<u64>,
}

/// A file that the store has.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    /// Stands for its content, name, mode, owner and time.
    pub(crate) key: CacheKey,
    /// A layer with nothing else in it.
    pub(crate) layer: LayerId,
    /// What it is called there.
    pub(crate) name: String,
    /// When it was last changed, in seconds since 1970, if the server has said so.
    pub(crate) modified: Option<i64>,
    /// Of its content.
    pub(crate) digest: Digest,
}

impl Fetched {
    /// Tells `told` what it is for BuildKit's caches.
    pub(crate) fn identified(&self, source: &HttpSource, told: impl FnOnce(&Identity<'_>)) {
        let time = self.modified.and_then(|seconds| Timestamp::from_second(seconds).ok());
        let time = time.map(|time| time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
        told(&Identity::Http {
            source,
            filename: &self.name,
            digest: &self.digest,
            last_modified: time.as_deref(),
        });
    }
}

/// Who is told how far a file is.
#[derive(Clone)]
pub(crate) struct Told {
    pub(crate) steps: Arc<Steps>,
    pub(crate) step: StepId,
}

impl Told {
    /// Says that it is tried again, and why.
    fn again(&self, cause: &Cause) {
        let data = format!("{cause}; trying again\n").into_bytes();
        self.steps.event(Event::Log { step: self.step, stream: Stream::Stderr, data });
    }
}

/// What asking for a file has come to.
pub(crate) enum Asked {
    /// The store has had it.
    Known(Fetched),
    /// It was fetched.
    New(Fetched),
}

impl HttpFiles {
    pub(crate) fn new(
        store: Store,
        machine: Arc<Machine>,
        client: Arc<dyn Client>,
        how: Fetching,
    ) -> Self {
        let (hosts, asked) = (Mutex::default(), Mutex::default());
        Self { store, machine, client, how, hosts, asked }
    }

    /// The file, if its checksum is given and the store has it: nobody is asked.
    pub(crate) fn pinned(&self, source: &HttpSource) -> Option<Record> {
        let key = pinned_key(source)?;
        let by_alias = || self.store.record(&self.store.alias(&key.0)?);
        self.store.record(&key.0).or_else(by_alias)
    }

    /// The file, from the store if the server says that it is still that.
    pub(crate) async fn get(&self, source: &HttpSource, told: &Told) -> Result<Asked, BuildError> {
        let asked = asked_key(source);
        loop {
            let cell = {
                let mut all = self.asked.lock().expect("no panic while held");
                all.entry(asked.clone()).or_default().clone()
            };
            let mut is_new = false;
            let ask = async || {
                let answer = self.ask(source, &asked, told).await?;
                is_new = matches!(answer, Asked::New(_));
                Ok::<_, BuildError>(answer.fetched())
            };
            let fetched = cell.get_or_try_init(ask).await?.clone();
            if is_new {
                return Ok(Asked::New(fetched));
            }
            if self.store.layer(&fetched.layer).is_some() {
                return Ok(Asked::Known(fetched));
            }
            // The store has lost it since.
            self.asked.lock().expect("no panic while held").remove(&asked);
        }
    }

    async fn ask(
        &self,
        source: &HttpSource,
        asked: &Digest,
        told: &Told,
    ) -> Result<Asked, BuildError> {
        let kept = Kept::find(&self.store, asked);
        if self.how.offline {
            let kept = kept.ok_or_else(|| not_asked(source))?;
            return Ok(Asked::Known(kept.fetched(source)));
        }
        let remote = self.remote(source).await?;
        let fetched = self.ask_remote(source, &remote, kept.as_ref(), told).await;
        match fetched.map_err(|cause| cause.told(&remote))? {
            None => Ok(Asked::Known(kept.expect("asked for").fetched(source))),
            Some((fetched, validators)) => {
                Kept::new(&fetched, validators).put(&self.store, asked, &remote);
                self.keep(&fetched, source, &remote);
                Ok(Asked::New(fetched))
            }
        }
    }

    /// The file, and by what it is known again; nothing if it is the one that is kept.
    async fn ask_remote(
        &self,
        source: &HttpSource,
        remote: &Arc<Remote>,
        kept: Option<&Kept>,
        told: &Told,
    ) -> Result<Option<(Fetched, Validators)>, Cause> {
        // Without a word by which it is known again it has to come again.
        let kept = kept.filter(|kept| !kept.validators.is_empty());
        let mut beginnings = 0;
        loop {
            beginnings += 1;
            let response = remote.ask_for_another(kept.map(|kept| &kept.validators)).await?;
            let validators = name::validators(&response);
            if let Some(kept) = kept
                && (response.status() == StatusCode::NOT_MODIFIED
                    || kept.validators.is_same(&validators))
            {
                return Ok(None);
            }
            match self.receive(source, remote, response, told).await {
                Err(cause) if cause.may_begin_again() && beginnings < BEGINNINGS => {
                    told.again(&cause);
                }
                Err(cause) => return Err(cause),
                Ok(fetched) => return Ok(Some((fetched, validators))),
            }
        }
    }

    /// Fetches a file whose checksum is given.
    pub(crate) async fn get_pinned(
        &self,
        source: &HttpSource,
        told: &Told,
    ) -> Result<Fetched, BuildError> {
        if self.how.offline {
            return Err(not_asked(source));
        }
        let remote = self.remote(source).await?;
        let fetched = self.ask_remote(source, &remote, None, told).await;
        let (fetched, _) =
            fetched.map_err(|cause| cause.told(&remote))?.expect("nothing of it is kept");
        self.keep(&fetched, source, &remote);
        Ok(fetched)
    }

    /// The same, from the store if that has it.
    pub(crate) async fn get_any(
        &self,
        source: &HttpSource,
        told: &Told,
    ) -> Result<Fetched, BuildError> {
        let Some(key) = pinned_key(source) else {
            return Ok(self.get(source, told).await?.fetched());
        };
        match self.pinned(source).and_then(|record| record.outputs.concat().pop()) {
            Some(layer) => {
                let digest = source.checksum.clone().expect("it has a key by that");
                let name = name::without_answer(source);
                Ok(Fetched { key, layer, name, modified: None, digest })
            }
            None => self.get_pinned(source, told).await,
        }
    }

    /// Opens a file that was fetched.
    pub(crate) fn open(&self, fetched: &Fetched) -> Result<File, BuildError> {
        let lost = || BuildError::lost(format!("the store has lost `{}`", fetched.name));
        let directory = self.store.layer(&fetched.layer).and_then(|layer| layer.directory);
        let path = directory.ok_or_else(lost)?.join(&fetched.name);
        open_regular(None, &path).map_err(|error| lost().because(error))
    }

    /// Reads a file of at most `cap` bytes that was fetched.
    pub(crate) fn read(&self, fetched: &Fetched, cap: u64) -> Result<Vec<u8>, BuildError> {
        let failed = |why: &str| BuildError::input(format!("`{}` {why}", fetched.name));
        let mut bytes = Vec::new();
        let read = self.open(fetched)?.take(cap + 1).read_to_end(&mut bytes);
        read.map_err(|error| failed("cannot be read").because(error))?;
        match bytes.len() as u64 > cap {
            true => Err(failed(&format!("is larger than {} MiB", cap >> 20))),
            false => Ok(bytes),
        }
    }

    async fn receive(
        &self,
        source: &HttpSource,
        remote: &Arc<Remote>,
        response: http_client::Response,
        told: &Told,
    ) -> Result<Fetched, Cause> {
        let name = name::of(source, response.headers())?;
        let modified = Validators::of(&response).last_modified.as_deref().and_then(name::date);
        let body = Body {
            pinned: source.checksum.clone(),
            size_max: self.how.size_max,
            directory: self.store.temporary_directory(),
            item: name.clone(),
            told: told.clone(),
        };
        let received = transfer::receive(remote, response, body).await?;
        let digest = received.digest.clone();
        let (store, machine) = (self.store.clone(), self.machine.clone());
        let (of, file) = (source.clone(), name.clone());
        let made = tokio::task::spawn_blocking(move || {
            layer::make(&store, &machine, received, &file, modified, &of)
        });
        let layer = made.await.expect("making a layer does not panic")?;
        let key = pinned_key(source)
            .unwrap_or_else(|| content_key(source, &name, &digest, modified.as_ref()));
        Ok(Fetched { key, layer, name, modified, digest })
    }

    /// Keeps a file under its key. Who gives its checksum later need not fetch it.
    fn keep(&self, fetched: &Fetched, source: &HttpSource, remote: &Remote) {
        let layers = vec![vec![fetched.layer.clone()]];
        let mut record = Record::new(fetched.key.0.clone(), layers);
        record.name = remote.title();
        self.store.put_record(&record);
        let pinned = content_key(source, &fetched.name, &fetched.digest, None);
        if pinned != fetched.key {
            self.store.put_alias(&pinned.0, &fetched.key.0);
        }
    }

    async fn remote(&self, source: &HttpSource) -> Result<Arc<Remote>, BuildError> {
        let url = remote::parse(&source.url)?;
        let connections = self.connections(&url);
        Ok(Arc::new(Remote::new(url, connections, self.client.clone()).await?))
    }

    /// Connections to the URL's host, shared by all its files.
    fn connections(&self, url: &Url) -> Arc<Connections> {
        let host = url.authority().rsplit('@').next().unwrap_or_default().to_owned();
        let mut hosts = self.hosts.lock().expect("no panic while held");
        let new = || Arc::new(Connections::new(&host, Tls::default(), self.how.limits.clone()));
        hosts.entry(host.clone()).or_insert_with(new).clone()
    }
}

impl Asked {
    pub(crate) fn fetched(self) -> Fetched {
        match self {
            Self::Known(fetched) | Self::New(fetched) => fetched,
        }
    }
}

fn not_asked(source: &HttpSource) -> BuildError {
    let url = without_credentials(&source.url);
    BuildError::offline(format!("`{url}` is not in the store"))
}

/// Names a file by its URL, before anything is known of its content.
fn asked_key(source: &HttpSource) -> Digest {
    let mut encoder = llb::encode::Encoder::new("http url");
    encoder.text(&source.url).text(&source.filename);
    encoder.number(source.mode.into()).number(source.uid.into()).number(source.gid.into());
    encoder.finish()
}

/// The key of a file whose checksum is given. Its time is not in it: only the server knows that.
pub(crate) fn pinned_key(source: &HttpSource) -> Option<CacheKey> {
    let checksum = source.checksum.as_ref()?;
    let name = name::without_answer(source);
    Some(content_key(source, &name, checksum, None))
}

fn content_key(
    source: &HttpSource,
    name: &str,
    digest: &Digest,
    modified: Option<&i64>,
) -> CacheKey {
    let mut encoder = llb::encode::Encoder::new("http file");
    encoder.text(name).text(digest.as_str());
    encoder.number(source.mode.into()).number(source.uid.into()).number(source.gid.into());
    encoder.option(modified, |encoder, seconds| {
        encoder.signed(*seconds);
    });
    CacheKey(encoder.finish())
}
