//! Programs that keep images of their own: dockerd and Podman's service, which take them over Docker's API,
//! and containerd, which takes them from its own `ctr`.

mod docker_context;
mod load;
mod program;
mod response;

use std::fmt;
use std::path::{Path, PathBuf};

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
    /// A host and port, with TLS.
    Tls {
        /// `HOST:PORT`
        host: String,
        /// The directory with `ca.pem`, and perhaps `cert.pem` and `key.pem` to show.
        certificates: PathBuf,
    },
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
            None => docker_context::current(environment)?,
        };
        match context.as_deref() {
            None | Some("default") => Ok(Self::of_machine(environment)),
            Some(name) => docker_context::engine(name, environment).map(Some),
        }
    }

    /// That of an `address` in the variable `place`. Who wants TLS does not get a connection without.
    fn of_variables(
        address: &str,
        place: &str,
        environment: &Environment,
    ) -> Result<Self, UsageError> {
        let is_set = |name: &str| environment.text(name).is_some_and(|value| !value.is_empty());
        match Self::parse(address, place)? {
            Self::Tcp(host) if is_set("DOCKER_TLS_VERIFY") => {
                let certificates = environment.path("DOCKER_CERT_PATH");
                let certificates = certificates.or_else(|| docker_context::directory(environment));
                let missing = || UsageError::new("DOCKER_TLS_VERIFY wants DOCKER_CERT_PATH");
                Self::tls(host, &certificates.ok_or_else(missing)?)
            }
            Self::Tcp(_) if is_set("DOCKER_TLS") => Err(unverified(address, "DOCKER_TLS")),
            engine => Ok(engine),
        }
    }

    fn tls(host: String, certificates: &Path) -> Result<Self, UsageError> {
        match std::path::absolute(certificates) {
            Ok(certificates) => Ok(Self::Tls { host, certificates }),
            Err(error) => Err(UsageError::new(format!("`{}`: {error}", certificates.display()))),
        }
    }

    /// That of one of Docker's contexts.
    pub fn of_context(name: &str, environment: &Environment) -> Result<Self, UsageError> {
        if name == "default" {
            let none = || UsageError::new("Docker's context `default`: no engine listens here");
            return Self::of_machine(environment).ok_or_else(none);
        }
        docker_context::engine(name, environment)
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
            Some(("tcp" | "http", host)) => {
                tcp(host).ok_or_else(|| invalid("want tcp://HOST:PORT[?certificates=/PATH]"))
            }
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
            Self::Tls { host, certificates } => {
                write!(f, "tcp://{host}?certificates={}", certificates.display())
            }
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

/// Who wants TLS wants to know whom it is with.
fn unverified(address: &str, place: &str) -> UsageError {
    UsageError::new(format!("{place}: images are not loaded into `{address}` without verifying it"))
        .with_hint("want `ca.pem` in DOCKER_CERT_PATH, and DOCKER_TLS_VERIFY=1")
}

/// `HOST:PORT[?certificates=/PATH]`
fn tcp(text: &str) -> Option<ImageEngine> {
    let (host, query) = match text.split_once('?') {
        Some((host, query)) => (host, Some(query)),
        None => (text, None),
    };
    let host = host.trim_end_matches('/').to_owned();
    let Some(query) = query else { return Some(ImageEngine::Tcp(host)) };
    let certificates = query.strip_prefix("certificates=").filter(|path| path.starts_with('/'))?;
    Some(ImageEngine::Tls { host, certificates: certificates.into() })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_docker_and_containerds() {
        for (address, expected) in [
            ("unix:///run/x.sock", Some("unix:///run/x.sock")),
            ("tcp://host:2375/", Some("tcp://host:2375")),
            ("tcp://host:2376?certificates=/a?b", Some("tcp://host:2376?certificates=/a?b")),
            ("tcp://host:2376?certificates=a", None),
            ("tcp://host:2376?tls=1", None),
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
