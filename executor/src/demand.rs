//! Networks that are served only once somebody asks for them.
//!
//! Most steps never open a socket that could reach anything, and a helper costs as much as some
//! steps do. So the call filter announces the calls that make such sockets; at the first one the
//! helper is started, and the call goes on when it is ready.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::error::SpawnError;
use crate::helper::{Helper, HostLoopback};
use crate::init_pool::{Init, InitPool};
use crate::sys;

/// What serves one network namespace, from when it is first needed on.
#[derive(Debug)]
pub(crate) struct Service {
    helper: Helper,
    loopback: HostLoopback,
    pool: Arc<InitPool>,
    namespace: OwnedFd,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Idle,
    Serving {
        _init: Init,
    },
    /// The reason, until somebody has asked for it.
    Failed(Option<SpawnError>),
}

impl Service {
    pub(crate) fn new(
        helper: &Helper,
        loopback: HostLoopback,
        pool: &Arc<InitPool>,
        namespace: OwnedFd,
    ) -> Arc<Self> {
        let (helper, pool, state) = (helper.clone(), Arc::clone(pool), Mutex::new(State::Idle));
        Arc::new(Self { helper, loopback, pool, namespace, state })
    }

    /// Starts the helper if it does not run yet; returns when it is ready, and tells whether it is.
    pub(crate) fn start(&self) -> bool {
        let mut state = self.state();
        if let State::Idle = *state {
            *state = match self.serve() {
                Ok(init) => State::Serving { _init: init },
                Err(error) => State::Failed(Some(error)),
            };
        }
        matches!(*state, State::Serving { .. })
    }

    fn serve(&self) -> Result<Init, SpawnError> {
        self.helper.serve(&self.pool, self.namespace.as_fd(), self.loopback)
    }

    pub(crate) fn has_failed(&self) -> bool {
        matches!(*self.state(), State::Failed(_))
    }

    /// Why it could not be started; told once.
    pub(crate) fn failure(&self) -> Option<SpawnError> {
        match &mut *self.state() {
            State::Failed(error) => error.take(),
            _ => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts `service` when the first call is announced on `listener`; ends with the last process that
/// has the filter.
pub(crate) fn watch(service: Arc<Service>, listener: OwnedFd) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("network-watcher".to_owned())
        .spawn(move || while serve_next(&service, listener.as_fd()) {})
}

/// Answers one call; whether there may be more.
fn serve_next(service: &Service, listener: BorrowedFd<'_>) -> bool {
    let mut ready = [PollFd::new(&listener, PollFlags::IN)];
    match poll(&mut ready, None) {
        Ok(_) => {}
        Err(Errno::INTR) => return true,
        Err(_) => return false,
    }
    if !ready[0].revents().contains(PollFlags::IN) {
        return false;
    }
    // The caller may have been killed since.
    let Ok(call) = sys::announced_call(listener) else { return true };
    let errno = if service.start() { None } else { Some(libc::ENETDOWN) };
    // And again.
    let _ = sys::answer_call(listener, call, errno);
    true
}
