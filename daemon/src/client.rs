//! The client of a build as the engine sees it: everything is asked over its session.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use engine::{
    Client, ClientError, Credential, CredentialAnswer, Credentials, CredentialsError, Destination,
    Keeper, Secret, TarSource, Target,
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::request::name_in;
use crate::session::{ReceiveError, Sending, Session, Wanted, receive};
use crate::status::{OwnStep, StatusLog};
use crate::wire::upload::BytesMessage;

/// Docker Hub's registry, as its credentials are kept.
const HUB: &str = "docker.io";
const HUB_REGISTRY: &str = "registry-1.docker.io";

/// What the engine asks for, and who is asked.
pub(crate) struct SessionClient {
    pub(crate) handle: Handle,
    pub(crate) session: Arc<Session>,
    /// Other sessions, by the local directory that they have.
    pub(crate) others: BTreeMap<String, Arc<Session>>,
    /// What of a local directory is not to come; of others their own ignore file says it.
    pub(crate) excluded: BTreeMap<String, Vec<String>>,
    /// Where directories are received.
    pub(crate) scratch: PathBuf,
    pub(crate) status: Arc<StatusLog>,
    pub(crate) cancel: CancellationToken,
    /// Directories that are there, by name.
    pub(crate) received: Mutex<BTreeMap<String, PathBuf>>,
}

impl SessionClient {
    fn session_of(&self, local: &str) -> &Arc<Session> {
        self.others.get(local).unwrap_or(&self.session)
    }

    /// Receives what is wanted into the directory `folder` of the build's own.
    pub(crate) async fn receive(
        &self,
        wanted: Wanted,
        folder: &str,
        title: &str,
    ) -> Result<PathBuf, ClientError> {
        let into = self.scratch.join(folder);
        let failed = || format!("failed to receive `{}` from the client", wanted.name);
        std::fs::create_dir_all(&into).map_err(|error| ClientError::io(failed(), error))?;
        let session = self.session_of(&wanted.name).clone();
        let step = Arc::new(OwnStep::start(&self.status, title));
        let item =
            if wanted.follow.is_empty() { "transferring context:" } else { "transferring file:" };
        let came = Arc::new(AtomicU64::new(0));
        let (telling, coming) = (step.clone(), came.clone());
        let told = move |bytes| {
            coming.store(bytes, Ordering::Relaxed);
            telling.moved(item, bytes, false);
        };
        let receiving = receive::receive(&session, &wanted, into.clone(), told);
        let received = tokio::select! {
            received = receiving => received,
            () = self.cancel.cancelled() => Err(ReceiveError::Ended),
            () = session.closed.cancelled() => Err(ReceiveError::Ended),
        };
        let error = received.as_ref().err().map(ToString::to_string);
        step.moved(item, came.load(Ordering::Relaxed), true);
        step.end(error.as_deref());
        received.map(|()| into).map_err(|error| ClientError {
            message: failed(),
            hint: None,
            source: Some(io::Error::other(error)),
        })
    }

    fn wait<T>(
        &self,
        what: &str,
        answer: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, ClientError> {
        let ended = || Status::cancelled("the client is gone");
        let answer = self.handle.block_on(async {
            tokio::select! {
                answer = answer => answer,
                () = self.cancel.cancelled() => Err(ended()),
                () = self.session.closed.cancelled() => Err(ended()),
            }
        });
        answer
            .map_err(|status| ClientError::io(what, io::Error::other(status.message().to_owned())))
    }

    /// A local directory, received when it is first asked for.
    async fn local(&self, name: &str) -> Result<PathBuf, ClientError> {
        if let Some(path) = self.received.lock().expect("no panic while held").get(name) {
            return Ok(path.clone());
        }
        let folder = data_encoding::HEXLOWER.encode(name.as_bytes());
        let title = match name {
            "context" => "[internal] load build context".to_owned(),
            name => format!("[context {name}] load from client"),
        };
        let exclude = match self.excluded.get(name) {
            Some(patterns) => patterns.clone(),
            None => self.ignored(name, &format!("ignore-{folder}")).await?,
        };
        let wanted = Wanted { name: name.to_owned(), exclude, ..Wanted::default() };
        let path = self.receive(wanted, &format!("local-{folder}"), &title).await?;
        let mut received = self.received.lock().expect("no panic while held");
        received.insert(name.to_owned(), path.clone());
        Ok(path)
    }

    /// The patterns of a directory's own ignore file.
    pub(crate) async fn ignored(
        &self,
        name: &str,
        folder: &str,
    ) -> Result<Vec<String>, ClientError> {
        let follow = vec![".dockerignore".to_owned()];
        let wanted = Wanted { name: name.to_owned(), follow, ..Wanted::default() };
        let title = match name {
            "context" => "[internal] load .dockerignore".to_owned(),
            name => format!("[context {name}] load .dockerignore"),
        };
        let place = self.receive(wanted, folder, &title).await?;
        let text = text_in(&place, ".dockerignore").map_err(|error| {
            ClientError::io("failed to read the `.dockerignore` that the client sent", error)
        })?;
        let text = text.unwrap_or_default();
        Ok(parser::ignore::parse_file(&String::from_utf8_lossy(&text)))
    }
}

/// Largest Dockerfile or ignore file, in bytes.
const TEXT_MAX: u64 = 16 << 20;

/// The text of a file that was received; links lead to other files that were. None if it is not there.
pub(crate) fn text_in(folder: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
    let folder = openat(CWD, folder, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = match openat2(&folder, name, flags, Mode::empty(), resolve) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        opened => std::fs::File::from(opened?),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = Vec::new();
    file.take(TEXT_MAX + 1).read_to_end(&mut text)?;
    match text.len() as u64 > TEXT_MAX {
        true => Err(io::Error::other("it is larger than 16 MiB")),
        false => Ok(Some(text)),
    }
}

impl Client for SessionClient {
    fn secret(&self, id: &str) -> Result<Option<Secret>, ClientError> {
        let secret =
            self.wait(&format!("failed to read secret `{id}`"), self.session.secret(id))?;
        Ok(secret.map(Secret))
    }

    fn ssh_agent(&self, id: &str) -> Result<Option<UnixStream>, ClientError> {
        let failed = format!("failed to reach the SSH agent `{id}` of the client");
        let Some(forwarding) = self.wait(&failed, self.session.agent(id))? else {
            return Ok(None);
        };
        let connected = || {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            let _runtime = self.handle.enter();
            let ours = tokio::net::UnixStream::from_std(ours)?;
            self.handle.spawn(forwarding.carry(ours));
            Ok(theirs)
        };
        connected().map(Some).map_err(|error| ClientError::io(failed, error))
    }

    /// Clients have no way to say which hosts they know.
    fn known_hosts(&self) -> Result<Vec<u8>, ClientError> {
        Ok(Vec::new())
    }

    fn credentials(&self) -> Credentials {
        Credentials::kept_by(Arc::new(Kept(self.session.clone())))
    }

    fn directory(&self, name: &Path) -> Result<PathBuf, ClientError> {
        let local = name_in("/local", name).ok_or_else(|| not_the_clients(name))?;
        self.handle.block_on(self.local(&local))
    }

    fn archive(&self, archive: &TarSource) -> Result<Box<dyn Read + Send>, ClientError> {
        let TarSource::Path(path) = archive else {
            return Err(ClientError::new("the client has no standard input here"));
        };
        let id = name_in("/upload", path).ok_or_else(|| not_the_clients(path))?;
        let pieces =
            self.wait("failed to receive what the client uploads", self.session.upload(&id))?;
        let handle = self.handle.clone();
        Ok(Box::new(Upload { handle, pieces, rest: io::Cursor::default() }))
    }

    fn output(&self, dest: &Destination) -> Result<Target, ClientError> {
        let Destination::Path(index) = dest else {
            return Err(ClientError::new("the client has no standard output here"));
        };
        let index = index.to_string_lossy();
        Ok(Target::Load(Box::new(Sending::begin(&self.handle, &self.session, &index))))
    }

    /// It is sent when the build is over.
    fn output_directory(&self, dest: &Path) -> Result<PathBuf, ClientError> {
        let index: usize = dest
            .to_str()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| not_the_clients(dest))?;
        let path = output_folder(&self.scratch, index);
        std::fs::create_dir_all(&path)
            .map_err(|error| ClientError::io("failed to make a temporary directory", error))?;
        Ok(path)
    }
}

/// Where the files of the exporter `index` are until they are sent.
pub(crate) fn output_folder(scratch: &Path, index: usize) -> PathBuf {
    scratch.join(format!("output-{index}"))
}

fn not_the_clients(path: &Path) -> ClientError {
    ClientError::new(format!("`{}` is not a directory of the client", path.display()))
}

/// Credentials that the client keeps.
struct Kept(Arc<Session>);

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kept({})", self.0.id)
    }
}

impl Keeper for Kept {
    fn credential(&self, host: String) -> CredentialAnswer {
        let session = self.0.clone();
        Box::pin(async move {
            let asked = if host == HUB { HUB_REGISTRY } else { &host };
            let failed = |status: Status| CredentialsError::Keeper {
                server: host.clone(),
                message: status.message().to_owned(),
            };
            let answer = session.credentials(asked).await.map_err(failed)?;
            Ok(answer.map(|answer| match answer.username.is_empty() {
                true => Credential::IdentityToken(answer.secret),
                false => Credential::Basic { username: answer.username, password: answer.secret },
            }))
        })
    }
}

/// An archive that comes in pieces.
struct Upload {
    handle: Handle,
    pieces: Streaming<BytesMessage>,
    rest: io::Cursor<Vec<u8>>,
}

impl Read for Upload {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let length = self.rest.read(buffer)?;
            if length > 0 || buffer.is_empty() {
                return Ok(length);
            }
            let next = self.handle.block_on(self.pieces.message());
            match next.map_err(|status| io::Error::other(status.message().to_owned()))? {
                Some(piece) => self.rest = io::Cursor::new(piece.data),
                None => return Ok(0),
            }
        }
    }
}
