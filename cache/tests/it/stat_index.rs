//! The stat index never vouches for a file that may have changed.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use cache::{Stat, StatIndex, Store};
use proptest::prelude::*;

use crate::store::{open, root};

const CONTEXT: &str = "/context";

fn load(store: &Store) -> StatIndex {
    StatIndex::load(store, Path::new(CONTEXT))
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn stat(n: u64) -> Stat {
    Stat { dev: 1, ino: n, size: n, mtime_ns: 1, ctime_ns: 2 }
}

#[test]
fn an_unchanged_file_is_known_and_any_change_shows() {
    let root = root();
    let store = open(root.path());
    let index = load(&store);
    index.put(b"file", &stat(5), &[7; 32], at(10));
    index.save().unwrap();
    let index = load(&store);
    assert_eq!(index.get(b"file", &stat(5)), Some([7; 32]));
    assert_eq!(index.get(b"other", &stat(5)), None);
    for changed in [
        Stat { dev: 2, ..stat(5) },
        Stat { ino: 6, ..stat(5) },
        Stat { size: 6, ..stat(5) },
        Stat { mtime_ns: 2, ..stat(5) },
        Stat { ctime_ns: 3, ..stat(5) },
    ] {
        assert_eq!(index.get(b"file", &changed), None, "{changed:?}");
    }
    let other = StatIndex::load(&store, Path::new("/elsewhere"));
    assert_eq!(other.get(b"file", &stat(5)), None);
}

#[test]
fn a_file_that_just_changed_is_not_trusted() {
    let root = root();
    let store = open(root.path());
    let index = load(&store);
    let second = 1_000_000_000;
    for (name, age, is_trusted) in [
        ("now", 0, false),
        ("tick", 49_999_999, false),
        ("old", 50_000_000, true),
        ("future", -second, false),
    ] {
        let stat = Stat { ctime_ns: 10 * second - age, ..stat(1) };
        index.put(name.as_bytes(), &stat, &[1; 32], at(10));
        index.save().unwrap();
        assert_eq!(load(&store).get(name.as_bytes(), &stat).is_some(), is_trusted, "{name}");
    }
}

#[test]
fn a_damaged_index_is_an_empty_one() {
    let root = root();
    let store = open(root.path());
    let index = load(&store);
    for n in 0..20 {
        index.put(&[n], &stat(u64::from(n)), &[n; 32], at(10));
    }
    index.save().unwrap();
    let directory = root.path().join("index-v1");
    let path = std::fs::read_dir(directory).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(load(&store).get(&[3], &stat(3)), None, "byte {at}");
        std::fs::write(&path, &whole[..at]).unwrap();
        assert_eq!(load(&store).get(&[3], &stat(3)), None, "cut at {at}");
    }
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(load(&store).get(&[3], &stat(3)), Some([3; 32]));
}

#[test]
fn files_that_are_gone_are_forgotten_in_time() {
    let root = root();
    let store = open(root.path());
    let index = load(&store);
    for n in 0..30_000_u64 {
        index.put(&n.to_le_bytes(), &stat(n), &[0; 32], at(10));
    }
    index.save().unwrap();
    let size = || load_size(root.path());
    let large = size();
    let index = load(&store);
    assert!(index.get(&1_u64.to_le_bytes(), &stat(1)).is_some());
    index.put(b"new", &stat(1), &[0; 32], at(10));
    index.save().unwrap();
    assert!(size() < large / 100);
    let index = load(&store);
    assert!(index.get(&1_u64.to_le_bytes(), &stat(1)).is_some());
    assert!(index.get(&2_u64.to_le_bytes(), &stat(2)).is_none());
}

fn load_size(root: &Path) -> u64 {
    let entry = std::fs::read_dir(root.join("index-v1")).unwrap().next().unwrap();
    entry.unwrap().metadata().unwrap().len()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..Default::default() })]

    #[test]
    fn it_remembers_what_was_put_last(
        rounds in prop::collection::vec(prop::collection::vec((0_u8..40, any::<u64>()), 0..30), 1..5)
    ) {
        let root = root();
        let store = open(root.path());
        let mut model = HashMap::new();
        for round in rounds {
            let index = load(&store);
            for (name, n) in &round {
                let digest = *blake3::hash(&n.to_le_bytes()).as_bytes();
                index.put(&[*name], &stat(*n), &digest, at(10));
                model.insert(*name, (*n, digest));
            }
            index.save().unwrap();
            let index = load(&store);
            for name in 0..40 {
                match model.get(&name) {
                    Some((n, digest)) => {
                        prop_assert_eq!(index.get(&[name], &stat(*n)), Some(*digest));
                        prop_assert_eq!(index.get(&[name], &stat(n.wrapping_add(1))), None);
                    }
                    None => prop_assert_eq!(index.get(&[name], &stat(0)), None),
                }
            }
        }
    }
}
