//! A process that has been started.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::process::Pid;
use rustix::termios::{Winsize, tcsetwinsize};

use crate::control::{Order, Report};
use crate::error::SpawnError;
use crate::init_pool::Init;
use crate::network::Lease;
use crate::port::Forward;
use crate::process::{Exhausted, ExitStatus, NetworkUsed};

/// A running process in its sandbox. Dropping it kills the sandbox and waits for its end.
#[derive(Debug)]
pub struct Running {
    // Ended first, so that the network it used is free when it goes back to the pool.
    init: Init,
    state: Mutex<State>,
    streams: Streams,
    network: NetworkUsed,
    ports: Vec<SocketAddr>,
    warnings: Vec<String>,
}

#[derive(Debug)]
enum State {
    /// With what it holds on to.
    Running {
        lease: Lease,
        _forwards: Vec<Forward>,
    },
    Ended(ExitStatus, Option<Exhausted>),
}

/// The caller's ends of the streams.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    pub(crate) terminal: Option<OwnedFd>,
}

impl Streams {
    pub(crate) fn with_terminal(self, terminal: Option<OwnedFd>) -> Self {
        Self { terminal, ..self }
    }
}

impl Running {
    pub(crate) fn new(
        init: Init,
        lease: Lease,
        forwards: Vec<Forward>,
        streams: Streams,
        warnings: Vec<String>,
    ) -> Self {
        let network = lease.used();
        let ports = forwards.iter().map(Forward::address).collect();
        let state = Mutex::new(State::Running { lease, _forwards: forwards });
        Self { init, state, streams, network, ports, warnings }
    }

    /// The writing end of its input, once; only with `Stdio::Piped { stdin: true }`.
    pub fn stdin(&mut self) -> Option<OwnedFd> {
        self.streams.stdin.take()
    }

    /// The reading end of its output, once; only with `Stdio::Piped`.
    pub fn stdout(&mut self) -> Option<OwnedFd> {
        self.streams.stdout.take()
    }

    /// The reading end of its error output, once; only with `Stdio::Piped`.
    pub fn stderr(&mut self) -> Option<OwnedFd> {
        self.streams.stderr.take()
    }

    /// The other end of its terminal, once; only with `Stdio::Tty`. It is both input and output.
    pub fn terminal(&mut self) -> io::Result<Option<OwnedFd>> {
        // One stays here to be resized.
        self.streams.terminal.as_ref().map(OwnedFd::try_clone).transpose()
    }

    /// The id of the sandbox's first process, in the caller's namespace.
    pub fn pid(&self) -> Pid {
        self.init.pid()
    }

    /// A descriptor of the sandbox's first process: readable when everything in it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.init.pidfd().as_fd()
    }

    /// Which network it got.
    pub fn network(&self) -> NetworkUsed {
        self.network
    }

    /// Where its forwarded ports can be reached, in the order they were asked for.
    pub fn ports(&self) -> &[SocketAddr] {
        &self.ports
    }

    /// What is not as it was asked for, in sentences for the user.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Waits until the process has ended and everything it started is gone. Any number of threads
    /// may wait; the answer stays.
    pub fn wait(&self) -> io::Result<ExitStatus> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Ended(status, _) = *state {
            return Ok(status);
        }
        let reported = self.init.channel().receive::<Report>();
        self.init.wait();
        let exhausted = self.init.remove_group();
        if let State::Running { lease, .. } = &*state
            && let Some(failure) = lease.service().and_then(|service| service.failure())
        {
            return Err(io::Error::other(failure));
        }
        let status = match reported? {
            Some((Report::Exited(status), _)) => status,
            Some((Report::Failed(failure), _)) => {
                return Err(io::Error::other(SpawnError::from(failure)));
            }
            Some((Report::Started, _)) | None => ExitStatus::Signaled(libc::SIGKILL),
        };
        let status = match status {
            ExitStatus::Signaled(libc::SIGKILL) | ExitStatus::Exited(137)
                if matches!(exhausted, Some(Exhausted::Memory { .. })) =>
            {
                ExitStatus::OomKilled
            }
            other => other,
        };
        *state = State::Ended(status, exhausted);
        Ok(status)
    }

    /// The limit by control group that it has run into, once it has ended.
    pub fn exhausted(&self) -> Option<Exhausted> {
        match *self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Ended(_, exhausted) => exhausted,
            State::Running { .. } => None,
        }
    }

    /// Kills the sandbox and everything in it. Returns at once; [`wait`](Self::wait) tells the end.
    pub fn kill(&self) {
        self.init.kill();
    }

    /// Sends a signal to the process itself, by its number.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        match self.init.channel().send(&Order::Signal(signal), &[]) {
            // It has ended: there is nobody left to get it.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }

    /// Tells its terminal a new size; nothing without one.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        let Some(terminal) = &self.streams.terminal else { return Ok(()) };
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(terminal, size)?)
    }
}
