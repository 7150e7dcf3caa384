//! The user's credentials, as `docker login` and `podman login` store them.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use docker_credential::{CredentialRetrievalError, DockerCredential};
use serde::Deserialize;
use serde::de::IgnoredAny;

const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
const CONFIG_SIZE_MAX: u64 = 4 << 20;
const HELPER_TIMEOUT: Duration = Duration::from_secs(30);

/// Where credentials for registries come from.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    fixed: BTreeMap<String, Credential>,
    /// Files in Docker's `config.json` format; the first that knows the registry wins.
    files: Arc<[PathBuf]>,
}

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
    /// The entry in the file or the helper's answer is invalid, or the helper cannot be started.
    #[error("failed to get the credentials for `{server}`")]
    Unusable {
        /// The registry that the credentials are for.
        server: String,
        /// What is wrong.
        source: CredentialRetrievalError,
    },
}

impl Credentials {
    /// No credentials for any registry.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Files in Docker's `config.json` format, searched in this order.
    pub fn from_files(files: Vec<PathBuf>) -> Self {
        Self { fixed: BTreeMap::new(), files: files.into() }
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
        if self.files.is_empty() {
            return Ok(None);
        }
        let (files, host, path) = (Arc::clone(&self.files), host.to_owned(), path.to_owned());
        let server = host.clone();
        // Reading files and running a helper block.
        let lookup = tokio::task::spawn_blocking(move || look_up(&files, &host, &path));
        match tokio::time::timeout(HELPER_TIMEOUT, lookup).await {
            Ok(result) => result.expect("the lookup does not panic"),
            Err(_) => Err(CredentialsError::HelperTimeout { server, patience: HELPER_TIMEOUT }),
        }
    }
}

fn look_up(
    files: &[PathBuf],
    host: &str,
    path: &str,
) -> Result<Option<Credential>, CredentialsError> {
    for file in files {
        let Some(text) = read(file)? else { continue };
        let known: Known = serde_json::from_slice(&text)
            .map_err(|source| CredentialsError::Parse { path: file.clone(), source })?;
        for key in known.keys(host, path) {
            if let Some(credential) = ask(&text, &key)? {
                return Ok(Some(credential));
            }
        }
    }
    Ok(None)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, CredentialsError> {
    let error = |source| CredentialsError::Read { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(error(e)),
    };
    let mut text = Vec::new();
    file.take(CONFIG_SIZE_MAX).read_to_end(&mut text).map_err(error)?;
    Ok((!text.trim_ascii().is_empty()).then_some(text))
}

/// The keys of a `config.json`, without their values.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    auths: Option<BTreeMap<String, IgnoredAny>>,
    cred_helpers: Option<BTreeMap<String, IgnoredAny>>,
    creds_store: Option<String>,
}

impl Known {
    /// The keys to look up, the most specific first. A credential store is queried only for the
    /// name that `docker login` uses: each query starts a program.
    fn keys(&self, host: &str, path: &str) -> Vec<String> {
        let has = |key: &String| {
            self.auths.as_ref().is_some_and(|a| a.contains_key(key))
                || self.cred_helpers.as_ref().is_some_and(|h| h.contains_key(key))
        };
        let mut keys: Vec<String> = candidate_keys(host, path).into_iter().filter(has).collect();
        if self.creds_store.as_deref().is_some_and(|store| !store.is_empty()) {
            keys.push(if host == DOCKER_HUB { DOCKER_HUB_KEY.to_owned() } else { host.to_owned() });
        }
        let mut seen = HashSet::new();
        keys.retain(|key| seen.insert(key.clone()));
        keys
    }
}

/// Names under which tools store the credentials of a registry.
fn candidate_keys(host: &str, path: &str) -> Vec<String> {
    // Podman stores them by repository as well: `quay.io/team/app`, then `quay.io/team`.
    let mut keys: Vec<String> = Vec::new();
    let mut prefix = path;
    while !prefix.is_empty() {
        keys.push(format!("{host}/{prefix}"));
        prefix = prefix.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
    let hosts: &[&str] = if host == DOCKER_HUB {
        &[DOCKER_HUB, "index.docker.io", "registry-1.docker.io"]
    } else {
        &[host]
    };
    for host in hosts {
        keys.push((*host).to_owned());
        for scheme in ["https://", "http://"] {
            keys.extend(
                ["", "/", "/v1/", "/v2/", "/v1", "/v2"].map(|end| format!("{scheme}{host}{end}")),
            );
        }
    }
    keys
}

fn ask(config: &[u8], key: &str) -> Result<Option<Credential>, CredentialsError> {
    use CredentialRetrievalError as Refusal;
    let server = || key.to_owned();
    match docker_credential::get_credential_from_reader(config, key) {
        Ok(DockerCredential::UsernamePassword(username, password))
            if username.is_empty() && password.is_empty() =>
        {
            Ok(None)
        }
        Ok(DockerCredential::UsernamePassword(username, password)) => {
            Ok(Some(Credential::Basic { username, password }))
        }
        Ok(DockerCredential::IdentityToken(token)) if token.is_empty() => Ok(None),
        Ok(DockerCredential::IdentityToken(token)) => Ok(Some(Credential::IdentityToken(token))),
        Err(Refusal::NoCredentialConfigured) => Ok(None),
        // Helpers print this when they have no entry, which is not a failure.
        Err(Refusal::HelperFailure { stdout, stderr, .. })
            if [&stdout, &stderr].iter().any(|text| text.to_lowercase().contains("not found")) =>
        {
            Ok(None)
        }
        Err(Refusal::HelperFailure { helper, stdout, stderr }) => {
            let said = if stderr.trim().is_empty() { stdout } else { stderr };
            let printable = said.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
            let message = printable.take(300).collect();
            Err(CredentialsError::Helper { server: server(), helper, message })
        }
        Err(source) => Err(CredentialsError::Unusable { server: server(), source }),
    }
}
