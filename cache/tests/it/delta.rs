//! Layers that lie over the tree of another.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cache::{Damage, FsckOptions, LayerId, PruneFilter, Reach, Space, Store};
use oci::{Descriptor, DiffId, Digest, media_type};

use crate::child;
use crate::store::{layer, open, record, root};

const ALL: PruneFilter =
    PruneFilter { reach: Reach::All, matches: Vec::new(), unused_for: None, space: NO_LIMIT };
const NO_LIMIT: Space = Space { reserved: None, max_used: None, min_free: None };

/// A layer that changes that of the step `over`, and a step that gives it.
fn delta(store: &Store, over: &LayerId, name: &str) -> LayerId {
    let new = store.new_layer().unwrap();
    std::fs::write(new.fs().join("more"), name).unwrap();
    let id = store.seal_over(new, over);
    store.put_record(&record(name, std::slice::from_ref(&id)));
    id
}

/// A store with the steps `whole` and `delta`, and the directories of their layers.
fn fill(root: &Path) -> [PathBuf; 2] {
    let store = open(root);
    let whole = layer(&store, "whole");
    store.put_record(&record("whole", std::slice::from_ref(&whole)));
    let delta = delta(&store, &whole, "delta");
    let directories = [&whole, &delta].map(|id| store.layer(id).unwrap().directory.unwrap());
    store.flush().unwrap();
    directories
}

fn layer_of(store: &Store, step: &str) -> Option<LayerId> {
    Some(store.record(&Digest::of(step.as_bytes()))?.outputs[0][0].clone())
}

fn prune(root: &Path, filter: &PruneFilter) {
    open(root).prune(filter).unwrap();
}

/// Makes the rows whose values or keys hold `text` a thousand seconds older.
fn age(root: &Path, text: &str) {
    let database = rusqlite::Connection::open(root.join("records-v1.db")).unwrap();
    let age = "UPDATE entry SET used = used - 1000 WHERE instr(key, CAST(?1 AS BLOB)) > 0";
    assert!(database.execute(age, [text]).unwrap() > 0);
}

#[test]
fn a_layer_over_another_says_so() {
    let root = root();
    let [_, directory] = fill(root.path());
    let store = open(root.path());
    let [whole, delta] = ["whole", "delta"].map(|step| layer_of(&store, step).unwrap());
    assert_eq!(store.layer(&whole).unwrap().over, None);
    let info = store.layer(&delta).unwrap();
    assert_eq!((info.over, info.directory), (Some(whole), Some(directory)));
    assert!(store.check_layer(&delta));
    assert_eq!(store.take_warnings(), []);
}

#[test]
fn what_a_layer_lies_over_is_kept_as_long_as_it() {
    let root = root();
    let directories = fill(root.path());
    let whole = layer_of(&open(root.path()), "whole").unwrap();
    age(root.path(), whole.as_str());
    age(root.path(), Digest::of(b"whole").as_str());
    let filter = PruneFilter { unused_for: Some(Duration::from_secs(500)), ..ALL };
    prune(root.path(), &filter);
    assert!(layer_of(&open(root.path()), "delta").is_some());
    // The record of the lower one may go alone.
    let database = rusqlite::Connection::open(root.path().join("records-v1.db")).unwrap();
    let key = Digest::of(b"whole");
    database.execute("DELETE FROM entry WHERE key = ?1", [key.as_str().as_bytes()]).unwrap();
    prune(root.path(), &PruneFilter::default());
    assert!(layer_of(&open(root.path()), "delta").is_some());
    assert!(directories.iter().all(|directory| directory.exists()));
    prune(root.path(), &ALL);
    assert!(!directories.iter().any(|directory| directory.exists()));
    let rows = "SELECT count(*) FROM entry WHERE kind IN (2, 5)";
    assert_eq!(database.query_row(rows, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

#[test]
fn a_limit_by_size_leaves_no_layer_over_nothing() {
    for keep_bytes in [0, 1, 6 << 10, 1 << 20] {
        let root = root();
        fill(root.path());
        let filter = PruneFilter { space: Space { max_used: Some(keep_bytes), ..NO_LIMIT }, ..ALL };
        prune(root.path(), &filter);
        let store = open(root.path());
        assert_eq!(store.fsck(&FsckOptions::default()).unwrap(), [], "{keep_bytes}");
        let delta = layer_of(&store, "delta");
        assert!(delta.is_none_or(|delta| store.layer(&delta).is_some()), "{keep_bytes}");
    }
}

#[test]
fn a_layer_is_made_over_one_that_prune_throws_away_meanwhile() {
    let root = root();
    let directories = fill(root.path());
    let build = open(root.path());
    let whole = layer_of(&build, "whole").unwrap();
    let next = delta(&build, &whole, "next");
    prune(root.path(), &ALL);
    assert!(layer_of(&open(root.path()), "whole").is_none());
    build.flush().unwrap();
    let other = open(root.path());
    assert!(other.layer(&next).is_some() && layer_of(&other, "next").is_some());
    drop(build);
    prune(root.path(), &PruneFilter::default());
    assert_eq!(directories.map(|directory| directory.exists()), [true, false]);
    assert_eq!(open(root.path()).fsck(&FsckOptions::default()).unwrap(), []);
}

#[test]
fn who_may_count_on_a_layer_may_count_on_what_it_lies_over() {
    let name = "delta::who_may_count_on_a_layer_may_count_on_what_it_lies_over";
    if let Some((root, _)) = child::role() {
        let store = open(&root);
        let delta = layer_of(&store, "delta").unwrap();
        child::ready();
        // Prune ran meanwhile.
        let over = store.layer(&delta).unwrap().over.unwrap();
        assert!(store.layer(&over).unwrap().directory.unwrap().join("file").exists());
        assert!(store.check_layer(&delta));
        assert_eq!(store.take_warnings(), []);
        return;
    }
    let root = root();
    fill(root.path());
    let build = child::start(name, root.path(), "");
    prune(root.path(), &ALL);
    build.finish();
    let store = open(root.path());
    assert_eq!(store.fsck(&FsckOptions::default()).unwrap(), []);
    // Taken back out of the trash, its record was not.
    drop(store);
    prune(root.path(), &PruneFilter::default());
    assert_eq!(std::fs::read_dir(root.path().join("layers-v1")).unwrap().count(), 0);
}

#[test]
fn a_layer_is_absent_without_what_it_lies_over() {
    let root = root();
    let [whole, _] = fill(root.path());
    std::fs::remove_dir_all(whole).unwrap();
    let store = open(root.path());
    assert!(layer_of(&store, "delta").is_none());
    let mut found: Vec<Damage> =
        store.fsck(&FsckOptions::default()).unwrap().into_iter().map(|p| p.damage).collect();
    found.sort();
    let missing = [Damage::LayerMissing, Damage::RecordDangling];
    assert_eq!(found, [missing[0], missing[0], missing[1], missing[1]]);
    store.fsck(&FsckOptions { repair: true, ..Default::default() }).unwrap();
    assert_eq!(store.fsck(&FsckOptions::default()).unwrap(), []);
}

#[test]
fn a_change_below_is_found() {
    let root = root();
    let [whole, _] = fill(root.path());
    std::fs::write(whole.join("file"), "changed!").unwrap();
    let store = open(root.path());
    let delta_id = layer_of(&store, "delta").unwrap();
    // Also by the session that lays another one over it.
    let next = delta(&store, &layer_of(&store, "whole").unwrap(), "next");
    assert!(!store.check_layer(&next));
    assert!(!store.check_layer(&delta_id));
    for step in ["whole", "delta", "next"] {
        assert!(layer_of(&store, step).is_none(), "{step}");
    }
}

#[test]
fn a_tree_made_anew_lies_over_nothing() {
    let root = root();
    let [whole, _] = fill(root.path());
    let store = open(root.path());
    let delta = layer_of(&store, "delta").unwrap();
    let (digest, size) = store.put_blob(b"tar").unwrap();
    let diff_id = DiffId(digest.clone());
    store.set_diff_id(&delta, &diff_id, size);
    store.add_blob_form(&diff_id, &Descriptor::new(media_type::LAYER, digest, size));
    store.flush().unwrap();
    std::fs::remove_dir_all(whole).unwrap();
    let store = open(root.path());
    let info = store.layer(&delta).unwrap();
    assert_eq!((info.directory, info.over), (None, None));
    let tree = store.new_layer().unwrap();
    std::fs::write(tree.fs().join("again"), "").unwrap();
    store.set_directory(&delta, tree);
    let is_anew = |store: &Store| {
        let info = store.layer(&delta).unwrap();
        info.over.is_none() && info.directory.unwrap().join("again").exists()
    };
    assert!(is_anew(&store));
    drop(store);
    assert!(is_anew(&open(root.path())));
}
