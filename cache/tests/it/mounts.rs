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

/// What is in a directory, a line each: path, mode, time and content.
fn listing(directory: &Path) -> Vec<String> {
    let find = "cd \"$0\" && find . | sort | while read -r name; do stat -c '%n %a %Y %F %h' \"$name\"; \
                test -f \"$name\" && cat \"$name\"; readlink \"$name\"; done; true";
    let listed = std::process::Command::new("sh").args(["-c", find]).arg(directory).output();
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    listed.lines().map(str::to_owned).collect()
}

fn shell(directory: &Path, script: &str) {
    let run =
        std::process::Command::new("sh").args(["-ec", script]).current_dir(directory).status();
    assert!(run.unwrap().success());
}

fn archive(mount: &CacheMount) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert_eq!(mount.write_archive(&mut bytes).unwrap(), []);
    bytes
}

fn target() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Whether this user may change owners.
fn ignores_owner() -> bool {
    !rustix::process::geteuid().is_root()
}

#[test]
fn an_archive_of_a_mount_gives_its_directory_back() {
    let root = root();
    let store = open(root.path());
    let mount = take(&store, Sharing::Locked);
    let make = "mkdir -p d/e; echo one >d/e/one; ln d/e/one linked; ln -s /nowhere/else link; mkfifo pipe; \
                touch -d '2020-01-02 03:04:05.123456789' d/e/one; : >.wh.gone; chmod 700 d; chmod 750 .";
    shell(mount.path(), make);
    let bytes = mount.write_archive(&mut Vec::new()).unwrap();
    assert_eq!(bytes.len(), 1, "the name that means something else in a tar is told: {bytes:?}");
    shell(mount.path(), "rm .wh.gone; touch -d '2021-01-01' . d");
    let bytes = archive(&mount);
    assert_eq!(archive(&mount), bytes);
    let copy = target();
    cache::mount::fill(copy.path(), &bytes[..], ignores_owner()).unwrap();
    assert_eq!(listing(copy.path()), listing(mount.path()));
    let exact = std::fs::metadata(copy.path().join("linked")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mtime_nsec(&exact), 123_456_789);
    // Once it is empty again it is as a new one.
    cache::mount::empty(copy.path()).unwrap();
    let mode = std::fs::metadata(copy.path()).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o7777, 0o755);
    assert_eq!(std::fs::read_dir(copy.path()).unwrap().count(), 0);
}

#[test]
fn of_two_archives_the_newer_of_each_file_counts() {
    let root = root();
    let store = open(root.path());
    let named = |id: &str, script: &str| {
        let mount = store.cache_mount(id, Sharing::Locked, &nothing, &|| false).unwrap().unwrap();
        shell(mount.path(), script);
        archive(&mount)
    };
    let first = named(
        "first",
        "echo old >a; echo new >b; mkdir d c; echo in >d/in; ln -s d way; ln a hard; \
         touch -d 2020-01-01 a hard; touch -d 2020-01-03 b d/in; touch -hd 2020-01-01 way",
    );
    let second = named(
        "second",
        "echo new >a; echo old >b; echo file >d; echo more >more; echo file >c; mkdir way; \
         echo stray >way/stray; ln a hard2; touch -d 2020-01-02 a b d more c way/stray hard2",
    );
    let merged = target();
    for archive in [&first, &second] {
        cache::mount::fill(merged.path(), &archive[..], ignores_owner()).unwrap();
    }
    let read = |name: &str| std::fs::read_to_string(merged.path().join(name)).unwrap();
    let names = ["a", "b", "hard", "hard2", "d/in", "more"].map(read);
    assert_eq!(names, ["new\n", "new\n", "old\n", "new\n", "in\n", "more\n"]);
    // A directory is never replaced, nor written to through a link.
    assert!(merged.path().join("c").is_dir() && !merged.path().join("d/stray").exists());
}

#[test]
fn a_mount_knows_what_it_came_from_until_it_goes() {
    let root = root();
    let store = open(root.path());
    assert!(!store.has_cache_mount("id"));
    assert!(store.cache_mount_alone("id", &|| false).unwrap().is_none());
    let mount = take(&store, Sharing::Shared);
    assert!(store.cache_mount_alone("id", &|| true).unwrap().is_none(), "it is in use");
    let names: Vec<String> = (0..1000).map(|n| format!("{n:016x}")).collect();
    mount.put_came_from(&names);
    let kept = mount.came_from();
    assert!(kept.len() > 16 && names.starts_with(&kept), "{kept:?}");
    drop(mount);
    assert!(store.has_cache_mount("id"));
    assert_eq!(store.cache_mount_alone("id", &|| false).unwrap().unwrap().came_from(), kept);
    store.empty_cache_mounts(&["id".to_owned()].into(), &|| false).unwrap();
    assert_eq!(take(&store, Sharing::Shared).came_from(), Vec::<String>::new());
}
