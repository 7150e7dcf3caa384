//! Being root without being root: a user namespace for the whole program.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{WaitOptions, waitpid};

use crate::search_path::find_program;
use crate::sys::{self, Unshare};

/// No sane machine lists more.
const MAX_ID_FILE: u64 = 16 << 20;

/// The user namespace this program has entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserNamespace {
    /// Whether only the caller's own user and group could be mapped.
    pub single_id: bool,
    /// Why there is only one id, in a sentence for the user.
    pub warning: Option<String>,
}

/// Why no user namespace could be entered.
#[derive(Debug, thiserror::Error)]
pub enum UserNamespaceError {
    /// The kernel refuses to make one.
    #[error(
        "failed to make a user namespace: the system may forbid it \
         (`user.max_user_namespaces`, `kernel.apparmor_restrict_unprivileged_userns`)"
    )]
    Refused(#[source] io::Error),
    /// It was made and could not be filled in.
    #[error("failed to {action}")]
    Setup {
        /// What was being done.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
}

fn setup(action: &'static str) -> impl FnOnce(io::Error) -> UserNamespaceError {
    move |source| UserNamespaceError::Setup { action, source }
}

/// Makes this program root in a user and mount namespace of its own, unless it is root already.
///
/// To be called at the start of `main`, while there is one thread. The caller's own id becomes root;
/// the ranges that `/etc/subuid` and `/etc/subgid` give the caller become the ids from 1 on, by
/// `newuidmap` and `newgidmap`. Without them there is root and nobody else.
pub fn enter_user_namespace() -> Result<Option<UserNamespace>, UserNamespaceError> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if uid.is_root() {
        return Ok(None);
    }
    let plan = MapPlan::find(uid.as_raw(), gid.as_raw());
    let mapped = match plan {
        Ok(plan) => plan.enter()?,
        Err(reason) => {
            sys::unshare(Unshare::UserAndMounts).map_err(UserNamespaceError::Refused)?;
            Err(reason)
        }
    };
    let warning = match mapped {
        Ok(()) => None,
        Err(reason) => {
            map_single(uid.as_raw(), gid.as_raw()).map_err(setup("map the user's own id"))?;
            Some(format!("only one user id can be used: {reason}"))
        }
    };
    Ok(Some(UserNamespace { single_id: warning.is_some(), warning }))
}

fn map_single(uid: u32, gid: u32) -> io::Result<()> {
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    // An unprivileged process may map a group only if it can leave none.
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// The two commands that map ranges.
struct MapPlan {
    commands: [(PathBuf, Vec<OsString>); 2],
}

impl MapPlan {
    /// The reason is for the user.
    fn find(uid: u32, gid: u32) -> Result<Self, String> {
        let name = user_name(uid);
        let plan = |file: &str, program: &str, own: u32| {
            let ranges = ranges(&read(file), uid, name.as_deref());
            if ranges.is_empty() {
                return Err(format!("{file} gives user {uid} no range"));
            }
            let found =
                find_program(program).ok_or_else(|| format!("`{program}` is not installed"))?;
            let mut args = vec!["0".to_owned(), own.to_string(), "1".to_owned()];
            let mut next: u64 = 1;
            for (start, count) in ranges {
                args.extend([next, start, count].map(|number| number.to_string()));
                next += count;
            }
            Ok((found, args.into_iter().map(OsString::from).collect()))
        };
        Ok(Self {
            commands: [
                plan("/etc/subuid", "newuidmap", uid)?,
                plan("/etc/subgid", "newgidmap", gid)?,
            ],
        })
    }

    /// Enters the namespace while a child outside maps the ids; the inner reason is for the user.
    fn enter(self) -> Result<Result<(), String>, UserNamespaceError> {
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
        let (entered, say_entered) = pipe().map_err(|error| setup("make a pipe")(error.into()))?;
        let parent = rustix::process::getpid();
        let forked = sys::fork().map_err(setup("start a process"))?;
        let Some(child) = forked else {
            drop(say_entered);
            sys::exit_now(self.map(&entered, parent.as_raw_nonzero().get()))
        };
        drop(entered);
        let unshared = sys::unshare(Unshare::UserAndMounts).map_err(UserNamespaceError::Refused);
        if unshared.is_ok() {
            // Without this byte the child does nothing.
            let told = rustix::io::write(&say_entered, &[1]);
            told.map_err(|error| setup("tell the id mapper")(error.into()))?;
        }
        drop(say_entered);
        let status = waitpid(Some(child), WaitOptions::empty())
            .map_err(|error| setup("wait for the id mapper")(error.into()))?;
        unshared?;
        Ok(match status.and_then(|(_, status)| status.exit_status()) {
            Some(0) => Ok(()),
            Some(1) => Err("`newuidmap` failed".to_owned()),
            _ => Err("`newgidmap` failed".to_owned()),
        })
    }

    /// Runs in the child, outside the namespace; gives its exit code.
    fn map(&self, entered: &OwnedFd, parent: i32) -> i32 {
        if !matches!(rustix::io::read(entered, &mut [0_u8]), Ok(1)) {
            return 3;
        }
        for (code, (program, args)) in (1..).zip(&self.commands) {
            let mapped = Command::new(program).arg(parent.to_string()).args(args).output();
            if !mapped.is_ok_and(|output| output.status.success()) {
                return code;
            }
        }
        0
    }
}

fn read(file: &str) -> String {
    let mut text = String::new();
    if let Ok(file) = fs::File::open(file) {
        // What cannot be read gives no ranges.
        let _ = io::Read::read_to_string(&mut io::Read::take(file, MAX_ID_FILE), &mut text);
    }
    text
}

fn user_name(uid: u32) -> Option<String> {
    read("/etc/passwd").lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// The ranges (first id, how many) that `text` gives a user, by name or by number.
fn ranges(text: &str, uid: u32, name: Option<&str>) -> Vec<(u64, u64)> {
    let uid = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let user = fields.next()?;
            let start = fields.next()?.parse().ok()?;
            let count = fields.next()?.parse().ok()?;
            let mine = user == uid || Some(user) == name;
            (mine && count > 0).then_some((start, count))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_number() {
        let text = "root:1:2\nada:100000:65536\n# note\n1000:300000:10\nada:bad:1\neve:5:5\n";
        assert_eq!(ranges(text, 1000, Some("ada")), [(100_000, 65536), (300_000, 10)]);
        assert_eq!(ranges(text, 7, None), []);
    }
}
