//! Programs of this machine.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

/// Where systems keep programs.
pub(crate) const SYSTEM: [&str; 4] = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];

/// An executable file of this name, in the directories of `PATH` or where systems keep theirs.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(SYSTEM.map(PathBuf::from));
    let mut programs = directories.filter(|dir| dir.is_absolute()).map(|dir| dir.join(name));
    programs.find(|file| {
        let found = std::fs::metadata(file);
        found.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    })
}
