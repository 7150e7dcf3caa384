//! What this machine lets a sandbox do.

use std::fs;
use std::sync::Arc;

use crate::identity::UserError;
use crate::layer_directories::LayerDirectories;

/// What this machine lets us do, found once in a process.
#[derive(Debug, Clone)]
pub struct Host {
    rootless: bool,
    single_id: bool,
    /// How many ids there are, from 0 on.
    ids: u64,
    /// What was mounted on it before.
    pub(crate) layer_directories: Arc<LayerDirectories>,
}

impl Host {
    /// Looks at who we are here. What only running something needs is looked for when an
    /// [`Executor`](crate::Executor) is made.
    pub fn probe() -> Self {
        let maps = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let rootless = !is_identity(&maps);
        let ids = mapped_ids(&maps);
        let single_id = rootless && ids == 1;
        Self { rootless, single_id, ids, layer_directories: Arc::default() }
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

    /// How many ids there are, from 0 on, where some are missing.
    pub fn limited_ids(&self) -> Option<u64> {
        (self.rootless && !self.single_id).then_some(self.ids)
    }

    /// Fails if nobody can be this user or in one of these groups here. With one id alone everybody is
    /// root.
    pub fn check_ids(
        &self,
        user: u32,
        groups: impl IntoIterator<Item = u32>,
    ) -> Result<(), UserError> {
        let is_missing = |id: u32| !self.single_id && u64::from(id) >= self.ids;
        if is_missing(user) {
            return Err(UserError::Unmapped { kind: "user", id: user, file: "uid" });
        }
        match groups.into_iter().find(|id| is_missing(*id)) {
            Some(id) => Err(UserError::Unmapped { kind: "group", id, file: "gid" }),
            None => Ok(()),
        }
    }

    /// Whether overlay mounts keep their marks in `user.overlay.*` attributes instead of
    /// `trusted.overlay.*`; readers of upper directories need to know.
    pub fn userxattr(&self) -> bool {
        self.rootless
    }
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
