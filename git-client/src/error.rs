//! Why a repository did not give what was asked of it.

use std::io;
use std::time::Duration;

use crate::access::InvalidHeader;
use crate::reference::Commit;
use crate::remote::RemoteError;

/// Why `git` has failed. No password and no token is in a message.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The program is not there.
    #[error("`{0}` is not installed")]
    NotInstalled(&'static str),
    /// It could not be started, or its files not be made.
    #[error("failed to {action}")]
    Io {
        /// What was tried.
        action: String,
        /// Why it failed.
        source: io::Error,
    },
    /// It says why itself.
    #[error("{said}")]
    Failed {
        /// Its last words, at least one line.
        said: String,
    },
    /// It was ended because nothing came for so long.
    #[error("nothing came from the server for {} seconds", .0.as_secs())]
    Idle(Duration),
    /// It was ended because there was no end of what came.
    #[error("the server sent a list of more than {0} bytes")]
    TooMuch(usize),
    /// It was ended because the disk is about to be full.
    #[error("{0}")]
    NoRoom(String),
    /// What was kept of a repository is not whole.
    #[error("what was kept of the repository is damaged")]
    Damaged,
    /// What a reference may not be called.
    #[error("`{0}` is not a valid git reference")]
    InvalidName(String),
    /// The server has no such reference.
    #[error("repository does not contain ref {0}")]
    NoReference(String),
    /// The server has nothing at all.
    #[error("the repository is empty: it has no default branch")]
    Empty,
    /// The server does not have the commit, or does not give it away.
    #[error("repository does not contain commit {0}")]
    NoCommit(Commit),
    /// The reference has no such directory.
    #[error("the repository has no directory `{path}`{why}")]
    NoDirectory {
        /// The directory.
        path: String,
        /// What there is instead.
        why: &'static str,
    },
    /// What a repository says of its submodules is wrong.
    #[error("submodule `{path}`: {why}")]
    Submodule {
        /// Its directory.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// An address is not allowed.
    #[error("the address is not allowed")]
    Remote(#[from] RemoteError),
    /// A header cannot be sent.
    #[error(transparent)]
    Header(#[from] InvalidHeader),
}

impl GitError {
    pub(crate) fn io(action: impl Into<String>, source: io::Error) -> Self {
        Self::Io { action: action.into(), source }
    }

    /// Whether the server has sent the program elsewhere, where it was not to follow.
    pub fn is_redirect(&self) -> bool {
        let codes = ["301", "302", "303", "307", "308"];
        let is_said =
            |said: &str| codes.iter().any(|code| said.contains(&format!("returned error: {code}")));
        matches!(self, Self::Failed { said } if is_said(said))
    }

    /// Whether the server wants to know who is asking.
    pub fn is_denied(&self) -> bool {
        const SAID: [&str; 6] = [
            "terminal prompts disabled",
            "Authentication failed",
            "returned error: 401",
            "returned error: 403",
            "could not read Username",
            "Permission denied (",
        ];
        matches!(self, Self::Failed { said } if SAID.iter().any(|words| said.contains(words)))
    }

    /// Whether what is kept here is not whole: fetched once more, it may be.
    pub fn is_damage(&self) -> bool {
        const SAID: [&str; 8] = [
            "unable to read",
            "bad object",
            "bad tree object",
            "corrupt",
            "reference broken",
            "failed to unpack tree object",
            "not a valid object",
            "not a git repository",
        ];
        match self {
            Self::Damaged => true,
            Self::Failed { said } => SAID.iter().any(|words| said.contains(words)),
            _ => false,
        }
    }

    /// Whether the host's key is not among those that are known.
    pub fn is_unknown_host(&self) -> bool {
        matches!(self, Self::Failed { said } if said.contains("Host key verification failed"))
    }

    /// Whether the server could not be reached.
    pub fn is_unreachable(&self) -> bool {
        const SAID: [&str; 6] = [
            "Could not resolve host",
            "Failed to connect",
            "unable to connect",
            "unable to look up",
            "Connection refused",
            "timed out",
        ];
        matches!(self, Self::Failed { said } if SAID.iter().any(|words| said.contains(words)))
    }
}
