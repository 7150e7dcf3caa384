//! Keeping credentials, and forgetting them: where `docker login` and `docker logout` do.

use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, fchown};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::file::{ConfigFile, candidate_keys, key_of, read};
use super::{Credential, Credentials, CredentialsError, helper};

/// Where a credential is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// In this file, readable by whoever may read that.
    File(PathBuf),
    /// By this credential helper (`NAME` of `docker-credential-NAME`).
    Helper(String),
}

/// What became of [`Credentials::forget`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// There was something to forget.
    pub was_known: bool,
    /// Other files that are read, too, and know the registry.
    pub still_in: Vec<PathBuf>,
}

impl Credentials {
    /// Keeps what `username` has logged in to `host` with, instead of what was kept before: in the first
    /// of the files, or by the helper that it names. Everything else in the file stays.
    ///
    /// # Errors
    /// [`CredentialsError`]; then the file is what it was.
    pub async fn keep(
        &self,
        host: &str,
        username: &str,
        credential: &Credential,
    ) -> Result<Kept, CredentialsError> {
        let path = self.files.first().ok_or(CredentialsError::NoFile)?;
        let file = ConfigFile::read(path).await?.unwrap_or_default();
        let (key, helper) = place(&file, host);
        let (entry, kept) = match helper {
            Some(helper) => {
                helper::store(helper, &key, credential).await?;
                (json!({}), Kept::Helper(helper.to_owned()))
            }
            None => (entry(username, credential), Kept::File(path.clone())),
        };
        let host = host.to_owned();
        change(path, move |auths| {
            remove(auths, &host);
            auths.insert(key, entry);
        })
        .await?;
        Ok(kept)
    }

    /// Forgets `host`: in the first of the files and, if it names one, by its helper.
    ///
    /// # Errors
    /// [`CredentialsError`], when a file cannot be read or changed, or the helper fails.
    pub async fn forget(&self, host: &str) -> Result<Forgotten, CredentialsError> {
        let mut forgotten = Forgotten::default();
        for (place_in_order, path) in self.files.iter().enumerate() {
            let Some(file) = ConfigFile::read(path).await? else { continue };
            let in_file = candidate_keys(host, "").iter().any(|key| file.has(key));
            if place_in_order > 0 {
                forgotten.still_in.extend(in_file.then(|| path.clone()));
                continue;
            }
            if let (key, Some(helper)) = place(&file, host) {
                forgotten.was_known |= helper::get(helper, &key).await?.is_some();
                helper::erase(helper, &key).await?;
            }
            let host = host.to_owned();
            forgotten.was_known |= change(path, move |auths| remove(auths, &host)).await?;
        }
        Ok(forgotten)
    }
}

/// The name under which `host` is kept, and the helper that does it.
fn place<'f>(file: &'f ConfigFile, host: &str) -> (String, Option<&'f str>) {
    let own = candidate_keys(host, "").into_iter().find_map(|key| {
        let helper = file.helper(&key)?;
        Some((key, helper))
    });
    match own {
        Some((key, helper)) => (key, Some(helper)),
        None => (key_of(host).to_owned(), file.store()),
    }
}

/// What `docker login` writes.
fn entry(username: &str, credential: &Credential) -> Value {
    let auth =
        |password: &str| data_encoding::BASE64.encode(format!("{username}:{password}").as_bytes());
    match credential {
        Credential::Basic { password, .. } => json!({ "auth": auth(password) }),
        Credential::IdentityToken(token) => json!({ "auth": auth(""), "identitytoken": token }),
    }
}

/// Removes `host` by whatever name; whether it was there.
fn remove(auths: &mut Map<String, Value>, host: &str) -> bool {
    let mut was_there = false;
    for key in candidate_keys(host, "") {
        was_there |= auths.remove(&key).is_some();
    }
    was_there
}

/// Changes `auths` in the file at `path`, and gives what `change` gives. Nothing is written if nothing
/// changes.
async fn change<T: Send + 'static>(
    path: &Path,
    change: impl FnOnce(&mut Map<String, Value>) -> T + Send + 'static,
) -> Result<T, CredentialsError> {
    let path = path.to_owned();
    let changed = tokio::task::spawn_blocking(move || change_now(&path, change));
    changed.await.expect("a change does not panic")
}

fn change_now<T>(
    path: &Path,
    change: impl FnOnce(&mut Map<String, Value>) -> T,
) -> Result<T, CredentialsError> {
    let failed = |source| CredentialsError::Write { path: path.to_owned(), source };
    let target = target(path);
    let directory = directory(&target).map_err(failed)?;
    // Two logins at once: each finds what the other wrote. Some network file systems cannot lock a directory;
    // the file is whole all the same.
    let lock = File::open(&directory).map_err(failed)?;
    let _ = lock.lock();
    let text = read(&target)?.unwrap_or_else(|| b"{}".to_vec());
    let parsed: Result<Map<String, Value>, _> = serde_json::from_slice(&text);
    let unusable = |source| CredentialsError::Parse { path: path.to_owned(), source };
    let mut document = parsed.map_err(unusable)?;
    let auths = document.get("auths").cloned().unwrap_or_default();
    let auths: Option<Map<String, Value>> = serde_json::from_value(auths).map_err(unusable)?;
    let mut auths = auths.unwrap_or_default();
    let before = auths.clone();
    let result = change(&mut auths);
    if auths != before {
        document.insert("auths".to_owned(), auths.into());
        replace(&target, &directory, &document).map_err(failed)?;
    }
    Ok(result)
}

/// The file itself, where `path` is a link.
fn target(path: &Path) -> PathBuf {
    let linked = || Some(path.parent()?.join(path.read_link().ok()?));
    path.canonicalize().ok().or_else(linked).unwrap_or_else(|| path.to_owned())
}

/// The directory of the file, which nobody else may look into if it has to be made.
fn directory(target: &Path) -> io::Result<PathBuf> {
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = parent.unwrap_or(Path::new(".")).to_owned();
    DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    Ok(directory)
}

/// Puts the document into the file's place, for the same owner, who alone may read it.
fn replace(target: &Path, directory: &Path, document: &Map<String, Value>) -> io::Result<()> {
    let mut new = tempfile::Builder::new().prefix(".config.json-").tempfile_in(directory)?;
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(new.as_file_mut(), indent);
    serde::Serialize::serialize(document, &mut serializer)?;
    new.write_all(b"\n")?;
    if let Ok(old) = target.metadata() {
        let ours = new.as_file().metadata()?;
        if (old.uid(), old.gid()) != (ours.uid(), ours.gid()) {
            fchown(new.as_file(), Some(old.uid()), Some(old.gid()))?;
        }
    }
    new.as_file().sync_all()?;
    new.persist(target).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}
