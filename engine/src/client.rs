//! Whoever asked for the work. The engine reads no environment and no standard stream, and knows no path
//! of theirs: all of it comes through [`Client`], of which the command line is one.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use executor::Secret;
use llb::LocalSource;
use registry::Credentials;

use crate::error::{BuildError, Fault};
use crate::new_file::NewFile;
use crate::request::{Destination, TarSource};

/// What a request's asker keeps. Its methods block, and may be called from several threads at once.
pub trait Client: Send + Sync {
    /// The secret called `id`; none if the client has none of this name.
    fn secret(&self, id: &str) -> Result<Option<Secret>, ClientError>;

    /// A new connection to the SSH agent called `id`, which speaks draft-ietf-sshm-ssh-agent; none if the
    /// client has none of this name. The engine asks it for its keys and for signatures, nothing else.
    fn ssh_agent(&self, id: &str) -> Result<Option<UnixStream>, ClientError>;

    /// The keys of SSH hosts that the client knows, in the form of OpenSSH's `known_hosts`; empty if it knows
    /// none. `git` connects to no other host.
    fn known_hosts(&self) -> Result<Vec<u8>, ClientError>;

    /// What proves to registries who the client is.
    fn credentials(&self) -> Credentials;

    /// Where on this machine the directory is that the request or the definition calls `name`: a local
    /// context, an OCI layout, that of a Dockerfile. It is read in place.
    fn directory(&self, name: &Path) -> Result<PathBuf, ClientError>;

    /// Where on this machine the directory of a local source is, with nothing in it that the source's
    /// `include_patterns` and `follow_paths` do not ask for; what is excluded may be in it. A client that reads its
    /// directories in place has no part of one; others tell how much they fetch.
    fn local(&self, local: &LocalSource, _told: &Fetched) -> Result<PathBuf, ClientError> {
        match local.include_patterns.is_empty() && local.follow_paths.is_empty() {
            true => self.directory(Path::new(&local.name)),
            false => Err(ClientError::new(format!(
                "a part of the directory `{}` is not available",
                local.name
            ))),
        }
    }

    /// Opens an archive.
    fn archive(&self, archive: &TarSource) -> Result<Box<dyn Read + Send>, ClientError>;

    /// Opens what an output of one file is written to.
    fn output(&self, dest: &Destination) -> Result<Target, ClientError>;

    /// Where on this machine the directory is that an output calls `dest`. It need not be there yet.
    fn output_directory(&self, dest: &Path) -> Result<PathBuf, ClientError>;
}

/// Hears how many bytes have come, and whether these are all.
pub type Fetched = Arc<dyn Fn(u64, bool) + Send + Sync>;

/// What takes an output.
pub enum Target {
    /// Bytes, one after the other.
    Stream(Box<dyn Write + Send>),
    /// A file that is there whole or not at all.
    File(NewFile),
    /// A program that takes the bytes, and tells in the end whether it has.
    Load(Box<dyn Load>),
}

/// An archive that a program takes while it is written.
pub trait Load: Write + Send {
    /// Ends the archive, or after a failed write finds out why: the program's word for it.
    fn finish(self: Box<Self>) -> std::io::Result<()>;
}

impl Target {
    /// Has `write` write all of it, and finishes it.
    pub(crate) fn fill(
        self,
        write: impl FnOnce(&mut (dyn Write + Send)) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        match self {
            Self::Stream(mut out) => write(&mut out),
            Self::File(mut file) => {
                write(file.file())?;
                file.commit()
            }
            Self::Load(mut load) => match write(&mut load) {
                // It may have said why it takes no more.
                Err(error) if is_hung_up(&error) => {
                    load.finish()?;
                    Err(std::io::Error::other("it stopped reading before the end"))
                }
                Err(error) => Err(error),
                Ok(()) => load.finish(),
            },
        }
    }
}

fn is_hung_up(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionReset)
}

/// The largest secret, in bytes. A client need not read more than one byte beyond it.
pub const SECRET_MAX: u64 = 1 << 20;

/// The longest message from or to an SSH agent, in bytes: OpenSSH's limit, too.
pub const AGENT_MESSAGE_MAX: u32 = 256 << 10;

/// Why a client cannot give what it is asked for.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ClientError {
    /// What failed, and where, in one line.
    pub message: String,
    /// How to go on.
    pub hint: Option<String>,
    /// Why.
    pub source: Option<std::io::Error>,
}

impl ClientError {
    /// An error of the client's own.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, source: None }
    }

    /// One that the system is the cause of.
    pub fn io(message: impl Into<String>, source: std::io::Error) -> Self {
        Self { message: message.into(), hint: None, source: Some(source) }
    }
}

impl From<ClientError> for BuildError {
    fn from(mut error: ClientError) -> Self {
        let hint = error.hint.take();
        Self::Input(Fault::of(error)).with_hint_if(hint)
    }
}
