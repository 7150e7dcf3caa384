//! Docker's contexts: where an engine is, by a name, in files of Docker's.

use std::fmt;
use std::io;
use std::path::PathBuf;

use oci::Digest;
use serde::Deserialize;

use super::{CHOICE, ImageEngine, unverified};
use crate::environment::Environment;
use crate::error::UsageError;

/// Where Docker's own files are.
pub(super) fn directory(environment: &Environment) -> Option<PathBuf> {
    environment.home("DOCKER_CONFIG", ".docker")
}

/// What Docker's own file says of the context in use.
pub(super) fn current(environment: &Environment) -> Result<Option<String>, UsageError> {
    let Some(directory) = directory(environment) else { return Ok(None) };
    let path = directory.join("config.json");
    let invalid = |error: &dyn fmt::Display| {
        UsageError::new(format!("`{}` does not say Docker's context: {error}", path.display()))
            .with_hint(format!("{CHOICE}=store keeps images in the store"))
    };
    let text = match crate::docker_config::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(invalid(&error)),
    };
    if text.is_empty() {
        return Ok(None);
    }
    let config: Config = serde_json::from_slice(&text).map_err(|error| invalid(&error))?;
    Ok(config.current_context.filter(|name| !name.is_empty()))
}

/// The engine of the context `name`. Where Docker has certificates for it, they count.
pub(super) fn engine(name: &str, environment: &Environment) -> Result<ImageEngine, UsageError> {
    let invalid = |why: &str| {
        UsageError::new(format!("Docker's context `{name}`: {why}"))
            .with_hint("`docker context ls` shows what there is")
    };
    let directory = directory(environment).ok_or_else(|| invalid("there is no HOME"))?;
    let folder = Digest::of(name.as_bytes());
    let path = directory.join("contexts/meta").join(folder.hex()).join("meta.json");
    let text = match crate::docker_config::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(invalid("it does not exist"));
        }
        Err(error) => return Err(invalid(&format!("`{}`: {error}", path.display()))),
    };
    let context: Context = serde_json::from_slice(&text)
        .map_err(|error| invalid(&format!("`{}`: {error}", path.display())))?;
    let Endpoint { host, skip_tls_verify } = context.endpoints.docker;
    let place = format!("Docker's context `{name}`");
    let certificates = directory.join("contexts/tls").join(folder.hex()).join("docker");
    match ImageEngine::parse(&host, &place)? {
        ImageEngine::Tcp(_) if skip_tls_verify => Err(unverified(&host, &place)),
        ImageEngine::Tcp(host) if certificates.exists() => ImageEngine::tls(host, &certificates),
        engine => Ok(engine),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    current_context: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Context {
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: Endpoint,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Endpoint {
    host: String,
    #[serde(rename = "SkipTLSVerify", default)]
    skip_tls_verify: bool,
}
