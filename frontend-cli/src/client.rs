//! The command line as the engine's client: its files, variables and secrets.

use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::{
    Client, ClientError, Credentials, Destination, NewFile, SECRET_MAX, TarSource, Target,
};

use crate::environment::Environment;
use crate::error::UsageError;
use crate::image_engine::{self, ImageEngine};
use crate::ssh::Agent;

/// What was named on the command line for the engine to ask for.
#[derive(Debug, Clone, Default)]
pub struct CommandLine {
    /// `--secret`
    pub secrets: Vec<Secret>,
    /// `--ssh`
    pub agents: Vec<Agent>,
    /// The archive that has come on standard input, if that was read.
    pub standard_input: Option<Arc<File>>,
    /// Files with the keys of SSH hosts, if they are there.
    pub known_hosts: Vec<PathBuf>,
    /// For registries.
    pub credentials: Credentials,
}

/// The largest file with keys of hosts, in bytes.
const KNOWN_HOSTS_MAX: u64 = 16 << 20;

/// The files of the machine.
const KNOWN_HOSTS: [&str; 2] = ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"];

impl CommandLine {
    /// With the user's files of credentials: `$REGISTRY_AUTH_FILE`, `$DOCKER_CONFIG/config.json` (or that in
    /// `~/.docker`), `$XDG_RUNTIME_DIR/containers/auth.json`.
    pub fn new(environment: &Environment) -> Self {
        let docker = environment.home("DOCKER_CONFIG", ".docker");
        let runtime = environment.path("XDG_RUNTIME_DIR");
        let files = [
            environment.path("REGISTRY_AUTH_FILE"),
            docker.map(|directory| directory.join("config.json")),
            runtime.map(|directory| directory.join("containers/auth.json")),
        ];
        let credentials = Credentials::from_files(files.into_iter().flatten().collect());
        let ssh = environment.path("HOME").map(|home| home.join(".ssh"));
        let own =
            ssh.into_iter().flat_map(|ssh| ["known_hosts", "known_hosts2"].map(|n| ssh.join(n)));
        let known_hosts = own.chain(KNOWN_HOSTS.map(PathBuf::from)).collect();
        Self { credentials, known_hosts, ..Self::default() }
    }
}

/// `--secret id=…`
#[derive(Debug, Clone)]
pub struct Secret {
    /// The name that mounts ask for.
    pub id: String,
    /// Where the value is.
    pub source: SecretSource,
}

/// Where a secret's value is. It is read when a step asks for it.
#[derive(Debug, Clone)]
pub enum SecretSource {
    /// In a file.
    File(PathBuf),
    /// In an environment variable.
    Env(String),
}

impl Client for CommandLine {
    fn secret(&self, id: &str) -> Result<Option<engine::Secret>, ClientError> {
        match self.secrets.iter().find(|secret| secret.id == id) {
            Some(secret) => secret.read().map(Some),
            None => Ok(None),
        }
    }

    fn ssh_agent(&self, id: &str) -> Result<Option<UnixStream>, ClientError> {
        self.agents.iter().find(|agent| agent.id() == id).map(Agent::connect).transpose()
    }

    fn known_hosts(&self) -> Result<Vec<u8>, ClientError> {
        let mut hosts = Vec::new();
        for path in &self.known_hosts {
            let failed = || format!("failed to read `{}`", path.display());
            match File::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(ClientError::io(failed(), error)),
                Ok(file) => {
                    file.take(KNOWN_HOSTS_MAX)
                        .read_to_end(&mut hosts)
                        .map_err(|error| ClientError::io(failed(), error))?;
                    hosts.push(b'\n');
                }
            }
        }
        Ok(hosts)
    }

    fn credentials(&self) -> Credentials {
        self.credentials.clone()
    }

    /// The working directory is the engine's, too.
    fn directory(&self, name: &Path) -> Result<PathBuf, ClientError> {
        Ok(name.to_owned())
    }

    fn archive(&self, archive: &TarSource) -> Result<Box<dyn Read + Send>, ClientError> {
        let failed = |error| ClientError::io(format!("failed to open {archive}"), error);
        match (archive, &self.standard_input) {
            (TarSource::Path(path), _) => Ok(Box::new(File::open(path).map_err(failed)?)),
            (TarSource::Stdin, None) => Ok(Box::new(std::io::stdin())),
            (TarSource::Stdin, Some(kept)) => {
                let mut file = kept.try_clone().map_err(failed)?;
                file.rewind().map_err(failed)?;
                Ok(Box::new(file))
            }
        }
    }

    fn output(&self, dest: &Destination) -> Result<Target, ClientError> {
        match dest {
            Destination::Stdout => Ok(Target::Stream(Box::new(std::io::stdout()))),
            Destination::Engine(address) => self.load(address),
            Destination::Path(path) => NewFile::create(path).map(Target::File).map_err(|error| {
                ClientError::io(format!("failed to write `{}`", path.display()), error)
            }),
        }
    }

    fn output_directory(&self, dest: &Path) -> Result<PathBuf, ClientError> {
        Ok(dest.to_owned())
    }
}

impl CommandLine {
    /// Begins to load an archive into the engine at `address`.
    fn load(&self, address: &str) -> Result<Target, ClientError> {
        let engine: ImageEngine =
            address.parse().map_err(|error: UsageError| ClientError::new(error.message))?;
        match image_engine::begin(&engine) {
            Ok(loading) => Ok(Target::Load(loading)),
            Err(source) => Err(ClientError {
                message: format!("failed to reach the engine at `{address}`"),
                hint: Some("MYBUILD_LOAD=store keeps images in the store alone".to_owned()),
                source: Some(source),
            }),
        }
    }
}

impl Secret {
    fn read(&self) -> Result<engine::Secret, ClientError> {
        let failed = format!("failed to read secret `{}`", self.id);
        let bytes = match &self.source {
            SecretSource::Env(name) => std::env::var_os(name)
                .map(OsStringExt::into_vec)
                .ok_or_else(|| ClientError::new(format!("{failed}: `{name}` is not set")))?,
            SecretSource::File(path) => {
                let mut bytes = Vec::new();
                File::open(path)
                    .and_then(|file| file.take(SECRET_MAX + 1).read_to_end(&mut bytes))
                    .map_err(|error| ClientError::io(failed, error))?;
                bytes
            }
        };
        Ok(engine::Secret(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_what_its_file_or_variable_holds() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            SecretSource::File(path)
        };
        let large = vec![b'x'; SECRET_MAX as usize + 10];
        for (source, expected) in [
            (file("good", b"value\n"), Ok(6)),
            (file("large", &large), Ok(SECRET_MAX as usize + 1)),
            (
                SecretSource::File(directory.path().join("gone")),
                Err("failed to read secret `id`: No such file or directory (os error 2)"),
            ),
            (
                SecretSource::Env("NO_SUCH_VARIABLE".to_owned()),
                Err("failed to read secret `id`: `NO_SUCH_VARIABLE` is not set"),
            ),
        ] {
            let secrets = vec![Secret { id: "id".to_owned(), source }];
            let client = CommandLine { secrets, ..CommandLine::default() };
            assert_eq!(client.secret("other").unwrap(), None);
            let read = client.secret("id").map(|secret| secret.expect("it is given").0.len());
            let read = read.map_err(|error| engine::Fault::of(error).text());
            assert_eq!(read, expected.map_err(str::to_owned));
        }
    }
}
