//! How to go on when a process could not be started.

use executor::SpawnError;
use rustix::io::Errno;

use crate::near::owner_hint;

/// For steps and containers alike; `None` where the error says enough.
pub(crate) fn spawn_hint(error: &SpawnError) -> Option<String> {
    match error {
        SpawnError::User(error) => owner_hint(error),
        SpawnError::Foreign { source: why, .. } | SpawnError::Emulator { why, .. } => {
            Some(why.hint())
        }
        SpawnError::Limit { what, .. } => flags(what).map(str::to_owned),
        SpawnError::Setup { source, .. } if Errno::from_io_error(source) == Some(Errno::MFILE) => {
            Some("`--ulimit nofile=…` leaves too few files to start anything".to_owned())
        }
        SpawnError::Ended => {
            Some("where `--memory` or `--ulimit` are given, they may be too low".to_owned())
        }
        _ => None,
    }
}

/// What sets the limits of a controller.
fn flags(controller: &str) -> Option<&'static str> {
    match controller {
        "memory" => Some("`--memory` and `--memory-swap` set it"),
        "cpu" => Some(
            "`--cpus`, `--cpu-quota`, `--cpu-period` and `--cpu-shares` set it; quota and period are microseconds, \
             1000 or more",
        ),
        "cpuset" => Some(
            "`--cpuset-cpus` and `--cpuset-mems` name processors and memory that this machine has",
        ),
        "pids" => Some("`--pids-limit` sets it"),
        _ => None,
    }
}
