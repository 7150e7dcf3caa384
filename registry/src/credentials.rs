//! The user's credentials, as `docker login` and `podman login` store them.

mod file;
mod helper;
mod keep;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use keep::{Forgotten, Kept};

use file::ConfigFile;

/// Where credentials for registries come from.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    fixed: BTreeMap<String, Credential>,
    /// Files in Docker's `config.json` format; the first that knows the registry wins.
    files: Arc<[PathBuf]>,
    /// Who is asked where nothing else is known.
    keeper: Option<Arc<dyn Keeper>>,
}

/// Somebody who keeps credentials and is asked when a registry wants one.
pub trait Keeper: fmt::Debug + Send + Sync {
    /// The credential for `host`.
    fn credential(&self, host: String) -> CredentialAnswer;
}

/// What a [`Keeper`] has, or why it does not say.
pub type CredentialAnswer =
    Pin<Box<dyn Future<Output = Result<Option<Credential>, CredentialsError>> + Send>>;

/// A credential. Its debug output contains no secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A name and a password.
    Basic {
        /// The name.
        username: String,
        /// The password or access token.
        password: String,
    },
    /// An OAuth2 refresh token.
    IdentityToken(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { username, .. } => write!(f, "Basic({username})"),
            Self::IdentityToken(_) => f.write_str("IdentityToken"),
        }
    }
}

/// Credentials are configured for a registry, but are not available.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file exists but cannot be read.
    #[error("failed to read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not in Docker's `config.json` format.
    #[error("failed to parse `{}`", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The file cannot be written.
    #[error("failed to write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is no file to keep credentials in.
    #[error("no file to keep credentials in: neither HOME nor DOCKER_CONFIG is set")]
    NoFile,
    /// The credential helper failed.
    #[error("credential helper for `{server}` failed: `{helper}`: {message}")]
    Helper {
        /// The registry that the credentials are for.
        server: String,
        /// The helper's program.
        helper: String,
        /// Its output.
        message: String,
    },
    /// The credential helper did not answer in time.
    #[error("credential helper for `{server}` took longer than {} seconds", patience.as_secs())]
    HelperTimeout {
        /// The registry that the credentials are for.
        server: String,
        /// How long it was given.
        patience: Duration,
    },
    /// The credential helper cannot be run.
    #[error("failed to run the credential helper `{helper}`")]
    HelperStart {
        /// The helper's program.
        helper: String,
        /// Why not.
        source: io::Error,
    },
    /// Who keeps the credentials does not say.
    #[error("the client does not say what its credentials for `{server}` are: {message}")]
    Keeper {
        /// The registry that the credentials are for.
        server: String,
        /// Its words.
        message: String,
    },
    /// The entry in the file or the helper's answer is invalid. What it says is left out: it may be a secret.
    #[error("failed to get the credentials for `{server}`: {problem}")]
    Invalid {
        /// The registry that the credentials are for.
        server: String,
        /// What is wrong.
        problem: &'static str,
    },
}

impl Credentials {
    /// No credentials for any registry.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Files in Docker's `config.json` format, searched in this order.
    pub fn from_files(files: Vec<PathBuf>) -> Self {
        Self { files: files.into(), ..Self::default() }
    }

    /// Those of somebody else.
    pub fn kept_by(keeper: Arc<dyn Keeper>) -> Self {
        Self { keeper: Some(keeper), ..Self::default() }
    }

    /// Adds a credential for a registry (`docker.io`, `127.0.0.1:5000`), which takes precedence over files.
    pub fn with(mut self, host: &str, credential: Credential) -> Self {
        self.fixed.insert(host.to_owned(), credential);
        self
    }

    /// The credential for `host`, or for the repository `path` in it if a file has one for that.
    ///
    /// # Errors
    /// [`CredentialsError`] when a file or helper cannot be used. A missing file is not an error.
    pub async fn get(
        &self,
        host: &str,
        path: &str,
    ) -> Result<Option<Credential>, CredentialsError> {
        if let Some(credential) = self.fixed.get(host) {
            return Ok(Some(credential.clone()));
        }
        for path_of_file in &*self.files {
            let Some(file) = ConfigFile::read(path_of_file).await? else { continue };
            for key in file.keys(host, path) {
                if let Some(credential) = file.credential(&key).await? {
                    return Ok(Some(credential));
                }
            }
        }
        match &self.keeper {
            Some(keeper) => keeper.credential(host.to_owned()).await,
            None => Ok(None),
        }
    }
}
