//! What a step changed, read from the trees the kernel left.

use std::fs;
use std::path::Path;
use std::process::Command;

use cache::layer::{
    Content, DiffOptions, Entry, EntryKind, Flavor, LayerError, LayerSink, Lower, diff, diff_trees,
};
use expect_test::{Expect, expect};

use super::archive::archive;
use super::{chain, flavor, is_root, open, skip, unpack_to};

/// Notes entries, a line each.
#[derive(Default)]
struct Notes(String);

impl LayerSink for Notes {
    fn entry(&mut self, entry: &Entry, _: Content<'_>) -> Result<(), LayerError> {
        let path = entry.path.escape_ascii();
        let text = match &entry.kind {
            EntryKind::File { size } => format!("{path} {:o} {size} bytes", entry.mode),
            EntryKind::Directory => format!("{path}/ {:o}", entry.mode),
            EntryKind::Symlink { target } => format!("{path} -> {}", target.escape_ascii()),
            EntryKind::Hardlink { target } => format!("{path} = {}", target.escape_ascii()),
            EntryKind::CharDevice { major, minor } => format!("{path} char {major}:{minor}"),
            EntryKind::BlockDevice { major, minor } => format!("{path} block {major}:{minor}"),
            EntryKind::Fifo => format!("{path} fifo"),
            EntryKind::Whiteout => format!("{path} deleted"),
            EntryKind::Opaque => format!("{path} opaque"),
        };
        self.0 += &text;
        for key in entry.xattrs.keys() {
            self.0 += &format!(" [{}]", key.escape_ascii());
        }
        self.0.push('\n');
        Ok(())
    }
}

/// Runs `script` in a mounted stack of `layers`, the lowest first, and shows what changed as the
/// upper directory has it. The whole trees before and after must tell the same.
fn check(layers: &[&str], script: &str, expect: Expect) {
    if !is_root() {
        return skip(script);
    }
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    for name in ["upper", "work", "merged", "before", "after"] {
        fs::create_dir(path(name)).unwrap();
    }
    let mut lower = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let root = path(&format!("layer-{number}"));
        fs::create_dir(&root).unwrap();
        unpack_to(&root, &archive(layer)).unwrap();
        lower.insert(0, root);
    }
    // For scripts to copy.
    let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    run_in_overlay(place.path(), &lower, script);

    let roots = lower.iter().map(|root| open(root).into()).collect();
    let options = DiffOptions {
        flavor: Flavor::Trusted,
        lower: Some(Lower::new(roots, Flavor::Trusted)),
        all_xattrs: false,
    };
    let mut notes = Notes::default();
    let result = diff(open(&path("upper")), &options, &mut notes);
    for warning in result.unwrap() {
        notes.0 += &format!("warning: {warning}\n");
    }
    expect.assert_eq(&notes.0);

    let mut between_trees = Notes::default();
    for warning in
        diff_trees(open(&path("before")), open(&path("after")), &mut between_trees).unwrap()
    {
        between_trees.0 += &format!("warning: {warning}\n");
    }
    assert_eq!(between_trees.0, notes.0, "the whole trees tell something else");
}

/// Mounts in a namespace of its own, which goes with the shell.
fn run_in_overlay(place: &Path, lower: &[std::path::PathBuf], script: &str) {
    let lower: Vec<&str> = lower.iter().map(|root| root.to_str().unwrap()).collect();
    let options = format!(
        "lowerdir={},upperdir=upper,workdir=work,redirect_dir=off,metacopy=off,index=off",
        lower.join(":")
    );
    let whole = format!(
        "set -e; mount -t overlay overlay -o {options} merged
         cp -a merged/. before; cd merged; {script}
         cp -a . ../after"
    );
    let status = Command::new("unshare")
        .args(["--mount", "sh", "-c", &whole])
        .current_dir(place)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .status()
        .unwrap();
    assert!(status.success(), "{script}");
}

const BASE: &str = "
    dir etc\nfile etc/a data=1\nfile etc/b data=22\nlink etc/l to=a
    dir usr\ndir usr/lib\nfile usr/lib/x data=333 mode=755\nfile usr/lib/y data=1
    dir empty mode=711";

#[test]
fn privileged_what_is_new_or_changed_is_written() {
    check(&[BASE], "", expect![""]);
    check(
        &[BASE],
        "echo new > etc/c; echo more >> usr/lib/x; mkdir -p opt/d; ln -s c etc/m; mkfifo p",
        expect![[r#"
            etc/ 755
            etc/c 644 4 bytes
            etc/m -> c
            opt/ 755
            opt/d/ 755
            p fifo
            usr/ 755
            usr/lib/ 755
            usr/lib/x 755 8 bytes
        "#]],
    );
    check(
        &[BASE],
        "chmod 600 etc/a; chmod 700 usr; chown 5 empty",
        expect![[r#"
        empty/ 711
        etc/ 755
        etc/a 600 1 bytes
        usr/ 700
    "#]],
    );
    check(
        &[BASE],
        "mknod null c 1 3; mknod loop b 7 0",
        expect![[r#"
        loop block 7:0
        null char 1:3
    "#]],
    );
}

/// `touch -r` brings a time back to the nanosecond.
#[test]
fn a_changed_file_with_its_old_time_is_written() {
    let place = tempfile::tempdir().unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(1_234_567_890_123_456_789);
    for (tree, content) in [("before", "old"), ("after", "new")] {
        fs::create_dir(place.path().join(tree)).unwrap();
        for (name, content) in [("changed", content), ("same", "same")] {
            let path = place.path().join(tree).join(name);
            fs::write(&path, content).unwrap();
            fs::File::open(&path).unwrap().set_modified(time).unwrap();
        }
    }
    let mut notes = Notes::default();
    let tree = |name: &str| open(&place.path().join(name));
    diff_trees(tree("before"), tree("after"), &mut notes).unwrap();
    expect!["changed 644 3 bytes\n"].assert_eq(&notes.0);
}

#[test]
fn privileged_what_was_only_copied_up_is_not_written() {
    // Directories are copied up for what was in them for a while, files by a change taken back.
    check(&[BASE], "touch etc/t; rm etc/t", expect![""]);
    check(&[BASE], "chmod 600 etc/a; chmod 644 etc/a", expect![""]);
    check(&[BASE], "mv etc/a etc/t; mv etc/t etc/a", expect![""]);
    // Of files with one size and time the content decides.
    check(
        &[BASE],
        "cp -p etc/b t; echo 3 > etc/a; touch -d @0 etc/a; rm t",
        expect![[r#"
        etc/ 755
        etc/a 644 2 bytes
    "#]],
    );
    check(
        &[BASE],
        "printf 9 > etc/a; touch -d @0 etc/a",
        expect![[r#"
        etc/ 755
        etc/a 644 1 bytes
    "#]],
    );
    check(&[BASE], "printf 1 > etc/a; touch -d @0 etc/a", expect![""]);
    check(
        &[BASE],
        "touch etc/a",
        expect![[r#"
        etc/ 755
        etc/a 644 1 bytes
    "#]],
    );
    check(
        &[BASE],
        "ln -sfn b etc/l; touch -h -d @0 etc/l",
        expect![[r#"
        etc/ 755
        etc/l -> b
    "#]],
    );
}

#[test]
fn privileged_what_is_gone_is_deleted() {
    check(
        &[BASE],
        "rm etc/a",
        expect![[r#"
        etc/ 755
        etc/a deleted
    "#]],
    );
    check(
        &[BASE],
        "rm -r usr",
        expect![[r#"
        usr deleted
    "#]],
    );
    check(
        &[BASE],
        "rm -r etc; mkdir etc; echo > etc/b; echo > etc/z",
        expect![[r#"
        etc/ 755
        etc/a deleted
        etc/b 644 1 bytes
        etc/l deleted
        etc/z 644 1 bytes
    "#]],
    );
    check(
        &[BASE],
        "rm -r usr; mkdir -p usr/lib; printf 1 > usr/lib/y; touch -d @0 usr/lib/y",
        expect![[r#"
        usr/ 755
        usr/lib/ 755
        usr/lib/x deleted
    "#]],
    );
    check(
        &[BASE],
        "rm -r usr; echo > usr",
        expect![[r#"
        usr 644 1 bytes
    "#]],
    );
    check(
        &[BASE],
        "rm etc/a; mkdir etc/a; echo > etc/a/f",
        expect![[r#"
        etc/ 755
        etc/a/ 755
        etc/a/f 644 1 bytes
    "#]],
    );
    check(
        &[BASE],
        "mv usr/lib moved; rmdir empty",
        expect![[r#"
        empty deleted
        moved/ 755
        moved/x 755 3 bytes
        moved/y 644 1 bytes
        usr/ 755
        usr/lib deleted
    "#]],
    );
}

#[test]
fn privileged_several_layers_below_are_one() {
    check(
        &[BASE, "file etc/.wh.a\nfile etc/n"],
        "rm etc/b etc/n; echo > etc/a",
        expect![[r#"
        etc/ 755
        etc/a 644 1 bytes
        etc/b deleted
        etc/n deleted
    "#]],
    );
    check(
        &[BASE, "dir etc\nfile etc/.wh..wh..opq\nfile etc/n"],
        "rm -r etc; mkdir etc",
        expect![[r#"
        etc/ 755
        etc/n deleted
    "#]],
    );
    check(
        &[BASE, "dir usr mode=700"],
        "chmod 755 usr",
        expect![[r#"
        usr/ 755
    "#]],
    );
    check(
        &[BASE, "file .wh.usr\nfile usr"],
        "rm usr; mkdir -p usr/lib",
        expect![[r#"
        usr/ 755
        usr/lib/ 755
    "#]],
    );
}

#[test]
fn privileged_links_are_links_within_the_layer() {
    check(
        &[BASE],
        "echo > b; ln b c; ln b a; mkdir d; ln b d/e",
        expect![[r#"
        a 644 1 bytes
        b = a
        c = a
        d/ 755
        d/e = a
    "#]],
    );
    check(
        &[BASE],
        "ln etc/a etc/z",
        expect![[r#"
        etc/ 755
        etc/z 644 1 bytes
    "#]],
    );
    check(
        &[BASE],
        "ln -s x s; ln s t",
        expect![[r#"
        s -> x
        t = s
    "#]],
    );
    // Whiteouts share one inode in new kernels, and are no links for that.
    check(
        &[BASE],
        "rm etc/a etc/b",
        expect![[r#"
        etc/ 755
        etc/a deleted
        etc/b deleted
    "#]],
    );
}

#[test]
fn privileged_capabilities_count() {
    const CAPABLE: &str = "file f data=1 pax=SCHILY.xattr.security.capability:\\x01\\x00\\x00\\x02\\x00\\x04\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00";
    check(
        &[CAPABLE],
        "chmod 600 f",
        expect![[r#"
        f 600 1 bytes [security.capability]
    "#]],
    );
    check(
        &[CAPABLE],
        "cp -p f g; setfattr -x security.capability f",
        expect![[r#"
        f 644 1 bytes
        g 644 1 bytes
    "#]],
    );
    check(&[BASE], "setfattr -n user.a -v b etc/a", expect![""]);
}

#[test]
fn privileged_what_a_socket_replaces_is_deleted() {
    check(
        &[BASE],
        "rm etc/a; rm -r usr; for name in etc/a usr new; do cp -a ../socket $name; done",
        expect![[r#"
        etc/ 755
        etc/a deleted
        usr deleted
    "#]],
    );
}

#[test]
fn privileged_names_that_would_delete_are_left_out() {
    check(
        &[BASE],
        "echo > .wh.etc; mkdir .wh.d; echo > .wh.d/f",
        expect![[r#"
        warning: left out `.wh.d`: in an image its name would delete another file
        warning: left out `.wh.etc`: in an image its name would delete another file
    "#]],
    );
}

#[test]
fn without_layers_below_the_tree_is_written_as_it_stands() {
    let root = tempfile::tempdir().unwrap();
    let text = "dir a\nfile a/.wh..wh..opq\nfile a/.wh.b\ndir e\nfile e/f";
    unpack_to(root.path(), &archive(text)).unwrap();
    // No archive can have a socket, but one hides what is below.
    let _socket = std::os::unix::net::UnixListener::bind(root.path().join("socket")).unwrap();
    let options = DiffOptions { flavor: flavor(), lower: None, all_xattrs: false };
    let mut notes = Notes::default();
    diff(open(root.path()), &options, &mut notes).unwrap();
    expect![[r#"
        a/ 755
        a opaque
        a/b deleted
        e/ 755
        e/f 644 0 bytes
        socket deleted
    "#]]
    .assert_eq(&notes.0);
}

#[test]
fn privileged_redirected_trees_are_refused() {
    if !is_root() {
        return skip("redirect_dir");
    }
    for (attribute, value) in
        [("trusted.overlay.redirect", "/etc"), ("trusted.overlay.metacopy", "")]
    {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("d")).unwrap();
        let directory = open(&root.path().join("d"));
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::fsetxattr(directory, attribute, value.as_bytes(), flags).unwrap();
        let options = DiffOptions { flavor: Flavor::Trusted, lower: None, all_xattrs: false };
        let error = diff(open(root.path()), &options, &mut Notes::default()).unwrap_err();
        assert_eq!(chain(&error), format!("`d` is redirected to another layer by `{attribute}`"));
    }
}
