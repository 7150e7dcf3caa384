//! On a full disk prune works, and then everything else does again.

use cache::{OpenError, Options, PruneFilter, Reserve, Store};
use oci::Digest;

use crate::loop_device::{LoopDevice, fill_up};
use crate::store::{layer, open, record};

#[test]
fn privileged_prune_works_without_a_free_block() {
    let Some(device) = LoopDevice::create(64) else { return };
    let root = device.path().join("store");
    let store = open(&root);
    let new = store.new_layer().unwrap();
    std::fs::write(new.fs().join("large"), vec![1; 20 << 20]).unwrap();
    let id = store.seal(new);
    store.put_record(&record("large", &[id]));
    drop(store);
    fill_up(&device.path());
    assert!(std::fs::write(device.path().join("one-more"), [1; 200]).is_err());

    let options = Options { reserve: Reserve::Used, ..Options::default() };
    let store = Store::open(&root, options).unwrap();
    let pruned =
        store.prune(&PruneFilter { reach: cache::Reach::All, ..Default::default() }).unwrap();
    drop(store);
    assert!(pruned.freed >= 20 << 20, "{pruned:?}");
    let store = open(&root);
    assert!(store.record(&Digest::of(b"large")).is_none());
    let id = layer(&store, "next");
    store.put_record(&record("next", &[id]));
    store.flush().unwrap();
    assert!(open(&root).record(&Digest::of(b"next")).is_some());
    assert!(root.join("ballast-v2").exists(), "room is set aside again");
}

#[test]
fn privileged_prune_works_without_a_free_inode() {
    let Some(device) = LoopDevice::with_inodes(64, 3000) else { return };
    let root = device.path().join("store");
    let store = open(&root);
    let id = layer(&store, "small");
    store.put_record(&record("small", &[id]));
    drop(store);
    let mut names = (0..).map(|n| device.path().join(format!("file-{n}")));
    while std::fs::write(names.next().unwrap(), "").is_ok() {}

    let failed = Store::open(&root, Options::default()).unwrap_err();
    assert!(matches!(failed, OpenError::Io { action: "start a session in", .. }), "{failed:?}");
    let options = Options { reserve: Reserve::Used, ..Options::default() };
    let store = Store::open(&root, options).unwrap();
    let pruned =
        store.prune(&PruneFilter { reach: cache::Reach::All, ..Default::default() }).unwrap();
    assert_eq!(pruned.layers, 1);
    drop(store);
    // What it gave back is set aside again as far as it goes.
    assert!(std::fs::read_dir(root.join("ballast-v2")).unwrap().count() > 50);
}

#[test]
fn privileged_a_build_on_a_full_disk_fails_clearly_and_loses_nothing() {
    let Some(device) = LoopDevice::create(64) else { return };
    let root = device.path().join("store");
    let store = open(&root);
    let id = layer(&store, "before");
    store.put_record(&record("before", &[id]));
    store.flush().unwrap();
    let new = store.new_layer().unwrap();
    let written = std::fs::write(new.fs().join("large"), vec![1; 200 << 20]);
    assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    let path = new.fs();
    drop(new);
    drop(store);
    assert!(!path.exists(), "the end of the session waits for it");
    let store = open(&root);
    fill_up(&device.path());
    let failed = store.put_blob(&vec![1; 1 << 20]).unwrap_err();
    assert!(failed.is_out_of_space(), "{failed:?}");
    drop(store);
    let store = open(&root);
    assert!(store.record(&Digest::of(b"before")).is_some());
    assert_eq!(store.fsck(&Default::default()).unwrap(), []);
}

/// A page of SQLite's shared memory has four blocks here: with some of them missing, touching it kills.
#[test]
fn privileged_a_nearly_full_disk_kills_nobody() {
    let Some(device) = LoopDevice::create(24) else { return };
    let root = device.path().join("store");
    let store = open(&root);
    let id = layer(&store, "small");
    store.put_record(&record("small", &[id]));
    drop(store);
    let [shared_memory, ballast] = ["records-v1.db-shm", "ballast-v2"].map(|name| root.join(name));
    std::fs::remove_dir_all(ballast).unwrap();
    let mut opened = Vec::new();
    for blocks in [8, 12, 20, 60] {
        let _ = std::fs::remove_file(&shared_memory);
        let block = |number: usize| device.path().join(format!("block-{number}"));
        let _ = std::fs::remove_file(device.path().join("filler"));
        (0..60).for_each(|number| std::fs::write(block(number), [1; 1024]).unwrap());
        fill_up(&device.path());
        (0..blocks).for_each(|number| std::fs::remove_file(block(number)).unwrap());
        match Store::open(&root, Options::default()) {
            Ok(_) => opened.push(blocks),
            Err(OpenError::Io { source, .. }) => {
                assert_eq!(source.kind(), std::io::ErrorKind::StorageFull, "{blocks} blocks");
            }
            Err(error) => panic!("{blocks} blocks: {error:?}"),
        }
    }
    assert!(opened.contains(&60), "{opened:?}");
}
