//! Network namespaces, kept from one step to the next.
//!
//! A namespace with its helper takes tens of milliseconds to make and much of that again to
//! destroy, and a step without the right to change it leaves nothing in it: so it is used again. Its
//! helper is started when a step first asks for a socket (`demand`).

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::demand::Service;
use crate::error::SpawnError;
use crate::gateway;
use crate::helper::{Helper, HostLoopback, NoHelper};
use crate::init_pool::InitPool;
use crate::process::{Network, NetworkUsed};
use crate::sys::{self, Unshare};

/// Network namespaces, made when they are needed and kept for the next step.
#[derive(Debug)]
pub(crate) struct NetworkPool {
    helper: Result<Helper, NoHelper>,
    pool: Arc<InitPool>,
    idle: Mutex<Vec<Namespace>>,
}

/// One namespace and what serves it.
#[derive(Debug)]
struct Namespace {
    fd: OwnedFd,
    kind: Kind,
    service: Option<Arc<Service>>,
}

/// What a step may be given instead of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    used: NetworkUsed,
    loopback: HostLoopback,
}

/// A step's network; dropping it puts the namespace back.
#[derive(Debug)]
pub(crate) struct Lease {
    namespace: Option<Namespace>,
    pool: Arc<NetworkPool>,
    reusable: bool,
    /// Why it is not what was asked for.
    pub(crate) warning: Option<String>,
}

impl NetworkPool {
    pub(crate) fn new(pool: Arc<InitPool>) -> Self {
        Self { helper: Helper::find(), pool, idle: Mutex::default() }
    }

    pub(crate) fn helper(&self) -> Result<&Helper, &NoHelper> {
        self.helper.as_ref()
    }

    /// Makes sure that `count` steps can have their network at once without waiting.
    pub(crate) fn prepare(&self, count: usize) {
        let Ok(helper) = &self.helper else { return };
        let kind = Kind { used: helper.used(), loopback: HostLoopback::Hidden };
        while self.idle_count(kind) < count {
            match self.make(kind, Some(helper)) {
                Ok(namespace) => self.put_back(namespace),
                // The step that needs it will say why.
                Err(_) => return,
            }
        }
    }

    /// The network for one step. `reusable` says that the step cannot change it.
    pub(crate) fn lease(
        self: &Arc<Self>,
        network: Network,
        loopback: HostLoopback,
        reusable: bool,
    ) -> Result<Lease, SpawnError> {
        let kind = |used| Kind { used, loopback };
        let (namespace, warning) = match (network, &self.helper) {
            (Network::Host, _) => (None, None),
            (Network::None, _) => (Some(self.take_or_make(kind(NetworkUsed::None), None)?), None),
            (Network::Default, Ok(helper)) => {
                (Some(self.take_or_make(kind(helper.used()), Some(helper))?), None)
            }
            (Network::Default, Err(why)) => {
                (None, Some(format!("the host's network is used: {why}")))
            }
        };
        Ok(Lease { namespace, pool: Arc::clone(self), reusable, warning })
    }

    fn take_or_make(&self, kind: Kind, helper: Option<&Helper>) -> Result<Namespace, SpawnError> {
        self.take_idle(kind).map_or_else(|| self.make(kind, helper), Ok)
    }

    fn make(&self, kind: Kind, helper: Option<&Helper>) -> Result<Namespace, SpawnError> {
        let fd = make_namespace()?;
        let copy =
            || fd.try_clone().map_err(|e| SpawnError::network("make a network namespace", e));
        let service = match helper {
            Some(helper) => Some(Service::new(helper, kind.loopback, &self.pool, copy()?)),
            None => None,
        };
        Ok(Namespace { fd, kind, service })
    }

    fn take_idle(&self, kind: Kind) -> Option<Namespace> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let index = idle.iter().position(|namespace| namespace.kind == kind)?;
        Some(idle.swap_remove(index))
    }

    fn idle_count(&self, kind: Kind) -> usize {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.iter().filter(|namespace| namespace.kind == kind).count()
    }

    fn put_back(&self, namespace: Namespace) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(namespace);
    }
}

impl Lease {
    pub(crate) fn used(&self) -> NetworkUsed {
        self.namespace.as_ref().map_or(NetworkUsed::Host, |namespace| namespace.kind.used)
    }

    /// The namespace; `None` is the host's.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.namespace.as_ref().map(|namespace| namespace.fd.as_fd())
    }
}

impl Lease {
    /// What serves it.
    pub(crate) fn service(&self) -> Option<&Arc<Service>> {
        self.namespace.as_ref()?.service.as_ref()
    }

    /// Where the host is reached, if at all; it must be served.
    pub(crate) fn gateway(&self) -> Result<Option<IpAddr>, SpawnError> {
        match (self.used(), self.fd()) {
            (NetworkUsed::Host, _) | (_, None) => Ok(Some(Ipv4Addr::LOCALHOST.into())),
            (NetworkUsed::None, _) => Ok(None),
            (NetworkUsed::Pasta | NetworkUsed::Slirp4netns, Some(fd)) => {
                let found = gateway::of_network(fd);
                let found = found
                    .map_err(|e| SpawnError::network("find what `host-gateway` stands for", e))?;
                Ok(Some(found.into()))
            }
        }
    }

    /// Makes sure that it is served.
    pub(crate) fn serve(&self) -> Result<(), SpawnError> {
        match self.service() {
            Some(service) if !service.start() => {
                let lost = || {
                    SpawnError::network("serve the network", io::Error::other("it was not served"))
                };
                Err(service.failure().unwrap_or_else(lost))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let usable = self.reusable && self.service().is_none_or(|service| !service.has_failed());
        if let Some(namespace) = self.namespace.take()
            && usable
        {
            self.pool.put_back(namespace);
        }
    }
}

/// A new namespace with its loopback up. A thread of its own goes there to make it, since a thread
/// that has been there is of no use to anybody else.
fn make_namespace() -> Result<OwnedFd, SpawnError> {
    let make = || -> io::Result<OwnedFd> {
        sys::unshare(Unshare::Network)?;
        sys::bring_loopback_up()?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(openat(CWD, "/proc/thread-self/ns/net", flags, Mode::empty())?)
    };
    std::thread::scope(|scope| scope.spawn(make).join())
        .unwrap_or_else(|_| Err(io::Error::other("the thread ended early")))
        .map_err(|source| SpawnError::network("make a network namespace", source))
}
