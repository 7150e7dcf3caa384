//! Processes.

use std::collections::BTreeMap;

use llb::{CacheSharing, ExecOp, MountKind, NetworkMode, SecurityMode};

use super::Reading;
use super::op_error::OpError;
use super::path::absolute;
use super::step::{Made, Output, Outputs, Step, Taken, Tree, number_outputs};
use crate::wire::pb;

/// `PATH` of a process that has none.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The agent of a mount that names none.
const USUAL_AGENT: &str = "default";
/// Where the memory is that processes share.
const SHARED_MEMORY: &str = "/dev/shm";

/// The step of a process for `os`, with the trees that its op was given.
pub(super) fn step(
    op: &pb::ExecOp,
    given: &[Tree],
    os: &str,
    reading: &Reading<'_>,
) -> Result<Made, OpError> {
    let meta = op.meta.as_ref().ok_or(OpError::Lacks { what: "process" })?;
    if meta.args.is_empty() {
        return Err(OpError::Lacks { what: "arguments" });
    }
    let cwd = absolute("/", &meta.cwd);
    let mut taken = Taken::of(given);
    let (mounts, outputs) = mounts(op, &cwd, &mut taken)?;
    let devices = op.cdi_devices.iter().map(|device| allowed_device(device, reading));
    let exec = ExecOp {
        args: meta.args.clone(),
        env: environment(&meta.env, os),
        proxy_env: meta.proxy_env.as_ref().map(proxies).unwrap_or_default(),
        cwd,
        user: meta.user.clone(),
        hostname: meta.hostname.clone(),
        mounts,
        network: network(op.network, reading)?,
        security: security(op.security, reading)?,
        extra_hosts: meta.extra_hosts.iter().map(|h| (h.host.clone(), h.ip.clone())).collect(),
        secret_env: op.secretenv.iter().map(secret_env).collect(),
        ulimits: meta.ulimit.iter().map(ulimit).collect(),
        cgroup_parent: meta.cgroup_parent.clone(),
        valid_exit_codes: meta.valid_exit_codes.clone(),
        devices: devices.collect::<Result<_, _>>()?,
    };
    Ok(Step { op: llb::Op::Exec(exec), inputs: taken.finish(), outputs }.into())
}

/// A process without a `PATH` gets the usual one, as in a Dockerfile.
fn environment(given: &[String], os: &str) -> Vec<String> {
    let has_path = given.iter().any(|variable| variable.starts_with("PATH="));
    let usual = (!has_path && os != "windows").then(|| DEFAULT_PATH.to_owned());
    usual.into_iter().chain(given.iter().cloned()).collect()
}

/// In both cases of letters: programs differ in which they read.
fn proxies(given: &pb::ProxyEnv) -> BTreeMap<String, String> {
    let named = [
        ("http_proxy", &given.http_proxy),
        ("https_proxy", &given.https_proxy),
        ("ftp_proxy", &given.ftp_proxy),
        ("no_proxy", &given.no_proxy),
        ("all_proxy", &given.all_proxy),
    ];
    let set = named.into_iter().filter(|(_, value)| !value.is_empty());
    set.flat_map(|(name, value)| {
        [name.to_owned(), name.to_ascii_uppercase()].map(|n| (n, value.clone()))
    })
    .collect()
}

fn secret_env(secret: &pb::SecretEnv) -> llb::SecretEnv {
    let pb::SecretEnv { id, name, optional } = secret.clone();
    llb::SecretEnv { id, name, optional }
}

fn ulimit(limit: &pb::Ulimit) -> llb::Rlimit {
    let pb::Ulimit { name, soft, hard } = limit.clone();
    llb::Rlimit { name, soft, hard }
}

fn network(number: i32, reading: &Reading<'_>) -> Result<NetworkMode, OpError> {
    match pb::NetMode::try_from(number) {
        Ok(pb::NetMode::Unset) => Ok(NetworkMode::Default),
        Ok(pb::NetMode::Host) => reading.allows("network.host").map(|()| NetworkMode::Host),
        Ok(pb::NetMode::None) => Ok(NetworkMode::None),
        Err(_) => Err(OpError::invalid("network mode", number)),
    }
}

fn security(number: i32, reading: &Reading<'_>) -> Result<SecurityMode, OpError> {
    match pb::SecurityMode::try_from(number) {
        Ok(pb::SecurityMode::Sandbox) => Ok(SecurityMode::Sandbox),
        Ok(pb::SecurityMode::Insecure) => {
            reading.allows("security.insecure").map(|()| SecurityMode::Insecure)
        }
        Err(_) => Err(OpError::invalid("security mode", number)),
    }
}

fn allowed_device(device: &pb::CdiDevice, reading: &Reading<'_>) -> Result<llb::Device, OpError> {
    let pb::CdiDevice { name, optional } = device.clone();
    let granted = |entitlement: &String| match entitlement.strip_prefix("device") {
        Some("") => true,
        Some(rest) => {
            rest.strip_prefix('=').is_some_and(|known| parser::device::covers(known, &name))
        }
        None => false,
    };
    match reading.entitlements.iter().any(granted) {
        true => Ok(llb::Device { name, optional }),
        false => Err(OpError::NotAllowed { entitlement: format!("device {name}") }),
    }
}

/// A mount of the client's, and where it is.
struct Placed<'m> {
    mount: &'m pb::Mount,
    kind: pb::MountType,
    dest: String,
}

impl<'m> Placed<'m> {
    fn of(mount: &'m pb::Mount, cwd: &str) -> Result<Self, OpError> {
        let kind = pb::MountType::try_from(mount.mount_type)
            .map_err(|_| OpError::invalid("mount type", mount.mount_type))?;
        if mount.dest.is_empty() {
            return Err(OpError::Lacks { what: "place for a mount" });
        }
        if !mount.result_id.is_empty() {
            return Err(OpError::not_supported("a mount of a result in an op is"));
        }
        if mount.content_cache != pb::MountContentCache::Default as i32 {
            return Err(OpError::not_supported("a mount that says how its content is cached is"));
        }
        Ok(Self { mount, kind, dest: absolute(cwd, &mount.dest) })
    }

    /// What is mounted inside another mount must come after it; secrets and sockets come last, as they were
    /// written. The order of a Dockerfile's mounts.
    fn order(&self) -> (u8, &str) {
        match self.kind {
            pb::MountType::Secret => (1, ""),
            pb::MountType::Ssh => (2, ""),
            _ => (0, &self.dest),
        }
    }

    /// The number of the output that it asks for. Secrets, sockets, memory and caches give nothing,
    /// whatever they say.
    fn output(&self) -> Option<i64> {
        (self.kind == pb::MountType::Bind && self.mount.output >= 0).then_some(self.mount.output)
    }
}

fn mounts(
    op: &pb::ExecOp,
    cwd: &str,
    taken: &mut Taken<'_>,
) -> Result<(Vec<llb::Mount>, Outputs), OpError> {
    let placed = op.mounts.iter().map(|mount| Placed::of(mount, cwd));
    let mut placed: Vec<Placed<'_>> = placed.collect::<Result<_, _>>()?;
    placed.sort_by(|a, b| a.order().cmp(&b.order()));
    check_root(&placed)?;
    let written = placed.iter().filter(|placed| !placed.mount.readonly);
    let numbers = number_outputs(written.filter_map(Placed::output));
    let (mut mounts, mut outputs) = (Vec::with_capacity(placed.len()), Outputs::default());
    for placed in &placed {
        let output = placed.output();
        let number = output.filter(|_| !placed.mount.readonly).map(|output| numbers[&output]);
        if let Some(output) = output {
            let given = || taken.tree(placed.mount.input).map(Output::Given);
            outputs.add(output, number.map_or_else(given, |number| Ok(Output::Own(number)))?)?;
        }
        mounts.push(mount(placed, number, taken)?);
    }
    Ok((mounts, outputs))
}

fn check_root(placed: &[Placed<'_>]) -> Result<(), OpError> {
    let mut roots = placed.iter().filter(|placed| placed.dest == "/");
    let root = roots.next().ok_or(OpError::Lacks { what: "root file system" })?;
    if roots.next().is_some() {
        return Err(OpError::not_supported("a process with two roots is"));
    }
    if root.kind != pb::MountType::Bind {
        return Err(OpError::not_supported("a root that is not a file tree is"));
    }
    match root.mount.selector.as_str() {
        "" | "/" => Ok(()),
        _ => Err(OpError::not_supported("a root that is a directory of its input is")),
    }
}

fn mount(
    placed: &Placed<'_>,
    output: Option<usize>,
    taken: &mut Taken<'_>,
) -> Result<llb::Mount, OpError> {
    let Placed { mount, kind, dest } = placed;
    let kind = self::kind(mount, *kind, dest)?;
    let takes_tree = matches!(kind, MountKind::Bind | MountKind::Cache { .. });
    let selector = match kind {
        // A Dockerfile's mounts of these kinds have none.
        MountKind::Secret { .. } | MountKind::Ssh { .. } => String::new(),
        MountKind::Tmpfs { .. } if dest == SHARED_MEMORY => String::new(),
        MountKind::Bind if dest == "/" => String::new(),
        _ => absolute("/", &mount.selector),
    };
    let is_as_written = *dest == mount.dest || !mount.dest.starts_with('/');
    Ok(llb::Mount {
        input: if takes_tree { taken.number(mount.input)? } else { None },
        selector,
        dest: dest.clone(),
        written_dest: if is_as_written { String::new() } else { mount.dest.clone() },
        readonly: mount.readonly,
        output,
        kind,
    })
}

fn kind(mount: &pb::Mount, kind: pb::MountType, dest: &str) -> Result<MountKind, OpError> {
    Ok(match kind {
        pb::MountType::Bind => MountKind::Bind,
        pb::MountType::Cache => {
            let cache = mount.cache_opt.as_ref().ok_or(OpError::Lacks { what: "cache options" })?;
            let id = if cache.id.is_empty() { dest } else { &cache.id };
            MountKind::Cache { id: id.to_owned(), sharing: sharing(cache.sharing)? }
        }
        pb::MountType::Tmpfs => {
            let size = mount.tmpfs_opt.as_ref().map_or(0, |options| options.size);
            let size = u64::try_from(size).map_err(|_| OpError::invalid("size", size))?;
            MountKind::Tmpfs { size }
        }
        pb::MountType::Secret => {
            let secret = mount.secret_opt.as_ref();
            let secret = secret.ok_or(OpError::Lacks { what: "secret options" })?.clone();
            let pb::SecretOpt { id, uid, gid, mode, optional } = secret;
            MountKind::Secret { id, uid, gid, mode, optional }
        }
        pb::MountType::Ssh => {
            let ssh = mount.ssh_opt.as_ref().ok_or(OpError::Lacks { what: "ssh options" })?;
            let pb::SshOpt { id, uid, gid, mode, optional } = ssh.clone();
            let id = if id.is_empty() { USUAL_AGENT.to_owned() } else { id };
            MountKind::Ssh { id, uid, gid, mode, optional }
        }
    })
}

fn sharing(number: i32) -> Result<CacheSharing, OpError> {
    match pb::CacheSharingOpt::try_from(number) {
        Ok(pb::CacheSharingOpt::CacheSharingShared) => Ok(CacheSharing::Shared),
        Ok(pb::CacheSharingOpt::CacheSharingPrivate) => Ok(CacheSharing::Private),
        Ok(pb::CacheSharingOpt::CacheSharingLocked) => Ok(CacheSharing::Locked),
        Err(_) => Err(OpError::invalid("sharing of a cache mount", number)),
    }
}
