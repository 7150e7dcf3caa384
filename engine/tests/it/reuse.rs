//! The layer that an operation made last time: what has not changed is linked, not copied.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use cache::layer::{DiffOptions, write_tar};
use engine::file_op::{Applied, Manifest, Previous, input_digest};
use engine::tree::{view_of_context, view_of_layers};
use llb::FileOp;

use crate::files::{Trees, chain_of, copy_op, flavor, is_root, lines, settle, skip};

/// Copies into `name` as the engine does: hashed first, then written, perhaps with a layer to link from.
fn run(trees: &Trees, op: &FileOp, name: &str, previous: Option<(&str, &Manifest)>) -> Applied {
    input_digest(op, 1, &trees.context).unwrap();
    let out = trees.path(name);
    fs::create_dir_all(&out).unwrap();
    let path = previous.map(|(name, _)| trees.path(name));
    let previous = previous.zip(path.as_deref()).map(|((_, manifest), path)| Previous {
        path,
        manifest,
        may_lie_below: false,
    });
    trees.to_directory(op, &out, previous).unwrap()
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

/// The trees anew, with the context as it is now.
fn look_again(trees: &mut Trees) {
    trees.context = view_of_context(&trees.path("context"), Vec::new(), None).unwrap();
}

#[test]
fn unchanged_files_are_linked_and_changed_ones_are_not() {
    if !is_root() {
        return skip("not root: layers are not linked where owners are pretended");
    }
    let tree = "d/same=1; d/mode=2; d/content=3; d/time=4; d/s/deep=5; d/two=6; d/names == d/two; d/l -> same";
    let mut trees = Trees::new(&lines(tree), "");
    let op = copy_op("COPY d /o");
    let first = run(&trees, &op, "first", None);
    assert_eq!((first.files, first.linked), (6, 0));
    let manifest = Manifest::from_bytes(&first.manifest.to_bytes()).unwrap();
    assert_eq!(manifest, first.manifest);

    let context = trees.path("context/d");
    fs::write(context.join("content"), "X").unwrap();
    settle(&trees.path("context"));
    fs::set_permissions(context.join("mode"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    fs::File::options()
        .write(true)
        .open(context.join("time"))
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH)
        .unwrap();
    look_again(&mut trees);
    let second = run(&trees, &op, "second", Some(("first", &manifest)));
    assert_eq!((second.files, second.linked), (6, 3));
    for (name, linked) in [
        ("o/same", true),
        ("o/s/deep", true),
        ("o/names", true),
        ("o/mode", false),
        ("o/content", false),
        ("o/time", false),
        ("o/l", false),
    ] {
        let same =
            inode(&trees.path("first").join(name)) == inode(&trees.path("second").join(name));
        assert_eq!(same, linked, "{name}");
    }
    assert_eq!(inode(&trees.path("second/o/two")), inode(&trees.path("second/o/names")));
    // Linked or copied, the layer is the same.
    run(&trees, &op, "third", None);
    assert!(trees.tar_of(&trees.path("second")) == trees.tar_of(&trees.path("third")));
    assert!(trees.tar_of(&trees.path("second")) == trees.tar(&op));
    assert_eq!(fs::read_to_string(trees.path("first/o/content")).unwrap(), "3");
    // So is its tar, whether contents come from the directory or from the tar before.
    let before = trees.tar_of(&trees.path("first"));
    for before in [None, Some(&before[..])] {
        assert!(trees.tar_again(&op, "second", before) == trees.tar(&op));
    }
}

#[test]
fn a_tar_is_made_again_from_what_was_written() {
    let tree = "d/a=1; d/b=2; d/c=3; d/s/deep=4; d/s-t=5; d/zero=; d/n == d/a; d/l -> a";
    let trees = Trees::new(&lines(tree), "");
    let op = copy_op("COPY d /o");
    run(&trees, &op, "first", None);
    let tar = trees.tar(&op);
    // Bytes of the same length under the right name are found out, and so is a tar that ends early,
    // is none, or has its files in another order.
    let mut forged = tar.clone();
    let mut blocks = (0..tar.len()).step_by(512);
    let content = blocks.find(|at| tar[*at..].starts_with(b"1\0\0")).unwrap();
    forged[content] = b'9';
    let shuffled = trees.tar(&copy_op("COPY d/s /o/zz"));
    let befores = [&forged[..], &tar[..tar.len() / 2], b"no tar", &shuffled, b""];
    for before in befores {
        assert!(trees.tar_again(&op, "first", Some(before)) == tar);
    }
    // With all of it in the tar before, nothing else is opened.
    for name in ["a", "b", "c", "s/deep", "s-t", "zero"] {
        fs::remove_file(trees.path("first/o").join(name)).unwrap();
    }
    assert!(trees.tar_again(&op, "first", Some(&tar)) == tar);
}

#[test]
fn a_previous_layer_that_is_gone_or_damaged_is_no_error() {
    let trees = Trees::new("d/a=1\nd/b=2", "");
    let op = copy_op("COPY d /o");
    let first = run(&trees, &op, "first", None);
    // A file is gone.
    fs::remove_file(trees.path("first/o/a")).unwrap();
    let second = run(&trees, &op, "second", Some(("first", &first.manifest)));
    assert_eq!((second.files, second.linked), (2, 1));
    assert_eq!(fs::read_to_string(trees.path("second/o/a")).unwrap(), "1");
    // All of it is.
    fs::remove_dir_all(trees.path("first")).unwrap();
    let third = run(&trees, &op, "third", Some(("first", &first.manifest)));
    assert_eq!((third.files, third.linked), (2, 0));
    for name in ["second", "third"] {
        assert!(trees.tar_of(&trees.path(name)) == trees.tar(&op));
    }
}

#[test]
fn files_that_were_one_are_not_linked_when_they_are_two() {
    let mut trees = Trees::new("d/a=1\nd/b == d/a", "");
    let op = copy_op("COPY d /o");
    let first = run(&trees, &op, "first", None);
    assert_eq!(inode(&trees.path("first/o/a")), inode(&trees.path("first/o/b")));
    fs::remove_file(trees.path("context/d/b")).unwrap();
    fs::write(trees.path("context/d/b"), "1").unwrap();
    settle(&trees.path("context"));
    look_again(&mut trees);
    run(&trees, &op, "second", Some(("first", &first.manifest)));
    assert_ne!(inode(&trees.path("second/o/a")), inode(&trees.path("second/o/b")));
    assert!(trees.tar_of(&trees.path("second")) == trees.tar(&op));
}

#[test]
fn another_file_system_is_copied_from() {
    let other = Path::new("/dev/shm");
    let trees = Trees::new("d/a=1", "");
    let Ok(elsewhere) = tempfile::tempdir_in(other) else {
        return skip("no second file system to test with");
    };
    let op = copy_op("COPY d /o");
    let first = run(&trees, &op, "first", None);
    let path = trees.path("first");
    let previous = Previous { path: &path, manifest: &first.manifest, may_lie_below: false };
    let applied = trees.to_directory(&op, elsewhere.path(), Some(previous)).unwrap();
    assert_eq!(applied.files, 1);
    assert_eq!(fs::read_to_string(elsewhere.path().join("o/a")).unwrap(), "1");
}

/// A context of `d` with twenty files and a few other things.
fn twenty() -> String {
    let files: String = (10..30).map(|n| format!("d/s{}/f{n}={n}\n", n % 3)).collect();
    format!("{files}d/l -> s0\nd/empty/")
}

#[test]
fn privileged_little_that_changed_lies_over_the_layer_before() {
    if !is_root() {
        return skip("layers are mounted over each other by root only");
    }
    let mut trees = Trees::new(&twenty(), "");
    let op = copy_op("COPY d /o");
    let first = run(&trees, &op, "first", None);
    assert!(first.manifest.is_whole() && !first.is_change);
    let context = trees.path("context/d");
    fs::write(context.join("s1/f10"), "ten").unwrap();
    fs::write(context.join("s1/new"), "new").unwrap();
    settle(&trees.path("context"));
    look_again(&mut trees);
    let change = change(&trees, &op, "change", &first.manifest);
    assert_eq!((change.is_change, change.files, change.linked), (true, 2, 0));
    let names: Vec<_> = walkdir::WalkDir::new(trees.path("change"))
        .sort_by_file_name()
        .into_iter()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["change", "o", "s1", "f10", "new"]);
    let layers = ["first", "change"].map(|name| trees.path(name));
    let view = match view_of_layers(&trees.host, &layers) {
        Ok(view) => view,
        Err(error) => return skip(&chain_of(&error)),
    };
    let mut tar = Vec::new();
    let options = DiffOptions { flavor: flavor(), lower: None, all_xattrs: false };
    write_tar(view.descriptor().unwrap(), &options, &mut tar).unwrap();
    assert!(tar == trees.tar(&op));
}

#[test]
fn what_cannot_lie_over_the_layer_before_is_written_whole() {
    type Edit = (&'static str, fn(&Path));
    let edits: [Edit; 5] = [
        ("a name that is gone", |d| fs::remove_file(d.join("s1/f10")).unwrap()),
        ("a second name", |d| fs::hard_link(d.join("s1/f10"), d.join("s1/g")).unwrap()),
        ("too many changes", |d| {
            (0..9).for_each(|n| fs::write(d.join(n.to_string()), "").unwrap())
        }),
        ("a directory that is gone", |d| fs::remove_dir(d.join("empty")).unwrap()),
        ("a name that would delete another", |d| fs::write(d.join("s1/.wh.f10"), "").unwrap()),
    ];
    for (about, edit) in edits {
        let mut trees = Trees::new(&twenty(), "");
        let op = copy_op("COPY d /o");
        let first = run(&trees, &op, "first", None);
        edit(&trees.path("context/d"));
        settle(&trees.path("context"));
        look_again(&mut trees);
        let second = change(&trees, &op, "second", &first.manifest);
        // Such a name is left out, of the layer before as of this one.
        assert_eq!(second.is_change, about.starts_with("a name that would"), "{about}");
        if is_root() && !second.is_change {
            assert!(trees.tar_of(&trees.path("second")) == trees.tar(&op), "{about}");
        }
    }
}

#[test]
fn a_layer_that_deletes_has_nothing_laid_over_it() {
    if !is_root() {
        return skip("not root: the tree below cannot be root's");
    }
    let trees = Trees::new(&twenty(), "o/s1/old=1");
    let mut op = copy_op("COPY d /o");
    op.actions[0].output = None;
    let rm = llb::RmOp { path: "/o/s1".into(), allow_not_found: false, allow_wildcard: false };
    let deletes = llb::FileAction {
        input: llb::FileInput::Action(0),
        secondary: None,
        output: Some(0),
        kind: llb::FileActionKind::Rm(rm),
    };
    op.actions.push(deletes);
    let first = run(&trees, &op, "first", None);
    assert!(!first.manifest.is_whole());
    assert!(!change(&trees, &op, "second", &first.manifest).is_change);
}

/// Copies into `name` as [`run`] does, where a change may lie over `first`.
fn change(trees: &Trees, op: &FileOp, name: &str, manifest: &Manifest) -> Applied {
    input_digest(op, 1, &trees.context).unwrap();
    let out = trees.path(name);
    fs::create_dir_all(&out).unwrap();
    let path = trees.path("first");
    let previous = Previous { path: &path, manifest, may_lie_below: true };
    trees.to_directory(op, &out, Some(previous)).unwrap()
}
