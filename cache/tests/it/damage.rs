//! Whatever happens to its files, a store serves the bytes that were put in, or none.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use cache::layer::{Content, DiffOptions, Entry, Flavor, LayerError, LayerSink};
use cache::{Damage, FsckOptions, OpenError, Options, Store, Warning};
use oci::{Descriptor, DiffId, Digest, media_type};

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
    settle(&store);
}

/// Commits until all layers have their stamps, which are made in the background.
fn settle(store: &Store) {
    let unstamped = || {
        let database = rusqlite::Connection::open(store.root().join("records-v1.db")).unwrap();
        let query = "SELECT count(*) FROM entry WHERE kind = 2 AND instr(value, 'stamp') = 0";
        database.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    crate::store::wait_until(|| {
        store.flush().unwrap();
        unstamped() == 0
    });
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
    let whole = root();
    fill(whole.path());
    // Not worth copying.
    std::fs::remove_file(whole.path().join("ballast-v1")).unwrap();
    let mut random = Random(1);
    let mut misses = 0;
    for round in 0..250 {
        let copy = root();
        cache::copy_tree(whole.path(), copy.path()).unwrap();
        let damage = mutate(copy.path(), &mut random);
        match Store::open(copy.path(), Options::default()) {
            Ok(store) => {
                misses += ask(&store);
                store.fsck(&FsckOptions { full: true, repair: true, diff_id_of: None }).unwrap();
                // What was lost can be made again, and then everything is there.
                drop(store);
                fill(copy.path());
                let store = open(copy.path());
                assert_eq!(ask(&store), 0, "round {round}: {damage}");
                let full = FsckOptions { full: true, ..Default::default() };
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
    let full = FsckOptions { full: true, ..Default::default() };
    let mut with_digest = quick.to_vec();
    with_digest.insert(2, Damage::BlobDigest);
    assert_eq!(damages(&full), with_digest);
    damages(&FsckOptions { repair: true, ..full });
    assert_eq!(damages(&full), []);
}

#[test]
fn fsck_compares_trees_with_their_digest() {
    let root = root();
    fill(root.path());
    let store = open(root.path());
    let read = |tree: &[PathBuf]| {
        let [directory] = tree else { unreachable!("these trees are whole") };
        Ok(DiffId(Digest::of(&std::fs::read(directory.join("file"))?)))
    };
    let options = FsckOptions { full: true, repair: false, diff_id_of: Some(&read) };
    assert_eq!(store.fsck(&options).unwrap(), []);
    let id = store.record(&Digest::of(b"step 3")).unwrap().outputs[0][0].clone();
    std::fs::write(store.layer(&id).unwrap().directory.unwrap().join("file"), "step X").unwrap();
    let found = store.fsck(&options).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].damage, Damage::LayerContent);
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
    // More than one batch, deeper than directories stay open, and what is no file.
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
