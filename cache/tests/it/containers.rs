//! Containers that stay: what is damaged of one is absent, and in nobody's way.

use std::path::Path;

use cache::{ContainerState, CreateContainerError, NewContainer, Options, Store};
use oci::{Descriptor, Digest, ImageConfig};

fn open(root: &Path) -> Store {
    Store::open(root, Options::default()).unwrap()
}

fn new(name: &str) -> NewContainer {
    NewContainer {
        name: name.to_owned(),
        image: "app".to_owned(),
        manifest: Descriptor::new("m", Digest::of(b"m"), 1),
        image_id: Digest::of(b"id"),
        layers: Vec::new(),
        config: ImageConfig::default(),
        command: vec!["sh".to_owned()],
        is_removed_at_end: false,
    }
}

/// Leaves a container that has ended with 3.
fn leave(store: &Store, name: &str) {
    let mut container = store.create_container(new(name)).unwrap();
    container.started().unwrap();
    container.ended(3).unwrap();
}

#[test]
fn a_container_is_what_it_was_when_it_ended() {
    let root = tempfile::tempdir().unwrap();
    leave(&open(root.path()), "web");
    let store = open(root.path());
    let container = store.container("web").unwrap().expect("it stays");
    assert!(matches!(container.record.state, ContainerState::Ended { code: 3, .. }));
    assert_eq!(
        store.container(&container.record.id[..6]).unwrap().unwrap().record,
        container.record
    );
    assert!(store.container("").unwrap().is_none());
    assert!(matches!(store.create_container(new("web")), Err(CreateContainerError::Taken(_))));
    assert!(store.remove_container(&container).unwrap().is_some());
    assert!(store.containers().unwrap().is_empty());
    // One that did not start is gone at once.
    drop(store.create_container(new("web")).unwrap());
    assert!(store.containers().unwrap().is_empty());
}

#[test]
fn a_running_container_is_not_removed_and_one_without_an_end_was_killed() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let mut running = store.create_container(new("web")).unwrap();
    running.started().unwrap();
    let seen = open(root.path()).container("web").unwrap().unwrap();
    assert!(seen.is_running());
    assert!(matches!(seen.record.state, ContainerState::Running { .. }));
    assert_eq!(store.remove_container(&seen).unwrap(), None);
    drop(running);
    let seen = store.container("web").unwrap().unwrap();
    assert!(matches!(seen.record.state, ContainerState::Killed { .. }));
    assert!(store.remove_container(&seen).unwrap().is_some());
}

#[test]
fn a_damaged_container_is_absent_and_told_of() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    leave(&store, "web");
    let record = store.container("web").unwrap().unwrap().record;
    let document = root.path().join("containers-v1").join(&record.id).join("container.json");
    let whole = std::fs::read(&document).unwrap();
    let mut damaged: Vec<Vec<u8>> = (0..whole.len()).map(|end| whole[..end].to_vec()).collect();
    damaged.push(String::from_utf8(whole.clone()).unwrap().replace(&record.id, "0").into_bytes());
    damaged.push(b"{\"id\": [1, 2]}".to_vec());
    for bytes in damaged {
        std::fs::write(&document, &bytes).unwrap();
        assert!(store.containers().unwrap().is_empty(), "{}", String::from_utf8_lossy(&bytes));
        assert_eq!(store.take_warnings().len(), 1);
    }
    let problems = store.fsck(&cache::FsckOptions::default()).unwrap();
    assert_eq!(problems.iter().map(|it| it.damage.code()).collect::<Vec<_>>(), ["container"]);
    // Its name is free, and its room comes back.
    leave(&store, "web");
    assert!(store.remove_damaged_containers().unwrap() > 0);
    assert_eq!(store.containers().unwrap().len(), 1);
}
