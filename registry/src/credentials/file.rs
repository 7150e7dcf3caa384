//! A file in the format of Docker's `config.json`: what it knows about registries.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use serde::Deserialize;

use super::{Credential, CredentialsError, helper};

const DOCKER_HUB: &str = "docker.io";
/// The name of Docker Hub in credential files.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
const CONFIG_SIZE_MAX: u64 = 4 << 20;

/// What a `config.json` says about credentials.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConfigFile {
    auths: Option<BTreeMap<String, Entry>>,
    cred_helpers: Option<BTreeMap<String, String>>,
    creds_store: Option<String>,
}

/// What it says about one registry.
#[derive(Default, Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl ConfigFile {
    /// Reads the file at `path`; nothing if there is none, or nothing in it.
    pub(super) async fn read(path: &Path) -> Result<Option<Self>, CredentialsError> {
        let owned = path.to_owned();
        let read = tokio::task::spawn_blocking(move || read(&owned));
        match read.await.expect("reading does not panic")? {
            Some(text) => Self::parse(path, &text).map(Some),
            None => Ok(None),
        }
    }

    /// What `text`, read from `path`, says.
    pub(super) fn parse(path: &Path, text: &[u8]) -> Result<Self, CredentialsError> {
        serde_json::from_slice(text)
            .map_err(|source| CredentialsError::Parse { path: path.to_owned(), source })
    }

    /// The keys to look up, the most specific first. A credential store is queried only for the
    /// name that `docker login` uses: each query starts a program.
    pub(super) fn keys(&self, host: &str, path: &str) -> Vec<String> {
        let mut keys: Vec<String> =
            candidate_keys(host, path).into_iter().filter(|key| self.has(key)).collect();
        if self.store().is_some() {
            keys.push(key_of(host).to_owned());
        }
        let mut seen = HashSet::new();
        keys.retain(|key| seen.insert(key.clone()));
        keys
    }

    /// Whether the file names `key` itself.
    pub(super) fn has(&self, key: &str) -> bool {
        self.auths.as_ref().is_some_and(|auths| auths.contains_key(key))
            || self.cred_helpers.as_ref().is_some_and(|helpers| helpers.contains_key(key))
    }

    /// The helper for `key` alone.
    pub(super) fn helper(&self, key: &str) -> Option<&str> {
        let helper = self.cred_helpers.as_ref()?.get(key)?;
        Some(helper.as_str()).filter(|helper| !helper.is_empty())
    }

    /// The helper for all registries without one of their own.
    pub(super) fn store(&self) -> Option<&str> {
        self.creds_store.as_deref().filter(|store| !store.is_empty())
    }

    /// The credential that the file or its helpers have under `key`.
    pub(super) async fn credential(
        &self,
        key: &str,
    ) -> Result<Option<Credential>, CredentialsError> {
        if let Some(helper) = self.helper(key) {
            return helper::get(helper, key).await;
        }
        let entry = self.auths.as_ref().and_then(|auths| auths.get(key));
        match (entry.map(|entry| entry.credential(key)).transpose()?.flatten(), self.store()) {
            (Some(credential), _) => Ok(Some(credential)),
            (None, Some(store)) => helper::get(store, key).await,
            (None, None) => Ok(None),
        }
    }
}

impl Entry {
    fn credential(&self, key: &str) -> Result<Option<Credential>, CredentialsError> {
        let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.identitytoken) {
            return Ok(Some(Credential::IdentityToken(token)));
        }
        let named = given(&self.username).zip(self.password.clone());
        let basic = |(username, password)| Credential::Basic { username, password };
        let Some(auth) = given(&self.auth) else { return Ok(named.map(basic)) };
        let invalid = |problem| CredentialsError::Invalid { server: key.to_owned(), problem };
        let decoded =
            decode(&auth).ok_or_else(|| invalid("`auth` is not `NAME:PASSWORD` in base64"))?;
        if named.is_some_and(|named| named != decoded) {
            return Err(invalid("`auth` differs from `username` and `password`"));
        }
        let is_empty = decoded.0.is_empty() && decoded.1.is_empty();
        Ok((!is_empty).then(|| basic(decoded)))
    }
}

/// Name and password of an `auth`, with or without padding.
fn decode(auth: &str) -> Option<(String, String)> {
    let bytes = data_encoding::BASE64_NOPAD.decode(auth.trim_end_matches('=').as_bytes()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (username, password) = text.split_once(':')?;
    Some((username.to_owned(), password.to_owned()))
}

/// The text of the file at `path`; nothing if there is none, or nothing in it.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, CredentialsError> {
    let error = |source| CredentialsError::Read { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(error(e)),
    };
    let mut text = Vec::new();
    file.take(CONFIG_SIZE_MAX + 1).read_to_end(&mut text).map_err(error)?;
    if text.len() as u64 > CONFIG_SIZE_MAX {
        return Err(error(io::Error::other("it is larger than 4 MiB")));
    }
    Ok((!text.trim_ascii().is_empty()).then_some(text))
}

/// The name under which `docker login` stores the credentials of a registry.
pub(super) fn key_of(host: &str) -> &str {
    if host == DOCKER_HUB { DOCKER_HUB_KEY } else { host }
}

/// Names under which tools store the credentials of a registry, or of the repository `path` in it.
pub(super) fn candidate_keys(host: &str, path: &str) -> Vec<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn no_file_makes_reading_panic(
            text in r#"\{"(auths|credHelpers|credsStore)":(\{"x":[\{\}"a-z:,=A-Z0-9]{0,30}\}|null|"x")\}"#,
            auth in "\\PC{0,20}",
        ) {
            if let Ok(file) = ConfigFile::parse(Path::new("x"), text.as_bytes()) {
                let _ = file.auths.as_ref().and_then(|a| a.get("x")).map(|e| e.credential("x"));
                file.keys("x", "a/b");
            }
            let _ = Entry { auth: Some(auth), ..Entry::default() }.credential("x");
        }
    }
}
