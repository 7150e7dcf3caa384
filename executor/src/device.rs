//! Devices of the host in a sandbox, beyond those that every one has.

use std::io;
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags, fstat, major, minor, open};
use serde::{Deserialize, Serialize};

/// A device node that a process gets. What is `None` is as the host's node says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The host's node.
    pub host: PathBuf,
    /// What it is; where it is given the host need not have a node.
    pub number: Option<DeviceNumber>,
    /// What may be done with it.
    pub access: DeviceAccess,
    /// Permissions.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

/// What the kernel calls a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNumber {
    /// A block device, not a character device.
    pub is_block: bool,
    /// Its driver.
    pub major: u32,
    /// Which of the driver's.
    pub minor: u32,
}

/// What a process may do with a device, besides what the node's permissions say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceAccess {
    /// Open it for reading.
    pub read: bool,
    /// Open it for writing.
    pub write: bool,
}

/// A node to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) number: DeviceNumber,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// A device that the members of a control group may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) number: DeviceNumber,
    pub(crate) access: DeviceAccess,
}

impl Device {
    /// The node as it is to be, with what the host's says where nothing else is asked for.
    pub(crate) fn node(&self) -> io::Result<Node> {
        let found = self.found();
        let (number, mode, uid, gid) = match (found, self.number) {
            (Ok((_, mode, uid, gid)), Some(number)) => (number, mode, uid, gid),
            (Ok(found), None) => found,
            (Err(_), Some(number)) => (number, 0o666, 0, 0),
            (Err(error), None) => return Err(error),
        };
        Ok(Node {
            number,
            mode: self.mode.unwrap_or(mode),
            uid: self.uid.unwrap_or(uid),
            gid: self.gid.unwrap_or(gid),
        })
    }

    /// The host's node.
    fn found(&self) -> io::Result<(DeviceNumber, u32, u32, u32)> {
        let node = open(&self.host, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let stat = fstat(&node)?;
        let is_block = match FileType::from_raw_mode(stat.st_mode) {
            FileType::BlockDevice => true,
            FileType::CharacterDevice => false,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a device")),
        };
        let number =
            DeviceNumber { is_block, major: major(stat.st_rdev), minor: minor(stat.st_rdev) };
        Ok((number, stat.st_mode & 0o7777, stat.st_uid, stat.st_gid))
    }
}
