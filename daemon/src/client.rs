//! The client of a build as the engine sees it: everything is asked over its session.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use engine::{
    Client, ClientError, Credential, CredentialAnswer, Credentials, CredentialsError, Destination,
    Fetched, Keeper, Received, Secret, TarSource, Target, Workspace,
};
use llb::LocalSource;
use oci::Digest;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::layout::{self, LayoutError};
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
    /// What tells copies of a local directory apart, by its name.
    pub(crate) shared_keys: BTreeMap<String, String>,
    /// Where directories are kept.
    pub(crate) workspace: Arc<Workspace>,
    /// SSH hosts that are known, in the form of OpenSSH's `known_hosts`.
    pub(crate) known_hosts: Vec<u8>,
    /// For what is not kept.
    pub(crate) scratch: PathBuf,
    pub(crate) status: Arc<StatusLog>,
    pub(crate) cancel: CancellationToken,
    /// What was received for this build.
    pub(crate) kept: Mutex<Vec<(Wanted, Received)>>,
}

impl SessionClient {
    fn session_of(&self, local: &str) -> &Arc<Session> {
        self.others.get(local).unwrap_or(&self.session)
    }

    /// Receives what is wanted into the directory `folder` of the build's own.
    pub(crate) async fn receive_once(
        &self,
        wanted: &Wanted,
        folder: &str,
        title: &str,
    ) -> Result<PathBuf, ClientError> {
        let into = self.scratch.join(folder);
        std::fs::create_dir_all(&into)
            .map_err(|error| ClientError::io("failed to make a temporary directory", error))?;
        self.receive_as_step(wanted, into.clone(), title).await?;
        Ok(into)
    }

    /// The same with a step of its own.
    async fn receive_as_step(
        &self,
        wanted: &Wanted,
        into: PathBuf,
        title: &str,
    ) -> Result<(), ClientError> {
        let step = Arc::new(OwnStep::start(&self.status, title));
        let telling = step.clone();
        let told = Arc::new(move |bytes, is_all| telling.moved("transferring", bytes, is_all));
        let received = self.receive(wanted, into, told).await;
        step.end(received.as_ref().err().map(ToString::to_string).as_deref());
        received
    }

    async fn receive(
        &self,
        wanted: &Wanted,
        into: PathBuf,
        told: Fetched,
    ) -> Result<(), ClientError> {
        let session = self.session_of(&wanted.name).clone();
        let received = tokio::select! {
            received = receive::receive(&session, wanted, into, told) => received,
            () = self.cancel.cancelled() => Err(ReceiveError::Ended),
            () = session.closed.cancelled() => Err(ReceiveError::Ended),
        };
        received.map_err(|error| ClientError {
            message: format!("failed to receive `{}` from the client", wanted.name),
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

    /// What is wanted of a local directory, received when it is first asked for.
    async fn received(
        &self,
        wanted: Wanted,
        told: Option<&Fetched>,
    ) -> Result<PathBuf, ClientError> {
        let known = |kept: &Vec<(Wanted, Received)>| {
            let found = kept.iter().find(|(known, _)| *known == wanted);
            found.map(|(_, received)| received.path().to_owned())
        };
        if let Some(path) = known(&self.kept.lock().expect("no panic while held")) {
            return Ok(path);
        }
        let received = self.place_for(&wanted.name)?;
        let path = received.path().to_owned();
        match told {
            Some(told) => self.receive(&wanted, path.clone(), told.clone()).await?,
            None => {
                let title = format!("[context {}] load from client", wanted.name);
                self.receive_as_step(&wanted, path.clone(), &title).await?;
            }
        }
        self.kept.lock().expect("no panic while held").push((wanted, received));
        Ok(path)
    }

    /// Where the directory `name` is received, with what came the last time. What came before the machine was last
    /// started may not have reached its disk.
    fn place_for(&self, name: &str) -> Result<Received, ClientError> {
        let failed = "failed to find a place for what the client sends";
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_err(|error| ClientError::io(failed, error))?;
        let hint = self.shared_keys.get(name).map(String::as_str).unwrap_or_default();
        let key = &self.session_of(name).shared_key;
        let shown = [name, hint, key].map(|part| part.replace('\n', " ")).join(" ");
        let received = self.workspace.store().received(&format!("{}\n{boot}", shown.trim_end()));
        received.map_err(|error| ClientError::io(failed, io::Error::other(error)))
    }

    /// The layout with an image of the client's, by a store's name and the image's digest.
    async fn layout(&self, image: &str) -> Result<PathBuf, ClientError> {
        let failed = || format!("failed to receive the image `{image}` from the client");
        let into = self.scratch.join(format!("layout-{}", Digest::of(image.as_bytes()).hex()));
        if into.exists() {
            return Ok(into);
        }
        let Some((store, digest)) = image.split_once('@') else {
            return Err(ClientError::new(failed()));
        };
        let digest: Digest = digest.parse().map_err(|_| ClientError::new(failed()))?;
        let step =
            OwnStep::start(&self.status, &format!("[context {store}] load image from client"));
        let fetched = tokio::select! {
            fetched = layout::fetch(&self.session, store, &digest, &into) => fetched,
            () = self.cancel.cancelled() => Err(LayoutError::Missing(digest.clone())),
        };
        step.end(fetched.as_ref().err().map(ToString::to_string).as_deref());
        match fetched {
            Ok(()) => Ok(into),
            Err(error) => Err(ClientError::io(failed(), io::Error::other(error))),
        }
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
        let place = self.receive_once(&wanted, folder, &title).await?;
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

    fn known_hosts(&self) -> Result<Vec<u8>, ClientError> {
        Ok(self.known_hosts.clone())
    }

    fn credentials(&self) -> Credentials {
        Credentials::kept_by(Arc::new(Kept(self.session.clone())))
    }

    fn directory(&self, name: &Path) -> Result<PathBuf, ClientError> {
        if let Some(image) = name_in("/layout", name) {
            return self.handle.block_on(self.layout(&image));
        }
        let local = name_in("/local", name).ok_or_else(|| not_the_clients(name))?;
        let folder = format!("ignore-{}", data_encoding::HEXLOWER.encode(local.as_bytes()));
        self.handle.block_on(async {
            let exclude = self.ignored(&local, &folder).await?;
            self.received(Wanted { name: local, exclude, ..Wanted::default() }, None).await
        })
    }

    fn local(&self, local: &LocalSource, told: &Fetched) -> Result<PathBuf, ClientError> {
        let wanted = Wanted {
            name: local.name.clone(),
            follow: local.follow_paths.clone(),
            include: local.include_patterns.clone(),
            exclude: local.exclude_patterns.clone(),
        };
        self.handle.block_on(self.received(wanted, Some(told)))
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
