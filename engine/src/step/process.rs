//! `ExecOp`: from an op and its inputs to a process in a sandbox.

use std::collections::BTreeMap;

use cache::{CacheMount, NewLayer};
use executor::{Environment, HostAddress, Network, Process, Root, Security};
use llb::encode::Encoder;
use llb::{ExecOp, NetworkMode, SecurityMode};
use oci::Digest;

use crate::agent::AgentSocket;
use crate::cdi;
use crate::client::Client;
use crate::error::BuildError;
use crate::layer::Rootfs;
use crate::step::mounts::{Mounting, Mounts};
use crate::step::secret::secret;
use crate::step::surroundings::Surroundings;
use crate::tree::{self, TreeError, View};

/// A process ready to start, and what must outlive it.
pub(crate) struct Prepared {
    pub(crate) process: Process,
    /// New layers by output number: what the process writes to the mounts that name an output.
    pub(crate) outputs: BTreeMap<usize, NewLayer>,
    /// Directories for writes that nobody keeps, removed when dropped.
    pub(crate) scratch: Vec<NewLayer>,
    /// Cache mounts held for as long as the process runs.
    pub(crate) cache_mounts: Vec<CacheMount>,
    /// Sockets that answer for as long as the process runs.
    pub(crate) agents: Vec<AgentSocket>,
}

impl Prepared {
    /// With programs that are built for `architecture`, empty for the machine's own.
    pub(crate) fn for_architecture(self, architecture: String) -> Self {
        Self { process: Process { architecture, ..self.process }, ..self }
    }
}

/// Builds the process. `trees` are the op's inputs.
pub(crate) fn prepare(
    op: &ExecOp,
    trees: &BTreeMap<usize, Rootfs>,
    surroundings: &Surroundings<'_>,
    cancelled: &dyn Fn() -> bool,
) -> Result<Prepared, BuildError> {
    let mut mounting = Mounting::new(trees, surroundings, cancelled);
    for mount in &op.mounts {
        mounting.add(mount)?;
    }
    let Mounts { root, readonly_root, mounts, outputs, scratch, cache_mounts, agents } =
        mounting.finish()?;
    let mut process = Process {
        mounts,
        readonly_root,
        env: Environment(environment(op, surroundings.client.as_ref())?),
        extra_hosts: extra_hosts(op)?,
        limits: surroundings.limits.clone(),
        ..process(op, root)
    };
    cdi::edits(surroundings.machine.device_specs(), &op.devices)?.apply(&mut process);
    Ok(Prepared { process, outputs, scratch, cache_mounts, agents })
}

/// What the op itself says.
fn process(op: &ExecOp, root: Root) -> Process {
    let mut process = Process::new(root, op.args.iter().cloned());
    process.cwd = if op.cwd.is_empty() { "/".to_owned() } else { op.cwd.clone() };
    process.user = op.user.clone();
    process.network = match op.network {
        NetworkMode::Default => Network::Default,
        NetworkMode::Host => Network::Host,
        NetworkMode::None => Network::None,
    };
    process.security = match op.security {
        SecurityMode::Sandbox => Security::Sandbox,
        SecurityMode::Insecure => Security::Insecure,
    };
    if !op.hostname.is_empty() {
        process.hostname = op.hostname.clone();
    }
    process.rlimits = op
        .ulimits
        .iter()
        .map(|limit| executor::Rlimit {
            name: limit.name.clone(),
            soft: u64::try_from(limit.soft).ok(),
            hard: u64::try_from(limit.hard).ok(),
        })
        .collect();
    process.cgroup_parent = (!op.cgroup_parent.is_empty()).then(|| op.cgroup_parent.clone());
    process
}

fn environment(op: &ExecOp, client: &dyn Client) -> Result<Vec<(String, String)>, BuildError> {
    let split = |variable: &String| {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        (name.to_owned(), value.to_owned())
    };
    let mut environment: Vec<(String, String)> = op.env.iter().map(split).collect();
    for (name, value) in &op.proxy_env {
        if !environment.iter().any(|(known, _)| known == name) {
            environment.push((name.clone(), value.clone()));
        }
    }
    for wanted in &op.secret_env {
        if let Some(value) = secret(client, &wanted.id, wanted.optional)? {
            let value = String::from_utf8(value.0).map_err(|_| {
                BuildError::refused(format!(
                    "secret `{}` is not text, so it fits no variable",
                    wanted.id
                ))
            })?;
            environment.push((wanted.name.clone(), value));
        }
    }
    Ok(environment)
}

fn extra_hosts(op: &ExecOp) -> Result<Vec<(String, HostAddress)>, BuildError> {
    let parse = |(name, address): &(String, String)| {
        let parsed = address.parse().map_err(|_| {
            BuildError::refused(format!("`{address}` is not an IP address (for host `{name}`)"))
        })?;
        Ok((name.clone(), parsed))
    };
    op.extra_hosts.iter().map(parse).collect()
}

/// Digest of what an op's read-only mounts show of one of its inputs.
pub(crate) fn bind_digest(op: &ExecOp, input: usize, view: &View) -> Result<Digest, TreeError> {
    let mut encoder = Encoder::new("binds");
    for mount in op.mounts.iter().filter(|m| m.input == Some(input)) {
        encoder.text(tree::bind_digest(view, &mount.selector)?.as_str());
    }
    Ok(encoder.finish())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::net::UnixStream;
    use std::path::{Path, PathBuf};

    use executor::Secret;
    use llb::SecretEnv;

    use super::*;
    use crate::client::{ClientError, SECRET_MAX, Target};
    use crate::request::{Destination, TarSource};

    /// Has what its secrets' names say.
    struct Secrets;

    impl Client for Secrets {
        fn secret(&self, id: &str) -> Result<Option<Secret>, ClientError> {
            Ok(match id {
                "good" => Some(Secret(b"value\n".to_vec())),
                "bytes" => Some(Secret(vec![0xff])),
                "large" => Some(Secret(vec![b'x'; SECRET_MAX as usize + 1])),
                "gone" => return Err(ClientError::new("failed to read secret `gone`")),
                _ => None,
            })
        }

        fn known_hosts(&self) -> Result<Vec<u8>, ClientError> {
            unreachable!("no test of processes asks for it")
        }

        fn ssh_agent(&self, id: &str) -> Result<Option<UnixStream>, ClientError> {
            unreachable!("asked for {id}")
        }

        fn credentials(&self) -> registry::Credentials {
            unreachable!("no image is wanted")
        }

        fn directory(&self, name: &Path) -> Result<PathBuf, ClientError> {
            unreachable!("asked for {name:?}")
        }

        fn archive(
            &self,
            archive: &TarSource,
        ) -> Result<Box<dyn std::io::Read + Send>, ClientError> {
            unreachable!("asked for {archive}")
        }

        fn output(&self, dest: &Destination) -> Result<Target, ClientError> {
            unreachable!("asked for {dest:?}")
        }

        fn output_directory(&self, dest: &Path) -> Result<PathBuf, ClientError> {
            unreachable!("asked for {dest:?}")
        }
    }

    /// The environment in one line, or the error.
    fn shown(env: &[&str], proxies: &[(&str, &str)], wanted: &[(&str, bool)]) -> String {
        let op = ExecOp {
            env: env.iter().map(ToString::to_string).collect(),
            proxy_env: proxies
                .iter()
                .map(|(n, v)| (n.to_string(), v.to_string()))
                .collect::<BTreeMap<_, _>>(),
            secret_env: wanted
                .iter()
                .map(|(id, optional)| SecretEnv {
                    id: id.to_string(),
                    name: id.to_uppercase(),
                    optional: *optional,
                })
                .collect(),
            ..bare()
        };
        match environment(&op, &Secrets) {
            Ok(environment) => environment.iter().map(|(n, v)| format!("{n}={v} ")).collect(),
            Err(error) => format!("error: {error}"),
        }
    }

    fn bare() -> ExecOp {
        ExecOp {
            args: Vec::new(),
            env: Vec::new(),
            proxy_env: BTreeMap::new(),
            cwd: String::new(),
            user: String::new(),
            hostname: String::new(),
            mounts: Vec::new(),
            network: NetworkMode::Default,
            security: SecurityMode::Sandbox,
            extra_hosts: Vec::new(),
            secret_env: Vec::new(),
            ulimits: Vec::new(),
            cgroup_parent: String::new(),
            valid_exit_codes: Vec::new(),
            devices: Vec::new(),
        }
    }

    #[test]
    fn the_environment_is_the_steps_then_proxies_then_secrets() {
        for (env, proxies, wanted, expected) in [
            (&["A=1", "B", "C=x=y"][..], &[][..], &[][..], "A=1 B= C=x=y "),
            // What the Dockerfile sets counts.
            (
                &["http_proxy=mine"],
                &[("http_proxy", "theirs"), ("no_proxy", "n")],
                &[],
                "http_proxy=mine no_proxy=n ",
            ),
            (&[], &[], &[("good", false)], "GOOD=value\n "),
            (&[], &[], &[("other", true)], ""),
            (&[], &[], &[("other", false)], "error: secret other: not found"),
            (
                &[],
                &[],
                &[("bytes", true)],
                "error: secret `bytes` is not text, so it fits no variable",
            ),
            (
                &[],
                &[],
                &[("large", true)],
                "error: failed to read secret `large`: it is larger than 1 MiB",
            ),
            (&[], &[], &[("gone", true)], "error: failed to read secret `gone`"),
        ] {
            assert_eq!(shown(env, proxies, wanted), expected);
        }
    }

    #[test]
    fn hosts_need_addresses() {
        let op = |address: &str| ExecOp {
            extra_hosts: vec![("name".to_owned(), address.to_owned())],
            ..bare()
        };
        for (address, good) in
            [("10.0.0.1", true), ("::1", true), ("host-gateway", true), ("", false)]
        {
            assert_eq!(extra_hosts(&op(address)).is_ok(), good, "{address}");
        }
    }
}
