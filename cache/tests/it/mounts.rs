//! Cache mounts and who may use them at the same time.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cache::{CacheMount, PruneFilter, Sharing, Store};

use crate::child;
use crate::store::{open, root};

fn nothing(_: &Path) -> io::Result<()> {
    Ok(())
}

fn take(store: &Store, sharing: Sharing) -> CacheMount {
    store.cache_mount("id", sharing, &nothing, &|| false).unwrap().unwrap()
}

/// Takes it, giving up at once when somebody has it.
fn try_take(store: &Store, sharing: Sharing) -> Option<CacheMount> {
    store.cache_mount("id", sharing, &nothing, &|| true).unwrap()
}

#[test]
fn a_shared_mount_is_one_directory_for_all() {
    let root = root();
    let (one, two) = (open(root.path()), open(root.path()));
    let (first, second) = (take(&one, Sharing::Shared), take(&two, Sharing::Shared));
    std::fs::write(first.path().join("file"), "kept").unwrap();
    assert_eq!(first.path(), second.path());
    assert!(try_take(&one, Sharing::Locked).is_none(), "it is in use");
    drop((first, second, one, two));
    let store = open(root.path());
    let again = take(&store, Sharing::Locked);
    assert_eq!(std::fs::read_to_string(again.path().join("file")).unwrap(), "kept");
    let other = store.cache_mount("other", Sharing::Shared, &nothing, &|| false);
    assert_ne!(other.unwrap().unwrap().path(), again.path());
}

#[test]
fn mounts_are_emptied_by_their_ids_and_not_under_their_users() {
    let root = root();
    let store = open(root.path());
    let named = |id: &str| store.cache_mount(id, Sharing::Shared, &nothing, &|| false);
    let has_file = |id: &str| named(id).unwrap().unwrap().path().join("file").exists();
    // The second is the first, filled from something; the third only begins like it.
    let ids = ["id", "id\nseed", "id2"];
    for id in ids {
        std::fs::write(named(id).unwrap().unwrap().path().join("file"), "").unwrap();
    }
    let wanted = ["id".to_owned()].into();
    let user = take(&store, Sharing::Shared);
    assert!(!store.empty_cache_mounts(&wanted, &|| true).unwrap(), "somebody has it");
    assert!(user.path().join("file").exists());
    drop(user);
    assert!(store.empty_cache_mounts(&wanted, &|| false).unwrap());
    assert_eq!(ids.map(has_file), [false, false, true]);
}

#[test]
fn a_private_mount_is_another_directory_while_it_is_in_use() {
    let root = root();
    let store = open(root.path());
    let first = take(&store, Sharing::Private);
    let second = take(&store, Sharing::Private);
    assert_ne!(first.path(), second.path());
    let path = first.path().to_owned();
    drop(first);
    assert_eq!(take(&store, Sharing::Private).path(), path);
}

#[test]
fn a_locked_mount_has_one_user_at_a_time() {
    let root = root();
    let users = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let store = open(root.path());
                let mount = take(&store, Sharing::Locked);
                assert_eq!(users.fetch_add(1, Ordering::SeqCst), 0);
                assert!(try_take(&store, Sharing::Locked).is_none(), "it is in use");
                std::fs::write(mount.path().join("file"), "x").unwrap();
                assert_eq!(users.fetch_sub(1, Ordering::SeqCst), 1);
            });
        }
    });
}

#[test]
fn a_locked_mount_is_free_when_its_user_dies() {
    if let Some((root, _)) = child::role() {
        let store = open(&root);
        let _mount = take(&store, Sharing::Locked);
        child::ready();
        return;
    }
    let root = root();
    let user = child::start("mounts::a_locked_mount_is_free_when_its_user_dies", root.path(), "");
    let store = open(root.path());
    assert!(try_take(&store, Sharing::Locked).is_none());
    user.kill();
    take(&store, Sharing::Locked);
}

#[test]
fn a_new_mount_is_prepared_before_anybody_sees_it() {
    let root = root();
    let store = open(root.path());
    let is_seen = || {
        let mounts = std::fs::read_dir(root.path().join("mounts-v1")).unwrap();
        let mut slots = mounts.flat_map(|mount| std::fs::read_dir(mount.unwrap().path()).unwrap());
        slots.any(|slot| slot.unwrap().file_type().unwrap().is_dir())
    };
    let refuse = |_: &Path| {
        assert!(!is_seen());
        Err(io::Error::other("no"))
    };
    assert!(store.cache_mount("id", Sharing::Shared, &refuse, &|| false).is_err());
    assert!(!is_seen());
    let prepared = AtomicUsize::new(0);
    let prepare = |path: &Path| {
        assert!(!is_seen());
        prepared.fetch_add(1, Ordering::Relaxed);
        std::fs::write(path.join("seed"), "seed")
    };
    for _ in 0..2 {
        let mount = store.cache_mount("id", Sharing::Shared, &prepare, &|| false);
        assert!(mount.unwrap().unwrap().path().join("seed").exists());
    }
    assert_eq!(prepared.into_inner(), 1);
}

#[test]
fn a_mount_that_is_shared_is_made_by_one() {
    let root = root();
    let store = open(root.path());
    let prepared = AtomicUsize::new(0);
    let prepare = |_: &Path| {
        prepared.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(20));
        Ok(())
    };
    let begin = std::sync::Barrier::new(4);
    let take = || {
        begin.wait();
        store.cache_mount("id", Sharing::Shared, &prepare, &|| false).unwrap().unwrap()
    };
    std::thread::scope(|scope| {
        let users = [(); 4].map(|()| scope.spawn(take));
        users.into_iter().for_each(|user| drop(user.join().unwrap()));
    });
    assert_eq!(prepared.into_inner(), 1);
}

#[test]
fn prune_leaves_mounts_that_are_in_use() {
    let root = root();
    let store = open(root.path());
    let mount = take(&store, Sharing::Shared);
    let path = mount.path().to_owned();
    let all = PruneFilter { reach: cache::Reach::All, ..Default::default() };
    assert_eq!(open(root.path()).prune(&all).unwrap().mounts, 0);
    assert!(path.exists());
    drop(mount);
    assert_eq!(open(root.path()).prune(&all).unwrap().mounts, 1);
    assert!(!path.exists());
}

#[test]
fn nothing_is_left_of_mounts_that_were_pruned_or_emptied() {
    let root = root();
    let store = open(root.path());
    drop((take(&store, Sharing::Shared), take(&store, Sharing::Private)));
    assert!(store.empty_cache_mounts(&["id".to_owned()].into(), &|| false).unwrap());
    let user = store.cache_mount("used", Sharing::Shared, &nothing, &|| false).unwrap();
    let other = open(root.path());
    let all = PruneFilter { reach: cache::Reach::All, ..PruneFilter::default() };
    other.prune(&all).unwrap();
    let ids = || std::fs::read_dir(root.path().join("mounts-v1")).unwrap().count();
    assert_eq!(ids(), 1);
    drop(user);
    assert_eq!(other.prune(&all).unwrap().mounts, 1);
    assert_eq!(ids(), 0);
}

#[test]
fn mounts_are_made_in_a_storm_of_prunes() {
    let root = root();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let use_mounts = |user: u32| {
            let (root, is_over) = (root.path(), &is_over);
            scope.spawn(move || {
                let store = open(root);
                let mut kinds =
                    [Sharing::Shared, Sharing::Private, Sharing::Locked].into_iter().cycle();
                while !is_over.load(Ordering::Relaxed) {
                    let mount = take(&store, kinds.next().unwrap());
                    let file = mount.path().join(format!("{user}"));
                    std::fs::write(&file, "kept").unwrap();
                    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
                    drop(mount);
                    std::thread::sleep(Duration::from_micros(500));
                }
            })
        };
        let users = [0, 1].map(use_mounts);
        let store = open(root.path());
        let all = PruneFilter { reach: cache::Reach::All, ..PruneFilter::default() };
        let pruned: u64 = (0..300).map(|_| store.prune(&all).unwrap().mounts).sum();
        is_over.store(true, Ordering::Relaxed);
        users.into_iter().for_each(|user| user.join().unwrap());
        assert!(pruned > 10, "{pruned}");
    });
}
