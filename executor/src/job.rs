//! A job for the init: everything about one process, in one sealed piece of memory.
//!
//! Layout: the length of the JSON as eight bytes (little end first), the JSON, then the blobs it
//! refers to (file contents, the call filter) one after the other.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use crate::device::Node;
use crate::process::{Environment, Role, Tmpfs};

/// Index into the descriptors sent with the job.
pub(crate) type FdIndex = usize;
/// A range of the bytes behind the JSON.
pub(crate) type Blob = Range<usize>;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) args: Vec<String>,
    pub(crate) env: Environment,
    pub(crate) cwd: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) hostname: String,
    pub(crate) role: Role,
    /// A mount attached nowhere.
    pub(crate) root: FdIndex,
    pub(crate) readonly_root: bool,
    pub(crate) mounts: Vec<JobMount>,
    /// The user namespace to enter, where its programs are led to emulators.
    pub(crate) users: Option<FdIndex>,
    /// Its network namespace; `None` stays in the caller's.
    pub(crate) network: Option<FdIndex>,
    pub(crate) hosts: Blob,
    pub(crate) resolv_conf: Blob,
    pub(crate) shm_size: u64,
    pub(crate) stdio: JobStdio,
    pub(crate) rlimits: Vec<JobRlimit>,
    pub(crate) security: JobSecurity,
    /// Whether its mounts admit devices: where something else guards them, or nothing is to.
    pub(crate) devices: bool,
    pub(crate) identities: JobIdentities,
    /// Whether to show the unified control group hierarchy.
    pub(crate) show_control_group: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JobMount {
    pub(crate) target: String,
    pub(crate) source: JobSource,
    pub(crate) readonly: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum JobSource {
    /// A mount attached nowhere, with its flags already set.
    Detached(FdIndex),
    /// What is at this path beneath such a mount.
    Part {
        whole: FdIndex,
        selector: String,
    },
    Tmpfs(Tmpfs),
    Node(Node),
    File {
        content: Blob,
        mode: u32,
        uid: u32,
        gid: u32,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum JobStdio {
    /// Input (empty without one), output, error output.
    Streams(Option<FdIndex>, FdIndex, FdIndex),
    Tty {
        rows: u16,
        columns: u16,
    },
}

/// A limit by the kernel's number (`RLIMIT_*`).
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JobRlimit {
    pub(crate) name: String,
    pub(crate) soft: Option<u64>,
    pub(crate) hard: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum JobSecurity {
    /// The default capabilities, and this call filter, whose announcements the caller listens to if
    /// it is `listened`.
    Sandbox {
        filter: Blob,
        listened: bool,
    },
    Insecure,
}

/// Which users and groups exist for the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum JobIdentities {
    /// All of them: the caller is root.
    Host,
    /// A range, in a user namespace.
    Range,
    /// One, in a user namespace.
    Single,
}

/// A job as it arrives: the description and the bytes it refers to.
pub(crate) struct Received {
    pub(crate) job: Job,
    bytes: Vec<u8>,
}

impl Received {
    pub(crate) fn blob(&self, range: &Blob) -> io::Result<&[u8]> {
        self.bytes.get(range.clone()).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// Writes `job` and its blobs into memory that only a descriptor names.
pub(crate) fn write(job: &Job, blobs: &[u8]) -> io::Result<OwnedFd> {
    let json = serde_json::to_vec(job).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(8 + json.len() + blobs.len());
    bytes.extend((json.len() as u64).to_le_bytes());
    bytes.extend(&json);
    bytes.extend(blobs);
    let mut file = File::from(memfd_create("mybuild-job", MemfdFlags::CLOEXEC)?);
    file.write_all(&bytes)?;
    Ok(file.into())
}

/// Reads what [`write`] wrote.
pub(crate) fn read(fd: OwnedFd) -> io::Result<Received> {
    let mut file = File::from(fd);
    io::Seek::rewind(&mut file)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let length = bytes.first_chunk::<8>().ok_or_else(invalid)?;
    let end = 8 + u64::from_le_bytes(*length) as usize;
    let job =
        serde_json::from_slice(bytes.get(8..end).ok_or_else(invalid)?).map_err(io::Error::other)?;
    Ok(Received { job, bytes: bytes.split_off(end) })
}
