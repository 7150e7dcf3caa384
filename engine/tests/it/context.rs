//! Reading trees: what an ignore file hides, what may not be followed, and what a digest is made of.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use engine::file_op::input_digest;
use engine::tree::{bind_digest, view_of_context, view_of_layers};

use crate::files::{Trees, chain_of, copy_op, outcome, plant, settle, skip};

fn with_ignored(context: &str, patterns: &[&str], line: &str) -> String {
    let trees = Trees::with_patterns(&context.replace("; ", "\n"), patterns, "");
    outcome(&trees, &copy_op(line)).trim_end().replace('\n', "; ")
}

#[test]
fn what_the_ignore_file_hides_does_not_exist() {
    let context = "a=1; b.md=2; d/a=3; d/b.md=4; d/e/f=5; link -> d/a";
    for (patterns, line, want) in [
        (&["*.md"][..], "COPY . /", "a=1; d/; d/a=3; d/b.md=4; d/e/; d/e/f=5; link -> d/a"),
        (&["**/*.md"], "COPY . /", "a=1; d/; d/a=3; d/e/; d/e/f=5; link -> d/a"),
        (&["d"], "COPY . /", "a=1; b.md=2; link -> d/a"),
        (&["d"], "COPY d /", "error: \"/d\": not found"),
        (&["d"], "COPY d/a /", "error: \"/d/a\": not found"),
        (&["d"], "COPY link /x", "error: \"/link\": not found"),
        (&["a"], "COPY a /", "error: \"/a\": not found"),
        // Two sources with one name: the later one wins.
        (&["a"], "COPY * /", "a=3; b.md=4; e/; e/f=5; link=3"),
        (&["*", "!d/a"], "COPY . /", "d/; d/a=3"),
        (&["*", "!d/a"], "COPY d /x", "x/; x/a=3"),
        (&["*", "!d/a"], "COPY d/e /x", "error: \"/d/e\": not found"),
        (&["*", "!d/e"], "COPY d /x", "x/; x/e/; x/e/f=5"),
        (&["d", "!d/e/f"], "COPY d /x", "x/; x/e/; x/e/f=5"),
        (&["**", "!**/f"], "COPY . /", "d/; d/e/; d/e/f=5"),
        // A directory that is only there for what is in it stays when the copy leaves that out.
        (&["*", "!d/a"], "COPY --exclude=d/a . /", "d/"),
        (&["*", "!d/a"], "COPY --exclude=d . /", ""),
        (&["link"], "COPY link /x", "error: \"/link\": not found"),
        (&["b.md"], "COPY *.md /x/", ""),
    ] {
        let got = with_ignored(context, patterns, line);
        assert_eq!(got, want, "{line} {patterns:?}");
    }
}

#[test]
fn a_hidden_directory_is_not_even_opened() {
    let trees = Trees::new("keep=1\nbig/x/y=2", "");
    let context = trees.path("context");
    // Root may read anything: who reads what no path leads to fails all the same.
    plant_too_deep(&context.join("big/x"));
    let without = bind_digest(&Trees::new("keep=1", "").context, "/").unwrap();
    for (patterns, opens) in [(vec![], true), (vec!["big"], false), (vec!["*", "!keep"], false)] {
        let patterns: Vec<String> = patterns.into_iter().map(str::to_owned).collect();
        let view = view_of_context(&context, patterns, None).unwrap();
        match bind_digest(&view, "/") {
            Ok(digest) => assert!(!opens && digest == without),
            Err(error) => assert!(opens && chain_of(&error).ends_with(": file name too long")),
        }
    }
}

#[test]
fn nothing_leads_out_of_a_tree() {
    let outside = tempfile::tempdir().unwrap();
    plant(outside.path(), "secret=S\ndir/secret=S");
    let out = outside.path().display();
    let context = format!(
        "abs -> {out}/secret\ndir -> {out}\nup -> ../../../../../../../../..{out}/secret\n\
         loop -> loop\na/b -> ../c\nc -> a/b\nproc -> /proc/self/fd\nok -> /real\nreal=R\n\
         up2 -> ../../real"
    );
    for line in [
        "COPY abs /x",
        "COPY dir/secret /x",
        "COPY dir /x/",
        "COPY dir/* /x/",
        "COPY up /x",
        "COPY loop /x",
        "COPY loop/x /x",
        "COPY a/b /x",
        "COPY proc/0 /x",
        "COPY --parents dir/./secret /x",
    ] {
        let trees = Trees::new(&context, "");
        let got = outcome(&trees, &copy_op(line));
        assert!(got.starts_with("error: "), "{line}: {got}");
    }
    // Inside, an absolute link starts at the tree's own root.
    for line in ["COPY ok /x", "COPY up2 /x"] {
        assert_eq!(outcome(&Trees::new(&context, ""), &copy_op(line)), "x=R\n", "{line}");
    }
    // The same for a destination in the image.
    let lower = format!("etc -> {out}\nup -> ../../..{out}");
    for line in ["COPY real /etc/x", "COPY real /up/x"] {
        let trees = Trees::new(&context, &lower);
        assert!(outcome(&trees, &copy_op(line)).ends_with("/x=R\n"), "{line}");
        assert!(!outside.path().join("x").exists());
    }
}

#[test]
fn special_files_never_make_a_build_wait() {
    let trees = Trees::new("d/fifo|\nd/f=1", "");
    let _socket = std::os::unix::net::UnixListener::bind(trees.path("context/d/socket")).unwrap();
    settle(&trees.path("context"));
    // A socket has no content: it is copied as an empty file.
    let mode = Permissions::from_mode(0o644);
    fs::set_permissions(trees.path("context/d/socket"), mode).unwrap();
    assert_eq!(outcome(&trees, &copy_op("COPY d /o")), "o/\no/f=1\no/fifo|\no/socket=\n");
    assert_eq!(outcome(&trees, &copy_op("COPY d/socket /o")), "o=\n");
    // A FIFO as an archive or as the image's user database.
    let trees = Trees::new("fifo|\nf=1", "etc/passwd|");
    assert_eq!(outcome(&trees, &copy_op("ADD fifo /o")), "o|\n");
    assert_eq!(outcome(&trees, &copy_op("COPY --chown=app f /o")), "o=1\n");
}

#[test]
fn a_file_that_changes_after_it_was_hashed_stops_the_step() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 7] = [
        ("its size", |path| fs::write(path, "longer than before").unwrap()),
        ("its modification time", |path| fs::write(path, "B").unwrap()),
        ("its metadata", |path| {
            fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
        }),
        ("its metadata", |path| {
            fs::write(path, "B").unwrap();
            settle(path.parent().unwrap());
        }),
        ("it is gone", |path| fs::remove_file(path).unwrap()),
        ("it is gone", |path| {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", path).unwrap();
        }),
        ("another file has its name", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
    ];
    for (what, change) in changes {
        let trees = Trees::new("d/f=A\nd/g=G", "");
        let op = copy_op("COPY d /o");
        let digest = input_digest(&op, 1, &trees.context).unwrap().unwrap();
        change(&trees.path("context/d/f"));
        let error = trees.to_directory(&op, &trees.path("out"), None).unwrap_err();
        let text = chain_of(&error);
        let expected =
            format!("`/d/f` changed while it was read ({what}): build again once it is at rest");
        assert_eq!(text, expected);
        // Asked again, the view still tells of the files that it has seen.
        assert_eq!(input_digest(&op, 1, &trees.context).unwrap().unwrap(), digest);
    }
}

#[test]
fn a_file_that_is_touched_or_saved_again_is_the_same() {
    type Change = fn(&Path);
    let changes: [Change; 4] = [
        |path| fs::write(path, "A").unwrap(),
        |path| fs::File::open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap(),
        // As most editors save.
        |path| {
            fs::write(path.with_file_name("new"), "A").unwrap();
            fs::rename(path.with_file_name("new"), path).unwrap();
        },
        |path| fs::set_permissions(path, fs::metadata(path).unwrap().permissions()).unwrap(),
    ];
    for change in changes {
        let trees = Trees::new("d/f=A\nd/g=G", "");
        let op = copy_op("COPY d /o");
        input_digest(&op, 1, &trees.context).unwrap().unwrap();
        let expected = trees.tar(&op);
        change(&trees.path("context/d/f"));
        assert!(trees.tar(&op) == expected);
    }
}

#[test]
fn steps_that_take_in_the_same_file_take_in_the_same_content() {
    type Change = fn(&Path);
    let same: &[(&str, Change)] = &[
        ("nothing", |_| {}),
        ("touched", |d| fs::write(d.join("s/f"), "A").unwrap()),
        ("another file", |d| fs::write(d.join("x"), "other").unwrap()),
        ("a new file", |d| fs::write(d.join("s/new"), "new").unwrap()),
    ];
    let other: &[(&str, Change)] = &[
        ("content", |d| fs::write(d.join("s/f"), "B").unwrap()),
        ("mode", |d| {
            fs::set_permissions(d.join("s/f"), Permissions::from_mode(0o600)).unwrap();
        }),
        ("kind", |d| {
            fs::remove_file(d.join("s/f")).unwrap();
            fs::create_dir(d.join("s/f")).unwrap();
        }),
    ];
    let lines = ["COPY . /o", "COPY d/s /o", "COPY d/s/f /o", "COPY --exclude=x d /o"];
    for (first, second) in lines.iter().flat_map(|a| lines.map(|b| (a, b))).filter(|(a, b)| *a != b)
    {
        for (what, change, is_same) in
            same.iter().map(|(w, c)| (w, c, true)).chain(other.iter().map(|(w, c)| (w, c, false)))
        {
            let trees = Trees::new("d/s/f=A\nd/g=G\nd/x=X", "");
            input_digest(&copy_op(first), 1, &trees.context).unwrap().unwrap();
            change(&trees.path("context/d"));
            let digest = input_digest(&copy_op(second), 1, &trees.context);
            let what = format!("{first}, {what}, {second}: {digest:?}");
            match digest {
                Ok(_) => assert!(is_same, "{what}"),
                Err(error) => {
                    assert!(!is_same && chain_of(&error).contains("its content"), "{what}");
                }
            }
        }
    }
}

#[test]
fn one_more_name_of_a_file_is_no_change_of_it() {
    let trees = Trees::new("d/f=A", "");
    let op = copy_op("COPY d /o");
    input_digest(&op, 1, &trees.context).unwrap().unwrap();
    fs::hard_link(trees.path("context/d/f"), trees.path("elsewhere")).unwrap();
    trees.to_directory(&op, &trees.path("out"), None).unwrap();
    assert_eq!(fs::read_to_string(trees.path("out/o/f")).unwrap(), "A");
}

/// The digest of what `line` takes in from `context`.
fn digest(context: &str, patterns: &[&str], line: &str) -> String {
    let trees = Trees::with_patterns(&context.replace("; ", "\n"), patterns, "");
    let digest = input_digest(&copy_op(line), 1, &trees.context).unwrap().unwrap();
    digest.as_str().to_owned()
}

#[test]
fn everything_that_a_copy_takes_in_counts_and_nothing_else() {
    let base = "d/a=1; d/s/b=2; d/l -> a; other=x";
    let line = "COPY d /o";
    let reference = digest(base, &[], line);
    for (what, context) in [
        ("content", "d/a=2; d/s/b=2; d/l -> a; other=x"),
        ("length", "d/a=11; d/s/b=2; d/l -> a; other=x"),
        ("name", "d/aa=1; d/s/b=2; d/l -> a; other=x"),
        ("place", "d/a=1; d/b=2; d/s/; d/l -> a; other=x"),
        ("mode", "d/a=1 !755; d/s/b=2; d/l -> a; other=x"),
        ("directory mode", "d/a=1; d/s/b=2; d/s/ !700; d/l -> a; other=x"),
        ("link target", "d/a=1; d/s/b=2; d/l -> b; other=x"),
        ("kind", "d/a|; d/s/b=2; d/l -> a; other=x"),
        ("more", "d/a=1; d/s/b=2; d/l -> a; d/z=; other=x"),
        ("empty directory", "d/a=1; d/s/b=2; d/l -> a; d/z/; other=x"),
        ("less", "d/a=1; d/l -> a; d/s/; other=x"),
        ("hard link", "d/a=1; d/s/b=2; d/l == d/a; other=x"),
    ] {
        assert_ne!(digest(context, &[], line), reference, "{what}");
    }
    assert_ne!(
        digest("d/a=1; d/b=1", &[], line),
        digest("d/a=1; d/b == d/a", &[], line),
        "two files, or two names of one"
    );
    for (what, context, patterns, line) in [
        ("again", base, &[][..], line),
        ("another order", "other=x; d/l -> a; d/s/b=2; d/a=1", &[], line),
        ("what is outside", "d/a=1; d/s/b=2; d/l -> a", &[], line),
        (
            "the source's own mode, which is not copied",
            "d/a=1; d/s/b=2; d/l -> a; d/ !700",
            &[],
            line,
        ),
        ("another spelling", base, &[], "COPY ./d/ /o"),
        ("the destination, which the op says", base, &[], "COPY d /p"),
        ("owners of a context", "d/a=1 @7:7; d/s/b=2; d/l -> a", &[], line),
        ("what is hidden", "d/a=1; d/s/b=2; d/l -> a; d/n=1", &["d/n"], line),
        ("what is excluded", "d/a=1; d/s/b=2; d/l -> a; d/n=1", &[], "COPY --exclude=n d /o"),
    ] {
        assert_eq!(digest(context, patterns, line), reference, "{what}");
    }
    // The mode does not count when the copy sets it.
    let chmod = "COPY --chmod=600 d /o";
    assert_eq!(digest("d/a=1 !755", &[], chmod), digest("d/a=1 !644", &[], chmod));
    let symbolic = "COPY --chmod=go= d /o";
    assert_ne!(digest("d/a=1 !755", &[], symbolic), digest("d/a=1 !644", &[], symbolic));
    // A file's name counts: it may become the name at the destination.
    assert_ne!(digest("a=1; b=1", &[], "COPY a /o/"), digest("a=1; b=1", &[], "COPY b /o/"));
    // Several sources are not one.
    assert_ne!(digest("a=1; b=2", &[], "COPY a b /o/"), digest("a=1; b=2", &[], "COPY b a /o/"));
}

#[test]
fn times_and_places_never_count() {
    let trees = Trees::new("d/a=1\nd/s/b=2", "");
    let op = copy_op("COPY d /o");
    let before = input_digest(&op, 1, &trees.context).unwrap().unwrap();
    fs::write(trees.path("context/d/a"), "1").unwrap();
    fs::rename(trees.path("context"), trees.path("moved")).unwrap();
    let moved = view_of_context(&trees.path("moved"), Vec::new(), None).unwrap();
    let after = input_digest(&op, 1, &moved).unwrap().unwrap();
    assert_eq!(before, after);
    fs::write(trees.path("moved/d/s/b"), "3").unwrap();
    let view = view_of_context(&trees.path("moved"), Vec::new(), None).unwrap();
    assert_ne!(input_digest(&op, 1, &view).unwrap().unwrap(), after);
}

#[test]
fn attributes_count_and_are_copied() {
    let trees = Trees::new("d/a=1", "");
    let path = trees.path("context/d/a");
    let set = rustix::fs::setxattr(&path, "user.colour", b"red", rustix::fs::XattrFlags::empty());
    if let Err(errno) = set {
        return skip(&format!("no extended attributes here: {errno}"));
    }
    settle(&trees.path("context"));
    let view = view_of_context(&trees.path("context"), Vec::new(), None).unwrap();
    let op = copy_op("COPY d /o");
    let with = input_digest(&op, 1, &view).unwrap().unwrap();
    trees.to_directory(&op, &trees.path("out"), None).unwrap();
    let mut value = [0; 16];
    let length =
        rustix::fs::getxattr(trees.path("out/o/a"), "user.colour", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"red");
    rustix::fs::removexattr(&path, "user.colour").unwrap();
    let view = view_of_context(&trees.path("context"), Vec::new(), None).unwrap();
    assert_ne!(input_digest(&op, 1, &view).unwrap().unwrap(), with);
}

#[test]
fn bind_mounts_are_digested_with_the_metadata_of_what_they_show() {
    let digest = |context: &str, source: &str| {
        let trees = Trees::new(&context.replace("; ", "\n"), "");
        bind_digest(&trees.context, source).unwrap()
    };
    assert_eq!(digest("d/a=1; x=1", "/d"), digest("d/a=1; x=2", "d/"));
    assert_eq!(digest("d/a=1; l -> d", "l"), digest("d/a=1", "d"));
    assert_eq!(digest("a=1; b=1", "a"), digest("a=1; b=1", "b"));
    assert_ne!(digest("d/a=1", "d"), digest("d/a=1; d/ !700", "d"));
    assert_ne!(digest("d/a=1", "/"), digest("d/a=1; x=2", "/"));
    let trees = Trees::new("a=1", "");
    let error = bind_digest(&trees.context, "folder1").err().unwrap();
    assert_eq!(chain_of(&error), "\"/folder1\": not found");
    let empty = view_of_layers(&trees.host, &[]).unwrap();
    assert!(bind_digest(&empty, "/").is_ok());
    assert!(bind_digest(&empty, "/a").is_err());
}

/// Makes directories in `place` down to names deeper than any path can say.
fn plant_too_deep(place: &Path) {
    let name = "n".repeat(250);
    let mut deep = place.to_owned();
    for _ in 0..15 {
        deep = deep.join(&name);
        fs::create_dir(&deep).unwrap();
    }
    let (flags, mode) = (rustix::fs::OFlags::PATH, rustix::fs::Mode::empty());
    let fd = rustix::fs::open(&deep, flags, mode).unwrap();
    rustix::fs::mkdirat(&fd, name.as_str(), rustix::fs::Mode::RWXU).unwrap();
    let below = rustix::fs::openat(&fd, name.as_str(), flags, mode).unwrap();
    rustix::fs::mkdirat(&below, name.as_str(), rustix::fs::Mode::RWXU).unwrap();
}

#[test]
fn only_the_parts_that_are_named_are_walked() {
    // What is not named may be as broken as it likes: names deeper than any path can say.
    let trees = Trees::new("a/b/f=1\na/c/g=2\nhuge/x=3", "");
    plant_too_deep(&trees.path("context/huge"));
    for (line, fails) in [
        ("COPY a /o", false),
        ("COPY a/b/f /o", false),
        ("COPY a/*/f /o", false),
        ("COPY --parents a/**/g /o", false),
        ("COPY --parents a/./b /o", false),
        ("COPY --exclude=huge . /o", false),
        ("COPY . /o", true),
    ] {
        let digest = input_digest(&copy_op(line), 1, &trees.context);
        assert_eq!(digest.is_err(), fails, "{line}");
        if let Err(error) = digest {
            assert!(chain_of(&error).ends_with(": file name too long"), "{}", chain_of(&error));
        }
    }
}

#[test]
fn an_unchanged_file_is_not_read_again_and_a_changed_one_is() {
    let trees = Trees::new("d/a=1\nd/b=2", "");
    let root = trees.path("store");
    fs::create_dir(&root).unwrap();
    let store = cache::Store::open(&root, cache::store::Options::default()).unwrap();
    let context = trees.path("context");
    let op = copy_op("COPY d /o");
    let digest = |index: Option<cache::StatIndex>| {
        let view = view_of_context(&context, Vec::new(), index).unwrap();
        let digest = input_digest(&op, 1, &view).unwrap().unwrap();
        view.save_index().unwrap();
        digest
    };
    let honest = digest(None);
    // An index that lies about a file shows whether it was asked instead of the file.
    let stat = |path: &Path| {
        let found = fs::metadata(path).unwrap();
        cache::Stat {
            dev: found.dev(),
            ino: found.ino(),
            size: found.size(),
            mtime_ns: found.mtime() * 1_000_000_000 + found.mtime_nsec(),
            ctime_ns: found.ctime() * 1_000_000_000 + found.ctime_nsec(),
        }
    };
    let index = cache::StatIndex::load(&store, &context);
    let later = SystemTime::now() + Duration::from_secs(1);
    index.put(b"d/a", &stat(&context.join("d/a")), &[7; 32], later);
    index.save().unwrap();
    let lied = digest(Some(cache::StatIndex::load(&store, &context)));
    assert_ne!(lied, honest);
    // The same size and time do not help a file that was written to.
    fs::write(context.join("d/a"), "1").unwrap();
    settle(&context);
    assert_eq!(digest(Some(cache::StatIndex::load(&store, &context))), honest);
    // What was hashed a moment after it changed is not remembered: it may change again.
    let index = cache::StatIndex::load(&store, &context);
    assert_eq!(index.get(b"d/b", &stat(&context.join("d/b"))), None);
}

#[test]
fn a_context_that_nobody_waits_for_is_not_read_on() {
    let trees = Trees::new("a=1", "");
    let view = view_of_context(&trees.path("context"), Vec::new(), None).unwrap();
    view.abandon();
    let read = input_digest(&copy_op("COPY . /"), 1, &view);
    let error = chain_of(&read.expect_err("its content is not known yet"));
    assert_eq!(error, "nobody waits for the content any more");
}
