//! The store keeps to its limits while others use it.

use std::path::Path;
use std::time::Duration;

use cache::{FsckOptions, PruneFilter, Reach, Space, Store};
use oci::{Descriptor, DiffId, Digest, media_type};

use crate::child;
use crate::loop_device::LoopDevice;
use crate::store::{open, record, root};

const MB: u64 = 1 << 20;

fn limit(max_used: u64) -> [PruneFilter; 1] {
    let space = Space { max_used: Some(max_used), ..Space::default() };
    [PruneFilter { reach: Reach::All, space, ..PruneFilter::default() }]
}

/// A step whose layer has so many bytes.
fn step(store: &Store, name: &str, size: u64) {
    let new = store.new_layer().unwrap();
    std::fs::write(new.fs().join("file"), vec![1; size as usize]).unwrap();
    let id = store.seal(new);
    store.put_record(&record(name, &[id]));
    store.flush().unwrap();
}

fn has(root: &Path, name: &str) -> bool {
    open(root).record(&Digest::of(name.as_bytes())).is_some()
}

/// Room that the files below a directory take.
fn on_disk(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let size = |entry: std::fs::DirEntry| match entry.file_type().unwrap().is_dir() {
        true => on_disk(&entry.path()),
        false => entry.metadata().unwrap().blocks() * 512,
    };
    entries.map(size).sum()
}

/// Makes everything in the store so many seconds older.
pub(crate) fn age(root: &Path, seconds: i64) {
    let database = rusqlite::Connection::open(root.join("records-v1.db")).unwrap();
    database.execute("UPDATE entry SET used = used - ?1", [seconds]).unwrap();
}

#[test]
fn a_limit_is_kept_to_beside_a_session_that_holds_something() {
    let name = "room::a_limit_is_kept_to_beside_a_session_that_holds_something";
    if let Some((root, _)) = child::role() {
        let store = open(&root);
        let held = store.record(&Digest::of(b"held")).unwrap();
        // As a container does, which runs for long.
        assert!(store.use_image(&Digest::of(b"image")));
        child::ready();
        let directory = store.layer(&held.outputs[0][0]).unwrap().directory.unwrap();
        assert_eq!(std::fs::read(directory.join("file")).unwrap().len() as u64, MB);
        assert_eq!(store.take_warnings(), []);
        return;
    }
    let root = root();
    step(&open(root.path()), "held", MB);
    let running = child::start(name, root.path(), "");
    age(root.path(), 1000);
    let rules = limit(6 * MB);
    for round in 0..20 {
        let store = open(root.path());
        step(&store, &format!("step {round}"), MB);
        store.make_room(&rules).unwrap();
        // What has to go is gone when its session ends.
        drop(store);
        let used = on_disk(&root.path().join("layers-v1"));
        assert!(used <= 6 * MB + 6 * MB / 20, "{used} bytes after step {round}");
        assert!(has(root.path(), &format!("step {round}")), "the newest stays");
        // What is of one second is of one age.
        age(root.path(), 10);
    }
    assert!(has(root.path(), "held"), "what a session holds stays");
    assert!(!has(root.path(), "step 3"), "the oldest goes");
    running.finish();
    assert_eq!(open(root.path()).fsck(&FsckOptions::default()).unwrap(), []);
}

#[test]
fn what_was_not_used_for_long_goes_whatever_the_room() {
    let root = root();
    step(&open(root.path()), "old", 1);
    age(root.path(), 1000);
    step(&open(root.path()), "new", 1);
    let rule = PruneFilter {
        reach: Reach::All,
        unused_for: Some(Duration::from_secs(500)),
        ..PruneFilter::default()
    };
    assert_eq!(open(root.path()).make_room(&[rule]).unwrap().layers, 1);
    assert!(has(root.path(), "new") && !has(root.path(), "old"));
}

#[test]
fn what_a_registry_said_stays_as_long_as_somebody_asks_for_it() {
    let root = root();
    let [asked, forgotten] = ["asked:1", "forgotten:1"].map(|name| name.parse().unwrap());
    let store = open(root.path());
    let (digest, size) = store.put_blob(b"manifest").unwrap();
    for reference in [&asked, &forgotten] {
        let descriptor = Descriptor::new("text/plain", digest.clone(), size);
        store.remember_reference(reference, None, &descriptor);
    }
    step(&store, "old", 1);
    drop(store);
    age(root.path(), 100_000);
    let store = open(root.path());
    assert!(store.remembered_reference(&asked, None).is_some());
    drop(store);
    let rule = PruneFilter {
        reach: Reach::All,
        unused_for: Some(Duration::from_secs(50_000)),
        ..PruneFilter::default()
    };
    open(root.path()).make_room(&[rule]).unwrap();
    let store = open(root.path());
    assert!(!has(root.path(), "old") && store.has_blob(&digest));
    assert!(store.remembered_reference(&asked, None).is_some());
    assert!(store.remembered_reference(&forgotten, None).is_none());
}

#[test]
fn a_tar_that_its_tree_gives_back_goes_before_anything_else() {
    let root = root();
    step(&open(root.path()), "unused for longer", MB);
    age(root.path(), 1000);
    let store = open(root.path());
    let new = store.new_layer().unwrap();
    std::fs::write(new.fs().join("file"), vec![1; MB as usize]).unwrap();
    let id = store.seal(new);
    let (digest, size) = store.put_blob(&vec![2; MB as usize]).unwrap();
    let diff_id = DiffId(digest.clone());
    store.set_diff_id_of_tree(&id, &diff_id, size);
    store.add_blob_form(&diff_id, &Descriptor::new(media_type::LAYER, digest.clone(), size));
    store.put_record(&record("step", &[id]));
    drop(store);
    // The tree is measured.
    open(root.path()).disk_usage().unwrap();
    open(root.path()).make_room(&limit(2 * MB + MB / 2)).unwrap();
    assert!(has(root.path(), "step") && has(root.path(), "unused for longer"));
    let store = open(root.path());
    assert!(!store.has_blob(&digest));
    let info = store.layer(&store.layer_of_diff_id(&diff_id).unwrap()).unwrap();
    assert!(info.directory.is_some() && info.blobs.is_empty() && info.gives_tar);
    assert_eq!(store.fsck(&FsckOptions::default()).unwrap(), []);
}

#[test]
fn privileged_a_disk_that_is_nearly_full_gets_room_before_it_is_written_to() {
    let Some(device) = LoopDevice::create(64) else { return };
    let root = device.path().join("store");
    for round in 0..10 {
        step(&open(&root), &format!("step {round}"), 4 * MB);
        age(&root, 10);
    }
    let free = || {
        let stat = rustix::fs::statvfs(&root).unwrap();
        stat.f_bavail * stat.f_frsize
    };
    assert!(free() < 20 * MB);
    let space = Space { min_free: Some(30 * MB), ..Space::default() };
    let rule = PruneFilter { reach: Reach::All, space, ..PruneFilter::default() };
    open(&root).make_room(&[rule]).unwrap();
    assert!((30 * MB..40 * MB).contains(&free()), "{} free", free());
    assert!(has(&root, "step 9") && !has(&root, "step 0"));
}
