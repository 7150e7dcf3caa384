//! The channel between the parent and a sandbox, or the zygote: whole messages, with descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::Failure;
use crate::process::ExitStatus;

/// Descriptors in one message; the kernel's limit is 253.
pub(crate) const MAX_FDS: usize = 200;
/// Where a helper finds the namespace it serves.
pub(crate) const HELPER_NAMESPACE: &str = "/tmp/network";
/// On which descriptor a helper says that it is ready.
pub(crate) const HELPER_READY_FD: i32 = 3;
/// Room for a failure's names, however much of them JSON has to escape.
const MAX_MESSAGE: usize = 64 << 10;

/// Asks the zygote for an init. With it comes one end of the channel that is to be the init's own, and
/// the control group of version 2 that it is to be born in, if there is one.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Fork;

/// The zygote's answer: the process id, with which comes its descriptor, or the errno.
pub(crate) type Forked = Result<i32, i32>;

/// What the parent tells the init.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Descriptors for the coming `Run` or `Help`, added to those before.
    Descriptors,
    /// Run the job in the first descriptor.
    Run,
    /// Run this program beside the caller, in its namespaces of mounts and network, until it has
    /// put itself in the background, or has written to [`HELPER_READY_FD`] if `says_ready`; then keep
    /// it.
    Help { args: Vec<String>, says_ready: bool },
    /// Enter a user namespace; report it; once its ids are [`Order::Mapped`], register these rules for
    /// interpreters in it, and hand over the namespace and the mount of its rules.
    Emulate { rules: Vec<String> },
    /// The ids of the namespace are mapped.
    Mapped,
    /// Send this signal to the process.
    Signal(i32),
}

/// What the init tells the parent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The process runs. With it come the listener to its call filter, if it has one, and the other
    /// end of its terminal, if it has one. To [`Order::Emulate`]: its namespace is there; then it is
    /// ready, which comes with what is handed over.
    Started,
    /// The process could not be started, and the sandbox has ended.
    Failed(Failure),
    /// The process has ended, and so has everything it started.
    Exited(ExitStatus),
}

/// One end of the channel.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

impl Channel {
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(one), Self(other)))
    }

    pub(crate) fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    pub(crate) fn send(&self, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        send(self.0.as_fd(), message, fds)
    }

    /// The next message, or `None` when the other end is gone.
    pub(crate) fn receive<M: DeserializeOwned>(&self) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        let mut bytes = vec![0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut buffer = [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.0, &mut buffer, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::CONNRESET) => return Ok(None),
                other => break other?,
            }
        };
        if received.bytes == 0 {
            return Ok(None);
        }
        let mut fds = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                fds.extend(received);
            }
        }
        let message = serde_json::from_slice(&bytes[..received.bytes]).map_err(io::Error::other)?;
        Ok(Some((message, fds)))
    }
}

/// Sends to the other end of the channel open as `channel`.
pub(crate) fn send(
    channel: BorrowedFd<'_>,
    message: &impl Serialize,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message).map_err(io::Error::other)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(channel, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
