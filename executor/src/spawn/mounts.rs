//! What a sandbox mounts, opened here, where the host's paths mean what the caller thinks.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};

use super::Executor;
use super::parcel::Parcel;
use crate::device::Device;
use crate::error::SpawnError;
use crate::job::{JobMount, JobSource};
use crate::process::{BindSource, Mount, MountSource, Process, Root, Without};
use crate::sys::{self, Change};
use crate::{host_tree, overlay};

impl Executor {
    pub(super) fn open_root(
        &self,
        process: &Process,
        attributes: MountAttrFlags,
    ) -> Result<OwnedFd, SpawnError> {
        match &process.root {
            Root::Overlay { lowers, upper, work } => {
                overlay::mount(&self.host, lowers, Some((upper, work)), attributes)
                    .map_err(SpawnError::Root)
            }
            Root::Directory(path) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                openat(CWD, path, flags, Mode::empty())
                    .map_err(io::Error::from)
                    .and_then(|directory| clone_mount(directory.as_fd(), attributes))
                    .map_err(|source| SpawnError::RootDirectory { path: path.clone(), source })
            }
        }
    }

    /// Opens what is to be mounted; what is open goes into the parcel.
    pub(super) fn open_mount(
        &self,
        mount: Mount,
        no_devices: MountAttrFlags,
        parcel: &mut Parcel,
    ) -> Result<JobMount, SpawnError> {
        let Mount { target, source, readonly } = mount;
        let read_only =
            if readonly { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
        let attributes = no_devices | read_only;
        let source = match source {
            MountSource::Tmpfs(options) => {
                self.check_owner(&target, options.uid.unwrap_or(0), options.gid.unwrap_or(0))?;
                JobSource::Tmpfs(options)
            }
            MountSource::HostTree { source, propagation, without } => {
                let attributes = attributes | flags_of(without);
                let mounted = host_tree::clone(source.as_fd(), propagation, attributes);
                let mounted = mounted.map_err(|error| SpawnError::MountSource {
                    origin: host_tree::name(source.as_fd()),
                    target: target.clone(),
                    source: error,
                })?;
                JobSource::Detached(parcel.add(mounted))
            }
            MountSource::File { content, mode, uid, gid } => {
                self.check_owner(&target, uid, gid)?;
                JobSource::File { content: parcel.blob(&content.0), mode, uid, gid }
            }
            MountSource::Bind(source) => {
                let (source, origin) = open_source(source, &target)?;
                let mounted = clone_mount(source.as_fd(), attributes).map_err(|source| {
                    SpawnError::MountSource { origin, target: target.clone(), source }
                })?;
                JobSource::Detached(parcel.add(mounted))
            }
            MountSource::Device(device) => self.open_device(&device, &target, parcel)?,
            MountSource::Socket(path) => {
                JobSource::Detached(parcel.add(clone_path(&path, &target, attributes)?))
            }
            MountSource::Overlay { lowers, scratch, selector } => {
                let writable = scratch.as_ref().map(|dirs| (&*dirs.upper, &*dirs.work));
                let merged = overlay::mount(&self.host, &lowers, writable, attributes)
                    .map_err(|source| SpawnError::MountLayers { target: target.clone(), source })?;
                let whole = parcel.add(merged);
                match is_root(&selector) {
                    true => JobSource::Detached(whole),
                    false => JobSource::Part { whole, selector },
                }
            }
        };
        Ok(JobMount { target, source, readonly })
    }

    /// Root makes a node of its own, so that changing its mode or owner does not change the host's; in a
    /// user namespace only the host's can be opened, and it stays as it is.
    fn open_device(
        &self,
        device: &Device,
        target: &str,
        parcel: &mut Parcel,
    ) -> Result<JobSource, SpawnError> {
        if self.host.rootless() {
            let is_as_found = device.mode.or(device.uid).or(device.gid).is_none();
            let is_open = device.access.read && device.access.write;
            if !(is_as_found && is_open) {
                let message = "without root a device has its own mode, owner and permissions";
                return Err(SpawnError::MountSource {
                    origin: device.host.display().to_string(),
                    target: target.to_owned(),
                    source: io::Error::new(io::ErrorKind::Unsupported, message),
                });
            }
            let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NOEXEC
                | MountAttrFlags::MOUNT_ATTR_RDONLY;
            return Ok(JobSource::Detached(parcel.add(clone_path(
                &device.host,
                target,
                attributes,
            )?)));
        }
        let node = device.node().map_err(|source| SpawnError::MountSource {
            origin: device.host.display().to_string(),
            target: target.to_owned(),
            source,
        })?;
        Ok(JobSource::Node(node))
    }

    fn check_owner(&self, target: &str, uid: u32, gid: u32) -> Result<(), SpawnError> {
        self.host.check_ids(uid, [gid]).map_err(|error| SpawnError::Mount {
            target: target.to_owned(),
            source: io::Error::other(error),
        })
    }
}

fn flags_of(without: Without) -> MountAttrFlags {
    [
        (without.setuid, MountAttrFlags::MOUNT_ATTR_NOSUID),
        (without.devices, MountAttrFlags::MOUNT_ATTR_NODEV),
        (without.programs, MountAttrFlags::MOUNT_ATTR_NOEXEC),
    ]
    .into_iter()
    .filter_map(|(is_set, flag)| is_set.then_some(flag))
    .collect()
}

/// What is at a path of the host, as a mount attached nowhere.
fn clone_path(
    path: &Path,
    target: &str,
    attributes: MountAttrFlags,
) -> Result<OwnedFd, SpawnError> {
    openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(io::Error::from)
        .and_then(|found| clone_mount(found.as_fd(), attributes))
        .map_err(|source| SpawnError::MountSource {
            origin: path.display().to_string(),
            target: target.to_owned(),
            source,
        })
}

/// The source of a bind mount, and its name for people.
fn open_source(source: BindSource, target: &str) -> Result<(OwnedFd, String), SpawnError> {
    let (dir, selector) = match source {
        BindSource::Fd(fd) => return Ok((fd, "a descriptor".to_owned())),
        BindSource::Path { dir, selector } => (dir, selector),
    };
    let origin = match is_root(&selector) {
        true => dir.display().to_string(),
        false => dir.join(selector.trim_start_matches('/')).display().to_string(),
    };
    let opened = openat(CWD, &dir, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(io::Error::from)
        .and_then(
            |dir| if is_root(&selector) { Ok(dir) } else { open_beneath(dir.as_fd(), &selector) },
        );
    match opened {
        Ok(opened) => Ok((opened, origin)),
        Err(source) => Err(SpawnError::MountSource { origin, target: target.to_owned(), source }),
    }
}

fn is_root(selector: &str) -> bool {
    selector.is_empty() || Path::new(selector) == Path::new("/")
}

/// Links in `path` are followed as if `directory` were the root.
fn open_beneath(directory: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(directory, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

/// The same file or directory as a mount attached nowhere, without what is mounted beneath it.
fn clone_mount(source: BorrowedFd<'_>, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let mounted = open_tree(source, "", flags)?;
    sys::mount_setattr(mounted.as_fd(), false, Change::Propagate(attributes, libc::MS_PRIVATE))?;
    Ok(mounted)
}
