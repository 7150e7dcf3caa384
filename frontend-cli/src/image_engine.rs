//! Programs that keep images of their own: dockerd and Podman's service, which take them over Docker's API,
//! and containerd, which takes them from its own `ctr`.

mod load;
mod program;
mod response;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use oci::Digest;
use serde::Deserialize;

pub use load::begin;

use crate::environment::Environment;
use crate::error::UsageError;

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageEngine {
    /// A socket on this machine.
    Unix(PathBuf),
    /// A host and port, without TLS.
    Tcp(String),
    /// A host that `ssh` leads to.
    Ssh {
        /// `[USER@]HOST`
        destination: String,
        /// Its port; `None` for what ssh says.
        port: Option<u16>,
    },
    /// containerd, on this machine.
    Containerd {
        /// Where it listens.
        socket: PathBuf,
        /// Its namespace that the image is for.
        namespace: String,
    },
}

/// Where containerd listens, and its namespace, if nothing else is said.
const CONTAINERD: &str = "/run/containerd/containerd.sock";
const NAMESPACE: &str = "default";
/// Variables that ask for TLS.
const TLS: [&str; 2] = ["DOCKER_TLS_VERIFY", "DOCKER_TLS"];

/// Says which engine `--load` gives images to, where it is set: `store` for none.
const CHOICE: &str = "MYBUILD_LOAD";

impl ImageEngine {
    /// The engine that there is: what `$MYBUILD_LOAD` names, else Docker's as its own programs find it, else
    /// the first socket of the machine.
    pub fn find(environment: &Environment) -> Result<Option<Self>, UsageError> {
        match environment.text(CHOICE).filter(|choice| !choice.is_empty()) {
            Some("store") => return Ok(None),
            Some(address) => return Self::of_variables(address, CHOICE, environment).map(Some),
            None => {}
        }
        if let Some(address) = environment.text("DOCKER_HOST").filter(|host| !host.is_empty()) {
            return Self::of_variables(address, "DOCKER_HOST", environment).map(Some);
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

    /// That of an `address` in the variable `place`. Who wants TLS does not get a connection without.
    fn of_variables(
        address: &str,
        place: &str,
        environment: &Environment,
    ) -> Result<Self, UsageError> {
        let is_set = |name: &&&str| environment.text(name).is_some_and(|value| !value.is_empty());
        match (Self::parse(address, place)?, TLS.iter().find(is_set)) {
            (Self::Tcp(_), Some(variable)) => Err(no_tls(address, variable)),
            (engine, _) => Ok(engine),
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
        let place = format!("Docker's context `{name}`");
        match Self::parse(&context.endpoints.docker.host, &place)? {
            Self::Tcp(host) if directory.join("contexts/tls").join(folder.hex()).exists() => {
                Err(no_tls(&host, &place))
            }
            engine => Ok(engine),
        }
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
            Some(("ssh", host)) => {
                ssh(host).ok_or_else(|| invalid("want ssh://[USER@]HOST[:PORT]"))
            }
            Some(("containerd", rest)) => containerd(rest)
                .ok_or_else(|| invalid("want containerd://[/PATH][?namespace=NAME]")),
            _ => Err(invalid(
                "want unix:///PATH, tcp://HOST:PORT, ssh://[USER@]HOST[:PORT] or containerd://; \
                 `mybuild save` writes an archive for others",
            )),
        }
    }
}

impl fmt::Display for ImageEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(host) => write!(f, "tcp://{host}"),
            Self::Ssh { destination, port: None } => write!(f, "ssh://{destination}"),
            Self::Ssh { destination, port: Some(port) } => write!(f, "ssh://{destination}:{port}"),
            Self::Containerd { socket, namespace } => {
                write!(f, "containerd://{}?namespace={namespace}", socket.display())
            }
        }
    }
}

impl std::str::FromStr for ImageEngine {
    type Err = UsageError;

    fn from_str(address: &str) -> Result<Self, UsageError> {
        Self::parse(address, "--load")
    }
}

fn no_tls(address: &str, place: &str) -> UsageError {
    UsageError::new(format!("{place}: images are not loaded into `{address}` with TLS"))
        .with_hint("ssh://[USER@]HOST leads to an engine elsewhere")
}

/// `[USER@]HOST[:PORT]`. Nothing of it can be taken for a flag, or for more than one word.
fn ssh(text: &str) -> Option<ImageEngine> {
    let text = text.trim_end_matches('/');
    let (destination, port) = match text.rsplit_once(':') {
        Some((destination, port)) => (destination, Some(port.parse().ok()?)),
        None => (text, None),
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.-@".contains(c);
    let is_name = !destination.is_empty() && destination.chars().all(is_plain);
    let destination = Some(destination.to_owned()).filter(|_| is_name)?;
    let starts_well =
        |part: &str| part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    destination.split('@').all(starts_well).then_some(ImageEngine::Ssh { destination, port })
}

/// `[/PATH][?namespace=NAME]`
fn containerd(text: &str) -> Option<ImageEngine> {
    let (path, namespace) = match text.split_once('?') {
        Some((path, query)) => (path, query.strip_prefix("namespace=")?),
        None => (text, NAMESPACE),
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let is_name = namespace.starts_with(|c: char| c.is_ascii_alphanumeric())
        && namespace.chars().all(is_plain);
    let socket = match path {
        "" | "/" => CONTAINERD,
        path if path.starts_with('/') => path,
        _ => return None,
    };
    is_name
        .then(|| ImageEngine::Containerd { socket: socket.into(), namespace: namespace.to_owned() })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_docker_and_containerds() {
        for (address, expected) in [
            ("unix:///run/x.sock", Some("unix:///run/x.sock")),
            ("tcp://host:2375/", Some("tcp://host:2375")),
            ("ssh://host", Some("ssh://host")),
            ("ssh://me@host.example:2222/", Some("ssh://me@host.example:2222")),
            ("ssh://-oProxyCommand=x", None),
            ("ssh://me@-x", None),
            ("ssh://host:port", None),
            ("ssh://a b", None),
            ("ssh://", None),
            (
                "containerd://",
                Some("containerd:///run/containerd/containerd.sock?namespace=default"),
            ),
            (
                "containerd:///x.sock?namespace=k8s.io",
                Some("containerd:///x.sock?namespace=k8s.io"),
            ),
            ("containerd:///x.sock?other=1", None),
            ("containerd:///x.sock?namespace=-x", None),
            ("containerd://x.sock", None),
            ("unix://x.sock", None),
            ("npipe:////./pipe/docker_engine", None),
            ("host:2375", None),
        ] {
            let parsed = ImageEngine::parse(address, "X").ok().map(|engine| engine.to_string());
            assert_eq!(parsed.as_deref(), expected, "{address}");
        }
    }
}
