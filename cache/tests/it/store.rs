//! What one session sees of itself and of earlier ones.

use std::io::{Read as _, Write as _};
use std::path::Path;

use cache::{Encoder, LayerId, OpenError, Options, Record, Store, StoreError};
use oci::{Descriptor, DiffId, Digest, media_type};
use tempfile::TempDir;

/// A directory of the test's own, in memory where that is possible: a commit syncs the whole
/// file system, which on a disk is everybody's.
pub(crate) fn root() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub(crate) fn open(root: &Path) -> Store {
    Store::open(root, Options::default()).unwrap()
}

/// A sealed layer with one file.
pub(crate) fn layer(store: &Store, content: &str) -> LayerId {
    let new = store.new_layer().unwrap();
    std::fs::write(new.fs().join("file"), content).unwrap();
    store.seal(new)
}

pub(crate) fn record(name: &str, layers: &[LayerId]) -> Record {
    Record {
        key: Digest::of(name.as_bytes()),
        outputs: vec![layers.to_vec()],
        parts: Default::default(),
        name: name.to_owned(),
        created: 1,
        duration: 1,
        warnings: Vec::new(),
        notes: Default::default(),
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_is_pending_is_visible_and_what_was_flushed_survives() {
    let root = root();
    let digest = {
        let store = open(root.path());
        let mut writer = store.blob_writer().unwrap();
        writer.write_all(b"hello ").unwrap();
        writer.write_all(b"world").unwrap();
        let (digest, size) = writer.commit(None).unwrap();
        assert_eq!((digest.clone(), size), (Digest::of(b"hello world"), 11));
        let id = layer(&store, "content");
        store.put_record(&record("step", std::slice::from_ref(&id)));
        store.put_alias(&Digest::of(b"definition"), &Digest::of(b"step"));

        assert_eq!(store.read_small(&digest, 100).unwrap(), b"hello world");
        assert_eq!(store.record(&Digest::of(b"step")).unwrap().outputs, [[id]]);
        // Another session must not see what may yet be lost.
        assert!(open(root.path()).record(&Digest::of(b"step")).is_none());
        store.flush().unwrap();
        assert!(open(root.path()).record(&Digest::of(b"step")).is_some());
        digest
    };
    let store = open(root.path());
    let canonical = store.alias(&Digest::of(b"definition")).unwrap();
    let record = store.record(&canonical).unwrap();
    let directory = store.layer(&record.outputs[0][0]).unwrap().directory.unwrap();
    assert_eq!(std::fs::read(directory.join("file")).unwrap(), b"content");
    assert_eq!(names(directory.parent().unwrap()), ["fs"], "the work directory is gone");
    let mut text = String::new();
    store.blob(&digest).unwrap().open_verified().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello world");
    assert_eq!(store.take_warnings(), []);
}

#[test]
fn a_finished_session_leaves_only_what_it_has_put_in() {
    let root = root();
    let store = open(root.path());
    drop(store.blob_writer().unwrap());
    store.put_blob(b"kept").unwrap();
    drop(store);
    for bucket in ["tmp-v1", "leases-v1"] {
        assert_eq!(names(&root.path().join(bucket)), [""; 0], "{bucket}");
    }
    assert_eq!(names(&root.path().join("blobs/sha256")), [Digest::of(b"kept").hex()]);
}

#[test]
fn content_that_is_not_what_was_announced_is_refused() {
    let root = root();
    let store = open(root.path());
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"other").unwrap();
    let wanted = Digest::of(b"wanted");
    let refused = writer.commit(Some((&wanted, 6)));
    assert!(matches!(refused, Err(StoreError::Mismatch { size: 5, .. })), "{refused:?}");
    assert!(store.blob(&wanted).is_none());
    assert!(store.blob(&Digest::of(b"other")).is_none());
}

#[test]
fn a_blob_too_large_for_its_reader_is_not_read() {
    let root = root();
    let store = open(root.path());
    let (digest, _) = store.put_blob(&[0; 100]).unwrap();
    assert!(matches!(store.read_small(&digest, 99), Err(StoreError::TooLarge { size: 100, .. })));
}

#[test]
fn a_file_obtained_before_a_commit_opens_after_it() {
    let root = root();
    let store = open(root.path());
    let (digest, _) = store.put_blob(b"moved").unwrap();
    let blob = store.blob(&digest).unwrap();
    store.flush().unwrap();
    let mut bytes = Vec::new();
    blob.open().unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"moved");
    assert_eq!(blob.path(), root.path().join("blobs/sha256").join(digest.hex()));
}

#[test]
fn a_layer_gains_its_forms_over_time() {
    let root = root();
    let store = open(root.path());
    let diff_id = DiffId(Digest::of(b"tar"));
    let gzip = Descriptor::new(media_type::LAYER_GZIP, Digest::of(b"gzip"), 4);
    let id = store.add_blob_layer(&diff_id, &gzip);
    assert_eq!(store.add_blob_layer(&diff_id, &gzip), id, "equal layers are one");
    assert_eq!(store.layer(&id).unwrap().directory, None);
    store.flush().unwrap();

    let tree = store.new_layer().unwrap();
    let path = tree.fs();
    store.set_directory(&id, tree);
    let encoder = Encoder { algorithm: "gzip".into(), level: 3, version: 1 };
    assert_eq!(store.compressed(&diff_id, &encoder), None);
    let (digest, size) = store.put_blob(b"packed").unwrap();
    let packed = Descriptor::new(media_type::LAYER_GZIP, digest, size);
    store.add_compressed(&diff_id, &encoder, &packed);
    drop(store);

    let store = open(root.path());
    assert_eq!(store.layer_of_diff_id(&diff_id), Some(id.clone()));
    let layer = store.layer(&id).unwrap();
    assert_eq!(layer.directory, Some(path));
    assert_eq!(layer.diff_id, Some(diff_id.clone()));
    // What it came as is first.
    assert_eq!(layer.blobs, [gzip, packed.clone()]);
    assert_eq!(store.compressed(&diff_id, &encoder), Some(packed));
    let other = Encoder { level: 4, ..encoder };
    assert_eq!(store.compressed(&diff_id, &other), None);
}

#[test]
fn two_sessions_that_fill_in_one_layer_lose_nothing() {
    let root = root();
    let (one, two) = (open(root.path()), open(root.path()));
    let id = layer(&one, "content");
    one.flush().unwrap();
    let diff_id = DiffId(Digest::of(b"tar"));
    assert!(two.layer(&id).is_some());
    two.set_diff_id(&id, &diff_id, 10);
    one.put_record(&record("step", std::slice::from_ref(&id)));
    two.flush().unwrap();
    one.flush().unwrap();
    let layer = open(root.path()).layer(&id).unwrap();
    assert!(layer.directory.is_some());
    assert_eq!((layer.diff_id, layer.tar_size), (Some(diff_id), Some(10)));
}

#[test]
fn an_unsealed_layer_is_removed() {
    let root = root();
    let store = open(root.path());
    let new = store.new_layer().unwrap();
    std::fs::write(new.fs().join("file"), "content").unwrap();
    let path = new.fs();
    drop(new);
    wait_until(|| !path.exists());
}

#[test]
fn a_download_continues_where_an_earlier_one_stopped() {
    let root = root();
    let content: Vec<u8> = (0..3_u32 << 20).map(|n| (n % 251) as u8).collect();
    let digest = Digest::of(&content);
    let (size, half) = (content.len() as u64, 2 << 20);
    {
        let store = open(root.path());
        let download = store.blob_download(&digest, size).unwrap();
        download.write_at(0, &content[..half]).unwrap();
        download.write_at(size - 10, &content[content.len() - 10..]).unwrap();
        assert_eq!(download.missing(), vec![(half as u64)..(size - 10); 1]);
    }
    let store = open(root.path());
    let download = store.blob_download(&digest, size).unwrap();
    assert_eq!(download.length(), half as u64);
    assert!(download.write_at(10, b"again").is_err(), "hashed bytes never change");
    assert!(download.write_at(size - 1, b"too long").is_err());
    std::thread::scope(|scope| {
        for part in (half..content.len()).step_by(1 << 18).collect::<Vec<_>>().into_iter().rev() {
            let end = content.len().min(part + (1 << 18));
            let (download, content) = (&download, &content);
            scope.spawn(move || download.write_at(part as u64, &content[part..end]).unwrap());
        }
    });
    assert_eq!(download.missing(), []);
    download.commit().unwrap();
    assert_eq!(store.read_small(&digest, size).unwrap(), content);
}

#[test]
fn a_download_can_be_followed_to_its_end() {
    let root = root();
    let store = open(root.path());
    let content: Vec<u8> = (0..1_u32 << 20).map(|n| (n % 251) as u8).collect();
    let digest = Digest::of(&content);
    let download = store.blob_download(&digest, content.len() as u64).unwrap();
    let mut follower = download.follow().unwrap();
    let reader = std::thread::spawn(move || {
        let mut read = Vec::new();
        follower.read_to_end(&mut read).map(|_| read)
    });
    let (half, quarter) = (content.len() / 2, content.len() / 4);
    // What comes after a gap waits for what fills it.
    download.write_at(half as u64, &content[half..]).unwrap();
    download.write_at(0, &content[..quarter]).unwrap();
    download.write_at(quarter as u64, &content[quarter..half]).unwrap();
    download.commit().unwrap();
    assert!(reader.join().unwrap().unwrap() == content);
}

#[test]
fn who_follows_a_download_that_ends_early_or_starts_anew_fails() {
    let root = root();
    let store = open(root.path());
    let digest = Digest::of(b"right");
    let download = store.blob_download(&digest, 5).unwrap();
    download.write_at(0, b"wro").unwrap();
    let mut before = download.follow().unwrap();
    before.read_exact(&mut [0; 3]).unwrap();
    download.restart().unwrap();
    download.write_at(0, b"right").unwrap();
    assert!(before.read(&mut [0; 1]).is_err());
    download.commit().unwrap();

    let download = store.blob_download(&Digest::of(b"other"), 5).unwrap();
    let mut follower = download.follow().unwrap();
    let reader = std::thread::spawn(move || follower.read_to_end(&mut Vec::new()));
    drop(download);
    assert!(reader.join().unwrap().is_err());
}

#[test]
fn a_download_of_wrong_bytes_is_not_kept() {
    let root = root();
    let store = open(root.path());
    // Of right bytes, so many would be kept for the next attempt.
    const SIZE: usize = 2 << 20;
    let digest = Digest::of(&[1; SIZE]);
    let download = store.blob_download(&digest, SIZE as u64).unwrap();
    download.write_at(0, &[2; SIZE]).unwrap();
    assert!(matches!(download.commit(), Err(StoreError::Mismatch { .. })));
    assert!(!store.has_blob(&digest));
    assert_eq!(store.blob_download(&digest, SIZE as u64).unwrap().length(), 0);
}

#[test]
fn a_newer_store_is_refused_and_left_alone() {
    let root = root();
    drop(open(root.path()));
    let path = root.path().join("records-v1.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    drop(database);
    let before = std::fs::read(&path).unwrap();
    let refused = Store::open(root.path(), Options::default());
    assert!(matches!(refused, Err(OpenError::Newer { version: 99, .. })), "{refused:?}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn the_root_is_private_and_an_image_layout() {
    use std::os::unix::fs::PermissionsExt as _;
    let root = root();
    let path = root.path().join("deep/store");
    drop(open(&path));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let layout = std::fs::read(path.join("oci-layout")).unwrap();
    assert_eq!(layout, br#"{"imageLayoutVersion":"1.0.0"}"#);
}

#[test]
fn logs_keep_to_their_directory() {
    let root = root();
    let store = open(root.path());
    let mut log = store.log_writer("../../build", "step/../1").unwrap();
    writeln!(log, "line").unwrap();
    log.flush().unwrap();
    assert!(log.path().starts_with(root.path().join("logs-v1")));
    assert_eq!(std::fs::read_to_string(log.path()).unwrap(), "line\n");
    assert_eq!(store.logged_builds().len(), 1);
    assert_ne!(store.log_path("..", "x"), store.log_path(".", "x"));
    assert!(!store.log_path("..", "x").to_string_lossy().contains("/../"));
}

/// Waits for something that another thread does.
#[track_caller]
pub(crate) fn wait_until(done: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !done() {
        assert!(std::time::Instant::now() < deadline, "it never happened");
        std::thread::yield_now();
    }
}
