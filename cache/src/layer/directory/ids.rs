//! Which owners exist: in a user namespace not all do, and the kernel only says "Invalid argument".

use std::fs;

use rustix::io::Errno;

use crate::layer::name::to_path;
use crate::layer::{Entry, LayerError};

/// The error of an entry whose owner does not exist here, in place of what the kernel said of it.
pub(super) fn explained(entry: &Entry, error: LayerError) -> LayerError {
    let is_refusal = |error: &LayerError| {
        matches!(error, LayerError::Entry { source, .. }
            if source.raw_os_error() == Some(Errno::INVAL.raw_os_error()))
    };
    let missing = || {
        let ids = [("user", entry.uid, "uid"), ("group", entry.gid, "gid")];
        ids.into_iter().find(|(_, id, name)| {
            // Without the map nothing better can be said.
            let map = fs::read_to_string(format!("/proc/self/{name}_map"));
            map.is_ok_and(|map| !contains(&map, *id))
        })
    };
    match is_refusal(&error).then(missing).flatten() {
        Some((kind, id, name)) => {
            LayerError::Owner { path: to_path(&entry.path), kind, id, file: name }
        }
        None => error,
    }
}

/// Whether an id is in one of a map's ranges: first id inside, first id outside, how many.
fn contains(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map_while(|word| word.parse::<u64>().ok());
        match (numbers.next(), numbers.nth(1)) {
            (Some(first), Some(count)) => (first..first + count).contains(&u64::from(id)),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_has_ranges() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        for (id, wanted) in [(0, true), (1, true), (65536, true), (65537, false), (u32::MAX, false)]
        {
            assert_eq!(contains(map, id), wanted, "{id}");
        }
        assert!(contains("         0          0 4294967295\n", 4_000_000_000));
    }
}
