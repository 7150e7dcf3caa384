//! Mirrors of git repositories, as directories that one at a time has.

use std::io;
use std::path::Path;

use cache::{Bucket, ItemKind, Match, Mirror, Property, PruneFilter, Reach, Store};

use crate::store::{open, root};

fn make(path: &Path) -> io::Result<()> {
    std::fs::write(path.join("HEAD"), "a repository")
}

fn take(store: &Store, id: &str) -> Option<Mirror> {
    store.mirror(id, &make, &|| true).unwrap()
}

fn all() -> PruneFilter {
    PruneFilter { reach: Reach::All, ..PruneFilter::default() }
}

#[test]
fn a_mirror_is_kept_and_one_at_a_time_has_it() {
    let root = root();
    let store = open(root.path());
    let mirror = take(&store, "https://example.org/a.git").expect("nobody has it");
    std::fs::write(mirror.path().join("pack"), "fetched").unwrap();
    assert!(take(&open(root.path()), "https://example.org/a.git").is_none());
    assert!(take(&open(root.path()), "https://example.org/b.git").is_some());
    // A program that was started has it as well, until it is given back.
    let lock = mirror.lock().unwrap();
    drop(mirror);
    let again = take(&open(root.path()), "https://example.org/a.git").expect("given back");
    assert!(again.path().join("pack").exists());
    drop(lock);
    assert_eq!(store.mirrors().unwrap().len(), 2, "as many as there were addresses");
}

#[test]
fn prune_and_du_know_mirrors() {
    let root = root();
    let store = open(root.path());
    let mirror = take(&store, "https://example.org/a.git").expect("nobody has it");
    std::fs::write(mirror.path().join("pack"), vec![1; 100_000]).unwrap();
    let usage = store.disk_usage().unwrap();
    assert_eq!((usage.mirror_count, usage.mount_count), (1, 0));
    assert!(usage.mirrors >= 100_000 && usage.total > usage.mirrors);
    let items = store.cache_items().unwrap();
    assert_eq!((items[0].kind, items[0].kind.word()), (ItemKind::Mirror, "source.git.checkout"));
    assert_eq!(items[0].description, "https://example.org/a.git");
    assert_eq!(open(root.path()).prune(&all()).unwrap().mirrors, 0, "it is in use");
    drop(mirror);
    let only = |property| PruneFilter { matches: vec![Match { wanted: true, property }], ..all() };
    let pruned = store.prune(&only(Property::Mount)).unwrap();
    assert_eq!((pruned.mounts, pruned.mirrors), (0, 0));
    let pruned = store.prune(&only(Property::Mirror)).unwrap();
    assert_eq!((pruned.mounts, pruned.mirrors), (0, 1));
    assert!(pruned.freed >= 100_000);
    assert!(store.mirrors().unwrap().is_empty());
}

#[test]
fn a_damaged_mirror_is_made_again() {
    let root = root();
    let store = open(root.path());
    let mirror = take(&store, "a").expect("nobody has it");
    std::fs::write(mirror.path().join("pack"), "damaged").unwrap();
    store.discard_mirror(mirror).unwrap();
    let again = take(&store, "a").expect("nobody has it");
    assert!(!again.path().join("pack").exists() && again.path().join("HEAD").exists());
}

#[test]
fn a_store_of_a_program_before_gets_a_place_for_them() {
    let root = root();
    drop(open(root.path()));
    std::fs::remove_dir(Bucket::Mirrors.path(root.path())).unwrap();
    let store = open(root.path());
    assert!(store.mirrors().unwrap().is_empty());
    store.disk_usage().unwrap();
    store.prune(&all()).unwrap();
    assert!(take(&store, "a").is_some());
}
