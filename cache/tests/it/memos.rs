//! Memos keep and lose their layers as records do, and are no steps.

use cache::{Damage, FsckOptions, ItemKind, Memo, PruneFilter, Pruned, Reach, Store};
use oci::Digest;

use crate::store::{layer, open, record, root};

fn key() -> Digest {
    Digest::of(b"memo")
}

/// A memo of a layer with one file.
fn put(store: &Store) {
    store.put_memo("other form", &key(), &Memo::new(vec![layer(store, "of a memo")]));
}

fn is_there(store: &Store) -> bool {
    store.memo("other form", &key()).is_some()
}

#[test]
fn a_memo_is_found_by_its_domain_and_key() {
    let root = root();
    let memo = {
        let store = open(root.path());
        let memo = Memo { warnings: vec!["told".to_owned()], ..Memo::new(Vec::new()) };
        store.put_memo("one thing", &key(), &memo);
        memo
    };
    let store = open(root.path());
    for (domain, key, expected) in [
        ("one thing", key(), Some(memo)),
        ("one", key(), None),
        ("another thing", key(), None),
        ("one thing", Digest::of(b"another"), None),
    ] {
        assert_eq!(store.memo(domain, &key), expected, "{domain} {key}");
    }
    assert!(store.record(&key()).is_none());
}

#[test]
fn a_memo_keeps_its_layers_and_goes_with_them() {
    let root = root();
    put(&open(root.path()));
    let prune = |reach| {
        let filter = PruneFilter { reach, ..PruneFilter::default() };
        open(root.path()).prune(&filter).unwrap()
    };
    let Pruned { steps, layers, .. } = prune(Reach::Garbage);
    assert_eq!((steps, layers, is_there(&open(root.path()))), (0, 0, true));
    let pruned = prune(Reach::All);
    let Pruned { steps, layers, .. } = pruned;
    assert_eq!((steps, layers, is_there(&open(root.path()))), (0, 1, false));
    assert_eq!(pruned.items().next().map(|item| item.kind), Some(ItemKind::Internal));
    let trees = root.path().join("layers-v1");
    assert_eq!(std::fs::read_dir(trees).unwrap().count(), 0);
}

#[test]
fn a_memo_without_layers_goes_with_everything_else() {
    let root = root();
    open(root.path()).put_memo("time", &key(), &Memo::new(Vec::new()));
    for (reach, stays) in [(Reach::Garbage, true), (Reach::Unshared, true), (Reach::All, false)] {
        let filter = PruneFilter { reach, ..PruneFilter::default() };
        open(root.path()).prune(&filter).unwrap();
        assert_eq!(open(root.path()).memo("time", &key()).is_some(), stays, "{reach:?}");
    }
}

#[test]
fn a_memo_that_lacks_a_layer_is_absent_and_fsck_says_so() {
    let root = root();
    put(&open(root.path()));
    for tree in std::fs::read_dir(root.path().join("layers-v1")).unwrap() {
        std::fs::remove_dir_all(tree.unwrap().path()).unwrap();
    }
    let found = |repair| {
        let options = FsckOptions { repair, ..FsckOptions::default() };
        let problems = open(root.path()).fsck(&options).unwrap();
        problems.iter().map(|problem| problem.damage).collect::<Vec<_>>()
    };
    assert_eq!(found(false), [Damage::LayerMissing, Damage::RecordDangling]);
    assert!(!is_there(&open(root.path())));
    // The layer's row is gone by the time the memo is looked at.
    assert_eq!(found(true), [Damage::LayerMissing]);
    assert_eq!(found(false), []);
}

#[test]
fn a_memo_takes_its_layers_back_out_of_the_trash() {
    let root = root();
    let build = open(root.path());
    let id = layer(&build, "of a memo");
    build.put_record(&record("step", std::slice::from_ref(&id)));
    build.flush().unwrap();
    let everything = PruneFilter { reach: Reach::All, ..PruneFilter::default() };
    open(root.path()).prune(&everything).unwrap();
    assert!(open(root.path()).layer(&id).is_none());
    build.put_memo("other form", &key(), &Memo::new(vec![id]));
    build.flush().unwrap();
    drop(build);
    assert!(is_there(&open(root.path())));
}

#[test]
fn the_layer_of_a_memo_is_internal_unless_a_step_has_made_it() {
    let root = root();
    let store = open(root.path());
    put(&store);
    let id = layer(&store, "of a step");
    store.put_record(&record("RUN make", std::slice::from_ref(&id)));
    store.put_memo("previous layer", &key(), &Memo::new(vec![id]));
    store.flush().unwrap();
    let mut items: Vec<_> = (store.cache_items().unwrap().into_iter())
        .map(|item| (item.kind.word(), item.description))
        .collect();
    items.sort();
    let expected = [("internal", "other form"), ("regular", "RUN make")];
    assert_eq!(items, expected.map(|(kind, name)| (kind, name.to_owned())));
    assert_eq!(store.disk_usage().unwrap().steps, 1);
}
