//! What this machine lets a sandbox do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::cgroup::Hierarchies;
use crate::overlay::{OverlayError, mount};

/// What this machine lets us do, found once in a process.
#[derive(Debug, Clone)]
pub struct Host {
    rootless: bool,
    single_id: bool,
    pub(crate) hierarchies: Hierarchies,
    pub(crate) helper: Option<Helper>,
}

/// A program that gives a network namespace a way out without privileges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Helper {
    Pasta(PathBuf),
    Slirp4netns(PathBuf),
}

impl Host {
    /// Looks at the machine, and removes control groups that a killed process left.
    pub fn probe() -> Self {
        let maps = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let rootless = !is_identity(&maps);
        let single_id = rootless && mapped_ids(&maps) == 1;
        let hierarchies = Hierarchies::probe(rootless);
        hierarchies.remove_leftovers();
        let helper = find_program("pasta")
            .map(Helper::Pasta)
            .or_else(|| find_program("slirp4netns").map(Helper::Slirp4netns))
            .filter(|_| can_make_interfaces());
        Self { rootless, single_id, hierarchies, helper }
    }

    /// Whether this process is root only in a user namespace.
    pub fn rootless(&self) -> bool {
        self.rootless
    }

    /// Whether only one user and group id exist: every file belongs to root, and changing owners is
    /// pretended.
    pub fn single_id(&self) -> bool {
        self.single_id
    }

    /// Whether overlay mounts keep their marks in `user.overlay.*` attributes instead of
    /// `trusted.overlay.*`; whoever reads upper directories needs to know.
    pub fn userxattr(&self) -> bool {
        self.rootless
    }

    /// Which limits by control group can be set here: names out of `pids`, `memory`, `cpu` and
    /// `cpuset`.
    pub fn limits(&self) -> Vec<&'static str> {
        self.hierarchies.limits()
    }

    /// The helper that [`Network::Default`](crate::Network::Default) goes through, if there is one.
    pub fn network_helper(&self) -> Option<&Path> {
        match self.helper.as_ref()? {
            Helper::Pasta(path) | Helper::Slirp4netns(path) => Some(path),
        }
    }

    /// Whether overlay mounts work with directories in `dir`; tried, and cleaned up.
    pub fn supports_overlay(&self, dir: &Path) -> Result<(), OverlayError> {
        let base = dir.join(format!(".overlay-probe-{}", std::process::id()));
        let names = ["lower", "upper", "work"].map(|name| base.join(name));
        let made = names.iter().try_for_each(fs::create_dir_all);
        let result = made
            .map_err(|source| OverlayError::Layer { path: base.clone(), source })
            .and_then(|()| {
                let [lower, upper, work] = &names;
                let attributes = rustix::mount::MountAttrFlags::empty();
                mount(self, std::slice::from_ref(lower), Some((upper, work)), attributes)
            });
        // The directory is ours alone and empty but for what the kernel puts in `work`.
        let removed = fs::remove_dir_all(&base);
        result.map(drop)?;
        removed.map_err(|source| OverlayError::Layer { path: base, source })
    }
}

/// Both helpers need this device; on some machines only root may open it.
fn can_make_interfaces() -> bool {
    fs::File::options().read(true).write(true).open("/dev/net/tun").is_ok()
}

/// Whether the map is that of the initial user namespace: every id is itself.
fn is_identity(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

fn mapped_ids(map: &str) -> u64 {
    map.lines()
        .filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok())
        .fold(0, u64::saturating_add)
}

pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/bin", "/usr/sbin", "/bin", "/sbin"].map(PathBuf::from))
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|file| {
            fs::metadata(file)
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_told_apart() {
        let cases = [
            ("         0          0 4294967295\n", true, 4_294_967_295),
            ("0 1000 1\n", false, 1),
            ("0 1000 1\n1 100000 65536\n", false, 65537),
        ];
        for (map, identity, count) in cases {
            assert_eq!((is_identity(map), mapped_ids(map)), (identity, count), "{map}");
        }
    }
}
