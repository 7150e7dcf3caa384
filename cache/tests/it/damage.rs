//! Whatever happens to its files, a store serves the bytes that were put in, or none.

use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use cache::layer::{Content, DiffOptions, Entry, Flavor, LayerError, LayerSink};
use cache::{
    Damage, DamagedBlob, Depth, FsckOptions, LayerId, OpenError, Options, Store, TreeState, Warning,
};
use oci::{Descriptor, DiffId, Digest, media_type};

use crate::child;
use crate::store::{layer, open, record, root};

const BLOBS: [&str; 5] = ["blob 0", "blob 1", "blob 2", "blob 3", "blob 4"];
const STEPS: [&str; 5] = ["step 0", "step 1", "step 2", "step 3", "step 4"];

fn fill(root: &Path) {
    let store = open(root);
    for blob in BLOBS {
        store.put_blob(blob.as_bytes()).unwrap();
    }
    for step in STEPS {
        // As a build: what is there is not made again.
        if store.record(&Digest::of(step.as_bytes())).is_some() {
            continue;
        }
        let id = layer(&store, step);
        store.set_diff_id(&id, &DiffId(Digest::of(step.as_bytes())), 1);
        store.put_record(&record(step, &[id]));
    }
    let (digest, size) = store.put_blob(b"{}").unwrap();
    store.tag("app", &Descriptor::new(media_type::MANIFEST, digest, size)).unwrap();
    store.flush().unwrap();
}

/// As the engine reads trees: what these hold is their digest's text.
fn holds(root: &Path) -> impl Fn(&LayerId, &DiffId) -> TreeState + Sync {
    let layers = root.join("layers-v1");
    move |id, diff_id| match std::fs::read(layers.join(id.as_str()).join("fs/file")) {
        Ok(found) if DiffId(Digest::of(&found)) == *diff_id => TreeState::Good,
        _ => TreeState::Bad,
    }
}

/// Asks for everything: each answer is the right one or none. Gives how many were none.
fn ask(store: &Store) -> usize {
    let mut misses = 0;
    for blob in BLOBS {
        match store.read_small(&Digest::of(blob.as_bytes()), 100) {
            Ok(bytes) => assert_eq!(bytes, blob.as_bytes()),
            Err(_) => misses += 1,
        }
    }
    for step in STEPS {
        let found = store.record(&Digest::of(step.as_bytes()));
        let is_good = |found: &cache::Record| store.check_layer(&found.outputs[0][0]);
        let Some(found) = found.filter(is_good) else {
            misses += 1;
            continue;
        };
        assert_eq!(found.name, step);
        let info = store.layer(&found.outputs[0][0]).expect("a record's layers are there");
        assert!(info.diff_id.is_none_or(|id| id == DiffId(Digest::of(step.as_bytes()))));
        let directory = info.directory.expect("this layer has no other form");
        assert_eq!(std::fs::read_to_string(directory.join("file")).unwrap(), step);
    }
    match store.resolve("app") {
        Some(found) => assert_eq!(found.digest, Digest::of(b"{}")),
        None => misses += 1,
    }
    misses
}

/// Files whose content the store must be able to lose.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(root.join("blobs/sha256"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    for layer in std::fs::read_dir(root.join("layers-v1")).unwrap() {
        files.push(layer.unwrap().path().join("fs/file"));
    }
    files.push(root.join("index.json"));
    for name in ["records-v1.db", "records-v1.db-wal", "records-v1.db-shm"] {
        files.push(root.join(name));
    }
    files.retain(|path| path.exists());
    files
}

/// A generator that gives the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end.max(1)
    }
}

fn mutate(root: &Path, random: &mut Random) -> String {
    let files = files(root);
    // The database is where most can go wrong.
    let path = match random.below(2) {
        0 => files[random.below(files.len())].clone(),
        _ => files[files.len() - 1 - random.below(2.min(files.len()))].clone(),
    };
    let length = std::fs::metadata(&path).unwrap().len();
    let name = path.strip_prefix(root).unwrap().display().to_string();
    let at = random.below(usize::try_from(length).unwrap()) as u64;
    match random.below(5) {
        0 => {
            let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
            let mut byte = [0];
            if length > 0 {
                file.read_exact_at(&mut byte, at).unwrap();
                byte[0] ^= 1 << random.below(8);
                file.write_all_at(&byte, at).unwrap();
            }
            format!("flip {name} at {at}")
        }
        1 => {
            std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(at).unwrap();
            format!("cut {name} at {at}")
        }
        2 => {
            std::fs::remove_file(&path).unwrap();
            format!("remove {name}")
        }
        3 => {
            let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            let end = length.min(at + 600);
            file.write_all_at(&vec![0xaa; usize::try_from(end - at).unwrap()], at).unwrap();
            format!("scribble on {name} at {at}")
        }
        _ => {
            let other = &files[random.below(files.len())];
            let (a, b) = (std::fs::read(&path).unwrap(), std::fs::read(other).unwrap());
            std::fs::write(&path, b).unwrap();
            std::fs::write(other, a).unwrap();
            format!("swap {name} with {}", other.strip_prefix(root).unwrap().display())
        }
    }
}

#[test]
fn random_damage_is_a_miss_and_never_a_wrong_answer() {
    let mut random = Random(1);
    let mut misses = 0;
    for round in 0..250 {
        // A copy of another would have other inodes.
        let root = root();
        fill(root.path());
        let damage = mutate(root.path(), &mut random);
        match Store::open(root.path(), Options::default()) {
            Ok(store) => {
                misses += ask(&store);
                let holds = holds(root.path());
                let depth = Depth::Full(&holds);
                store.fsck(&FsckOptions { depth, repair: true }).unwrap();
                // What was lost can be made again, and then everything is there.
                drop(store);
                fill(root.path());
                let store = open(root.path());
                assert_eq!(ask(&store), 0, "round {round}: {damage}");
                let full = FsckOptions { depth, repair: false };
                assert_eq!(store.fsck(&full).unwrap(), [], "round {round}: {damage}");
            }
            // One flipped bit can make the version a greater one.
            Err(OpenError::Newer { .. }) => assert!(damage.contains("records"), "{damage}"),
            Err(error) => panic!("round {round}: {damage}: {error:?}"),
        }
    }
    assert!(misses > 100, "the damage was felt: {misses}");
}

#[test]
fn a_database_that_is_none_is_set_aside() {
    let root = root();
    fill(root.path());
    std::fs::write(root.path().join("records-v1.db"), "no database").unwrap();
    // With its log SQLite would bring the old content back.
    std::fs::remove_file(root.path().join("records-v1.db-wal")).unwrap();
    let store = open(root.path());
    let aside = root.path().join("records-v1.db.bad");
    assert_eq!(store.take_warnings(), [Warning::DatabaseReplaced { moved: aside.clone() }]);
    assert_eq!(std::fs::read(aside).unwrap(), b"no database");
    assert!(store.record(&Digest::of(b"step 0")).is_none());
    // Blobs need no rows: their name says what they are.
    assert_eq!(store.read_small(&Digest::of(b"blob 0"), 100).unwrap(), b"blob 0");
}

/// SQLite itself opens the first two, and only refuses to write.
#[test]
fn a_database_that_takes_no_writes_is_set_aside() {
    fn directory_for(path: PathBuf) {
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(path).unwrap();
    }
    let header = |root: &Path| {
        let path = root.join("records-v1.db");
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        drop(connection);
        std::fs::File::options().write(true).open(path).unwrap().write_all_at(&[3], 18).unwrap();
    };
    let memory = |root: &Path| directory_for(root.join("records-v1.db-shm"));
    let log = |root: &Path| {
        directory_for(root.join("records-v1.db-wal"));
        std::fs::write(root.join("records-v1.db"), "no database").unwrap();
    };
    let damages: [Change; 3] = [
        ("a header of a later format", header),
        ("a directory for its shared memory", memory),
        ("no database, and a directory for its log", log),
    ];
    for (about, damage) in damages {
        let root = root();
        fill(root.path());
        damage(root.path());
        let warnings = open(root.path()).take_warnings();
        assert!(
            matches!(warnings[..], [Warning::DatabaseReplaced { .. }]),
            "{about}: {warnings:?}"
        );
        fill(root.path());
        assert!(open(root.path()).record(&Digest::of(b"step 0")).is_some(), "{about}");
    }
}

#[test]
fn a_damaged_blob_is_absent_and_heals_when_it_is_put_in_again() {
    let root = root();
    fill(root.path());
    let digest = Digest::of(b"blob 0");
    let path = root.path().join("blobs/sha256").join(digest.hex());
    for damage in [&b"blob X"[..], b"short", b""] {
        std::fs::write(&path, damage).unwrap();
        let store = open(root.path());
        assert!(store.read_small(&digest, 100).is_err());
        assert_eq!(store.take_warnings(), [Warning::DamagedBlob { digest: digest.clone() }]);
        assert!(!store.has_blob(&digest));
        store.put_blob(b"blob 0").unwrap();
        store.flush().unwrap();
        assert_eq!(store.read_small(&digest, 100).unwrap(), b"blob 0");
    }
}

#[test]
fn a_reader_says_that_its_blob_is_damaged() {
    let root = root();
    fill(root.path());
    let digest = Digest::of(b"blob 0");
    let path = root.path().join("blobs/sha256").join(digest.hex());
    std::fs::write(&path, b"blob X").unwrap();
    let mut reader = open(root.path()).blob(&digest).unwrap().open_verified().unwrap();
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(DamagedBlob::of(&error), Some(&DamagedBlob(digest)));
}

#[test]
fn fsck_names_the_damage_and_repair_removes_it() {
    let root = root();
    fill(root.path());
    let blob =
        |content: &str| root.path().join("blobs/sha256").join(Digest::of(content.as_bytes()).hex());
    std::fs::write(blob("blob 0"), "blob X").unwrap();
    std::fs::write(blob("blob 1"), "shorter").unwrap();
    std::fs::remove_file(blob("blob 2")).unwrap();
    let store = open(root.path());
    let lost = store.record(&Digest::of(b"step 1")).unwrap().outputs[0][0].clone();
    std::fs::remove_dir_all(store.layer(&lost).unwrap().directory.unwrap()).unwrap();
    let damages = |options: &FsckOptions<'_>| {
        let mut found: Vec<Damage> =
            store.fsck(options).unwrap().into_iter().map(|problem| problem.damage).collect();
        found.sort();
        found
    };
    let quick =
        [Damage::BlobMissing, Damage::BlobSize, Damage::LayerMissing, Damage::RecordDangling];
    assert_eq!(damages(&FsckOptions::default()), quick);
    let holds = holds(root.path());
    let full = FsckOptions { depth: Depth::Full(&holds), repair: false };
    let mut with_digest = quick.to_vec();
    with_digest.insert(2, Damage::BlobDigest);
    assert_eq!(damages(&full), with_digest);
    damages(&FsckOptions { repair: true, ..full });
    assert_eq!(damages(&full), []);
}

/// What is done to a tree, and the words for it.
type Change = (&'static str, fn(&Path));

/// Whatever is done to a file of a tree, its stamp is another one: there is nothing that leaves the
/// change time as it was.
#[test]
fn a_changed_tree_is_noticed_without_reading_it() {
    let changes: [Change; 8] = [
        ("flipped, with its times set back", |fs| {
            let file = fs.join("file");
            let modified = file.metadata().unwrap().modified().unwrap();
            std::fs::write(&file, "step X").unwrap();
            let file = std::fs::File::options().write(true).open(file).unwrap();
            file.set_modified(modified).unwrap();
        }),
        ("removed", |fs| std::fs::remove_file(fs.join("file")).unwrap()),
        ("added", |fs| std::fs::write(fs.join("new"), "").unwrap()),
        ("another mode and back", |fs| {
            let file = fs.join("file");
            let before = file.metadata().unwrap().permissions();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
            std::fs::set_permissions(&file, before).unwrap();
        }),
        ("replaced by a copy", |fs| {
            std::fs::copy(fs.join("file"), fs.join("copy")).unwrap();
            std::fs::rename(fs.join("copy"), fs.join("file")).unwrap();
        }),
        ("replaced by a link", |fs| {
            std::fs::rename(fs.join("file"), fs.join("other")).unwrap();
            std::os::unix::fs::symlink("other", fs.join("file")).unwrap();
        }),
        ("hides what is below", |fs| std::fs::write(fs.with_file_name("opaque"), "").unwrap()),
        ("gone", |fs| std::fs::remove_dir_all(fs).unwrap()),
    ];
    for (about, change) in changes {
        let root = root();
        fill(root.path());
        let store = open(root.path());
        let id = store.record(&Digest::of(b"step 3")).unwrap().outputs[0][0].clone();
        assert!(store.check_layer(&id), "{about}");
        assert_eq!(store.fsck(&FsckOptions::default()).unwrap(), [], "{about}");
        change(&store.layer(&id).unwrap().directory.unwrap());
        let found = store.fsck(&FsckOptions::default()).unwrap();
        let is_of_a_layer = [Damage::LayerContent, Damage::LayerMissing].contains(&found[0].damage);
        assert!(is_of_a_layer, "{about}: {found:?}");
        // Once in a session is enough.
        drop(store);
        let store = open(root.path());
        let used = store.record(&Digest::of(b"step 3")).is_some_and(|_| store.check_layer(&id));
        assert!(!used, "{about}");
        assert_eq!(store.record(&Digest::of(b"step 3")), None, "{about}");
    }
}

/// A copy of a store has other inodes and change times: its trees are taken for changed until somebody
/// has read them.
#[test]
fn the_trees_of_a_copied_store_are_read_before_they_count() {
    let whole = root();
    fill(whole.path());
    let copy = root();
    cache::copy_tree(whole.path(), copy.path()).unwrap();
    let store = open(copy.path());
    let quick = store.fsck(&FsckOptions::default()).unwrap();
    assert_eq!(quick.len(), STEPS.len(), "{quick:?}");
    let holds = holds(copy.path());
    let full = FsckOptions { depth: Depth::Full(&holds), repair: false };
    assert_eq!(store.fsck(&full).unwrap(), []);
    drop(store);
    let store = open(copy.path());
    assert_eq!(ask(&store), 0);
    assert_eq!(store.fsck(&FsckOptions::default()).unwrap(), []);
}

/// A layer that the store has as a blob, too, stays when its tree is changed, and so do the records of
/// what stands on it. The tree goes when the sessions that may use it are over.
#[test]
fn a_changed_tree_of_a_layer_with_a_blob_is_forgotten_alone() {
    let root = root();
    let store = open(root.path());
    let (digest, size) = store.put_blob(b"a tar").unwrap();
    let (id, diff_id) = (layer(&store, "content"), DiffId(Digest::of(b"a tar")));
    store.set_diff_id(&id, &diff_id, size);
    store.add_blob_form(&diff_id, &Descriptor::new(media_type::LAYER, digest, size));
    store.put_record(&record("step", std::slice::from_ref(&id)));
    store.flush().unwrap();
    let directory = store.layer(&id).unwrap().directory.unwrap();
    drop(store);
    std::fs::write(directory.join("file"), "other").unwrap();

    let (user, store) = (open(root.path()), open(root.path()));
    assert!(!store.check_layer(&id));
    assert_eq!(store.take_warnings(), [Warning::ChangedLayer { layer: id.clone() }]);
    let info = store.layer(&id).expect("its blob is there");
    assert_eq!((info.directory, info.blobs.len()), (None, 1));
    assert!(store.record(&Digest::of(b"step")).is_some());
    let new = store.new_layer().unwrap();
    std::fs::write(new.fs().join("file"), "content").unwrap();
    store.set_directory(&id, new);
    store.flush().unwrap();
    drop(store);
    assert!(directory.exists(), "another session may have it mounted");
    drop(user);
    assert!(!directory.exists());
    let store = open(root.path());
    assert!(store.check_layer(&id));
    assert_eq!(store.fsck(&FsckOptions::default()).unwrap(), []);
}

/// A tree without a stamp is one whose maker was killed before it had read it.
#[test]
fn a_tree_without_a_stamp_counts_only_while_its_maker_lives() {
    const NAME: &str = "damage::a_tree_without_a_stamp_counts_only_while_its_maker_lives";
    if let Some((root, _)) = child::role() {
        let store = open(&root);
        let new = store.new_layer().unwrap();
        std::fs::write(new.fs().join("file"), "content").unwrap();
        let id = store.seal_unstamped(new);
        store.put_record(&record("step", &[id]));
        return child::ready();
    }
    let root = root();
    let store = open(root.path());
    let maker = child::start(NAME, root.path(), "");
    // It is committed in the background.
    crate::store::wait_until(|| store.record(&Digest::of(b"step")).is_some());
    let id = store.record(&Digest::of(b"step")).unwrap().outputs[0][0].clone();
    assert!(store.check_layer(&id));
    maker.kill();
    assert!(!store.check_layer(&id));
    assert_eq!(store.take_warnings(), [Warning::UncheckedLayer { layer: id.clone() }]);
    assert!(store.record(&Digest::of(b"step")).is_none());
}

/// The stamp that comes with reading a layer is the one that the tree is held against later.
#[test]
fn a_tree_is_stamped_while_it_is_read() {
    struct Nowhere;
    impl LayerSink for Nowhere {
        fn entry(&mut self, _: &Entry, _: Content<'_>) -> Result<(), LayerError> {
            Ok(())
        }
    }
    let root = root();
    let store = open(root.path());
    let layer = store.new_layer().unwrap();
    let fs = layer.fs();
    // More than one batch, deeper than directories stay open, and what is not a file.
    let deep: PathBuf = (0..100).map(|n| format!("d{n}")).collect();
    std::fs::create_dir_all(fs.join(&deep)).unwrap();
    for n in 0..500 {
        let directory = fs.join(format!("many/{}", n % 40));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(format!("f{n}")), vec![b'x'; n * 100]).unwrap();
    }
    std::fs::write(fs.join(deep).join("file"), "deep").unwrap();
    std::os::unix::fs::symlink("nowhere", fs.join("link")).unwrap();
    let id = store.seal_unstamped(layer);
    let options = DiffOptions { flavor: Flavor::Plain, lower: None, all_xattrs: false };
    let tree = std::fs::File::open(&fs).unwrap();
    let (_, stamp) = cache::layer::diff_and_stamp(&tree, &options, &mut Nowhere).unwrap();
    store.set_stamp(&id, stamp.expect("no name has a meaning in tars"));
    store.put_record(&record("step", &[id]));
    store.flush().unwrap();
    drop(store);
    let is_whole = || {
        let store = open(root.path());
        let found = store.record(&Digest::of(b"step"));
        found.is_some_and(|found| store.check_layer(&found.outputs[0][0]))
    };
    assert!(is_whole());
    std::fs::write(fs.join("many/7/f7"), "changed").unwrap();
    assert!(!is_whole());
}
