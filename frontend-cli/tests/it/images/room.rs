//! Archives that are larger than the disk.

use std::io::Write as _;
use std::path::Path;

use flate2::write::GzEncoder;
use oci::Descriptor;

use super::world::{Layout, World, config, header, host, stderr};
use crate::loop_device::LoopDevice;

/// Size of the store's file system in MiB.
const SIZE: u64 = 64;

/// A tar that takes more bytes than there are.
fn many_bytes() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let size = (2 * SIZE) << 20;
    let mut header = header(tar::EntryType::Regular, 0o644, size);
    tar.append_data(&mut header, "zeros", std::io::Read::take(std::io::repeat(0), size))
        .expect("written");
    with_dockerfile(tar)
}

/// A tar that takes more inodes than there are.
fn many_files() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for n in 0..40_000 {
        let mut header = header(tar::EntryType::Regular, 0o644, 0);
        tar.append_data(&mut header, format!("file{n}"), std::io::empty()).expect("written");
    }
    with_dockerfile(tar)
}

fn with_dockerfile(mut tar: tar::Builder<Vec<u8>>) -> Vec<u8> {
    let text = b"FROM scratch\nCOPY . /\n";
    let mut header = header(tar::EntryType::Regular, 0o644, text.len() as u64);
    tar.append_data(&mut header, "Dockerfile", text.as_slice()).expect("written");
    tar.into_inner().expect("written")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("written");
    encoder.finish().expect("written")
}

/// Bytes and inodes that are free, once what was deleted has been forgotten.
fn free(directory: &Path) -> (u64, u64) {
    rustix::fs::syncfs(std::fs::File::open(directory).expect("opened")).expect("synced");
    let found = rustix::fs::statvfs(directory).expect("a file system");
    (found.f_bavail * found.f_frsize, found.f_favail)
}

/// Whatever way it comes in, it is refused by name before the disk is full, and leaves nothing there.
#[test]
fn privileged_an_archive_that_does_not_fit_is_refused_and_leaves_nothing() {
    let Some(world) = World::new() else { return };
    let Some(device) = LoopDevice::create(SIZE) else { return };
    let root = device.path().join("store");
    let root = root.to_str().expect("UTF-8");
    let run = |words: &[&str], stdin: &[u8]| world.with_root(root, words, stdin);
    assert!(run(&["images"], b"").status.success());
    for (kind, tar, told) in
        [("bytes", many_bytes(), "MiB, which is what "), ("files", many_files(), "files, which")]
    {
        let packed = gzip(&tar);
        let context = format!("context-{kind}");
        std::fs::create_dir_all(world.path(&context)).expect("made");
        std::fs::write(world.path(&context).join("archive.tar.gz"), &packed).expect("written");
        std::fs::write(world.path("add"), "FROM scratch\nADD archive.tar.gz /\n").expect("written");
        std::fs::write(world.path("from"), "FROM base\nWORKDIR /new\n").expect("written");
        let layout = world.path(&format!("layout-{kind}"));
        let image = layout_of(&layout, &tar, &packed);
        let base = format!("base=oci-layout://{}@{}", layout.display(), image.digest);
        let from = ["build", "-f", "from", "--build-context", &base, &context];
        let cases: [(&str, &[&str], &[u8]); 3] = [
            ("an archive that is added", &["build", "-f", "add", &context], b""),
            ("a context on standard input", &["build", "-"], &packed),
            ("a layer", &from, b""),
        ];
        for (what, words, stdin) in cases {
            let before = free(&device.path());
            let ended = run(words, stdin);
            let said = stderr(&ended);
            assert_eq!(ended.status.code(), Some(1), "{what} of many {kind}: {said}");
            assert!(said.contains("it takes more than ") && said.contains(told), "{what}: {said}");
            assert!(said.contains("`mybuild prune` makes room"), "{what}: {said}");
            if what == "a layer" {
                assert!(run(&["prune", "-f"], b"").status.success());
            }
            let after = free(&device.path());
            // The layer's blob may stay.
            let kept = (packed.len() as u64) + (2 << 20);
            let is_back = before.0 <= after.0 + kept && before.1 <= after.1 + 64;
            assert!(is_back, "{what} of many {kind}: {before:?} before, {after:?} after");
        }
    }
    let blob = world.path("layout-bytes");
    let mut layout = Layout::new(&blob);
    let plain = layout.image(&many_bytes(), config(), &host());
    layout.name("large:1", plain);
    let before = free(&device.path());
    let ended = run(&["load"], &gzip(&layout.to_tar()));
    let said = stderr(&ended);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("it takes more than ") && said.contains("mybuild prune"), "{said}");
    assert!(before.0 <= free(&device.path()).0 + (2 << 20));
    assert!(run(&["prune", "-f"], b"").status.success());
    let small = run(&["build", "-"], b"FROM scratch\nWORKDIR /new\n");
    assert!(small.status.success(), "{}", stderr(&small));
}

/// A layout with an image of one compressed layer.
fn layout_of(directory: &Path, tar: &[u8], packed: &[u8]) -> Descriptor {
    let mut layout = Layout::new(directory);
    let layer = layout.blob(oci::media_type::LAYER_GZIP, packed);
    let mut config = config();
    config.rootfs.diff_ids = vec![oci::DiffId(oci::Digest::of(tar))];
    (config.os, config.architecture) = (host().os, host().architecture);
    let config = serde_json::to_vec(&config).expect("plain data");
    let manifest = oci::Manifest {
        schema_version: 2,
        media_type: oci::media_type::MANIFEST.to_owned(),
        config: layout.blob(oci::media_type::CONFIG, &config),
        layers: vec![layer],
        annotations: Default::default(),
    };
    let manifest = serde_json::to_vec(&manifest).expect("plain data");
    let image = layout.blob(oci::media_type::MANIFEST, &manifest);
    layout.name("base", image.clone());
    layout.write();
    image
}
