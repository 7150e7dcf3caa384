//! Programs of other architectures: led to their interpreters by the kernel, by the machine's own
//! table or by one in a user namespace.
//!
//! Since Linux 6.7 a user namespace may have a table of its own. It counts for whoever is in the
//! namespace, which maps every id to itself; the interpreters are opened when they are registered, so
//! no root has them. One namespace does for all steps. Nothing names it but our descriptors: it goes
//! with this process.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::Pid;

use crate::architecture::{self, Architecture};
use crate::binfmt::{self, Registered};
use crate::control::{Order, Report};
use crate::emulator::{Emulators, NoEmulator};
use crate::error::SpawnError;
use crate::init_pool::{Init, InitPool};
use crate::process::Security;

/// What leads a process's foreign programs to their interpreters.
#[derive(Debug)]
pub(crate) enum Emulation {
    /// The machine, if it is needed at all.
    Machine,
    /// The machine, which looks for this program in the process's root.
    Interpreter(PathBuf),
    /// A user namespace.
    Namespace(Arc<Namespace>),
    /// Nothing that we know of, and why.
    Nothing(NoEmulator),
}

/// A user namespace with a table of interpreters.
#[derive(Debug)]
pub(crate) struct Namespace {
    users: OwnedFd,
    /// The table is there as long as it is mounted somewhere.
    _table: OwnedFd,
}

/// Makes the namespace when it is first needed.
#[derive(Debug)]
pub(crate) struct Emulating {
    emulators: Emulators,
    pool: Arc<InitPool>,
    namespace: Mutex<Option<Result<Arc<Namespace>, NoEmulator>>>,
}

impl Emulating {
    pub(crate) fn new(emulators: Emulators, pool: Arc<InitPool>) -> Self {
        Self { emulators, pool, namespace: Mutex::default() }
    }

    /// For programs of the architecture that images call `name`. Fails where an emulator was chosen
    /// and cannot be used.
    pub(crate) fn of(&self, name: &str, security: Security) -> Result<Emulation, SpawnError> {
        if name.is_empty() || architecture::is_native(name) {
            return Ok(Emulation::Machine);
        }
        let Some(architecture) = Architecture::named(name) else {
            return Ok(Emulation::Nothing(NoEmulator::Unknown));
        };
        if self.emulators.is_chosen(architecture) {
            let own = self.own(architecture, security);
            let failed = |why| SpawnError::Emulator { architecture: name.to_owned(), why };
            return own.map(Emulation::Namespace).map_err(failed);
        }
        let registered = binfmt::registered(architecture);
        if registered == Some(Registered::Open) {
            return Ok(Emulation::Machine);
        }
        Ok(match (self.own(architecture, security), registered) {
            (Ok(namespace), _) => Emulation::Namespace(namespace),
            (Err(_), Some(Registered::Path(path))) => Emulation::Interpreter(path),
            (Err(why), _) => Emulation::Nothing(why),
        })
    }

    /// The namespace, in which the architecture's interpreter is registered.
    fn own(
        &self,
        architecture: &Architecture,
        security: Security,
    ) -> Result<Arc<Namespace>, NoEmulator> {
        if security == Security::Insecure {
            return Err(NoEmulator::Insecure);
        }
        self.emulators.find(architecture)?;
        let mut namespace = self.namespace.lock().unwrap_or_else(PoisonError::into_inner);
        namespace.get_or_insert_with(|| self.make().map(Arc::new)).clone()
    }

    /// With all emulators that there are.
    fn make(&self) -> Result<Namespace, NoEmulator> {
        let foreign = architecture::ALL.iter().filter(|architecture| !architecture.is_native());
        let rule = |architecture: &Architecture| {
            let path = self.emulators.find(architecture).ok()?;
            Some(binfmt::rule(architecture, path.to_str()?))
        };
        let rules = foreign.filter_map(rule).collect();
        Namespace::make(&self.pool, rules)
            .map_err(|error| NoEmulator::Kernel { why: chain(&error) })
    }
}

impl Namespace {
    fn make(pool: &Arc<InitPool>, rules: Vec<String>) -> Result<Self, SpawnError> {
        let failed = |error| SpawnError::setup("make a user namespace for emulators", error);
        let init = pool.take().map_err(failed)?;
        init.channel().send(&Order::Emulate { rules }, &[]).map_err(failed)?;
        answer(&init)?;
        map_all_ids(init.pid()).map_err(failed)?;
        init.channel().send(&Order::Mapped, &[]).map_err(failed)?;
        let [users, table] = <[OwnedFd; 2]>::try_from(answer(&init)?)
            .map_err(|_| failed(io::ErrorKind::InvalidData.into()))?;
        Ok(Self { users, _table: table })
    }

    /// The namespace.
    pub(crate) fn users(&self) -> BorrowedFd<'_> {
        self.users.as_fd()
    }
}

fn answer(init: &Init) -> Result<Vec<OwnedFd>, SpawnError> {
    let failed = |error| SpawnError::setup("hear of a user namespace", error);
    match init.channel().receive::<Report>().map_err(failed)? {
        Some((Report::Started, fds)) => Ok(fds),
        Some((Report::Failed(failure), _)) => Err(failure.into()),
        Some((Report::Exited(_), _)) | None => Err(SpawnError::Ended),
    }
}

/// Gives the user namespace of `process` the ids of this one, each as itself.
fn map_all_ids(process: Pid) -> io::Result<()> {
    let directory = PathBuf::from(format!("/proc/{}", process.as_raw_nonzero()));
    for name in ["uid_map", "gid_map"] {
        let own = fs::read_to_string(Path::new("/proc/self").join(name))?;
        fs::write(directory.join(name), to_themselves(&own))?;
    }
    Ok(())
}

/// A map of the same ids to themselves.
fn to_themselves(map: &str) -> String {
    let mut same = String::new();
    for line in map.lines() {
        let mut numbers = line.split_whitespace();
        if let (Some(first), Some(count)) = (numbers.next(), numbers.nth(1)) {
            let _ = writeln!(same, "{first} {first} {count}");
        }
    }
    same
}

fn chain(error: &SpawnError) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_stay_what_they_are() {
        for (own, expected) in [
            ("         0          0 4294967295\n", "0 0 4294967295\n"),
            ("0 1000 1\n1 100000 65536\n", "0 0 1\n1 1 65536\n"),
        ] {
            assert_eq!(to_themselves(own), expected);
        }
    }
}
