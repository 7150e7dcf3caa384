//! What devices add to a process.

use std::fs::File;
use std::path::PathBuf;

use executor::{
    Device, DeviceAccess, DeviceNumber, Mount, MountSource, Process, Propagation, Without,
};

use super::spec::{ContainerEdits, DeviceNode, MountSpec};
use crate::error::BuildError;

/// Variables and mounts, devices among them.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    env: Vec<(String, String)>,
    mounts: Vec<Mount>,
}

impl Edits {
    /// Adds what device `name` brings.
    pub(super) fn add(&mut self, name: &str, edits: &ContainerEdits) -> Result<(), BuildError> {
        refuse(name, edits)?;
        for variable in &edits.env {
            let (key, value) = variable
                .split_once('=')
                .ok_or_else(|| invalid(name, &format!("variable `{variable}` has no value")))?;
            self.env.push((key.to_owned(), value.to_owned()));
        }
        for node in &edits.device_nodes {
            self.mounts.push(device(name, node)?);
        }
        for mount in &edits.mounts {
            self.mounts.push(bind(name, mount)?);
        }
        Ok(())
    }

    /// Adds it to a process. Its variables take the place of those that are there.
    pub(crate) fn apply(self, process: &mut Process) {
        let env = &mut process.env.0;
        for (key, value) in self.env {
            env.retain(|(known, _)| *known != key);
            env.push((key, value));
        }
        process.mounts.extend(self.mounts);
    }
}

fn invalid(name: &str, what: &str) -> BuildError {
    BuildError::input(format!("the description of device {name} cannot be used: {what}"))
}

/// What is not done for a device: without it, it would not be what it is meant to be.
fn refuse(name: &str, edits: &ContainerEdits) -> Result<(), BuildError> {
    let hook = edits.hooks.first().map(|hook| format!("hook `{}` ({})", hook.path, hook.hook_name));
    let asked = [
        hook,
        (!edits.additional_gids.is_empty()).then(|| "`additionalGids`".to_owned()),
        edits.intel_rdt.as_ref().map(|_| "`intelRdt`".to_owned()),
        (!edits.net_devices.is_empty()).then(|| "`netDevices`".to_owned()),
    ];
    match asked.into_iter().flatten().next() {
        None => Ok(()),
        Some(what) => Err(BuildError::refused(format!(
            "device {name} asks for {what}, which is not supported"
        ))
        .with_hint("device nodes, mounts and variables are")),
    }
}

fn device(name: &str, node: &DeviceNode) -> Result<Mount, BuildError> {
    let invalid = |what: &str| invalid(name, &format!("device node `{}` {what}", node.path));
    if !node.path.starts_with('/') {
        return Err(invalid("has no absolute path"));
    }
    let is_block = match node.kind.as_deref() {
        None | Some("") => None,
        Some("c" | "u") => Some(false),
        Some("b") => Some(true),
        Some(_) => return Err(invalid("is neither a character device nor a block device")),
    };
    let number = match (is_block, node.major, node.minor) {
        (Some(is_block), Some(major), Some(minor)) => Some(DeviceNumber { is_block, major, minor }),
        (_, None | Some(0), None | Some(0)) => None,
        _ => return Err(invalid("has a number without `type`, `major` and `minor`")),
    };
    let permissions = node.permissions.as_deref().filter(|p| !p.is_empty()).unwrap_or("rwm");
    if permissions.contains(|c| !matches!(c, 'r' | 'w' | 'm')) {
        return Err(invalid("has permissions that are not among r, w and m"));
    }
    let access = DeviceAccess { read: permissions.contains('r'), write: permissions.contains('w') };
    let host = node.host_path.as_deref().filter(|path| !path.is_empty()).unwrap_or(&node.path);
    let device = Device {
        host: PathBuf::from(host),
        number,
        access,
        mode: node.file_mode,
        uid: node.uid,
        gid: node.gid,
    };
    Ok(Mount { target: node.path.clone(), source: MountSource::Device(device), readonly: false })
}

fn bind(name: &str, mount: &MountSpec) -> Result<Mount, BuildError> {
    let invalid = |what: &str| invalid(name, &format!("mount `{}` {what}", mount.container_path));
    if !mount.container_path.starts_with('/') {
        return Err(invalid("has no absolute path"));
    }
    if !matches!(mount.kind.as_deref(), None | Some("" | "bind" | "none")) {
        return Err(invalid("is not a directory or file of the host"));
    }
    let (mut without, mut readonly) = (Without::default(), false);
    for option in &mount.options {
        match option.as_str() {
            "bind" | "rbind" | "rw" | "private" | "rprivate" => {}
            "ro" => readonly = true,
            "nosuid" => without.setuid = true,
            "nodev" => without.devices = true,
            "noexec" => without.programs = true,
            other => return Err(invalid(&format!("has option `{other}`, which is not supported"))),
        }
    }
    let opened = File::open(&mount.host_path).map_err(|e| {
        BuildError::system(format!("failed to open `{}` for device {name}", mount.host_path))
            .because(e)
    })?;
    let source =
        MountSource::HostTree { source: opened.into(), propagation: Propagation::Private, without };
    Ok(Mount { target: mount.container_path.clone(), source, readonly })
}
