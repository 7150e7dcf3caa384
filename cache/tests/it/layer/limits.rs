//! Archives that are too much.

use cache::layer::compress::{Compression, compress};
use cache::layer::{Limits, UnpackOptions, unpack};
use expect_test::{Expect, expect};

use super::archive::{archive, extension};
use super::{chain, flavor, sink};

fn check(bytes: &[u8], limits: Limits, expect: Expect) {
    let root = tempfile::tempdir().unwrap();
    let options = UnpackOptions { limits, ..UnpackOptions::default() };
    let error = unpack(bytes, sink(root.path(), flavor()), &options).unwrap_err();
    expect.assert_eq(&chain(&error));
}

fn limits() -> Limits {
    Limits { bytes: 64 << 20, entries: 1000, ratio: 100, free_bytes: 1 << 20 }
}

#[test]
fn an_archive_that_expands_too_much_is_refused() {
    let mut tar = archive("file f size=33554432\n!open");
    tar.resize(tar.len() + (32 << 20), 0);
    for compression in [Compression::GZIP, Compression::ZSTD] {
        let mut bomb = Vec::new();
        compress(&mut &tar[..], &mut bomb, compression).unwrap();
        check(&bomb, limits(), expect!["the archive expands more than 100 to 1"]);
    }
}

#[test]
fn an_archive_has_a_largest_size() {
    let mut tar = archive("file f size=33554432\n!open");
    tar.resize(tar.len() + (32 << 20), 0);
    check(
        &tar,
        Limits { bytes: 16 << 20, ..limits() },
        expect!["the archive has more than 16777216 bytes"],
    );
}

#[test]
fn zeros_after_the_end_count() {
    let mut tar = archive("file f");
    tar.resize(tar.len() + (32 << 20), 0);
    check(
        &tar,
        Limits { bytes: 16 << 20, ..limits() },
        expect!["the archive has more than 16777216 bytes"],
    );
}

#[test]
fn holes_count() {
    check(
        &archive("file f pax=GNU.sparse.map:0,1 pax=GNU.sparse.size:99999999999 data=a"),
        limits(),
        expect!["the archive has more than 67108864 bytes"],
    );
}

#[test]
fn there_is_a_most_entries() {
    let mut tar = Vec::new();
    let one = archive("hard h to=h\n!open");
    for _ in 0..1001 {
        tar.extend(&one);
    }
    check(&tar, limits(), expect!["the archive has more than 1000 entries"]);
}

#[test]
fn extension_headers_have_a_largest_size() {
    for kind in *b"xgLK" {
        let mut tar = Vec::new();
        extension(kind, &vec![b'x'; (1 << 20) + 1], &mut tar);
        check(
            &tar,
            limits(),
            expect!["malformed archive: an extension header has more than 1048576 bytes"],
        );
    }
}

#[test]
fn an_extension_header_needs_an_entry() {
    let mut tar = Vec::new();
    extension(b'L', b"name", &mut tar);
    check(&tar, limits(), expect!["malformed archive: an extension header without an entry"]);
}

#[test]
fn digests_are_checked() {
    let tar = archive("file f data=1");
    let mut gzip = Vec::new();
    let compressed = compress(&mut &tar[..], &mut gzip, Compression::GZIP).unwrap();
    let other = oci::Digest::of(b"other");
    let unpack = |digest: &oci::Digest, diff_id: &oci::Digest| {
        let root = tempfile::tempdir().unwrap();
        let options = UnpackOptions {
            digest: Some(digest.clone()),
            diff_id: Some(oci::DiffId(diff_id.clone())),
            ..UnpackOptions::default()
        };
        unpack(&gzip[..], sink(root.path(), flavor()), &options).map_err(|error| chain(&error))
    };
    let unpacked = unpack(&compressed.digest, &compressed.diff_id.0).unwrap();
    assert_eq!(unpacked.diff_id, compressed.diff_id);
    assert_eq!(unpacked.size, tar.len() as u64);
    assert_eq!(unpacked.entries, 1);
    let wrong = unpack(&other, &compressed.diff_id.0).unwrap_err();
    assert!(wrong.starts_with("the layer has the digest sha256:"), "{wrong}");
    let wrong = unpack(&compressed.digest, &other).unwrap_err();
    assert!(wrong.starts_with("the uncompressed layer has the digest sha256:"), "{wrong}");
}
