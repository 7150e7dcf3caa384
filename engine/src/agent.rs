//! SSH agents of whoever asked for the work, for steps and for `git`.
//!
//! An [`AgentSocket`] listens on this machine and leads each of its connections to a new one of the
//! client's ([`Client::ssh_agent`]). What is asked through it is only which keys there are, and for
//! signatures: as in BuildKit, an agent that is lent cannot be changed. The protocol is
//! draft-ietf-sshm-ssh-agent: messages of four bytes of length, one of type, and its contents.

use std::fs::Permissions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, openat};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::client::{AGENT_MESSAGE_MAX, Client};
use crate::error::BuildError;

/// Connections at once; more wait.
const CONNECTIONS_MAX: usize = 64;

/// Until the next try, when a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// The longest path of a socket that a program can be told (`sun_path` of `unix(7)`, without its zero).
const PATH_MAX: usize = 107;

/// The socket's name in its directory.
const NAME: &str = "agent";

/// What may be asked for (`SSH_AGENTC_REQUEST_IDENTITIES`, `SSH_AGENTC_SIGN_REQUEST`).
const ALLOWED: [u8; 2] = [11, 13];

/// `SSH_AGENT_FAILURE`
const FAILURE: [u8; 1] = [5];

/// A listening socket that leads to an agent, for as long as it is not dropped.
pub(crate) struct AgentSocket {
    directory: TempDir,
    /// Held open for its path in `/proc`.
    opened: OwnedFd,
    listening: JoinHandle<()>,
}

impl Drop for AgentSocket {
    fn drop(&mut self) {
        // Its connections go with it.
        self.listening.abort();
    }
}

impl AgentSocket {
    /// A socket in a new directory beneath `place`, only for this user; nothing if the client has no agent
    /// `id`. An agent that does not answer is an error. To be called where a runtime is.
    pub(crate) fn open(
        client: &Arc<dyn Client>,
        id: &str,
        place: &Path,
    ) -> Result<Option<Self>, BuildError> {
        if client.ssh_agent(id)?.is_none() {
            return Ok(None);
        }
        let (client, id) = (client.clone(), id.to_owned());
        let opened = Self::listen(place, |listener| tokio::spawn(serve(listener, client, id)));
        opened
            .map(Some)
            .map_err(|e| BuildError::system("failed to make a socket for ssh").because(e))
    }

    fn listen(
        place: &Path,
        serve: impl FnOnce(UnixListener) -> JoinHandle<()>,
    ) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("ssh-").tempdir_in(place)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(CWD, directory.path(), flags, Mode::empty())?;
        let short = format!("/proc/self/fd/{}/{NAME}", opened.as_raw_fd());
        let listener = std::os::unix::net::UnixListener::bind(short)?;
        listener.set_nonblocking(true)?;
        let listening = serve(UnixListener::from_std(listener)?);
        let socket = Self { directory, opened, listening };
        socket.set_mode(0o600)?;
        Ok(socket)
    }

    /// Where it is on this machine, as it fits into `SSH_AUTH_SOCK`: a path in `/proc` where its own is too
    /// long. For programs of this user, and for mounts.
    pub(crate) fn path(&self) -> PathBuf {
        let path = self.own_path();
        match path.as_os_str().len() <= PATH_MAX {
            true => path,
            false => {
                let (process, fd) = (std::process::id(), self.opened.as_raw_fd());
                format!("/proc/{process}/fd/{fd}/{NAME}").into()
            }
        }
    }

    fn own_path(&self) -> PathBuf {
        self.directory.path().join(NAME)
    }

    /// Gives it to somebody else.
    pub(crate) fn set_owner(&self, uid: u32, gid: u32) -> io::Result<()> {
        std::os::unix::fs::chown(self.own_path(), Some(uid), Some(gid))
    }

    /// Changes its permissions.
    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        std::fs::set_permissions(self.own_path(), Permissions::from_mode(mode))
    }
}

/// Leads connections to the agent until nobody wants them any more.
async fn serve(listener: UnixListener, client: Arc<dyn Client>, id: String) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((asking, _)) => {
                    drop(connections.spawn(connect(asking, client.clone(), id.clone())));
                }
                // There are no descriptors left: some will be free again.
                Err(_) => tokio::time::sleep(PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection. Where it breaks, the program that asks sees its end and says so.
async fn connect(asking: UnixStream, client: Arc<dyn Client>, id: String) -> io::Result<()> {
    let opened = tokio::task::spawn_blocking(move || client.ssh_agent(&id));
    let agent = opened.await?.map_err(io::Error::other)?.ok_or(io::ErrorKind::NotFound)?;
    agent.set_nonblocking(true)?;
    forward(asking, UnixStream::from_std(agent)?).await
}

/// Request by request, as each of them is answered.
async fn forward(mut asking: UnixStream, mut agent: UnixStream) -> io::Result<()> {
    while let Some(request) = read_message(&mut asking).await? {
        let answer = match request.first() {
            Some(kind) if ALLOWED.contains(kind) => {
                write_message(&mut agent, &request).await?;
                read_message(&mut agent).await?.ok_or(io::ErrorKind::UnexpectedEof)?
            }
            _ => FAILURE.to_vec(),
        };
        write_message(&mut asking, &answer).await?;
    }
    Ok(())
}

/// The next message without its length; nothing at the end.
async fn read_message(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read(&mut length[..1]).await? {
        0 => return Ok(None),
        _ => stream.read_exact(&mut length[1..]).await?,
    };
    let length = u32::from_be_bytes(length);
    if !(1..=AGENT_MESSAGE_MAX).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = Vec::new();
    stream.take(length.into()).read_to_end(&mut message).await?;
    match message.len() == length as usize {
        true => Ok(Some(message)),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

async fn write_message(stream: &mut UnixStream, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).expect("it was read with such a length");
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(message).await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// An agent that answers with what it was asked, and the asking end of a connection through to it.
    fn through() -> UnixStream {
        let (asking, here) = UnixStream::pair().unwrap();
        let (there, mut agent) = UnixStream::pair().unwrap();
        tokio::spawn(forward(here, there));
        tokio::spawn(async move {
            while let Ok(Some(message)) = read_message(&mut agent).await {
                write_message(&mut agent, &message).await.unwrap();
            }
        });
        asking
    }

    #[tokio::test]
    async fn nothing_but_lists_and_signatures_reaches_the_agent() {
        let mut asking = through();
        for kind in 0..=255 {
            write_message(&mut asking, &[kind, 1, 2]).await.unwrap();
            let answer = read_message(&mut asking).await.unwrap().unwrap();
            let expected = if matches!(kind, 11 | 13) { &[kind, 1, 2][..] } else { &[5] };
            assert_eq!(answer, expected, "{kind}");
        }
    }

    #[tokio::test]
    async fn messages_that_are_too_long_or_too_short_end_the_connection() {
        let max = AGENT_MESSAGE_MAX;
        let mut longest = vec![13; max as usize];
        let mut asking = through();
        write_message(&mut asking, &longest).await.unwrap();
        assert_eq!(read_message(&mut asking).await.unwrap().unwrap(), longest);
        longest.push(13);
        for bytes in [&[0; 4][..], &u32::MAX.to_be_bytes(), &(max + 1).to_be_bytes()] {
            let mut asking = through();
            asking.write_all(bytes).await.unwrap();
            assert!(read_message(&mut asking).await.unwrap().is_none());
        }
        // One that ends in the middle is not passed on.
        for bytes in [&[0, 0][..], &[0, 0, 0, 3, 11, 1]] {
            let mut asking = through();
            asking.write_all(bytes).await.unwrap();
            asking.shutdown().await.unwrap();
            assert!(read_message(&mut asking).await.unwrap().is_none());
        }
    }

    #[tokio::test]
    async fn a_socket_has_a_short_path_wherever_it_is() {
        let place = tempfile::tempdir().unwrap();
        let deep = place.path().join("d".repeat(150));
        std::fs::create_dir(&deep).unwrap();
        for place in [place.path(), &deep] {
            let serve = |listener: UnixListener| {
                tokio::spawn(async move {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    write_message(&mut stream, b"here").await.unwrap();
                    std::future::pending::<()>().await;
                })
            };
            let socket = AgentSocket::listen(place, serve).unwrap();
            let mut stream = UnixStream::connect(socket.path()).await.unwrap();
            assert_eq!(read_message(&mut stream).await.unwrap().unwrap(), b"here");
            drop(socket);
            let end = tokio::time::timeout(Duration::from_secs(30), read_message(&mut stream));
            assert!(end.await.unwrap().unwrap().is_none());
        }
        std::fs::remove_dir(&deep).unwrap();
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }
}
