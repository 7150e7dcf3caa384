//! Compressed tars in which each file can be read by itself.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use cache::layer::compress::{Compressed, Compression, compress, decompress};
use cache::layer::{Content, Entry, EntryKind, LayerSink as _, TarSink};
use data_encoding::BASE64;
use oci::Digest;
use proptest::prelude::*;
use serde_json::Value;

const CHUNK: usize = 4 << 20;

const ALL: [Compression; 2] = [Compression::ESTARGZ, Compression::ZSTD_CHUNKED];

static TAR: LazyLock<Vec<u8>> = LazyLock::new(tar);

/// Files of a tar: empty, small, of one chunk exactly, of several; and what has no content.
fn tar() -> Vec<u8> {
    let mut sink = TarSink::new(Vec::new());
    let mut add = |path: &str, kind: EntryKind, content: &[u8]| {
        let mut entry = Entry::new(path.as_bytes(), kind, 0o640);
        (entry.uid, entry.gid) = (10, 3_000_000);
        entry.mtime.seconds = 1_000_000_000;
        entry.xattrs.insert(b"user.note".to_vec(), b"\x00\xff".to_vec());
        let content = if content.is_empty() { Content::None } else { Content::Bytes(content) };
        sink.entry(&entry, content).unwrap();
    };
    add("directory", EntryKind::Directory, &[]);
    for (name, size) in sizes() {
        add(&name, EntryKind::File { size: size as u64 }, &bytes(size));
    }
    add("hard", EntryKind::Hardlink { target: b"directory/one".to_vec() }, &[]);
    add("soft", EntryKind::Symlink { target: b"to/somewhere".to_vec() }, &[]);
    add("device", EntryKind::CharDevice { major: 1, minor: 5 }, &[]);
    add("gone", EntryKind::Whiteout, &[]);
    sink.finish().unwrap().0
}

fn sizes() -> Vec<(String, usize)> {
    let long = "directory/".to_owned() + &"long/".repeat(60) + "name";
    let sizes = [("empty", 0), ("one", 1), ("page", 4096), ("chunk", CHUNK), ("large", CHUNK + 77)];
    let named = sizes.map(|(name, size)| (format!("directory/{name}"), size));
    named.into_iter().chain([(long, 513)]).collect()
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| ((at * at / 7919) ^ (at >> 9)) as u8).collect()
}

fn packed(tar: &[u8], compression: Compression) -> (Vec<u8>, Compressed) {
    let mut out = Vec::new();
    let packed = compress(&mut &tar[..], &mut out, compression).unwrap();
    (out, packed)
}

fn unpacked(blob: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    decompress(blob).unwrap().1.read_to_end(&mut plain).unwrap();
    plain
}

/// The table of contents, found as its readers find it, and where the content ends.
fn table(blob: &[u8], packed: &Compressed) -> Value {
    let annotation = |key: &str| packed.encoded.annotations.get(key).cloned();
    if let Some(digest) = annotation("containerd.io/snapshot/stargz/toc.digest") {
        let footer = &blob[blob.len() - 51..];
        assert_eq!(&footer[32..38], b"STARGZ");
        let at = std::str::from_utf8(&footer[16..32]).unwrap();
        let at = usize::from_str_radix(at, 16).unwrap();
        let member = unpacked(&blob[at..blob.len() - 51]);
        assert!(member.starts_with(b"stargz.index.json\0"));
        let size = std::str::from_utf8(&member[124..135]).unwrap();
        let toc = &member[512..512 + usize::from_str_radix(size, 8).unwrap()];
        assert_eq!(Digest::of(toc).as_str(), digest);
        return serde_json::from_slice(toc).unwrap();
    }
    let key =
        |name: &str| annotation(&format!("io.github.containers.zstd-chunked.{name}")).unwrap();
    let [at, length, plain, 1] = numbers(&key("manifest-position"))[..] else { panic!() };
    let toc = &blob[at..at + length];
    assert_eq!(Digest::of(toc).as_str(), key("manifest-checksum"));
    let toc = unpacked(toc);
    assert_eq!(toc.len(), plain);
    let footer = &blob[blob.len() - 64..];
    assert_eq!(&footer[56..], b"GNUlInUx");
    assert_eq!(&footer[..8], (at as u64).to_le_bytes());
    serde_json::from_slice(&toc).unwrap()
}

fn numbers(text: &str) -> Vec<usize> {
    text.split(':').map(|number| number.parse().unwrap()).collect()
}

#[test]
fn files_are_found_by_the_table_and_read_by_themselves() {
    let tar = &*TAR;
    for compression in ALL {
        let (blob, packed) = packed(tar, compression);
        assert_eq!(packed.digest, Digest::of(&blob));
        assert_eq!(packed.diff_id.0, Digest::of(tar));
        let table = table(&blob, &packed);
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for entry in table["entries"].as_array().unwrap() {
            let name = entry["name"].as_str().unwrap().to_owned();
            let number = |key: &str| entry[key].as_u64().unwrap_or(0) as usize;
            let kind = entry["type"].as_str().unwrap();
            let known = files.entry(name.clone()).or_default();
            assert_eq!(number("chunkOffset"), known.len(), "{compression:?} {name}");
            if matches!(kind, "reg" | "chunk") && (number("size") > 0 || kind == "chunk") {
                let whole = sizes().into_iter().find(|(file, _)| *file == name);
                let whole = whole.map_or(1, |(_, size)| size);
                let wanted = match number("chunkSize") {
                    0 => whole - known.len(),
                    size => size,
                };
                let mut chunk = vec![0; wanted];
                let (_, mut reader) = decompress(&blob[number("offset")..]).unwrap();
                reader.read_exact(&mut chunk).unwrap();
                if let Some(digest) = entry["chunkDigest"].as_str() {
                    assert_eq!(Digest::of(&chunk).as_str(), digest);
                }
                known.extend(chunk);
            }
        }
        for (name, size) in sizes() {
            assert!(files[&name] == bytes(size), "{compression:?} {name}");
        }
        let of = |name: &str| {
            let entries = table["entries"].as_array().unwrap();
            entries.iter().find(|entry| entry["name"] == name).unwrap().clone()
        };
        let large = of("directory/large");
        assert_eq!(large["digest"], Digest::of(&bytes(CHUNK + 77)).as_str());
        let about = ["mode", "uid", "gid", "modtime"].map(|key| large[key].to_string());
        assert_eq!(about, ["416", "10", "3000000", "\"2001-09-09T01:46:40Z\""]);
        assert_eq!(large["xattrs"]["user.note"], "AP8=");
        assert_eq!(
            (&of("soft")["type"], &of("soft")["linkName"]),
            (&"symlink".into(), &"to/somewhere".into())
        );
        assert_eq!(
            (&of("device")["devMinor"], &of("hard")["type"]),
            (&5.into(), &"hardlink".into())
        );
    }
}

#[test]
fn the_tar_is_the_same_or_has_what_the_format_adds() {
    let tar = &*TAR;
    let (blob, result) = packed(tar, Compression::ZSTD_CHUNKED);
    assert!(unpacked(&blob) == *tar);
    assert_eq!(result.encoded.diff_id, None);

    let (blob, result) = packed(tar, Compression::ESTARGZ);
    let plain = unpacked(&blob);
    assert_eq!(result.encoded.diff_id.unwrap().0, Digest::of(&plain));
    let size = &result.encoded.annotations["io.containers.estargz.uncompressed-size"];
    assert_eq!(*size, plain.len().to_string());
    // Done twice it is the same: the first table says where things were in the first blob.
    let (again, _) = packed(&plain, Compression::ESTARGZ);
    assert!(again == blob);
}

#[test]
fn tar_split_gives_the_tar_back() {
    let tar = &*TAR;
    let (blob, packed) = packed(tar, Compression::ZSTD_CHUNKED);
    let position =
        &packed.encoded.annotations["io.github.containers.zstd-chunked.tarsplit-position"];
    let [at, length, plain] = numbers(position)[..] else { panic!() };
    let split = &blob[at..at + length];
    assert_eq!(table(&blob, &packed)["tarSplitDigest"], Digest::of(split).as_str());
    let split = unpacked(split);
    assert_eq!(split.len(), plain);
    let files: BTreeMap<String, usize> = sizes().into_iter().collect();
    let mut again = Vec::new();
    for (number, line) in
        split.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).enumerate()
    {
        let line: Value = serde_json::from_slice(line).unwrap();
        assert_eq!(line["position"], number);
        match (line["type"].as_u64(), line["size"].as_u64()) {
            (Some(2), _) => {
                again.extend(BASE64.decode(line["payload"].as_str().unwrap().as_bytes()).unwrap());
            }
            (_, Some(_)) => again.extend(bytes(files[line["name"].as_str().unwrap()])),
            (_, None) => assert!(line["payload"].is_null()),
        }
    }
    assert!(again == *tar);
}

#[test]
fn the_bytes_do_not_depend_on_threads() {
    let tar = &*TAR;
    for compression in ALL {
        let (expected, _) = packed(tar, compression);
        for threads in [1, 3, 7] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (actual, _) = pool.install(|| packed(tar, compression));
            assert!(actual == expected, "{compression:?} with {threads} threads");
        }
    }
}

#[test]
fn gzip_and_zstd_take_them_for_their_own() {
    let tar = &*TAR;
    for (compression, program) in ALL.into_iter().zip(["gzip", "zstd"]) {
        let (blob, _) = packed(tar, compression);
        let mut child = match Command::new(program)
            .arg("-dc")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
        {
            Ok(child) => child,
            Err(_) => {
                eprintln!("skipped: no {program}");
                continue;
            }
        };
        let mut stdin = child.stdin.take().unwrap();
        let sent = blob.clone();
        let writer = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert!(output.status.success() && output.stdout == unpacked(&blob), "{program}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever comes, it is an error or it decompresses.
    #[test]
    fn what_is_no_tar_is_an_error(at in 0_usize..20_000, flip in 1_u8.., cut in 0_usize..20_000) {
        let mut tar = TAR[..20_480].to_vec();
        tar[at] ^= flip;
        tar.truncate(cut.max(1));
        for compression in ALL {
            let mut out = Vec::new();
            if let Ok(packed) = compress(&mut &tar[..], &mut out, compression) {
                let plain = unpacked(&out);
                let expected = packed.encoded.diff_id.unwrap_or(packed.diff_id);
                prop_assert_eq!(Digest::of(&plain), expected.0);
            }
        }
    }
}
