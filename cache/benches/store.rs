//! What a build that changes nothing pays for the store.

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use cache::{Options, Record, Stat, StatIndex, Store};
use criterion::{Criterion, criterion_group, criterion_main};
use oci::Digest;

fn open(c: &mut Criterion) {
    let root = tempfile::tempdir().unwrap();
    let store = filled(root.path());
    drop(store);
    c.bench_function("open and close", |b| {
        b.iter(|| Store::open(root.path(), Options::default()).unwrap());
    });
    c.bench_function("open, 20 lookups, close", |b| {
        b.iter(|| {
            let store = Store::open(root.path(), Options::default()).unwrap();
            (0..20).filter(|n| store.record(&key(*n)).is_some()).count()
        });
    });
}

fn lookup(c: &mut Criterion) {
    let root = tempfile::tempdir().unwrap();
    let store = filled(root.path());
    store.flush().unwrap();
    c.bench_function("record, hit", |b| b.iter(|| black_box(store.record(&key(7))).unwrap()));
    c.bench_function("record, miss", |b| b.iter(|| black_box(store.record(&key(70_000)))));
    let (digest, _) = store.put_blob(b"content").unwrap();
    store.flush().unwrap();
    c.bench_function("blob", |b| b.iter(|| black_box(store.blob(&digest)).unwrap()));
}

fn stat_index(c: &mut Criterion) {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), Options::default()).unwrap();
    let context = std::path::Path::new("/context");
    let index = StatIndex::load(&store, context);
    let started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for n in 0..50_000 {
        index.put(&path(n), &stat(n), blake3::hash(&path(n)).as_bytes(), started);
    }
    index.save().unwrap();
    c.bench_function("stat index, load 50,000", |b| {
        b.iter(|| StatIndex::load(&store, context));
    });
    let index = StatIndex::load(&store, context);
    c.bench_function("stat index, 50,000 lookups", |b| {
        b.iter(|| (0..50_000).filter(|n| index.get(&path(*n), &stat(*n)).is_some()).count());
    });
}

/// A store with a thousand records of one layer each.
fn filled(root: &std::path::Path) -> Store {
    let store = Store::open(root, Options::default()).unwrap();
    for n in 0..1000 {
        let layer = store.seal(store.new_layer().unwrap());
        store.put_record(&Record {
            key: key(n),
            outputs: vec![vec![layer]],
            parts: Default::default(),
            name: format!("step {n}"),
            created: 0,
            duration: 0,
            warnings: Vec::new(),
            notes: Default::default(),
        });
    }
    store
}

fn key(n: u64) -> Digest {
    Digest::of(&n.to_le_bytes())
}

fn path(n: u64) -> Vec<u8> {
    format!("source/module-{}/file-{n}.c", n % 100).into_bytes()
}

fn stat(n: u64) -> Stat {
    Stat { dev: 1, ino: n, size: n, mtime_ns: 1, ctime_ns: 1 }
}

criterion_group!(benches, open, lookup, stat_index);
criterion_main!(benches);
