//! What of a process enters its records (BuildKit's `ExecOp`).

use std::collections::BTreeMap;

use llb::{CacheSharing, ExecOp, Mount, MountKind, NetworkMode, SecurityMode};
use oci::{Digest, Platform};
use serde::Serialize;

use crate::go;
use crate::path::topmost;
use crate::step::{Selector, Step, StepInput};

/// Value of an input or output that is not there.
const NONE: i64 = -1;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Keyed<'a> {
    r#type: &'static str,
    exec: Exec<'a>,
    #[serde(rename = "OS")]
    os: &'a str,
    arch: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    variant: &'a str,
    #[serde(rename = "OSVersion", skip_serializing_if = "str::is_empty")]
    os_version: &'a str,
    #[serde(rename = "OSFeatures", skip_serializing_if = "<[_]>::is_empty")]
    os_features: &'a [String],
}

#[derive(Serialize)]
struct Exec<'a> {
    meta: Meta<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mounts: Vec<Mounted<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    network: i64,
    #[serde(skip_serializing_if = "is_zero")]
    security: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secretenv: Vec<SecretEnv<'a>>,
    #[serde(rename = "cdiDevices", skip_serializing_if = "Vec::is_empty")]
    devices: Vec<Device<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Meta<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    args: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    env: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    cwd: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    user: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    extra_hosts: Vec<Host<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    hostname: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ulimit: Vec<Ulimit<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    cgroup_parent: &'a str,
    remove_mount_stubs_recursive: bool,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    valid_exit_codes: &'a [i32],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Host<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    host: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ulimit<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    soft: i64,
    #[serde(skip_serializing_if = "is_zero")]
    hard: i64,
}

#[derive(Serialize)]
struct SecretEnv<'a> {
    #[serde(rename = "ID", skip_serializing_if = "str::is_empty")]
    id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "is_false")]
    optional: bool,
}

#[derive(Serialize)]
struct Device<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "is_false")]
    optional: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Mounted<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    input: i64,
    dest: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    output: i64,
    #[serde(skip_serializing_if = "is_false")]
    readonly: bool,
    #[serde(skip_serializing_if = "is_zero")]
    mount_type: i64,
    #[serde(rename = "TmpfsOpt", skip_serializing_if = "Option::is_none")]
    tmpfs: Option<Tmpfs>,
    #[serde(rename = "cacheOpt", skip_serializing_if = "Option::is_none")]
    cache: Option<CacheOpt<'a>>,
    #[serde(rename = "secretOpt", skip_serializing_if = "Option::is_none")]
    secret: Option<FileOpt<'a>>,
    #[serde(rename = "SSHOpt", skip_serializing_if = "Option::is_none")]
    ssh: Option<FileOpt<'a>>,
}

#[derive(Serialize)]
struct Tmpfs {
    #[serde(skip_serializing_if = "is_zero")]
    size: i64,
}

#[derive(Serialize)]
struct CacheOpt<'a> {
    #[serde(rename = "ID", skip_serializing_if = "str::is_empty")]
    id: &'a str,
}

#[derive(Serialize)]
struct FileOpt<'a> {
    #[serde(rename = "ID", skip_serializing_if = "str::is_empty")]
    id: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    uid: i64,
    #[serde(skip_serializing_if = "is_zero")]
    gid: i64,
    #[serde(skip_serializing_if = "is_zero")]
    mode: i64,
    #[serde(skip_serializing_if = "is_false")]
    optional: bool,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// The step of a process on `platform`.
pub(crate) fn step(op: &ExecOp, platform: &Platform) -> Step {
    let numbers = numbers(op);
    let keyed = Keyed {
        r#type: "buildkit.exec.v0",
        exec: exec(op, &numbers),
        os: &platform.os,
        arch: &platform.architecture,
        variant: &platform.variant,
        os_version: &platform.os_version,
        os_features: &platform.os_features,
    };
    Step { digests: vec![go::digest(&keyed)], inputs: inputs(op, &numbers) }
}

fn exec<'a>(op: &'a ExecOp, numbers: &[usize]) -> Exec<'a> {
    let mounts = match is_plain(op) {
        true => Vec::new(),
        false => mounts(op).into_iter().map(|mount| mounted(mount, numbers)).collect(),
    };
    let secret = |secret: &'a llb::SecretEnv| SecretEnv {
        id: &secret.id,
        name: &secret.name,
        optional: secret.optional,
    };
    let device = |device: &'a llb::Device| Device { name: &device.name, optional: device.optional };
    Exec {
        meta: meta(op),
        mounts,
        network: match op.network {
            NetworkMode::Default => 0,
            NetworkMode::Host => 1,
            NetworkMode::None => 2,
        },
        security: match op.security {
            SecurityMode::Sandbox => 0,
            SecurityMode::Insecure => 1,
        },
        secretenv: op.secret_env.iter().map(secret).collect(),
        devices: op.devices.iter().map(device).collect(),
    }
}

fn meta<'a>(op: &'a ExecOp) -> Meta<'a> {
    let ulimit =
        |limit: &'a llb::Rlimit| Ulimit { name: &limit.name, soft: limit.soft, hard: limit.hard };
    Meta {
        args: &op.args,
        env: &op.env,
        cwd: &op.cwd,
        user: &op.user,
        extra_hosts: op.extra_hosts.iter().map(|(host, _)| Host { host }).collect(),
        hostname: &op.hostname,
        ulimit: op.ulimits.iter().map(ulimit).collect(),
        cgroup_parent: &op.cgroup_parent,
        remove_mount_stubs_recursive: true,
        valid_exit_codes: &op.valid_exit_codes,
    }
}

/// A lone writable root is not written: early versions wrote no mounts, and their caches stay good.
fn is_plain(op: &ExecOp) -> bool {
    matches!(&op.mounts[..], [root] if root.dest == "/" && !root.readonly && root.kind == MountKind::Bind)
}

/// The mounts in BuildKit's order: trees by where they are, then secrets, then agents.
fn mounts(op: &ExecOp) -> Vec<&Mount> {
    let mut mounts: Vec<&Mount> = op.mounts.iter().collect();
    mounts.sort_by_key(|mount| match mount.kind {
        MountKind::Bind | MountKind::Cache { .. } | MountKind::Tmpfs { .. } => 0,
        MountKind::Secret { .. } => 1,
        MountKind::Ssh { .. } => 2,
    });
    mounts
}

/// The inputs that mounts take, in BuildKit's order.
fn numbers(op: &ExecOp) -> Vec<usize> {
    let mut numbers = Vec::new();
    for number in mounts(op).into_iter().filter_map(|mount| mount.input) {
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    numbers
}

/// The agent of a mount that names none.
const USUAL_AGENT: &str = "default";

fn dest(mount: &Mount) -> &str {
    match mount.written_dest.as_str() {
        "" => &mount.dest,
        written => written,
    }
}

fn mounted<'a>(mount: &'a Mount, numbers: &[usize]) -> Mounted<'a> {
    let place = |number| numbers.iter().position(|known| *known == number);
    let absent = matches!(mount.kind, MountKind::Secret { .. } | MountKind::Ssh { .. });
    let mut mounted = Mounted {
        input: mount.input.and_then(place).map_or(NONE, |place| place as i64),
        dest: dest(mount),
        output: mount.output.map_or(if absent { 0 } else { NONE }, |output| output as i64),
        readonly: mount.readonly,
        mount_type: 0,
        tmpfs: None,
        cache: None,
        secret: None,
        ssh: None,
    };
    let file = |id, uid: u32, gid: u32, mode: u32, optional| {
        Some(FileOpt { id, uid: uid.into(), gid: gid.into(), mode: mode.into(), optional })
    };
    match &mount.kind {
        MountKind::Bind => {}
        MountKind::Secret { id, uid, gid, mode, optional } => {
            (mounted.mount_type, mounted.secret) = (1, file(id, *uid, *gid, *mode, *optional));
        }
        MountKind::Ssh { id, uid, gid, mode, optional } => {
            let id = if id == USUAL_AGENT { "" } else { id };
            (mounted.mount_type, mounted.ssh) = (2, file(id, *uid, *gid, *mode, *optional));
        }
        MountKind::Cache { id, sharing } => {
            let id = cache_id(id, *sharing, dest(mount));
            (mounted.mount_type, mounted.cache) = (3, Some(CacheOpt { id }));
        }
        MountKind::Tmpfs { size } => {
            let size = i64::try_from(*size).unwrap_or(i64::MAX);
            (mounted.mount_type, mounted.tmpfs) = (4, Some(Tmpfs { size }));
        }
    }
    mounted
}

/// Which folder a cache mount uses is not written, but for the id that a mount has that names none.
fn cache_id<'a>(id: &'a str, sharing: CacheSharing, dest: &str) -> &'a str {
    let without_namespace = id.split_once('/').map(|(_, id)| id);
    let is_default = id == dest || without_namespace == Some(dest);
    if is_default && sharing == CacheSharing::Shared { id } else { "" }
}

fn inputs(op: &ExecOp, numbers: &[usize]) -> Vec<StepInput> {
    let mut taken: BTreeMap<usize, (Vec<String>, bool)> = BTreeMap::new();
    for mount in mounts(op) {
        let Some(number) = mount.input else { continue };
        let selector = format!("/{}", mount.selector.trim_matches('/'));
        // Where nothing that was not selected can get into a result, equal files are as good.
        let is_closed = mount.output.is_none() || mount.readonly || selector == "/";
        let (selectors, by_content) = taken.entry(number).or_default();
        selectors.push(selector);
        *by_content = is_closed && mount.dest != "/";
    }
    let input = |&number: &usize| {
        let (selectors, by_content) = taken.remove(&number).expect("a mount takes it");
        StepInput {
            number,
            selector: Digest::of(selectors.join("\0").as_bytes()).to_string(),
            content: by_content.then(|| content(selectors)),
        }
    };
    numbers.iter().map(input).collect()
}

fn content(selectors: Vec<String>) -> Vec<Selector> {
    let paths = topmost(selectors);
    if paths.iter().any(|path| path == "/") {
        return vec![Selector::default()];
    }
    let selector = |path| Selector { path, follow_links: true, ..Selector::default() };
    paths.into_iter().map(selector).collect()
}
