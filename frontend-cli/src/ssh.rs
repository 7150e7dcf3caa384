//! What `--ssh` names: an agent that runs, or keys that this process answers for.

mod agent;
mod key;
mod key_file;
mod number;
mod wire;

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use self::agent::Keyring;
use crate::error::UsageError;

/// `--ssh`, as it is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The name that mounts ask for.
    pub id: String,
    /// What it stands for.
    pub source: Source,
}

/// What answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// An agent that listens here.
    Socket(PathBuf),
    /// Files with private keys.
    KeyFiles(Vec<PathBuf>),
}

/// An agent that connections can be made to.
#[derive(Debug, Clone)]
pub struct Agent {
    id: String,
    connector: Connector,
}

#[derive(Debug, Clone)]
enum Connector {
    Socket(PathBuf),
    Keys(Arc<Keyring>),
}

impl Agent {
    /// Reads the keys that are wanted, if it is keys.
    pub fn open(wanted: Wanted) -> Result<Self, UsageError> {
        let Wanted { id, source } = wanted;
        let connector = match source {
            Source::Socket(path) => Connector::Socket(path),
            Source::KeyFiles(paths) => {
                let keys = paths.iter().map(|path| key_file::read(path)).collect::<Result<_, _>>();
                let keys = keys.map_err(|error| {
                    let told = UsageError::new(format!("`--ssh {id}`: {error}"));
                    match error.hint() {
                        Some(hint) => told.with_hint(hint),
                        None => told,
                    }
                })?;
                Connector::Keys(Arc::new(Keyring::new(keys)))
            }
        };
        Ok(Self { id, connector })
    }

    /// The name that mounts ask for.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A new connection, and an error that names what failed.
    pub fn connect(&self) -> Result<UnixStream, engine::ClientError> {
        let failed = |error| {
            let id = &self.id;
            let message = match &self.connector {
                Connector::Socket(path) => {
                    format!("failed to reach ssh agent `{id}` at `{}`", path.display())
                }
                Connector::Keys(_) => format!("failed to start ssh agent `{id}`"),
            };
            engine::ClientError::io(message, error)
        };
        self.connector.connect().map_err(failed)
    }
}

impl Connector {
    fn connect(&self) -> io::Result<UnixStream> {
        match self {
            Self::Socket(path) => UnixStream::connect(path),
            Self::Keys(keys) => {
                let (theirs, ours) = UnixStream::pair()?;
                let keys = keys.clone();
                // It ends with the connection.
                let thread = std::thread::Builder::new().name("ssh-agent".to_owned());
                thread.spawn(move || agent::serve(ours, &keys))?;
                Ok(theirs)
            }
        }
    }
}
