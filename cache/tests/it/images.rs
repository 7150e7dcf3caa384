//! Other programs read our images, and we theirs.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use cache::{CommitStep, Options, Store};
use oci::{Descriptor, DiffId, Digest, Manifest, media_type};

use crate::store::{open, root};

/// Puts a real image of one empty layer into the store.
fn image(store: &Store, label: &str) -> Descriptor {
    let blob = |bytes: &[u8], media_type: &str| {
        let (digest, size) = store.put_blob(bytes).unwrap();
        Descriptor::new(media_type, digest, size)
    };
    let tar = [0; 1024];
    let layer = blob(&tar, media_type::LAYER);
    let diff_id = DiffId(Digest::of(&tar));
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Labels":{{"label":"{label}"}}}},"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
    );
    let manifest = Manifest {
        schema_version: 2,
        media_type: media_type::MANIFEST.to_owned(),
        config: blob(config.as_bytes(), media_type::CONFIG),
        layers: vec![layer],
        annotations: Default::default(),
    };
    blob(&serde_json::to_vec(&manifest).unwrap(), media_type::MANIFEST)
}

fn is_installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn at(root: &Path, name: &str) -> String {
    format!("oci:{}:{name}", root.display())
}

#[test]
fn names_are_made_whole_and_move() {
    let root = root();
    let store = open(root.path());
    let (one, two) = (image(&store, "one"), image(&store, "two"));
    store.tag("app", &one).unwrap();
    store.tag("example.com/app:1.0", &one).unwrap();
    store.flush().unwrap();
    store.tag("docker.io/library/app:latest", &two).unwrap();
    let names = |store: &Store| -> Vec<String> {
        store.images().into_iter().map(|image| image.name).collect()
    };
    for _ in ["pending", "committed"] {
        assert_eq!(names(&store), ["docker.io/library/app:latest", "example.com/app:1.0"]);
        assert_eq!(store.resolve("app"), Some(two.clone()));
        store.flush().unwrap();
    }
    assert!(store.untag("app:latest").unwrap());
    assert!(!store.untag("app:latest").unwrap());
    assert_eq!(names(&store), ["example.com/app:1.0"]);
    store.flush().unwrap();
    assert_eq!(names(&open(root.path())), ["example.com/app:1.0"]);
    assert!(store.tag("Not A Name", &one).is_err());
}

#[test]
fn tags_of_two_processes_at_once_are_both_kept() {
    let root = root();
    std::thread::scope(|scope| {
        for n in 0..4 {
            let root = root.path();
            scope.spawn(move || {
                let store = open(root);
                let image = image(&store, &n.to_string());
                store.tag(&format!("app:{n}"), &image).unwrap();
            });
        }
    });
    assert_eq!(open(root.path()).images().len(), 4);
}

#[test]
fn a_tag_that_comes_while_the_index_is_written_is_kept() {
    let root = root();
    let tag = |store: &Store, name: &str| {
        store.tag(name, &image(store, name)).unwrap();
        store.flush().unwrap();
    };
    let path = root.path().to_owned();
    let other = Arc::new(Mutex::new(None));
    let started = other.clone();
    let come_between = move |step| {
        // The new index is on the disk, and the old one still has the name.
        if step == CommitStep::Synced {
            let (path, (done, is_done)) = (path.clone(), mpsc::channel());
            *started.lock().unwrap() = Some(std::thread::spawn(move || {
                tag(&open(&path), "second:1");
                let _ = done.send(());
            }));
            // It has to wait for this commit. One that did not would be done by now.
            let _ = is_done.recv_timeout(Duration::from_millis(300));
        }
    };
    let options = Options { on_commit_step: Some(Arc::new(come_between)), ..Options::default() };
    tag(&Store::open(root.path(), options).unwrap(), "first:1");
    other.lock().unwrap().take().unwrap().join().unwrap();
    assert_eq!(open(root.path()).images().len(), 2);
}

#[test]
fn what_others_put_into_the_index_is_kept() {
    let root = root();
    let store = open(root.path());
    let image = image(&store, "mine");
    let path = root.path().join("index.json");
    let theirs = format!(
        r#"{{"schemaVersion":2,"x":1,"manifests":[{{"mediaType":"a/b","digest":"{}","size":3,"data":"aGk="}}]}}"#,
        image.digest
    );
    std::fs::write(&path, theirs).unwrap();
    store.tag("app", &image).unwrap();
    store.flush().unwrap();
    let index: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(index["x"], 1);
    assert_eq!(index["manifests"][0]["data"], "aGk=");
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
}

#[test]
fn skopeo_and_umoci_read_a_tagged_image() {
    let root = root();
    let store = open(root.path());
    let descriptor = image(&store, "mine");
    store.tag("app:1.0", &descriptor).unwrap();
    store.tag("example.com:5000/team/app:2.0", &image(&store, "other")).unwrap();
    store.flush().unwrap();
    if is_installed("skopeo") {
        let out = tempfile::tempdir().unwrap();
        for (name, label) in [("app:1.0", "mine"), ("example.com:5000/team/app:2.0", "other")] {
            let target = format!("dir:{}", out.path().join(label).display());
            run("skopeo", &["--insecure-policy", "copy", &at(root.path(), name), &target]);
            let inspected = run("skopeo", &["inspect", &at(root.path(), name)]);
            assert!(inspected.contains(&format!("\"label\": \"{label}\"")), "{inspected}");
        }
    }
    if is_installed("umoci") {
        let layout = root.path().to_str().unwrap();
        let list = run("umoci", &["ls", "--layout", layout]);
        assert!(list.lines().any(|line| line == "app:1.0"), "{list}");
        let stat = run("umoci", &["stat", "--image", &format!("{layout}:app:1.0"), "--json"]);
        assert!(stat.contains("history"), "{stat}");
    }
}

#[test]
fn an_image_that_skopeo_copies_in_is_found() {
    if !is_installed("skopeo") {
        return;
    }
    let (here, there) = (root(), root());
    let source = open(there.path());
    source.tag("source:1", &image(&source, "theirs")).unwrap();
    drop(source);
    let store = open(here.path());
    store.tag("mine", &image(&store, "mine")).unwrap();
    store.flush().unwrap();
    let copy =
        ["--insecure-policy", "copy", &at(there.path(), "source:1"), &at(here.path(), "theirs:1")];
    run("skopeo", &copy);
    let found = store.resolve("theirs:1").unwrap();
    let manifest: Manifest =
        serde_json::from_slice(&store.read_small(&found.digest, 1 << 20).unwrap()).unwrap();
    assert!(store.has_blob(&manifest.config.digest));
    assert!(store.resolve("mine").is_some());
    assert_eq!(store.take_warnings(), []);
    store.flush().unwrap();
    // The tag that a program without our locks wrote outlives our own changes and prune.
    store.tag("mine:2", &store.resolve("mine").unwrap()).unwrap();
    store.flush().unwrap();
    drop(store);
    let store = open(here.path());
    store.prune(&cache::PruneFilter { reach: cache::Reach::All, ..Default::default() }).unwrap();
    assert!(store.has_blob(&store.resolve("theirs:1").unwrap().digest));
    assert_eq!(
        store
            .fsck(&cache::FsckOptions {
                depth: cache::Depth::Full(&|_, _| cache::TreeState::Unknown),
                repair: false
            })
            .unwrap(),
        []
    );
}
