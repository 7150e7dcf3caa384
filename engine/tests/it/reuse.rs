//! The layer that an operation made last time: what has not changed is linked, not copied.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use engine::file_op::{Applied, Manifest, Previous, input_digest};
use engine::tree::view_of_context;
use llb::FileOp;

use crate::files::{Trees, copy_op, is_root, lines, settle, skip};

/// Copies into `name` as the engine does: hashed first, then written, perhaps with a layer to link from.
fn run(trees: &Trees, op: &FileOp, name: &str, previous: Option<(&str, &Manifest)>) -> Applied {
    input_digest(op, 1, &trees.context).unwrap();
    let out = trees.path(name);
    fs::create_dir_all(&out).unwrap();
    let path = previous.map(|(name, _)| trees.path(name));
    let previous =
        previous.zip(path.as_deref()).map(|((_, manifest), path)| Previous { path, manifest });
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
    let previous = Previous { path: &path, manifest: &first.manifest };
    let applied = trees.to_directory(&op, elsewhere.path(), Some(previous)).unwrap();
    assert_eq!(applied.files, 1);
    assert_eq!(fs::read_to_string(elsewhere.path().join("o/a")).unwrap(), "1");
}
