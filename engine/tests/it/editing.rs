//! Files, directories and links made from nothing, removals, and several actions in a row.

use llb::{
    FileAction, FileActionKind, FileInput, FileOp, MkdirOp, MkfileOp, Owner, OwnerId, RmOp,
    SymlinkOp,
};

use crate::files::{Trees, chain, copy_op, is_root, lines, outcome, plain_copy, skip};

/// `mkdir`, `mkdir -p`, `mkfile PATH TEXT`, `symlink TARGET PATH`, `rm`, `rm -f`, `rm-glob`, or a copy.
fn action(line: &str) -> (Option<FileInput>, FileActionKind) {
    let words: Vec<&str> = line.split(' ').collect();
    let owner =
        |id: &str| Some(Owner { user: Some(OwnerId::Id(id.parse().unwrap())), group: None });
    let kind = match words.as_slice() {
        ["mkdir", path] => mkdir(path, false, None),
        ["mkdir", "-p", path] => mkdir(path, true, None),
        ["mkdir", "-p", path, id] => mkdir(path, true, owner(id)),
        ["mkfile", path, text] => FileActionKind::Mkfile(MkfileOp {
            path: (*path).into(),
            mode: 0o640,
            data: text.as_bytes().to_vec(),
            owner: None,
            timestamp: None,
        }),
        ["symlink", target, path] => FileActionKind::Symlink(SymlinkOp {
            target: (*target).into(),
            path: (*path).into(),
            owner: None,
            timestamp: None,
        }),
        ["rm", path] => rm(path, false, false),
        ["rm", "-f", path] => rm(path, true, false),
        ["rm-glob", path] => rm(path, true, true),
        _ => return (Some(FileInput::Input(1)), copy_op(line).actions.remove(0).kind),
    };
    (None, kind)
}

fn mkdir(path: &str, make_parents: bool, owner: Option<Owner>) -> FileActionKind {
    FileActionKind::Mkdir(MkdirOp {
        path: path.into(),
        mode: 0o750,
        make_parents,
        owner,
        timestamp: None,
    })
}

fn rm(path: &str, allow_not_found: bool, allow_wildcard: bool) -> FileActionKind {
    FileActionKind::Rm(RmOp { path: path.into(), allow_not_found, allow_wildcard })
}

fn check(lower: &str, actions: &str, want: &str) {
    if !lower.is_empty() && !is_root() {
        return skip(&format!("{actions} (not root: the tree below cannot be root's)"));
    }
    let trees = Trees::new("f=F\nd/g=G", &lines(lower));
    let got = outcome(&trees, &chain(actions.split("; ").map(action)));
    let want: String =
        want.split("; ").filter(|l| !l.is_empty()).map(|l| format!("{l}\n")).collect();
    assert_eq!(got, want, "{actions} on {lower}");
}

#[test]
fn each_action_does_what_buildkit_does() {
    for (lower, actions, want) in [
        ("", "mkdir -p /a/b", "a/ !750; a/b/ !750"),
        ("", "mkdir -p /a/b 5", "a/ !750 @5:5; a/b/ !750 @5:5"),
        ("a/x=1", "mkdir -p /a/b", "a/; a/b/ !750"),
        ("a/x=1", "mkdir -p /a", ""),
        ("a/x=1; l -> a", "mkdir -p /l/b", "a/; a/b/ !750"),
        ("l -> /gone", "mkdir -p /l/b", "gone/ !750; gone/b/ !750"),
        ("a=1", "mkdir -p /a/b", "error: lstat /a/b: not a directory"),
        ("a=1", "mkdir -p /a", "error: mkdir /a: not a directory"),
        ("", "mkdir /a", "a/ !750"),
        ("a=1", "mkdir /a", ""),
        ("", "mkdir /a/b", "error: mkdir /a/b: no such file or directory"),
        ("", "mkfile /a hi", "a=hi !640"),
        ("a=old !755", "mkfile /a hi", "a=hi !755"),
        ("b=old; a -> b", "mkfile /a hi", "b=hi"),
        ("a/x=1", "mkfile /a hi", "error: open /a: is a directory"),
        ("", "mkfile /a/b hi", "error: open /a/b: no such file or directory"),
        ("", "symlink x /a", "a -> x"),
        ("a=1", "symlink x /a", "error: symlink /a: file exists"),
        ("", "symlink x /a/b", "error: symlink /a/b: no such file or directory"),
        ("a=1; b=2", "rm /a", "- a"),
        ("a/b=1; a/c=2", "rm /a/b", "a/; - a/b"),
        ("a/b=1", "rm /a", "- a"),
        ("a=1; l -> a", "rm /l", "- l"),
        ("a/b=1; l -> a", "rm /l/b", "a/; - a/b"),
        ("a=1", "rm /b", "error: stat /b: no such file or directory"),
        ("a=1", "rm -f /b", ""),
        ("a=1", "rm /", "error: cannot remove the root directory"),
        ("a1=1; a2=2; b=3", "rm-glob /a*", "- a1; - a2"),
        ("a1=1", "rm-glob /z*", ""),
    ] {
        check(lower, actions, want);
    }
}

#[test]
fn actions_see_what_earlier_ones_made() {
    for (lower, actions, want) in [
        ("", "mkdir /a; mkfile /a/b hi; rm /a/b", "a/ !750"),
        ("", "mkdir /a; mkfile /a/b hi; rm /a", ""),
        ("", "mkdir /a; symlink a /l; COPY f /l/", "a/ !750; a/f=F; l -> a"),
        ("", "mkfile /a hi; COPY f /a", "a=F"),
        ("", "mkfile /a hi; COPY d /a", "error: cannot copy to non-directory: /a"),
        ("", "COPY d /x; rm-glob /x/*", "x/"),
        // What was removed stays removed below whatever takes its place.
        ("a/b=1; a/c=2", "rm /a; mkdir /a", "a/ !750; - a/b; - a/c"),
        ("a/b=1; a/c=2", "rm /a; mkdir /a; mkfile /a/b x", "a/ !750; a/b=x !640; - a/c"),
        (
            "a/s/x=1; a/s/y=1",
            "rm /a; mkdir -p /a/s; mkfile /a/s/x n",
            "a/ !750; a/s/ !750; a/s/x=n !640; - a/s/y",
        ),
        ("a/b=1", "rm /a; COPY f /a", "a=F"),
        ("a=1", "rm /a; mkdir /a", "a/ !750"),
        ("a/b=1", "rm /a; mkdir /a; rm /a", "- a"),
        ("a/b=1", "rm /a; COPY d /a", "a/; - a/b; a/g=G"),
        ("a/b=1", "rm /a/b; mkfile /a/b 2", "a/; a/b=2 !640"),
        ("a1=1; a2=2", "rm /a1; rm-glob /a*", "- a1; - a2"),
    ] {
        check(lower, actions, want);
    }
}

#[test]
fn an_action_copies_from_another_ones_result() {
    if !is_root() {
        return skip("not root: files cannot be given to root");
    }
    let trees = Trees::new("f=F", "base=1");
    let make = |input, secondary, output, kind| FileAction { input, secondary, output, kind };
    let mut copy = plain_copy();
    (copy.src, copy.dest) = ("/doc".into(), "/to/".into());
    let op = FileOp {
        actions: vec![
            make(FileInput::Scratch, None, None, action("mkfile /doc text").1),
            make(
                FileInput::Input(0),
                Some(FileInput::Action(0)),
                Some(0),
                FileActionKind::Copy(copy),
            ),
        ],
    };
    assert_eq!(outcome(&trees, &op), "to/\nto/doc=text !640\n");
    assert_eq!(engine::file_op::base(&op, 0).unwrap(), FileInput::Input(0));
    // Loops and missing parts are refused, not followed.
    for input in [FileInput::Action(0), FileInput::Action(7), FileInput::Input(9)] {
        let op = FileOp { actions: vec![make(input, None, Some(0), action("mkfile /a x").1)] };
        assert!(trees.entries(&op).is_err());
    }
    assert!(trees.entries(&FileOp { actions: Vec::new() }).is_err());
}
