//! The layer that an operation made last time: what of it shows in the next one, and what does not.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cache::layer::{DiffOptions, write_tar};
use engine::file_op::{self, Applied, Manifest, Previous, Small, Target, input_digest};
use engine::tree::{view_of_context, view_of_layers};
use llb::FileOp;

use crate::files::{
    Trees, chain_of, copy_op, directory_options, flavor, is_root, lines, settle, skip,
};

/// Nothing is so small that it is always written whole.
const NOTHING: Small = Small { names: 0, bytes: 0 };

/// Copies into `name` as the engine does: hashed first, then written, perhaps over a layer before.
fn run_over(trees: &Trees, op: &FileOp, name: &str, before: Option<(&Manifest, Small)>) -> Applied {
    input_digest(op, 1, &trees.context).unwrap();
    let out = trees.path(name);
    fs::create_dir_all(&out).unwrap();
    let previous = before.map(|(manifest, small)| Previous { manifest, small });
    trees.to_directory(op, &out, previous).unwrap()
}

fn run(trees: &Trees, op: &FileOp, name: &str) -> Applied {
    run_over(trees, op, name, None)
}

/// Copies into `name` what changed since the layer of `before`, if that may be.
fn change(trees: &Trees, op: &FileOp, name: &str, before: &Manifest) -> Applied {
    run_over(trees, op, name, Some((before, NOTHING)))
}

/// The trees as they are now.
fn look_again(trees: &mut Trees) {
    trees.context = view_of_context(&trees.path("context"), Vec::new(), None).unwrap();
}

/// What a step sees of the tree at `root`: each name with its links, its blocks and the first name of
/// the same file, in the order in which directories list them.
fn seen(root: &Path) -> Vec<(PathBuf, u64, u64, PathBuf)> {
    let mut first = HashMap::new();
    let entries = walkdir::WalkDir::new(root).into_iter().map(|entry| {
        let path = entry.unwrap().into_path();
        let found = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().to_owned();
        let first = first.entry(found.ino()).or_insert_with(|| name.clone()).clone();
        (name, found.nlink(), found.blocks(), first)
    });
    entries.collect()
}

#[test]
fn a_layer_shows_nothing_of_the_one_before() {
    if !is_root() {
        return skip("not root: owners in directories are not what they should be");
    }
    let large = "x".repeat(200_000);
    let tree = format!("{}d/large={large}\nd/two=6\nd/names == d/two\nd/empty/", twenty());
    let mut trees = Trees::new(&tree, "");
    let op = copy_op("COPY d /o");
    let first = run(&trees, &op, "first");
    let context = trees.path("context/d");
    fs::write(context.join("s1/f10"), "ten").unwrap();
    settle(&trees.path("context"));
    look_again(&mut trees);
    let second = run_over(&trees, &op, "second", Some((&first.manifest, Small::USUAL)));
    assert!(!second.is_change);
    run(&trees, &op, "third");
    assert_eq!(seen(&trees.path("second")), seen(&trees.path("third")));
    assert!(trees.tar_of(&trees.path("second")) == trees.tar(&op));
}

#[test]
fn what_an_archive_holds_has_no_name_elsewhere() {
    if !is_root() {
        return skip("not root: owners in directories are not what they should be");
    }
    let mut trees = Trees::new(&lines("d/a=1; d/two=2; d/names == d/two; d/s/deep=3"), "");
    let tar = std::process::Command::new("tar")
        .args(["-C", "d", "--owner=0", "--group=0", "-cf", "d.tar", "."])
        .current_dir(trees.path("context"))
        .status();
    assert!(tar.unwrap().success());
    look_again(&mut trees);
    let (out, scratch) = (trees.path("out"), trees.path("scratch"));
    let op = copy_op("ADD d.tar /o");
    let inputs = [Some(&trees.lower), Some(&trees.context)];
    let job = trees.job(&op, &inputs, &scratch);
    // What was extracted beside the layer lives as long as the plan.
    let plan = file_op::plan(&job).unwrap();
    let target = Target::Directory { path: &out, options: &directory_options, previous: None };
    plan.write(target, &|| false).unwrap();
    let links = |name: &str| fs::metadata(out.join("o").join(name)).unwrap().nlink();
    assert_eq!(["a", "two", "names", "s/deep"].map(links), [1, 2, 2, 1]);
    assert!(trees.tar_of(&out) == trees.tar(&op));
}

#[test]
fn a_tar_is_made_again_from_what_was_written() {
    let tree = "d/a=1; d/b=2; d/c=3; d/s/deep=4; d/s-t=5; d/zero=; d/n == d/a; d/l -> a";
    let trees = Trees::new(&lines(tree), "");
    let op = copy_op("COPY d /o");
    run(&trees, &op, "first");
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
fn files_that_were_one_are_two_when_they_are_two() {
    let mut trees = Trees::new("d/a=1\nd/b == d/a", "");
    let op = copy_op("COPY d /o");
    let inode = |path: &Path| fs::symlink_metadata(path).unwrap().ino();
    let first = run(&trees, &op, "first");
    assert_eq!(inode(&trees.path("first/o/a")), inode(&trees.path("first/o/b")));
    fs::remove_file(trees.path("context/d/b")).unwrap();
    fs::write(trees.path("context/d/b"), "1").unwrap();
    settle(&trees.path("context"));
    look_again(&mut trees);
    change(&trees, &op, "second", &first.manifest);
    assert_ne!(inode(&trees.path("second/o/a")), inode(&trees.path("second/o/b")));
    assert!(trees.tar_of(&trees.path("second")) == trees.tar(&op));
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
    let first = run(&trees, &op, "first");
    assert!(first.manifest.is_whole() && !first.is_change);
    let context = trees.path("context/d");
    fs::write(context.join("s1/f10"), "ten").unwrap();
    fs::write(context.join("s1/new"), "new").unwrap();
    settle(&trees.path("context"));
    look_again(&mut trees);
    let change = change(&trees, &op, "change", &first.manifest);
    assert_eq!((change.is_change, change.files), (true, 2));
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
        let first = run(&trees, &op, "first");
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
    let first = run(&trees, &op, "first");
    assert!(!first.manifest.is_whole());
    assert!(!change(&trees, &op, "second", &first.manifest).is_change);
}
