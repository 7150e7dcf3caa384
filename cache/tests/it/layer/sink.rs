//! Trees written entry by entry.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use cache::layer::{
    Content, DiffOptions, DirectoryOptions, DirectorySink, Entry, EntryKind, Flavor, LayerSink,
    LeftOut, TarSink, Time, extract_archive, read_entry, remove_tree, unpack, write_tar,
};
use expect_test::expect;
use rustix::fs::CWD;

use super::archive::archive;
use super::{extract_to, flavor, is_root, listing, open, sink, skip, unpack_to};

fn file(path: &str, size: u64) -> Entry {
    Entry::new(path, EntryKind::File { size }, 0o644)
}

fn directory(path: &str, seconds: i64) -> Entry {
    let mut entry = Entry::new(path, EntryKind::Directory, 0o755);
    entry.mtime.seconds = seconds;
    entry
}

#[test]
fn content_comes_from_anywhere() {
    let place = tempfile::tempdir().unwrap();
    let (source, root) = (place.path().join("source"), place.path().join("root"));
    fs::create_dir(&root).unwrap();
    for size in [0_usize, 1, 1000, 128 << 10, (128 << 10) + 1, 3 << 20] {
        let bytes: Vec<u8> = (0..size).map(|n| ((n * n) >> 5) as u8).collect();
        fs::write(&source, &bytes).unwrap();
        let mut sink = sink(&root, flavor());
        let size = size as u64;
        sink.entry(&file("bytes", size), Content::Bytes(&bytes)).unwrap();
        sink.entry(&file("reader", size), Content::Reader(&mut &bytes[..])).unwrap();
        sink.entry(&file("file", size), Content::File(&File::open(&source).unwrap())).unwrap();
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        let moved = inode(&source);
        let content = Content::Move { directory: CWD, path: &source };
        sink.entry(&file("moved", size), content).unwrap();
        sink.finish().unwrap();
        for name in ["bytes", "reader", "file", "moved"] {
            assert!(fs::read(root.join(name)).unwrap() == bytes, "{name} of {size} bytes");
        }
        assert_eq!(inode(&root.join("moved")), moved);
        assert!(!source.exists());
    }
}

#[test]
fn what_is_moved_from_another_file_system_is_copied() {
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else {
        return skip("a second file system");
    };
    let root = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join("source");
    fs::write(&path, "content").unwrap();
    let mut sink = sink(root.path(), flavor());
    let mut entry = file("f", 7);
    entry.mode = 0o600;
    sink.entry(&entry, Content::Move { directory: CWD, path: &path }).unwrap();
    sink.finish().unwrap();
    expect![[r#"
        f 600 "content"
    "#]]
    .assert_eq(&listing(root.path()));
}

#[test]
fn content_of_another_length_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let source = root.path().join("source");
    for length in [3_usize, 200_000] {
        let bytes = vec![b'x'; length];
        fs::write(&source, &bytes).unwrap();
        let opened = File::open(&source).unwrap();
        let (length, none) = (length as u64, &b""[..]);
        for size in [0, length - 1, length + 1] {
            let mut sink = sink(root.path(), flavor());
            let mut check = |content: Content<'_>| {
                let error = sink.entry(&file("f", size), content).unwrap_err().to_string();
                assert_eq!(error, format!("`f` does not have the {size} bytes it should have"));
            };
            check(Content::Bytes(&bytes));
            check(Content::Reader(&mut &bytes[..]));
            if size > 0 {
                check(Content::File(&opened));
                check(Content::None);
                check(Content::Reader(&mut &none[..]));
            }
        }
    }
}

#[test]
fn directories_keep_their_times_in_any_order() {
    let root = tempfile::tempdir().unwrap();
    let mut sink = sink(root.path(), flavor());
    for entry in [
        directory("a", 1),
        directory("a/b", 2),
        directory("c", 3),
        directory("a/b/d", 4),
        directory("a/e", 5),
        directory("c/f/g", 6),
    ] {
        sink.entry(&entry, Content::None).unwrap();
    }
    for path in ["a/b/x", "c/x", "a/x", "a/b/d/x", "c/f/x"] {
        sink.entry(&file(path, 0), Content::None).unwrap();
    }
    sink.entry(&Entry::new("a/e", EntryKind::Whiteout, 0), Content::None).unwrap();
    sink.finish().unwrap();
    expect![[r#"
        a/ 755 at 1.000000000
        a/b/ 755 at 2.000000000
        a/b/d/ 755 at 4.000000000
        a/b/d/x 644
        a/b/x 644
        a/e/ 755 at 5.000000000 opaque
        a/x 644
        c/ 755 at 3.000000000
        c/f/ 755
        c/f/g/ 755 at 6.000000000
        c/f/x 644
        c/x 644
    "#]]
    .assert_eq(&listing(root.path()));
}

#[test]
fn the_root_has_metadata_too() {
    let root = tempfile::tempdir().unwrap();
    let mut sink = sink(root.path(), flavor());
    let mut entry = directory("", 9);
    entry.mode = 0o711;
    sink.entry(&entry, Content::None).unwrap();
    sink.entry(&file("f", 0), Content::None).unwrap();
    sink.finish().unwrap();
    let read = read_entry(CWD, root.path().as_os_str().as_bytes()).unwrap().unwrap();
    assert_eq!((read.mode, read.mtime), (0o711, Time { seconds: 9, nanoseconds: 0 }));
}

#[test]
fn deep_trees_need_few_descriptors() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("root");
    fs::create_dir(&root).unwrap();
    let deep = |depth: usize| vec!["d"; depth].join("/");
    let mut sink = sink(&root, flavor());
    sink.entry(&file(&format!("{}/f", deep(1500)), 0), Content::None).unwrap();
    sink.entry(&directory(&format!("{}/e", deep(700)), 5), Content::None).unwrap();
    assert!(fs::read_dir("/proc/self/fd").unwrap().count() < 1000);
    sink.finish().unwrap();
    let options = DiffOptions { flavor: flavor(), lower: None, all_xattrs: false };
    let written = write_tar(open(&root), &options, &mut std::io::sink()).unwrap();
    assert_eq!(written.entries, 1502);
    remove_tree(open(place.path()), b"root").unwrap();
    assert!(!root.exists());
    remove_tree(open(place.path()), b"root").unwrap();
}

#[test]
fn a_layer_deletes_from_a_merged_tree() {
    let root = tempfile::tempdir().unwrap();
    let before =
        "dir a\nfile a/x\nfile a/y\ndir b\nfile b/x\ndir b/s\nfile b/s/t\nfile c\nlink l to=b";
    extract_to(root.path(), &archive(before)).unwrap();
    let layer = archive(
        "file a/new\nfile a/.wh.x\nfile a/.wh.new\nfile b/s/own\nfile b/.wh..wh..opq\nfile .wh.c
         dir l\nfile l/f data=1\nfile .wh.nothing",
    );
    unpack(&layer[..], sink(root.path(), Flavor::Plain), &Default::default()).unwrap();
    expect![[r#"
        a/ 755
        a/new 644
        a/y 644
        b/ 755
        b/s/ 755
        b/s/own 644
        l/ 755
        l/f 644 "1"
    "#]]
    .assert_eq(&listing(root.path()));
}

#[test]
fn archives_are_extracted_below_a_prefix_with_an_owner() {
    let root = tempfile::tempdir().unwrap();
    let bytes = archive("dir d mtime=3\nfile d/f data=1 uid=7 mtime=4\nhard h to=d/f\nfile ../out");
    let mut sink = sink(root.path(), Flavor::Plain);
    let options = cache::layer::ExtractOptions {
        prefix: b"opt/app".to_vec(),
        owner: Some((0, 0)),
        mtime: Some(Time { seconds: 8, nanoseconds: 0 }),
        ..Default::default()
    };
    let extracted = extract_archive(&bytes[..], &mut sink, &options).unwrap();
    sink.finish().unwrap();
    assert_eq!((extracted.entries, extracted.size), (4, bytes.len() as u64));
    expect![[r#"
        opt/ 755
        opt/app/ 755
        opt/app/d/ 755 at 8.000000000
        opt/app/d/f 644 "1" at 8.000000000
        opt/app/h = opt/app/d/f
        opt/app/out 644 at 8.000000000
    "#]]
    .assert_eq(&listing(root.path()));
}

#[test]
fn privileged_set_group_id_directories_do_not_change_owners() {
    if !is_root() {
        return skip("owners in set-group-id directories");
    }
    let root = tempfile::tempdir().unwrap();
    let text = "dir d gid=9 mode=2775\nfile d/f\nlink d/l to=f\ndir d/e\nfile d/e/f gid=9";
    unpack_to(root.path(), &archive(text)).unwrap();
    expect![[r#"
        d/ 2775 0:9
        d/e/ 755
        d/e/f 644 0:9
        d/f 644
        d/l -> f
    "#]]
    .assert_eq(&listing(root.path()));
}

#[test]
fn trees_that_are_never_mounted_say_the_same_by_other_marks() {
    let text = "dir d\nfile d/f data=1\nfile d/.wh.gone\ndir o\nfile o/.wh..wh..opq\nfile .wh.x";
    let archive = archive(text);
    let tar_of = |flavor: Flavor| {
        let root = tempfile::tempdir().unwrap();
        unpack(&archive[..], sink(root.path(), flavor), &Default::default()).unwrap();
        let options = DiffOptions { flavor, lower: None, all_xattrs: true };
        let mut tar = Vec::new();
        let written = write_tar(open(root.path()), &options, &mut tar).unwrap();
        assert_eq!(written.warnings, []);
        let marks = std::fs::symlink_metadata(root.path().join("x")).unwrap().file_type();
        assert_eq!(std::os::unix::fs::FileTypeExt::is_socket(&marks), flavor == Flavor::Unmounted);
        // A layer above that removes what is below writes the mark only where there is something.
        let above = tempfile::tempdir().unwrap();
        let lower = cache::layer::Lower::new(vec![open(root.path()).into()], flavor);
        assert!(unpack(&archive[..], sink(above.path(), flavor), &Default::default()).is_ok());
        let options = DiffOptions { flavor, lower: Some(lower), all_xattrs: true };
        let mut changes = Vec::new();
        write_tar(open(above.path()), &options, &mut changes).unwrap();
        (tar, changes)
    };
    assert!(tar_of(Flavor::Unmounted) == tar_of(flavor()));
}

#[test]
fn privileged_owners_are_kept_aside_by_a_user_who_cannot_set_them() {
    if !is_root() {
        return skip("another user's trees");
    }
    let text = "dir d uid=1 gid=2\nfile d/f uid=3 gid=4 data=1 mode=750\nlink d/l to=f uid=5\nchar null dev=1:3";
    let kept = "dir d uid=1 gid=2\nfile d/f uid=3 gid=4 data=1 mode=750\nlink d/l to=f uid=65534 gid=65534";
    let root = tempfile::tempdir().unwrap();
    rustix::fs::chown(root.path(), Some(rustix::fs::Uid::from_raw(65534)), None).unwrap();
    let as_nobody = || {
        become_nobody();
        let mut options = DirectoryOptions::new(Flavor::User);
        options.ignore_owner = true;
        let sink = DirectorySink::new(open(root.path()), options).unwrap();
        let unpacked = unpack(&archive(text)[..], sink, &Default::default()).unwrap();
        let warnings = unpacked.finished.warnings;
        assert_eq!(warnings, [LeftOut::Owner("d/l".into()), LeftOut::Device("null".into())]);
        let options = DiffOptions { flavor: Flavor::User, lower: None, all_xattrs: true };
        let mut tar = Vec::new();
        write_tar(open(root.path()), &options, &mut tar).unwrap();
        tar
    };
    let tar = std::thread::scope(|scope| scope.spawn(as_nobody).join().unwrap());
    let mut expected = TarSink::new(Vec::new());
    let again = tempfile::tempdir().unwrap();
    unpack_to(again.path(), &archive(kept)).unwrap();
    let options = DiffOptions { flavor: flavor(), lower: None, all_xattrs: true };
    cache::layer::diff(open(again.path()), &options, &mut expected).unwrap();
    assert!(tar == expected.finish().unwrap().0);
}

/// Takes this thread, and no other, every right there is.
fn become_nobody() {
    let (uid, gid) = (rustix::fs::Uid::from_raw(65534), rustix::fs::Gid::from_raw(65534));
    rustix::thread::set_thread_groups(&[]).unwrap();
    rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
    rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
}
