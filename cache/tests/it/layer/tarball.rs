//! The bytes of a tar.

use std::io::{self, Write};

use cache::layer::{Content, Entry, EntryKind, LayerSink, TarSink, Time};
use expect_test::{Expect, expect};

/// Shows the headers of what `entries` make: each field that is not zero, PAX records in full.
fn check(entries: &[Entry], expect: Expect) {
    let mut sink = TarSink::new(Vec::new());
    for entry in entries {
        let content = match entry.kind {
            EntryKind::File { size } => vec![b'x'; usize::try_from(size).unwrap()],
            _ => Vec::new(),
        };
        sink.entry(entry, Content::Bytes(&content)).unwrap();
    }
    let (tar, size) = sink.finish().unwrap();
    assert_eq!((tar.len() as u64, tar.len() % 512), (size, 0));
    assert!(tar.ends_with(&[0; 1024]));
    expect.assert_eq(&show(&tar));
}

fn show(tar: &[u8]) -> String {
    let mut text = String::new();
    let mut position = 0;
    while tar[position] != 0 {
        let header = tar::Header::from_byte_slice(&tar[position..position + 512]);
        let old = header.as_old();
        let field = |bytes: &[u8]| bytes.trim_ascii_end().escape_ascii().to_string();
        let prefix = header.as_ustar().unwrap().prefix;
        let end = |bytes: &[u8]| bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
        text += &format!("{} ", old.linkflag[0] as char);
        if end(&prefix) > 0 {
            text += &format!("{} + ", prefix[..end(&prefix)].escape_ascii());
        }
        text += &format!("{}", old.name[..end(&old.name)].escape_ascii());
        if end(&old.linkname) > 0 {
            text += &format!(" -> {}", old.linkname[..end(&old.linkname)].escape_ascii());
        }
        for bytes in [&old.mode[..], &old.uid, &old.gid, &old.size, &old.mtime] {
            text += &format!(" {}", field(bytes));
        }
        text += "\n";
        let length = usize::try_from(header.entry_size().unwrap()).unwrap();
        position += 512;
        if old.linkflag[0] == b'x' {
            let records = &tar[position..position + length];
            for record in records.split_inclusive(|&byte| byte == b'\n') {
                text += &format!("    {}\n", record.escape_ascii());
            }
        }
        position += length.next_multiple_of(512);
    }
    text
}

fn file(path: &str, size: u64) -> Entry {
    Entry::new(path, EntryKind::File { size }, 0o644)
}

#[test]
fn ordinary_entries_are_plain_ustar() {
    let mut owned = file("a/b", 5);
    (owned.uid, owned.gid, owned.mode) = (1000, 100, 0o4755);
    owned.mtime = Time { seconds: 1_700_000_000, nanoseconds: 999_999_999 };
    check(
        &[
            Entry::new("a", EntryKind::Directory, 0o755),
            owned,
            Entry::new("a/l", EntryKind::Symlink { target: b"b".to_vec() }, 0o777),
            Entry::new("a/h", EntryKind::Hardlink { target: b"a/b".to_vec() }, 0o644),
            Entry::new("a/p", EntryKind::Fifo, 0o600),
            Entry::new("a/w", EntryKind::Whiteout, 0o600),
            Entry::new("a", EntryKind::Opaque, 0o600),
        ],
        expect![[r#"
            5 a/ 0000755\x00 0000000\x00 0000000\x00 00000000000\x00 00000000000\x00
            0 a/b 0004755\x00 0001750\x00 0000144\x00 00000000005\x00 14524770400\x00
            2 a/l -> b 0000777\x00 0000000\x00 0000000\x00 00000000000\x00 00000000000\x00
            1 a/h -> a/b 0000644\x00 0000000\x00 0000000\x00 00000000000\x00 00000000000\x00
            6 a/p 0000600\x00 0000000\x00 0000000\x00 00000000000\x00 00000000000\x00
            0 a/.wh.w 0000000\x00 0000000\x00 0000000\x00 00000000000\x00 00000000000\x00
            0 a/.wh..wh..opq 0000000\x00 0000000\x00 0000000\x00 00000000000\x00 00000000000\x00
        "#]],
    );
}

#[test]
fn what_does_not_fit_goes_into_records() {
    let long = "n".repeat(60);
    let split = format!("{long}/{long}");
    let mut large_owner = file("owner", 0);
    (large_owner.uid, large_owner.gid) = (0o7777777, 0o10000000);
    let mut early = file("early", 0);
    early.mtime.seconds = -1;
    let mut capable = file(&split, 0);
    capable.xattrs.insert(b"security.capability".to_vec(), b"\x01\0\n".to_vec());
    let link = |target: &str| {
        Entry::new("l", EntryKind::Symlink { target: target.as_bytes().to_vec() }, 0o777)
    };
    check(
        &[
            file(&split, 0),
            Entry::new(split.clone(), EntryKind::Directory, 0o755),
            file(&"n".repeat(101), 0),
            Entry::new("n".repeat(100), EntryKind::Directory, 0o755),
            file("caf\u{e9}", 0),
            large_owner,
            early,
            capable,
            link(&"t".repeat(101)),
            link("\u{e9}"),
        ],
        expect![[r#"
            0 nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn + nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn 0000644\x00 0000000\x00 0000000\x00 00000000000\x00 00000000000\x00
            5 nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn + nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn/ 0000755\x00 0000000\x00 0000000\x00 00000000000\x00 00000000000\x00
            x PaxHeaders.0/nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn 0000000\x00 0000000\x00 0000000\x00 00000000157\x00 00000000000\x00
                111 path=nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn\n
            0 nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn 0000644\x00 0000000\x00 0000000\x00 00000000000\x00 00000000000\x00
            x nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn 0000000\x00 0000000\x00 0000000\x00 00000000157\x00 00000000000\x00
                111 path=nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn/\n
            5 nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn 0000755\x00 0000000\x00 0000000\x00 00000000000\x00 00000000000\x00
            x PaxHeaders.0/caf 0000000\x00 0000000\x00 0000000\x00 00000000016\x00 00000000000\x00
                14 path=caf\xc3\xa9\n
            0 caf 0000644\x00 0000000\x00 0000000\x00 00000000000\x00 00000000000\x00
            x PaxHeaders.0/owner 0000000\x00 0000000\x00 0000000\x00 00000000017\x00 00000000000\x00
                15 gid=2097152\n
            0 owner 0000644\x00 7777777\x00 0000000\x00 00000000000\x00 00000000000\x00
            x PaxHeaders.0/early 0000000\x00 0000000\x00 0000000\x00 00000000014\x00 00000000000\x00
                12 mtime=-1\n
            0 early 0000644\x00 0000000\x00 0000000\x00 00000000000\x00 00000000000\x00
            x nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn/PaxHeaders.0/nnnnnnnnnnnnnnnnnnnnnnnnnn 0000000\x00 0000000\x00 0000000\x00 00000000253\x00 00000000000\x00
                40 SCHILY.xattr.security.capability=\x01\x00\n
                \n
                131 path=nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn/nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn\n
            0 nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn/nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn 0000644\x00 0000000\x00 0000000\x00 00000000000\x00 00000000000\x00
            x PaxHeaders.0/l 0000000\x00 0000000\x00 0000000\x00 00000000163\x00 00000000000\x00
                115 linkpath=ttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt\n
            2 l -> tttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt 0000777\x00 0000000\x00 0000000\x00 00000000000\x00 00000000000\x00
            x PaxHeaders.0/l 0000000\x00 0000000\x00 0000000\x00 00000000017\x00 00000000000\x00
                15 linkpath=\xc3\xa9\n
            2 l 0000777\x00 0000000\x00 0000000\x00 00000000000\x00 00000000000\x00
        "#]],
    );
}

#[test]
fn gnu_tar_lists_what_is_written() {
    let deep = format!("{}/{}", "d".repeat(90), "e".repeat(200));
    let paths = ["a", "caf\u{e9}", "with space", "new\nline", &deep];
    let mut sink = TarSink::new(Vec::new());
    for path in paths {
        let mut entry = file(path, 3);
        (entry.uid, entry.mtime.seconds) = (3_000_000, 1 << 34);
        sink.entry(&entry, Content::Bytes(b"abc")).unwrap();
    }
    let (tar, _) = sink.finish().unwrap();
    let options = ["--list", "--file=-", "--null", "--quoting-style=literal"];
    if let Some(list) = super::compress::pipe_through("tar", &options, &tar) {
        let expected: String = paths.iter().map(|path| format!("{path}\n")).collect();
        assert_eq!(String::from_utf8(list).unwrap(), expected);
    }
}

/// Takes the start of a tar and drops the rest.
struct Start(Vec<u8>);

impl Write for Start {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = 2048_usize.saturating_sub(self.0.len());
        self.0.extend(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A hole as large as wished.
struct Zeros(u64);

impl io::Read for Zeros {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.0.min(buffer.len() as u64);
        self.0 -= length;
        Ok(usize::try_from(length).unwrap())
    }
}

#[test]
fn files_of_eight_gibibytes_have_their_size_in_a_record() {
    let size = 1 << 33;
    let mut sink = TarSink::new(Start(Vec::new()));
    let mut zeros = io::BufReader::with_capacity(1 << 20, Zeros(size));
    sink.entry(&file("large", size), Content::Reader(&mut zeros)).unwrap();
    let (start, written) = sink.finish().unwrap();
    assert_eq!(written, 3 * 512 + size + 1024);
    assert_eq!(&start.0[512..532], b"19 size=8589934592\n\0");
    assert_eq!(&start.0[1024 + 124..1024 + 136], b"00000000000\0");
}

#[test]
fn content_of_another_length_is_refused() {
    for (content, size) in [(&b"abc"[..], 2_u64), (b"abc", 4), (b"", 1), (b"abc", 0)] {
        let mut sink = TarSink::new(io::sink());
        let mut reader = content;
        let error = sink.entry(&file("f", size), Content::Reader(&mut reader)).unwrap_err();
        let expected = format!("`f` does not have the {size} bytes it should have");
        assert_eq!(error.to_string(), expected);
    }
}
