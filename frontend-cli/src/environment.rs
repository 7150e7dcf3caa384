//! What the process finds around it: variables and terminals. Tests make their own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::PathBuf;

/// Where engines listen: Docker's, then Podman's.
const SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/podman/podman.sock"];
/// The same of a user's own, in the directory for what runs.
const SOCKETS_OF_USER: [&str; 2] = ["docker.sock", "podman/podman.sock"];

/// The surroundings that the meaning of a command line depends on.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// Environment variables. Those whose names are not UTF-8 are never asked for.
    pub variables: BTreeMap<String, OsString>,
    /// Standard input is a terminal.
    pub stdin_is_terminal: bool,
    /// Where engines that take images listen, the one that counts first. They need not be there.
    pub engine_sockets: Vec<PathBuf>,
    /// Standard output is a terminal.
    pub stdout_is_terminal: bool,
    /// Standard error is a terminal.
    pub stderr_is_terminal: bool,
}

impl Environment {
    /// That of this process.
    pub fn of_process() -> Self {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let runtime = runtime.into_iter().flat_map(|at| SOCKETS_OF_USER.map(|name| at.join(name)));
        Self {
            engine_sockets: runtime.chain(SOCKETS.map(PathBuf::from)).collect(),
            variables: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
                .collect(),
            stdin_is_terminal: std::io::stdin().is_terminal(),
            stdout_is_terminal: std::io::stdout().is_terminal(),
            stderr_is_terminal: std::io::stderr().is_terminal(),
        }
    }

    /// A variable as text; an empty one counts as set, one that is not UTF-8 does not.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.variables.get(name)?.to_str()
    }

    /// One of the user's directories (XDG base directory specification): the variable, else `fallback` in
    /// the home directory.
    pub fn home(&self, variable: &str, fallback: &str) -> Option<PathBuf> {
        self.path(variable).or_else(|| Some(self.path("HOME")?.join(fallback)))
    }

    /// A variable as a path; an empty one counts as unset.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.variables.get(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }
}
