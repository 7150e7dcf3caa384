//! Prune takes what it should, and nothing that anybody may count on.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cache::{LayerId, PruneFilter, Pruned, Reach, Space, Store};
use oci::{Descriptor, DiffId, Digest, media_type};

use crate::child;
use crate::store::{layer, open, record, root};

const ALL: PruneFilter =
    PruneFilter { reach: Reach::All, matches: Vec::new(), unused_for: None, space: NO_LIMIT };
const NO_LIMIT: Space = Space { reserved: None, max_used: None, min_free: None };

/// A step whose layer is also a blob.
fn step(store: &Store, name: &str) -> PathBuf {
    let id = layer(store, name);
    let (digest, size) = store.put_blob(format!("blob of {name}").as_bytes()).unwrap();
    let diff_id = DiffId(Digest::of(name.as_bytes()));
    store.set_diff_id(&id, &diff_id, 1);
    store.add_blob_form(&diff_id, &Descriptor::new(media_type::LAYER, digest, size));
    store.put_record(&record(name, std::slice::from_ref(&id)));
    store.put_alias(&Digest::of(format!("alias {name}").as_bytes()), &Digest::of(name.as_bytes()));
    store.layer(&id).unwrap().directory.unwrap()
}

/// An image of one layer.
fn image(store: &Store, name: &str) -> Descriptor {
    let (digest, size) = store.put_blob(format!("layer of {name}").as_bytes()).unwrap();
    image_over(store, name, vec![Descriptor::new(media_type::LAYER, digest, size)])
}

fn image_over(store: &Store, name: &str, layers: Vec<Descriptor>) -> Descriptor {
    let blob = |bytes: &[u8], media_type: &str| {
        let (digest, size) = store.put_blob(bytes).unwrap();
        Descriptor::new(media_type, digest, size)
    };
    let config = blob(format!("{{\"name\":\"{name}\"}}").as_bytes(), media_type::CONFIG);
    let manifest = oci::Manifest {
        schema_version: 2,
        media_type: media_type::MANIFEST.to_owned(),
        config,
        layers,
        annotations: Default::default(),
    };
    blob(&serde_json::to_vec(&manifest).unwrap(), media_type::MANIFEST)
}

fn has(store: &Store, name: &str) -> bool {
    store.record(&Digest::of(name.as_bytes())).is_some()
}

fn prune(root: &std::path::Path, filter: &PruneFilter) -> Pruned {
    open(root).prune(filter).unwrap()
}

#[test]
fn everything_goes_but_tagged_images() {
    let root = root();
    let directory = {
        let store = open(root.path());
        let image = image(&store, "app");
        store.tag("app:1.0", &image).unwrap();
        step(&store, "step")
    };
    let pruned = prune(root.path(), &ALL);
    assert_eq!((pruned.steps, pruned.layers, pruned.blobs, pruned.waiting), (1, 1, 1, 0));
    assert!(pruned.freed > 0);
    assert!(!directory.exists());
    let store = open(root.path());
    assert!(!has(&store, "step"));
    assert_eq!(store.alias(&Digest::of(b"alias step")), None);
    assert_eq!(store.layer_of_diff_id(&DiffId(Digest::of(b"step"))), None);
    assert!(store.resolve("app:1.0").is_some());
    assert_eq!(std::fs::read_dir(root.path().join("blobs/sha256")).unwrap().count(), 3);
    assert_eq!(store.fsck(&Default::default()).unwrap(), []);

    store.untag("app:1.0").unwrap();
    drop(store);
    assert_eq!(prune(root.path(), &PruneFilter::default()).blobs, 3);
    assert_eq!(std::fs::read_dir(root.path().join("blobs/sha256")).unwrap().count(), 0);
}

#[test]
fn by_default_only_what_leads_nowhere_goes() {
    let root = root();
    let store = open(root.path());
    let kept = step(&store, "kept");
    let orphan = layer(&store, "orphan");
    let orphan = store.layer(&orphan).unwrap().directory.unwrap();
    store.put_blob(b"orphan").unwrap();
    drop(store);
    let pruned = prune(root.path(), &PruneFilter::default());
    assert_eq!((pruned.steps, pruned.layers, pruned.blobs), (0, 1, 1));
    assert!(kept.exists() && !orphan.exists());
    assert!(has(&open(root.path()), "kept"));
}

#[test]
fn what_was_used_lately_stays() {
    let root = root();
    step(&open(root.path()), "step");
    let filter = PruneFilter { unused_for: Some(Duration::from_secs(60)), ..ALL };
    assert_eq!(prune(root.path(), &filter).steps, 0);
    assert!(has(&open(root.path()), "step"));
}

#[test]
fn a_limit_by_size_takes_the_longest_unused_first() {
    let root = root();
    for name in ["old", "new"] {
        let store = open(root.path());
        let new = store.new_layer().unwrap();
        std::fs::write(new.fs().join("file"), vec![1; 1 << 20]).unwrap();
        let id = store.seal(new);
        store.put_record(&record(name, &[id]));
    }
    let database = rusqlite::Connection::open(root.path().join("records-v1.db")).unwrap();
    let old = Digest::of(b"old");
    let age = "UPDATE entry SET used = used - 1000 WHERE key = ?1 OR key IN
        (SELECT key FROM entry WHERE kind = 2 ORDER BY key LIMIT 0)";
    assert_eq!(database.execute(age, [old.as_str().as_bytes()]).unwrap(), 1);
    let store = open(root.path());
    let layer = store.record(&old).unwrap().outputs[0][0].clone();
    drop(store);
    let age = "UPDATE entry SET used = used - 1000 WHERE kind = 2 AND key = ?1";
    assert_eq!(database.execute(age, [layer.as_str().as_bytes()]).unwrap(), 1);
    drop(database);

    let filter = PruneFilter { space: Space { max_used: Some(3 << 19), ..NO_LIMIT }, ..ALL };
    let pruned = prune(root.path(), &filter);
    assert_eq!((pruned.steps, pruned.layers), (1, 1));
    let store = open(root.path());
    assert!(has(&store, "new") && !has(&store, "old"));
}

#[test]
fn a_running_build_keeps_what_it_may_have_looked_up() {
    let name = "step";
    if let Some((root, _)) = child::role() {
        let store = open(&root);
        let found = store.record(&Digest::of(name.as_bytes())).unwrap();
        let layer = &found.outputs[0][0];
        child::ready();
        // Prune ran meanwhile. Everything is where it was, by path and by lookup, …
        let info = store.layer(layer).unwrap();
        let directory = info.directory.unwrap();
        assert_eq!(std::fs::read_to_string(directory.join("file")).unwrap(), name);
        assert!(store.has_blob(&info.blobs[0].digest));
        // … and what builds upon it can be kept.
        let upper = crate::store::layer(&store, "upper");
        store.put_record(&record("upper", &[layer.clone(), upper]));
        store.flush().unwrap();
        assert_eq!(store.take_warnings(), []);
        return;
    }
    let root = root();
    let directory = step(&open(root.path()), name);
    let build =
        child::start("prune::a_running_build_keeps_what_it_may_have_looked_up", root.path(), "");
    let pruned = prune(root.path(), &ALL);
    assert_eq!((pruned.steps, pruned.layers), (1, 1));
    assert!(pruned.waiting > 0 && directory.exists());
    // A build that starts now is not to find it.
    assert!(!has(&open(root.path()), name));
    assert_eq!(prune(root.path(), &ALL).freed, 0);
    build.finish();
    let store = open(root.path());
    assert!(has(&store, "upper"));
    assert_eq!(store.fsck(&Default::default()).unwrap(), []);
    drop(store);
    let pruned = prune(root.path(), &ALL);
    assert!(pruned.freed > 0 && pruned.waiting == 0);
    assert!(!directory.exists());
}

#[test]
fn what_becomes_known_of_a_layer_meanwhile_takes_nothing_from_it() {
    let root = root();
    let build = open(root.path());
    step(&build, "step");
    let id = build.record(&Digest::of(b"step")).unwrap().outputs[0][0].clone();
    build.flush().unwrap();
    prune(root.path(), &ALL);
    build.set_diff_id(&id, &DiffId(Digest::of(b"step")), 2);
    let check = || {
        let info = build.layer(&id).expect("what was found stays");
        assert!(info.directory.is_some());
        let blob = info.blobs.first().expect("the blob stays, too");
        assert!(build.has_blob(&blob.digest));
    };
    check();
    // Its row waits for a commit; those of its blobs are thrown away alone.
    prune(root.path(), &ALL);
    check();
    assert_eq!(build.take_warnings(), []);
}

#[test]
fn the_last_build_to_end_frees_what_prune_could_not() {
    let root = root();
    let directory = step(&open(root.path()), "step");
    let build = open(root.path());
    assert!(has(&build, "step"));
    prune(root.path(), &ALL);
    assert!(directory.exists());
    drop(build);
    assert!(!directory.exists());
}

#[test]
fn an_image_tagged_after_prune_threw_its_blobs_away_is_whole() {
    let root = root();
    let store = open(root.path());
    let image = image(&store, "app");
    store.flush().unwrap();
    assert_eq!(prune(root.path(), &ALL).blobs, 3);
    store.tag("app", &image).unwrap();
    drop(store);
    prune(root.path(), &ALL);
    let store = open(root.path());
    assert_eq!(store.fsck(&Default::default()).unwrap(), []);
    assert!(store.has_blob(&store.resolve("app").unwrap().digest));
}

#[test]
fn a_blob_thrown_away_and_made_again_stays() {
    let root = root();
    let build = open(root.path());
    build.put_blob(b"content").unwrap();
    build.flush().unwrap();
    prune(root.path(), &ALL);
    let other = open(root.path());
    let digest = Digest::of(b"content");
    assert!(!other.has_blob(&digest));
    other.put_blob(b"content").unwrap();
    other.flush().unwrap();
    drop(build);
    assert!(other.has_blob(&digest));
    assert_eq!(open(root.path()).read_small(&digest, 10).unwrap(), b"content");
}

/// Two builds do the same step, and only one row says which blob the two layers are.
#[test]
fn what_another_build_has_made_too_stays_with_the_layer() {
    for says_what_it_holds in [false, true] {
        let root = root();
        let [first, second] = [open(root.path()), open(root.path())];
        if says_what_it_holds {
            assert!(second.use_image(&Digest::of(b"any")));
        }
        step(&first, "step");
        first.flush().unwrap();
        drop(first);
        let id = layer(&second, "step");
        let diff_id = DiffId(Digest::of(b"step"));
        let (digest, size) = second.put_blob(b"blob of step").unwrap();
        second.set_diff_id(&id, &diff_id, 1);
        second.add_blob_form(&diff_id, &Descriptor::new(media_type::LAYER, digest.clone(), size));
        prune(root.path(), &ALL);
        second.put_record(&record("step", std::slice::from_ref(&id)));
        second.flush().unwrap();
        let third = open(root.path());
        let found = third.record(&Digest::of(b"step")).unwrap();
        let blobs = third.layer(&found.outputs[0][0]).unwrap().blobs;
        assert_eq!(blobs.len(), 1, "{says_what_it_holds}");
        assert_eq!(third.read_small(&digest, 100).unwrap(), b"blob of step");
        assert!(third.layer_of_diff_id(&diff_id).is_some(), "{says_what_it_holds}");
        drop((second, third));
        // Nor is it kept for longer than the layer.
        assert_eq!(prune(root.path(), &ALL).blobs, 1, "{says_what_it_holds}");
        assert!(open(root.path()).layer_of_diff_id(&diff_id).is_none());
    }
}

#[test]
fn builds_go_on_in_a_storm_of_prunes() {
    let root = root();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let builders: Vec<_> = (0..3)
            .map(|builder| {
                let root = root.path();
                scope.spawn(move || {
                    for round in 0..30 {
                        build(root, &format!("step-{}", (round + builder) % 4));
                    }
                })
            })
            .collect();
        let (root, stop) = (root.path(), &stop);
        let pruner = scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                prune(root, &ALL);
                open(root).disk_usage().unwrap();
                std::thread::yield_now();
            }
        });
        let results: Vec<_> = builders.into_iter().map(|builder| builder.join()).collect();
        stop.store(true, Ordering::Relaxed);
        pruner.join().unwrap();
        assert!(results.iter().all(Result::is_ok));
    });
    prune(root.path(), &ALL);
    let count = |bucket: &str| std::fs::read_dir(root.path().join(bucket)).unwrap().count();
    // A background commit may have been the last to let go of its session.
    for bucket in ["layers-v1", "blobs/sha256", "tmp-v1"] {
        crate::store::wait_until(|| count(bucket) == 0);
    }
}

/// Looks a step up, does it if need be, and reads its result.
fn build(root: &std::path::Path, name: &str) {
    let store = open(root);
    let found = match store.record(&Digest::of(name.as_bytes())) {
        Some(found) => found,
        None => {
            step(&store, name);
            store.record(&Digest::of(name.as_bytes())).unwrap()
        }
    };
    let id = &found.outputs[0][0];
    let layer = store.layer(id).expect("what was found stays");
    let file = layer.directory.expect("trees stay").join("file");
    assert_eq!(std::fs::read_to_string(file).unwrap(), name);
    // The image has the layer's blob, as an exporter finds it.
    let image = image_of(&store, name, id);
    store.tag(name, &image).unwrap();
    store.flush().unwrap();
    let layer = store.layer(id).expect("what was found stays");
    assert!(layer.directory.expect("trees stay").join("file").exists());
    assert_whole(&store, &image);
    store.untag(name).unwrap();
    store.flush().unwrap();
}

/// An image of a layer, and of one more that is made from it: what an epoch makes of layers.
fn image_of(store: &Store, name: &str, id: &LayerId) -> Descriptor {
    let plain = store.layer(id).unwrap().blobs.first().cloned().expect("the blob stays");
    let bytes = store.read_small(&plain.digest, 100).unwrap();
    let key = Digest::of(format!("dated {name}").as_bytes());
    let known = store.record(&key).map(|record| record.outputs[0][0].clone());
    let dated = known.unwrap_or_else(|| {
        let (digest, size) = store.put_blob(&[&bytes[..], b", dated"].concat()).unwrap();
        let blob = Descriptor::new(media_type::LAYER, digest.clone(), size);
        let id = store.add_blob_layer(&DiffId(digest), &blob);
        store.put_record(&record(&format!("dated {name}"), std::slice::from_ref(&id)));
        id
    });
    let dated = store.layer(&dated).unwrap().blobs.first().cloned().expect("the blob stays");
    image_over(store, name, vec![plain, dated])
}

fn assert_whole(store: &Store, image: &Descriptor) {
    let manifest = store.read_small(&image.digest, 10_000).expect("the manifest stays");
    let manifest: oci::Manifest = serde_json::from_slice(&manifest).unwrap();
    for blob in manifest.layers.iter().chain([&manifest.config]) {
        assert!(store.has_blob(&blob.digest), "{} is gone", blob.digest);
    }
}
