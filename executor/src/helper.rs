//! Programs that give a network namespace a way out without privileges.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::control::{HELPER_NAMESPACE, HELPER_READY_FD, Order, Report};
use crate::error::SpawnError;
use crate::init_pool::{Init, InitPool};
use crate::names::PASTA_RESOLVER;
use crate::process::NetworkUsed;
use crate::search_path::find_program;

/// What interfaces of user-mode networks are made of.
const TUNNELS: &str = "/dev/net/tun";

/// One that is installed, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Helper {
    Pasta(PathBuf),
    Slirp4netns(PathBuf),
}

/// Whether a network leads to what listens on the host's loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostLoopback {
    Hidden,
    /// At the address of the network's gateway.
    AtGateway,
}

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoHelper {
    /// Neither is installed.
    #[error("neither `pasta` nor `slirp4netns` is installed")]
    NotInstalled,
    /// The device that both need cannot be opened; on some machines only root may.
    #[error("`{program}` needs `{TUNNELS}`, which cannot be opened ({why})")]
    NoDevice {
        /// What is installed.
        program: &'static str,
        /// What the kernel says.
        why: String,
    },
}

impl NoHelper {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NotInstalled => "install `pasta` (package `passt`) or `slirp4netns`".to_owned(),
            Self::NoDevice { .. } => {
                format!("let this user read and write `{TUNNELS}`, or run as root")
            }
        }
    }
}

impl Helper {
    /// The one to use on this machine.
    pub(crate) fn find() -> Result<Self, NoHelper> {
        Self::choose(find_program, || {
            File::options().read(true).write(true).open(TUNNELS).map(drop)
        })
    }

    /// The better one of those installed, if it can `open` what it needs.
    fn choose(
        program: impl Fn(&str) -> Option<PathBuf>,
        open: impl FnOnce() -> io::Result<()>,
    ) -> Result<Self, NoHelper> {
        let pasta = program("pasta").map(Self::Pasta);
        let helper = pasta.or_else(|| program("slirp4netns").map(Self::Slirp4netns));
        let helper = helper.ok_or(NoHelper::NotInstalled)?;
        match open() {
            Ok(()) => Ok(helper),
            Err(error) => {
                let why = error.to_string();
                Err(NoHelper::NoDevice { program: helper.name(), why })
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Pasta(_) => "pasta",
            Self::Slirp4netns(_) => "slirp4netns",
        }
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Pasta(path) | Self::Slirp4netns(path) => path,
        }
    }

    pub(crate) fn used(&self) -> NetworkUsed {
        match self {
            Self::Pasta(_) => NetworkUsed::Pasta,
            Self::Slirp4netns(_) => NetworkUsed::Slirp4netns,
        }
    }

    /// Starts it on a namespace; it runs until the init that is given back is dropped.
    pub(crate) fn serve(
        &self,
        pool: &Arc<InitPool>,
        namespace: BorrowedFd<'_>,
        loopback: HostLoopback,
    ) -> Result<Init, SpawnError> {
        let args = self.args(loopback);
        let says_ready = matches!(self, Self::Slirp4netns(_));
        let order = Order::Help { args: args.clone(), says_ready };
        let what = || format!("start `{}`", args[0]);
        let (init, mut output) = (|| {
            let output = File::from(memfd_create("helper-output", MemfdFlags::CLOEXEC)?);
            let init = pool.take()?;
            init.channel().send(&order, &[output.as_fd(), namespace])?;
            Ok((init, output))
        })()
        .map_err(|source| SpawnError::network(what(), source))?;
        match init.channel().receive() {
            Ok(Some((Report::Started, _))) => Ok(init),
            Ok(_) => Err(SpawnError::network(what(), io::Error::other(last_line(&mut output)))),
            Err(source) => Err(SpawnError::network(what(), source)),
        }
    }

    /// Neither may forward ports into the namespace, nor let it reach the host's loopback unasked.
    fn args(&self, loopback: HostLoopback) -> Vec<String> {
        let hidden = loopback == HostLoopback::Hidden;
        let (program, args): (&Path, String) = match self {
            Self::Pasta(program) => {
                let hide = if hidden { "--no-map-gw " } else { "" };
                let args = format!(
                    "--config-net --quiet {hide}--dns-forward {PASTA_RESOLVER} --runas 0:0 \
                     -t none -u none -T none -U none --no-netns-quit --netns {HELPER_NAMESPACE}"
                );
                (program, args)
            }
            Self::Slirp4netns(program) => {
                let hide = if hidden { "--disable-host-loopback " } else { "" };
                let args = format!(
                    "--configure --mtu=65520 {hide}\
                     --ready-fd={HELPER_READY_FD} --netns-type=path {HELPER_NAMESPACE} tap0"
                );
                (program, args)
            }
        };
        let program = program.to_string_lossy().into_owned();
        std::iter::once(program).chain(args.split(' ').map(str::to_owned)).collect()
    }
}

fn last_line(output: &mut File) -> String {
    let mut text = Vec::new();
    // Without its words the error still says what was tried.
    let _ = output.rewind().and_then(|()| output.read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines().filter(|line| !line.contains("syslog"));
    lines.next_back().unwrap_or("it ended at once").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_there_is_none_is_what_is_missing() {
        let neither = "neither `pasta` nor `slirp4netns` is installed";
        let device =
            "needs `/dev/net/tun`, which cannot be opened (Permission denied (os error 13))";
        for (installed, may_open, wanted) in [
            (&["pasta", "slirp4netns"][..], true, "pasta"),
            (&["slirp4netns"], true, "slirp4netns"),
            (&["pasta"], false, &*format!("`pasta` {device}")),
            (&["slirp4netns"], false, &*format!("`slirp4netns` {device}")),
            (&[], true, neither),
            (&[], false, neither),
        ] {
            let program = |name: &str| installed.contains(&name).then(|| PathBuf::from(name));
            let denied = || io::Error::from_raw_os_error(libc::EACCES);
            let found = Helper::choose(program, || may_open.then_some(()).ok_or_else(denied));
            let told = found.map_or_else(|why| why.to_string(), |helper| helper.name().to_owned());
            assert_eq!(told, wanted, "{installed:?} {may_open}");
        }
    }
}
