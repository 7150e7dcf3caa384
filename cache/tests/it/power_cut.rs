//! After a power cut a store serves what was committed, and nothing else.

use oci::{Descriptor, Digest, media_type};

use crate::loop_device::LoopDevice;
use crate::store::{open, record};

const FILES: usize = 100;

fn content(build: usize, file: usize) -> Vec<u8> {
    format!("build {build} file {file} ").repeat(200).into_bytes()
}

/// A build with one layer of many files, one blob and one tag.
fn build(store: &cache::Store, n: usize) {
    let layer = store.new_layer().unwrap();
    for file in 0..FILES {
        std::fs::write(layer.fs().join(file.to_string()), content(n, file)).unwrap();
    }
    let id = store.seal(layer);
    let (digest, size) = store.put_blob(&content(n, FILES)).unwrap();
    store.put_record(&record(&n.to_string(), &[id]));
    store.tag(&format!("app:{n}"), &Descriptor::new(media_type::LAYER, digest, size)).unwrap();
}

/// Whether build `n` is there; if so it must be whole.
fn check(store: &cache::Store, n: usize) -> bool {
    let blob = Digest::of(&content(n, FILES));
    if let Some(image) = store.resolve(&format!("app:{n}")) {
        assert_eq!(image.digest, blob);
        assert_eq!(store.read_small(&blob, 1 << 20).unwrap(), content(n, FILES), "build {n}");
    }
    let Some(found) = store.record(&Digest::of(n.to_string().as_bytes())) else { return false };
    let directory = store.layer(&found.outputs[0][0]).unwrap().directory.unwrap();
    for file in 0..FILES {
        let bytes = std::fs::read(directory.join(file.to_string())).unwrap();
        assert_eq!(bytes, content(n, file), "build {n}, file {file}");
    }
    assert_eq!(store.read_small(&blob, 1 << 20).unwrap(), content(n, FILES), "build {n}");
    true
}

#[test]
fn privileged_a_power_cut_leaves_whole_builds_only() {
    let Some(mut device) = LoopDevice::create(96) else { return };
    let root = device.path().join("store");
    let mut done = 0;
    // At every step of a commit, and after it.
    for cut in 0..14 {
        let n = done;
        done += 1;
        let step = [
            "Started",
            "Synced",
            "BlobsNamed",
            "BlobNamesSynced",
            "IndexNamed",
            "RowsWritten",
            "-",
        ][cut % 7];
        std::thread::scope(|scope| {
            let (device, root) = (&device, &root);
            // The cut happens on the committing thread, which then fails to go on.
            let directory = device.path();
            let _ = scope
                .spawn(move || {
                    let options = cache::Options {
                        on_commit_step: Some(std::sync::Arc::new(move |reached| {
                            if format!("{reached:?}") == step {
                                crate::loop_device::cut_power_at(&directory);
                            }
                        })),
                        ..cache::Options::default()
                    };
                    let store = cache::Store::open(root, options).unwrap();
                    build(&store, n);
                    let flushed = store.flush();
                    let is_after = matches!(step, "RowsWritten" | "-");
                    assert!(flushed.is_ok() || !is_after, "{step}: {flushed:?}");
                })
                .join();
            device.cut_power();
        });
        device.restart();
        let store = open(&root);
        let whole: Vec<usize> = (0..done).filter(|n| check(&store, *n)).collect();
        // What an earlier flush has returned for is there, and so is this one's.
        assert!((0..n).all(|n| whole.contains(&n)), "cut {cut} at {step}");
        assert_eq!(whole.contains(&n), matches!(step, "RowsWritten" | "-"), "cut {cut} at {step}");
        assert_eq!(store.take_warnings(), [], "cut {cut} at {step}");
        let full = cache::FsckOptions {
            depth: cache::Depth::Full(&|_, _| cache::TreeState::Unknown),
            repair: false,
        };
        assert_eq!(store.fsck(&full).unwrap(), [], "cut {cut} at {step}");
        build(&store, n);
        store.flush().unwrap();
        assert!(check(&store, n));
    }
    let store = open(&root);
    assert!((0..done).all(|n| check(&store, n)));
}

/// The detector detects: without the store, the same cut loses bytes.
#[test]
fn privileged_an_unsynced_file_is_lost_in_a_power_cut() {
    let Some(mut device) = LoopDevice::create(32) else { return };
    let (kept, lost) = (device.path().join("kept"), device.path().join("lost"));
    std::fs::write(&kept, "bytes").unwrap();
    rustix::fs::syncfs(std::fs::File::open(device.path()).unwrap()).unwrap();
    std::fs::write(&lost, "bytes").unwrap();
    device.cut_power();
    device.restart();
    assert_eq!(std::fs::read(&kept).unwrap(), b"bytes");
    assert_ne!(std::fs::read(&lost).unwrap_or_default(), b"bytes");
}
