//! Programs that keep images of their own and take them over Docker's API: dockerd, and Podman's service.

mod load;
mod response;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use oci::Digest;
use serde::Deserialize;

pub use load::Loading;

use crate::environment::Environment;
use crate::error::UsageError;

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageEngine {
    /// A socket on this machine.
    Unix(PathBuf),
    /// A host and port, without TLS.
    Tcp(String),
}

/// Says which engine `--load` gives images to, where it is set: `store` for none.
const CHOICE: &str = "MYBUILD_LOAD";

impl ImageEngine {
    /// The engine that there is: what `$MYBUILD_LOAD` names, else Docker's as its own programs find it, else
    /// the first socket of the machine.
    pub fn find(environment: &Environment) -> Result<Option<Self>, UsageError> {
        match environment.text(CHOICE).filter(|choice| !choice.is_empty()) {
            Some("store") => return Ok(None),
            Some(address) => return Self::parse(address, CHOICE).map(Some),
            None => {}
        }
        if let Some(address) = environment.text("DOCKER_HOST").filter(|host| !host.is_empty()) {
            return Self::parse(address, "DOCKER_HOST").map(Some);
        }
        let context = environment.text("DOCKER_CONTEXT").filter(|name| !name.is_empty());
        let context = match context {
            Some(name) => Some(name.to_owned()),
            None => current_context(environment)?,
        };
        match context.as_deref() {
            None | Some("default") => Ok(Self::of_machine(environment)),
            Some(name) => Self::of_context(name, environment).map(Some),
        }
    }

    /// That of one of Docker's contexts.
    pub fn of_context(name: &str, environment: &Environment) -> Result<Self, UsageError> {
        if name == "default" {
            let none = || UsageError::new("Docker's context `default`: no engine listens here");
            return Self::of_machine(environment).ok_or_else(none);
        }
        let invalid = |why: &str| {
            UsageError::new(format!("Docker's context `{name}`: {why}"))
                .with_hint("`docker context ls` shows what there is")
        };
        let directory = docker_directory(environment).ok_or_else(|| invalid("there is no HOME"))?;
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
        Self::parse(&context.endpoints.docker.host, &format!("Docker's context `{name}`"))
    }

    /// The first of the sockets where engines listen.
    fn of_machine(environment: &Environment) -> Option<Self> {
        environment.engine_sockets.iter().find(|path| path.exists()).cloned().map(Self::Unix)
    }

    /// Reads an address as `DOCKER_HOST` has it; `place` is where it stands.
    fn parse(address: &str, place: &str) -> Result<Self, UsageError> {
        let invalid = |hint: &str| {
            UsageError::new(format!("{place}: images cannot be loaded into `{address}`"))
                .with_hint(hint.to_owned())
        };
        match address.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("tcp" | "http", host)) => Ok(Self::Tcp(host.trim_end_matches('/').to_owned())),
            _ => Err(invalid(
                "want unix:///PATH or tcp://HOST:PORT; `mybuild save` writes an archive for others",
            )),
        }
    }
}

impl fmt::Display for ImageEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(host) => write!(f, "tcp://{host}"),
        }
    }
}

impl std::str::FromStr for ImageEngine {
    type Err = UsageError;

    fn from_str(address: &str) -> Result<Self, UsageError> {
        Self::parse(address, "--load")
    }
}

/// What Docker's own file says of the context in use.
fn current_context(environment: &Environment) -> Result<Option<String>, UsageError> {
    let Some(directory) = docker_directory(environment) else { return Ok(None) };
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

fn docker_directory(environment: &Environment) -> Option<PathBuf> {
    let home = || environment.path("HOME").map(|home| home.join(Path::new(".docker")));
    environment.path("DOCKER_CONFIG").or_else(home)
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
}
