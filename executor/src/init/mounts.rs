//! The file tree of a sandbox, built in its own mount namespace.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chmodat, chownat, fchmod, fchown,
    fstat, makedev, mkdirat, mknodat, openat, openat2,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
    open_tree, unmount,
};

use super::place::{Kind, Places};
use super::{dev, first, masks, network};
use crate::device::{DeviceNumber, Node};
use crate::error::{Failure, Step};
use crate::job::{Job, JobIdentities, JobSecurity, JobSource, Received};
use crate::process::{FirstProcess, Role, Tmpfs};
use crate::sys::{self, Change, Unshare};

pub(super) const READ_ONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;
pub(super) const NO_SUID: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID;
const NO_DEV: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;
pub(super) const NO_EXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOEXEC;
/// For file systems that hold neither programs nor devices.
pub(super) const PLAIN: MountAttrFlags = NO_SUID.union(NO_DEV).union(NO_EXEC);

/// The finished tree, which is the root of this process.
pub(super) struct Tree {
    pub(super) root: OwnedFd,
    /// Its `/proc`, whatever is mounted over it.
    pub(super) proc: OwnedFd,
    /// Its terminals.
    pub(super) terminals: OwnedFd,
    /// Its `/dev/null`, whatever is mounted over it.
    pub(super) null: OwnedFd,
    places: Places,
    readonly: bool,
}

/// Builds the tree and makes it this process's root. Afterwards nothing of the host's tree can be
/// reached.
pub(super) fn build(received: &Received, fds: &[OwnedFd]) -> Result<Tree, Failure> {
    let job = &received.job;
    enter_namespaces(job, fds)?;
    let mut builder = Builder::start(job, &fds[job.root])?;
    let proc = builder.system("proc", "proc", &[], PLAIN)?;
    if job.role.first() == FirstProcess::Init {
        first::show_streams(&builder, &proc)?;
    }
    if matches!(job.role, Role::Container { .. }) && job.network.is_some() {
        network::open(job, &proc)?;
    }
    builder.sysfs()?;
    let terminals = dev::build(&mut builder)?;
    let null = openat(&builder.root, "dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(Failure::setup("open `/dev/null`"))?;
    if matches!(job.security, JobSecurity::Sandbox { .. }) {
        masks::hide(&mut builder)?;
    }
    builder.text_file("resolv.conf", received.blob(&job.resolv_conf))?;
    builder.text_file("hosts", received.blob(&job.hosts))?;
    if matches!(job.role, Role::Container { .. }) {
        builder.text_file("hostname", Ok(format!("{}\n", job.hostname).as_bytes()))?;
    }
    builder.further_mounts(received, fds)?;
    builder.enter()?;
    let Builder { root, places, .. } = builder;
    Ok(Tree { root, proc, terminals, null, places, readonly: job.readonly_root })
}

fn enter_namespaces(job: &Job, fds: &[OwnedFd]) -> Result<(), Failure> {
    if let Some(network) = job.network {
        rustix::thread::move_into_link_name_space(
            fds[network].as_fd(),
            Some(rustix::thread::LinkNameSpaceType::Network),
        )
        .map_err(Failure::setup("enter the network namespace"))?;
    }
    sys::unshare(Unshare::ControlGroup)
        .map_err(Failure::setup("make a control group namespace"))?;
    rustix::system::sethostname(job.hostname.as_bytes())
        .map_err(Failure::setup("set the host name"))
}

impl Tree {
    /// Unmounts everything and removes what was made in the root only to mount on. What cannot be
    /// removed would be in the result as if the command had made it.
    pub(super) fn remove_places(&mut self) -> Result<(), Failure> {
        if self.places.is_empty() {
            return Ok(());
        }
        if self.readonly {
            sys::mount_setattr(self.root.as_fd(), false, Change::Clear(READ_ONLY))
                .map_err(Failure::setup("make the root file system writable again"))?;
        }
        // A place cannot be removed while something is mounted on it.
        leave_root().map_err(Failure::setup("leave the root file system"))?;
        self.places.remove()
    }
}

/// Moves to an empty root and takes the old one away with all that is mounted in it: the kernel does
/// not let a user namespace simply unmount its root.
fn leave_root() -> rustix::io::Result<()> {
    let empty = file_system("tmpfs", &[], &[], PLAIN)?;
    attach(empty.as_fd(), CWD, "/")?;
    rustix::process::fchdir(&empty)?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)
}

/// A tree in the making: the new root is mounted over the old one, but not yet entered.
pub(super) struct Builder<'a> {
    pub(super) job: &'a Job,
    pub(super) root: OwnedFd,
    /// Memory that is not part of the tree, for single files that are.
    pub(super) files: OwnedFd,
    places: Places,
    count: usize,
}

impl<'a> Builder<'a> {
    fn start(job: &'a Job, root: &OwnedFd) -> Result<Self, Failure> {
        // Secrets are kept out of the swap where the kernel can.
        let files = file_system("tmpfs", &[("mode", "0700")], &["noswap"], NO_SUID)
            .or_else(|_| file_system("tmpfs", &[("mode", "0700")], &[], NO_SUID))
            .map_err(Failure::setup("make memory for files"))?;
        // Both go on top of the old root, and out of reach with it.
        attach(files.as_fd(), CWD, "/").map_err(Failure::setup("attach memory for files"))?;
        attach(root.as_fd(), CWD, "/").map_err(Failure::mount("/"))?;
        let root = root.try_clone().map_err(Failure::mount("/"))?;
        Ok(Self { job, root, files, places: Places::default(), count: 0 })
    }

    pub(super) fn insecure(&self) -> bool {
        matches!(self.job.security, JobSecurity::Insecure)
    }

    /// For mounts that may hold devices only where something else guards those.
    pub(super) fn no_devices(&self) -> MountAttrFlags {
        if self.job.devices { MountAttrFlags::empty() } else { NO_DEV }
    }

    /// A kernel file system on a directory at the top of the root.
    pub(super) fn system(
        &mut self,
        kind: &str,
        name: &str,
        options: &[(&str, &str)],
        attributes: MountAttrFlags,
    ) -> Result<OwnedFd, Failure> {
        let mounted = file_system(kind, options, &[], attributes).map_err(Failure::mount(name))?;
        self.attach_system(mounted.as_fd(), name)?;
        Ok(mounted)
    }

    fn attach_system(&mut self, mounted: BorrowedFd<'_>, name: &str) -> Result<(), Failure> {
        let place = self.find_system(name)?;
        attach(mounted, &place, "").map_err(Failure::mount(&format!("/{name}")))
    }

    fn find_system(&self, name: &str) -> Result<OwnedFd, Failure> {
        Places::find_system(self.root.as_fd(), name).map_err(|error| match error {
            Errno::LOOP | Errno::NOTDIR => {
                Failure::new(Step::NotADirectory, format!("/{name}"), error)
            }
            other => Failure::mount(&format!("/{name}"))(other),
        })
    }

    /// `/sys`, and in it the control groups if the machine has only the unified ones.
    fn sysfs(&mut self) -> Result<(), Failure> {
        let read_only = if self.insecure() { MountAttrFlags::empty() } else { READ_ONLY };
        let sysfs = match file_system("sysfs", &[], &[], PLAIN | read_only) {
            Ok(sysfs) => sysfs,
            // It belongs to the owner of the network namespace, which is not us when rootless on the
            // host's network. Its place is in the layer all the same.
            Err(Errno::PERM) if self.job.identities != JobIdentities::Host => {
                return self.find_system("sys").map(drop);
            }
            Err(error) => return Err(Failure::mount("/sys")(error)),
        };
        self.attach_system(sysfs.as_fd(), "sys")?;
        if self.job.show_control_group {
            // Without it a program only sees no limits.
            if let Ok(groups) = file_system("cgroup2", &[], &[], PLAIN | read_only) {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let place = openat(&sysfs, "fs/cgroup", flags, Mode::empty());
                if let Ok(place) = place {
                    attach(groups.as_fd(), &place, "").map_err(Failure::mount("/sys/fs/cgroup"))?;
                }
            }
        }
        Ok(())
    }

    /// Something at any path of the root.
    pub(super) fn place(&mut self, mounted: BorrowedFd<'_>, target: &str) -> Result<(), Failure> {
        let failed = Failure::mount(target);
        let mode = fstat(mounted).map_err(Failure::mount(target))?.st_mode;
        let kind = match FileType::from_raw_mode(mode) {
            FileType::Directory => Kind::Directory,
            _ => Kind::File,
        };
        self.places
            .find(self.root.as_fd(), target, kind)
            .and_then(|place| attach(mounted, &place, ""))
            .map_err(failed)
    }

    /// Something beneath the top of a mount. The whole has to be attached before a part can be taken,
    /// out of sight.
    fn part(
        &mut self,
        whole: &OwnedFd,
        selector: &str,
        read_only: MountAttrFlags,
    ) -> rustix::io::Result<OwnedFd> {
        self.count += 1;
        let name = format!("whole-{}", self.count);
        mkdirat(&self.files, &*name, Mode::from_raw_mode(0o700))?;
        attach(whole.as_fd(), &self.files, &name)?;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let part = openat2(whole, selector, flags, Mode::empty(), resolve)?;
        bind(part.as_fd(), "", false, self.no_devices() | read_only)
    }

    /// A small file of `/etc`, which a container may write to as far as its root.
    fn text_file(&mut self, name: &str, content: std::io::Result<&[u8]>) -> Result<(), Failure> {
        let target = format!("/etc/{name}");
        let writable = matches!(self.job.role, Role::Container { .. }) && !self.job.readonly_root;
        let attributes = if writable { PLAIN } else { PLAIN | READ_ONLY };
        let mounted = content
            .and_then(|content| self.memory_file(name, content, 0o644, 0, 0, attributes))
            .map_err(Failure::mount(&target))?;
        self.place(mounted.as_fd(), &target)
    }

    /// A file in memory as a mount of its own.
    fn memory_file(
        &self,
        name: &str,
        content: &[u8],
        mode: u32,
        uid: u32,
        gid: u32,
        attributes: MountAttrFlags,
    ) -> std::io::Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&self.files, name, flags, Mode::from_raw_mode(0o600))?;
        std::io::Write::write_all(&mut std::fs::File::from(file.try_clone()?), content)?;
        if (uid, gid) != (0, 0) && self.job.identities != JobIdentities::Single {
            fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        fchmod(&file, Mode::from_raw_mode(mode))?;
        Ok(bind(self.files.as_fd(), name, false, attributes)?)
    }

    /// What the caller asked for, in the caller's order.
    fn further_mounts(&mut self, received: &Received, fds: &[OwnedFd]) -> Result<(), Failure> {
        for mount in &self.job.mounts {
            let read_only = if mount.readonly { READ_ONLY } else { MountAttrFlags::empty() };
            let failed = |error: std::io::Error| Failure::mount(&mount.target)(error);
            match &mount.source {
                JobSource::Detached(index) => self.place(fds[*index].as_fd(), &mount.target)?,
                JobSource::Part { whole, selector } => {
                    let part = self.part(&fds[*whole], selector, read_only);
                    let part = part.map_err(|error| {
                        Failure::new(Step::Part(selector.clone()), &*mount.target, error)
                    })?;
                    self.place(part.as_fd(), &mount.target)?;
                }
                JobSource::Tmpfs(options) => {
                    let mounted = tmpfs(options, read_only | self.no_devices())
                        .map_err(|error| failed(error.into()))?;
                    self.place(mounted.as_fd(), &mount.target)?;
                }
                JobSource::Node(node) => {
                    let mounted = self.node(node).map_err(|error| failed(error.into()))?;
                    self.place(mounted.as_fd(), &mount.target)?;
                }
                JobSource::File { content, mode, uid, gid } => {
                    self.count += 1;
                    let name = format!("file-{}", self.count);
                    let content = received.blob(content).map_err(failed)?;
                    let attributes = PLAIN | read_only;
                    let mounted = self
                        .memory_file(&name, content, *mode, *uid, *gid, attributes)
                        .map_err(failed)?;
                    self.place(mounted.as_fd(), &mount.target)?;
                }
            }
        }
        Ok(())
    }

    /// A device node of the sandbox's own, as a mount attached nowhere.
    fn node(&mut self, node: &Node) -> rustix::io::Result<OwnedFd> {
        self.count += 1;
        let name = format!("node-{}", self.count);
        let mode = Mode::from_raw_mode(node.mode);
        let DeviceNumber { is_block, major, minor } = node.number;
        let kind = if is_block { FileType::BlockDevice } else { FileType::CharacterDevice };
        mknodat(&self.files, &*name, kind, mode, makedev(major, minor))?;
        let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
        chownat(&self.files, &*name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        // The caller's umask has taken bits away.
        chmodat(&self.files, &*name, mode, AtFlags::empty())?;
        bind(self.files.as_fd(), &name, false, NO_SUID | NO_EXEC)
    }

    /// Makes the tree this process's root and lets go of the old one.
    fn enter(&mut self) -> Result<(), Failure> {
        if self.job.readonly_root {
            sys::mount_setattr(self.root.as_fd(), false, Change::Set(READ_ONLY))
                .map_err(Failure::mount("/"))?;
        }
        let entered = rustix::process::fchdir(&self.root)
            // The old root ends up on top of the new one, and on it the memory for files.
            .and_then(|()| rustix::process::pivot_root(".", "."))
            .and_then(|()| unmount(".", UnmountFlags::DETACH))
            .and_then(|()| unmount(".", UnmountFlags::DETACH))
            .and_then(|()| rustix::process::chdir("/"))
            .and_then(|()| self.nothing_on_top());
        entered.map_err(Failure::setup("enter the new root"))
    }

    /// Going up from the root leads to whatever is mounted over it: that has to be itself.
    fn nothing_on_top(&self) -> rustix::io::Result<()> {
        let (top, root) = (rustix::fs::stat("/..")?, fstat(&self.root)?);
        match (top.st_dev, top.st_ino) == (root.st_dev, root.st_ino) {
            true => Ok(()),
            false => Err(Errno::XDEV),
        }
    }
}

/// An empty file system in memory as it was asked for.
fn tmpfs(options: &Tmpfs, attributes: MountAttrFlags) -> rustix::io::Result<OwnedFd> {
    let limit = (options.size > 0).then_some(options.size);
    let given = [
        ("size", limit.map(|bytes| bytes.to_string())),
        ("nr_inodes", options.inodes.map(|count| count.to_string())),
        ("mode", options.mode.map(|mode| format!("{mode:o}"))),
        ("uid", options.uid.map(|id| id.to_string())),
        ("gid", options.gid.map(|id| id.to_string())),
    ];
    let given: Vec<(&str, &str)> =
        given.iter().filter_map(|(key, value)| Some((*key, value.as_deref()?))).collect();
    let noexec = if options.noexec { NO_EXEC } else { MountAttrFlags::empty() };
    let nodev = if options.nodev { NO_DEV } else { MountAttrFlags::empty() };
    file_system("tmpfs", &given, &[], NO_SUID | nodev | noexec | attributes)
}

/// A new file system, attached nowhere, with its kind as the device that `mount` and `df` show.
pub(crate) fn file_system(
    kind: &str,
    options: &[(&str, &str)],
    flags: &[&str],
    attributes: MountAttrFlags,
) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", kind)?;
    for (key, value) in options {
        fsconfig_set_string(&context, *key, *value)?;
    }
    for flag in flags {
        fsconfig_set_flag(&context, *flag)?;
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// What is at `path` beneath `directory`, once more, as a mount attached nowhere. The path is ours.
pub(super) fn bind(
    directory: BorrowedFd<'_>,
    path: &str,
    recursive: bool,
    attributes: MountAttrFlags,
) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let mounted = open_tree(directory, path, flags)?;
    if !attributes.is_empty() {
        sys::mount_setattr(mounted.as_fd(), recursive, Change::Set(attributes))
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    }
    Ok(mounted)
}

/// Puts a mount attached nowhere onto a place.
pub(super) fn attach(
    mounted: BorrowedFd<'_>,
    place: impl AsFd,
    path: &str,
) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mounted, "", place, path, flags)
}
