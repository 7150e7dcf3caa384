//! `ExecOp`: from an op and its inputs to a process in a sandbox.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use cache::{CacheMount, NewLayer};
use executor::{HostAddress, Network, Process, Root, Security};
use llb::encode::Encoder;
use llb::{ExecOp, NetworkMode, SecurityMode};
use oci::Digest;

use crate::error::BuildError;
use crate::layer::Rootfs;
use crate::machine::Machine;
use crate::request::{Secret, SecretSource};
use crate::step::mounts::{Mounting, Mounts};
use crate::tree::{self, TreeError, View};

/// Largest secret, in bytes.
const SECRET_MAX: u64 = 1 << 20;

/// A process ready to start, and what must outlive it.
pub(crate) struct Prepared {
    pub(crate) process: Process,
    /// New layers by output number: what the process writes to the mounts that name an output.
    pub(crate) outputs: BTreeMap<usize, NewLayer>,
    /// Directories for writes that nobody keeps, removed when dropped.
    pub(crate) scratch: Vec<NewLayer>,
    /// Cache mounts held for as long as the process runs.
    pub(crate) cache_mounts: Vec<CacheMount>,
}

/// What the request grants and hands to processes.
pub(crate) struct Surroundings<'a> {
    pub(crate) machine: &'a Arc<Machine>,
    pub(crate) store: &'a cache::Store,
    /// Limits by control group.
    pub(crate) limits: &'a executor::Limits,
    /// Digests of the op's inputs.
    pub(crate) inputs: &'a [oci::Digest],
    pub(crate) secrets: &'a [Secret],
    /// What the root is to have beneath its layers: see [`crate::step::mount_points`].
    pub(crate) mount_points: Option<&'a Path>,
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
    let Mounts { root, readonly_root, mounts, outputs, scratch, cache_mounts } =
        mounting.finish()?;
    let process = Process {
        mounts,
        readonly_root,
        env: environment(op, surroundings.secrets)?,
        extra_hosts: extra_hosts(op)?,
        limits: surroundings.limits.clone(),
        ..process(op, root)
    };
    Ok(Prepared { process, outputs, scratch, cache_mounts })
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

fn environment(op: &ExecOp, secrets: &[Secret]) -> Result<Vec<(String, String)>, BuildError> {
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
        if let Some(value) = secret(secrets, &wanted.id, wanted.optional)? {
            let value = String::from_utf8(value).map_err(|_| {
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

/// A secret's value; `None` if it is not given and need not be.
pub(super) fn secret(
    secrets: &[Secret],
    id: &str,
    optional: bool,
) -> Result<Option<Vec<u8>>, BuildError> {
    let Some(secret) = secrets.iter().find(|s| s.id == id) else {
        if optional {
            return Ok(None);
        }
        let hint =
            format!("give it with `--secret id={id},src=FILE` or `--secret id={id},env=NAME`");
        return Err(BuildError::refused(format!("secret {id}: not found")).with_hint(hint));
    };
    let failed = |why: &dyn std::fmt::Display| BuildError::Input {
        message: format!("failed to read secret `{id}`: {why}"),
        hint: None,
    };
    match &secret.source {
        SecretSource::Env(name) => {
            let value =
                std::env::var_os(name).ok_or_else(|| failed(&format!("`{name}` is not set")))?;
            Ok(Some(std::os::unix::ffi::OsStringExt::into_vec(value)))
        }
        SecretSource::File(path) => {
            let file = File::open(path).map_err(|e| failed(&e))?;
            let mut content = Vec::new();
            file.take(SECRET_MAX + 1).read_to_end(&mut content).map_err(|e| failed(&e))?;
            if content.len() as u64 > SECRET_MAX {
                return Err(failed(&"it is larger than 1 MiB"));
            }
            Ok(Some(content))
        }
    }
}

/// Digest of what an op's read-only mounts show of one of its inputs.
pub(crate) fn bind_digest(op: &ExecOp, input: usize, view: &View) -> Result<Digest, TreeError> {
    let mut encoder = Encoder::new("binds");
    for mount in op.mounts.iter().filter(|m| m.input == Some(input)) {
        let digest = tree::bind_digest(view, &mount.selector)?;
        encoder.text(&mount.selector).text(digest.as_str());
    }
    Ok(encoder.finish())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use llb::SecretEnv;

    use super::*;

    fn given(id: &str, path: &Path) -> Secret {
        Secret { id: id.to_owned(), source: SecretSource::File(path.to_owned()) }
    }

    /// The environment in one line, or the error.
    fn shown(
        env: &[&str],
        proxies: &[(&str, &str)],
        wanted: &[(&str, bool)],
        secrets: &[Secret],
    ) -> String {
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
        match environment(&op, secrets) {
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
        }
    }

    #[test]
    fn the_environment_is_the_steps_then_proxies_then_secrets() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let secrets = [
            given("good", &file("good", b"value\n")),
            given("bytes", &file("bytes", &[0xff])),
            given("large", &file("large", &vec![b'x'; SECRET_MAX as usize + 1])),
            given("gone", &directory.path().join("gone")),
            Secret {
                id: "unset".to_owned(),
                source: SecretSource::Env("NO_SUCH_VARIABLE".to_owned()),
            },
        ];
        let gone = "error: failed to read secret `gone`: No such file or directory (os error 2)";
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
            (&[], &[], &[("gone", true)], gone),
            (
                &[],
                &[],
                &[("unset", true)],
                "error: failed to read secret `unset`: `NO_SUCH_VARIABLE` is not set",
            ),
        ] {
            assert_eq!(shown(env, proxies, wanted, &secrets), expected);
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
