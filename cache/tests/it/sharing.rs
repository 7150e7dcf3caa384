//! Several processes in one store.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use oci::Digest;

use crate::child;
use crate::store::{layer, open, record, root, wait_until};

#[test]
fn what_one_process_commits_another_finds() {
    if let Some((root, name)) = child::role() {
        let store = open(&root);
        let id = layer(&store, &name);
        store.put_record(&record(&name, &[id]));
        store.flush().unwrap();
        child::ready();
        return;
    }
    const TEST: &str = "sharing::what_one_process_commits_another_finds";
    let root = root();
    let names = ["one", "two", "three"];
    // All three make the store at the same moment.
    let children = names.map(|name| child::command(TEST, root.path(), name).spawn().unwrap());
    let store = open(root.path());
    wait_until(|| names.iter().all(|name| store.record(&Digest::of(name.as_bytes())).is_some()));
    for mut child in children {
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
    for name in names {
        let found = store.record(&Digest::of(name.as_bytes())).unwrap();
        let directory = store.layer(&found.outputs[0][0]).unwrap().directory.unwrap();
        assert_eq!(std::fs::read_to_string(directory.join("file")).unwrap(), name);
    }
    assert_eq!(store.take_warnings(), []);
}

#[test]
fn equal_work_asked_for_by_several_threads_is_done_once() {
    let root = root();
    let done = AtomicUsize::new(0);
    let key = Digest::of(b"step");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let store = open(root.path());
                let claim = store.claim(&key, &|| false).unwrap().unwrap();
                if store.record(&key).is_some() {
                    return;
                }
                done.fetch_add(1, Ordering::Relaxed);
                let id = layer(&store, "content");
                store.put_record(&record("step", &[id]));
                store.release_when_committed(claim);
                // The next holder finds the work, however soon that is.
                let next = open(root.path());
                if next.try_claim(&key).unwrap().is_some() {
                    assert!(next.record(&key).is_some());
                }
            });
        }
    });
    assert_eq!(done.into_inner(), 1);
    let locks: Vec<_> = std::fs::read_dir(root.path().join("locks-v1")).unwrap().collect();
    assert!(
        locks.iter().all(|lock| lock.as_ref().unwrap().file_name() == "database"),
        "claims leave no files: {locks:?}"
    );
}

#[test]
fn a_claim_ends_with_its_process() {
    let key = Digest::of(b"step");
    if let Some((root, _)) = child::role() {
        let store = open(&root);
        let _claim = store.try_claim(&key).unwrap().unwrap();
        child::ready();
        return;
    }
    let root = root();
    let holder = child::start("sharing::a_claim_ends_with_its_process", root.path(), "");
    let store = open(root.path());
    assert!(store.try_claim(&key).unwrap().is_none());
    let asked = AtomicUsize::new(0);
    let cancelled = store.claim(&key, &|| asked.fetch_add(1, Ordering::Relaxed) == 3);
    assert!(cancelled.unwrap().is_none());
    holder.kill();
    assert!(store.claim(&key, &|| false).unwrap().is_some());
    // The file that the dead process has left is gone with our claim.
    assert!(!root.path().join(format!("locks-v1/claim-{}", key.hex())).exists());
}

#[test]
fn what_a_killed_process_was_doing_is_cleared() {
    if let Some((root, _)) = child::role() {
        let store = open(&root);
        let committed = layer(&store, "committed");
        store.put_record(&record("committed", &[committed]));
        store.flush().unwrap();
        let unfinished = store.new_layer().unwrap();
        std::fs::write(unfinished.fs().join("file"), "unfinished").unwrap();
        let writer = store.blob_writer().unwrap();
        std::fs::write(store.temporary_directory().join("file"), "unfinished").unwrap();
        let claim = store.try_claim(&Digest::of(b"unfinished")).unwrap();
        child::ready();
        drop((unfinished, writer, claim));
        return;
    }
    let root = root();
    child::start("sharing::what_a_killed_process_was_doing_is_cleared", root.path(), "").kill();
    let count = |bucket: &str| std::fs::read_dir(root.path().join(bucket)).unwrap().count();
    let claim = format!("locks-v1/claim-{}", Digest::of(b"unfinished").hex());
    assert_eq!((count("layers-v1"), count("tmp-v1"), count("leases-v1")), (2, 2, 1));
    assert!(root.path().join(&claim).exists());
    let store = open(root.path());
    wait_until(|| (count("layers-v1"), count("tmp-v1"), count("leases-v1")) == (1, 0, 1));
    // The claim's file goes last, on a thread of its own.
    wait_until(|| !root.path().join(&claim).exists());
    assert!(store.record(&Digest::of(b"committed")).is_some());
}

#[test]
fn a_store_is_used_while_others_open_and_close_it() {
    let root = root();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for worker in 0..3 {
            let (root, stop) = (root.path(), &stop);
            scope.spawn(move || {
                for round in 0.. {
                    let name = format!("{worker}-{round}");
                    let store = open(root);
                    let id = layer(&store, &name);
                    store.put_record(&record(&name, &[id]));
                    store.flush().unwrap();
                    assert!(store.record(&Digest::of(name.as_bytes())).is_some());
                    assert_eq!(store.take_warnings(), []);
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        for _ in 0..50 {
            drop(open(root.path()));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(open(root.path()).fsck(&Default::default()).unwrap(), []);
}
