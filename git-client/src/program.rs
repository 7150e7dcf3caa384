//! The program `git`, and the world it is run in.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::access::Access;
use crate::call::{Call, Protocols};
use crate::error::GitError;
use crate::installed::{SYSTEM, find};
use crate::limits::Limits;
use crate::listing::{self, Found};
use crate::reference;
use crate::remote::Remote;
use crate::running;

/// The installed program. Whatever it starts ends with the future that waits for it.
#[derive(Clone)]
pub struct Git {
    program: PathBuf,
    pub(crate) limits: Limits,
}

/// A list of all references is kept in memory by `git`; millions of them take less.
const MEMORY_OF_LIST: u64 = 512 << 20;

/// Settings that hold for every run. They come from the environment, which goes before any file.
const SETTINGS: [(&str, &str); 18] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.untrackedCache", "false"),
    // It would say where we keep repositories.
    ("core.logAllRefUpdates", "false"),
    ("core.symlinks", "true"),
    ("core.autocrlf", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.excludesFile", "/dev/null"),
    ("credential.helper", ""),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("submodule.recurse", "false"),
    ("fetch.recurseSubmodules", "false"),
    // Packs come whole or not at all.
    ("fetch.unpackLimit", "1"),
    ("fetch.fsckObjects", "true"),
    // A power cut must not leave a reference that says nothing.
    ("core.fsync", "committed"),
    ("http.lowSpeedLimit", "1"),
    ("safe.directory", "*"),
];

/// Faults of old programs, found in repositories that people use, and harmless.
const FAULTS: [&str; 10] = [
    "zeroPaddedFilemode",
    "zeroPaddedDate",
    "badTimezone",
    "badDate",
    "badEmail",
    "missingEmail",
    "missingNameBeforeEmail",
    "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail",
    "missingTaggerEntry",
];

/// Variables that lead to a proxy.
const PROXIES: [&str; 8] = [
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
];

impl Git {
    /// The program of this machine.
    ///
    /// # Errors
    /// [`GitError::NotInstalled`].
    pub fn find(limits: Limits) -> Result<Self, GitError> {
        let program = find("git").ok_or(GitError::NotInstalled("git"))?;
        Ok(Self { program, limits })
    }

    /// What the reference `wanted` of a repository is at; empty for its default branch.
    ///
    /// # Errors
    /// [`GitError::NoReference`], and whatever `git` says of the server.
    pub async fn look_up(
        &self,
        remote: &Remote,
        access: &Access,
        wanted: &str,
    ) -> Result<Found, GitError> {
        if !wanted.is_empty() && !reference::is_name(wanted) {
            return Err(GitError::InvalidName(wanted.to_owned()));
        }
        let mut arguments = vec!["ls-remote".to_owned(), "--symref".to_owned(), "--".to_owned()];
        arguments.push(remote.address().to_owned());
        arguments.extend(listing::patterns(wanted));
        let call = Call { memory: MEMORY_OF_LIST, ..Call::new(arguments).remote(access) };
        let listing = self.run(call).await?;
        let found = listing::choose(&String::from_utf8_lossy(&listing), wanted);
        found.ok_or_else(|| match wanted {
            "" => GitError::Empty,
            _ => GitError::NoReference(wanted.to_owned()),
        })
    }

    /// Runs the program to its end, and gives what it has written.
    pub(crate) async fn run(&self, call: Call<'_>) -> Result<Vec<u8>, GitError> {
        if call.access.is_some_and(|access| access.ssh.is_some()) {
            find("ssh").ok_or(GitError::NotInstalled("ssh"))?;
        }
        let mut command = tokio::process::Command::new(&self.program);
        command.args(&call.arguments).env_clear().envs(self.environment(&call));
        command.current_dir(call.work_tree.unwrap_or(Path::new("/")));
        running::run(command, &call, &self.limits).await
    }

    fn environment(&self, call: &Call<'_>) -> Vec<(OsString, OsString)> {
        let mut environment: Vec<(OsString, OsString)> = Vec::new();
        let mut set = |name: &str, value: OsString| environment.push((name.into(), value));
        for (name, value) in [
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_SYSTEM", "/dev/null"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", ""),
            ("SSH_ASKPASS", ""),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_NO_LAZY_FETCH", "1"),
            ("GIT_LITERAL_PATHSPECS", "1"),
            // It says then that it goes on.
            ("GIT_LFS_FORCE_PROGRESS", "1"),
            ("HOME", "/dev/null"),
            ("LC_ALL", "C"),
        ] {
            set(name, value.into());
        }
        let protocols = match call.protocols {
            Protocols::Remote => "http:https:ssh:git",
            Protocols::Local => "file",
        };
        set("GIT_ALLOW_PROTOCOL", protocols.into());
        set("PATH", std::env::var_os("PATH").unwrap_or_else(|| SYSTEM.join(":").into()));
        if call.is_remote {
            let proxies = PROXIES.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
            proxies.for_each(|(name, value)| set(name, value));
        }
        let paths = [("GIT_DIR", call.repository), ("GIT_INDEX_FILE", call.index)].into_iter();
        for (name, path) in paths.filter_map(|(name, path)| Some((name, path?))) {
            set(name, path.into());
        }
        if call.work_tree.is_some() {
            set("GIT_WORK_TREE", ".".into());
        }
        let ssh = call.access.and_then(|access| access.ssh.as_ref());
        if let Some(ssh) = ssh {
            set("SSH_AUTH_SOCK", ssh.agent.clone().into());
        }
        set("GIT_SSH_COMMAND", ssh_command(ssh.map(|ssh| ssh.known_hosts.as_path())).into());
        set("GIT_SSH_VARIANT", "ssh".into());
        let settings = self.settings(call);
        set("GIT_CONFIG_COUNT", settings.len().to_string().into());
        for (number, (name, value)) in settings.into_iter().enumerate() {
            set(&format!("GIT_CONFIG_KEY_{number}"), name.into());
            set(&format!("GIT_CONFIG_VALUE_{number}"), value.into());
        }
        environment
    }

    fn settings(&self, call: &Call<'_>) -> Vec<(String, String)> {
        let own = SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let faults =
            FAULTS.iter().map(|fault| (format!("fetch.fsck.{fault}"), "ignore".to_owned()));
        let idle = self.limits.idle.as_secs().max(1).to_string();
        let slow = [("http.lowSpeedTime".to_owned(), idle)];
        let access = call.access.map(Access::settings).unwrap_or_default();
        own.chain(faults).chain(slow).chain(access).chain(call.settings.iter().cloned()).collect()
    }
}

/// How `git` calls `ssh`: no configuration of anybody's, only keys of the agent, only hosts that are known.
fn ssh_command(known_hosts: Option<&Path>) -> String {
    let known_hosts = known_hosts.map_or("/dev/null".into(), Path::to_string_lossy);
    let quoted = known_hosts.replace('\'', "'\\''");
    [
        "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=yes",
        &format!("-o 'UserKnownHostsFile=\"{quoted}\"' -o GlobalKnownHostsFile=/dev/null"),
        "-o ControlMaster=no -o ControlPath=none -o PermitLocalCommand=no -o ForwardAgent=no",
        "-o ClearAllForwardings=yes -o IdentityFile=none -o ConnectTimeout=30",
        "-o ServerAliveInterval=15 -o ServerAliveCountMax=4 -o UpdateHostKeys=no",
    ]
    .join(" ")
}
