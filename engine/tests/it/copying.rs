//! Which files a copy takes in and where they go: BuildKit's rules, row by row.

use crate::files::{Trees, check, copy_op, lines, outcome, skip};

/// Directories and files that many rows copy.
const SITE: &str = "a.txt=A; b.txt=B; dir/c.txt=C; dir/sub/d.txt=D; l -> dir; lf -> a.txt";

#[test]
fn sources_go_where_buildkit_puts_them() {
    for (line, want) in [
        // A file: to a name, into a directory.
        ("COPY a.txt /x", "x=A"),
        ("COPY a.txt /x/", "x/; x/a.txt=A"),
        ("COPY a.txt /x/y/z", "x/; x/y/; x/y/z=A"),
        ("COPY a.txt /", "a.txt=A"),
        ("COPY a.txt .", "a.txt=A"),
        ("COPY a.txt /x/.", "x/; x/a.txt=A"),
        ("COPY ./a.txt /x", "x=A"),
        ("COPY /a.txt /x", "x=A"),
        ("COPY ../../a.txt /x", "x=A"),
        ("COPY dir/../a.txt /x", "x=A"),
        ("COPY a.txt /../../x", "x=A"),
        // A directory: what is in it.
        ("COPY dir /x", "x/; x/c.txt=C; x/sub/; x/sub/d.txt=D"),
        ("COPY dir/ /x", "x/; x/c.txt=C; x/sub/; x/sub/d.txt=D"),
        ("COPY dir/. /x", "x/; x/c.txt=C; x/sub/; x/sub/d.txt=D"),
        ("COPY dir /x/", "x/; x/c.txt=C; x/sub/; x/sub/d.txt=D"),
        ("COPY dir /", "c.txt=C; sub/; sub/d.txt=D"),
        ("COPY dir/sub /x/y", "x/; x/y/; x/y/d.txt=D"),
        // The directory itself, where asked.
        ("COPY --directory dir /x", "x/; x/c.txt=C; x/sub/; x/sub/d.txt=D"),
        ("COPY --directory dir /", "dir/; dir/c.txt=C; dir/sub/; dir/sub/d.txt=D"),
        // Several sources.
        ("COPY a.txt b.txt /x/", "x/; x/a.txt=A; x/b.txt=B"),
        ("COPY a.txt dir /x/", "x/; x/a.txt=A; x/c.txt=C; x/sub/; x/sub/d.txt=D"),
        ("COPY a.txt b.txt /x", "x=B"),
        // Links: the named one is followed, those inside are not.
        ("COPY l /x", "x/; x/c.txt=C; x/sub/; x/sub/d.txt=D"),
        ("COPY lf /x", "x=A"),
        ("COPY lf /x/", "x/; x/lf=A"),
        ("COPY l/c.txt /x", "x=C"),
        ("COPY l/sub /x", "x/; x/d.txt=D"),
        ("COPY --no-follow lf /x", "x -> a.txt"),
        ("COPY --no-follow l/c.txt /x", "x=C"),
        (
            "COPY . /x",
            "x/; x/a.txt=A; x/b.txt=B; x/dir/; x/dir/c.txt=C; x/dir/sub/; x/dir/sub/d.txt=D; \
             x/l -> dir; x/lf -> a.txt",
        ),
        // Metadata.
        ("COPY --chown=5 a.txt /x/y", "x/ @5:5; x/y=A @5:5"),
        ("COPY --chown=5:6 dir /x", "x/ @5:6; x/c.txt=C @5:6; x/sub/ @5:6; x/sub/d.txt=D @5:6"),
        ("COPY --chmod=750 a.txt /x/y", "x/ !750; x/y=A !750"),
        ("COPY --chmod=4755 a.txt /x/y", "x/; x/y=A !4755"),
        ("COPY --chmod=600 dir /x", "x/ !600; x/c.txt=C !600; x/sub/ !600; x/sub/d.txt=D !600"),
        ("COPY --chmod=u=rwX,go= dir /x", "x/; x/c.txt=C !600; x/sub/ !700; x/sub/d.txt=D !600"),
        (
            "COPY --chmod=q a.txt /x",
            "error: invalid mode `q`: want an octal number, or letters as in `u=rwX,go=rX`",
        ),
        // Wildcards.
        ("COPY *.txt /x/", "x/; x/a.txt=A; x/b.txt=B"),
        ("COPY ?.txt /x/", "x/; x/a.txt=A; x/b.txt=B"),
        ("COPY [b-z].txt /x/", "x/; x/b.txt=B"),
        ("COPY [^b].txt /x/", "x/; x/a.txt=A"),
        ("COPY d* /x/", "x/; x/c.txt=C; x/sub/; x/sub/d.txt=D"),
        ("COPY */c.txt /x/", "x/; x/c.txt=C"),
        ("COPY d*/s*/* /x/", "x/; x/d.txt=D"),
        ("COPY l/* /x/", "x/; x/c.txt=C; x/d.txt=D"),
        ("COPY l* /x/", "x/; x/c.txt=C; x/lf=A; x/sub/; x/sub/d.txt=D"),
        ("COPY *.none /x/", ""),
        ("COPY a.txt/* /x/", "error: lstat /a.txt/*: not a directory"),
        ("COPY --strict *.none /x/", "error: *.none not found"),
        ("COPY a.txt *.none /x/", "x/; x/a.txt=A"),
        ("COPY [ /x/", "error: syntax error in pattern: `/[`"),
        ("COPY none/*.txt /x/", "error: lstat /none: no such file or directory"),
        // What is not there.
        ("COPY none /x", "error: \"/none\": not found"),
        ("COPY dir/none /x", "error: \"/dir/none\": not found"),
        ("COPY --exclude=q none /x", "error: lstat /none: no such file or directory"),
        ("COPY --must-exist a.txt /x/y", "error: failed to stat /x/y: no such file or directory"),
        // Exclusions are relative to the source; the source itself is never excluded.
        ("COPY --exclude=sub dir /x", "x/; x/c.txt=C"),
        ("COPY --exclude=**/*.txt dir /x", "x/; x/sub/"),
        ("COPY --exclude=sub --exclude=!sub/d.txt dir /x", "x/; x/c.txt=C; x/sub/; x/sub/d.txt=D"),
        ("COPY --exclude=* --exclude=!sub/none dir /x", "x/"),
        ("COPY --exclude=dir . /x", "x/; x/a.txt=A; x/b.txt=B; x/l -> dir; x/lf -> a.txt"),
        ("COPY --exclude=*.txt *.txt /x/", "x/; x/a.txt=A; x/b.txt=B"),
        ("COPY --exclude=! dir /x", "error: illegal exclusion pattern: \"!\""),
    ] {
        check(SITE, "", line, want);
    }
}

#[test]
fn parents_are_kept_up_to_the_pivot() {
    let tree = "a/b/c/foo=1; a/b/c/e/bay=2; a/b2/c/e/bar=3; a/x=4; top=5";
    for (line, want) in [
        ("COPY --parents a/b/c/foo /o/", "o/; o/a/; o/a/b/; o/a/b/c/; o/a/b/c/foo=1"),
        ("COPY --parents a/b/./c /o/", "o/; o/c/; o/c/e/; o/c/e/bay=2; o/c/foo=1"),
        ("COPY --parents ./a/b/./c/foo /o/", "o/; o/c/; o/c/foo=1"),
        ("COPY --parents ./a/b/c/foo /o/", "o/; o/a/; o/a/b/; o/a/b/c/; o/a/b/c/foo=1"),
        ("COPY --parents /a/./b/./c /o/", "o/; o/b/; o/b/c/; o/b/c/e/; o/b/c/e/bay=2; o/b/c/foo=1"),
        (
            "COPY --parents a/./*/c/e /o/",
            "o/; o/b/; o/b/c/; o/b/c/e/; o/b/c/e/bay=2; o/b2/; o/b2/c/; o/b2/c/e/; o/b2/c/e/bar=3",
        ),
        ("COPY --parents a/b*/./c/**/e /o/", "o/; o/c/; o/c/e/; o/c/e/bar=3; o/c/e/bay=2"),
        (
            "COPY --parents **/bar /o/",
            "o/; o/a/; o/a/b2/; o/a/b2/c/; o/a/b2/c/e/; o/a/b2/c/e/bar=3",
        ),
        ("COPY --parents top a/x /o/", "o/; o/a/; o/a/x=4; o/top=5"),
        ("COPY --parents --exclude=**/e a/b/./c /o/", "o/; o/c/; o/c/foo=1"),
        ("COPY --parents a/none /o/", "error: \"/a/none\": not found"),
        ("COPY --parents none/./x /o/", "error: \"/none/x\": not found"),
        ("COPY --parents a/none* /o/", "o/"),
    ] {
        check(tree, "", line, want);
    }
}

#[test]
fn what_is_at_the_destination_is_merged_followed_or_in_the_way() {
    let context = "f=new; d/g=G; d/sub/h=H; v -> f; w/v/x=X";
    for (lower, line, want) in [
        // Directories of the image are merged; those that only lead there are in the layer, too.
        ("app/old=O", "COPY f /app", "app/; app/f=new"),
        ("app/old=O", "COPY f /app/", "app/; app/f=new"),
        ("app/old=O", "COPY d /app", "app/; app/g=G; app/sub/; app/sub/h=H"),
        (
            "app/sub/old=O; app/sub/ !700 @3:4",
            "COPY d /app",
            "app/; app/g=G; app/sub/; app/sub/h=H",
        ),
        ("app/ !700 @3:4", "COPY d /app", "app/ !700 @3:4; app/g=G; app/sub/; app/sub/h=H"),
        (
            "app/ !700 @3:4; app/x=1",
            "COPY --chown=9 f /app/y/",
            "app/ !700 @3:4; app/y/ @9:9; app/y/f=new @9:9",
        ),
        (
            "app/old=O",
            "COPY --directory d /app",
            "app/; app/d/; app/d/g=G; app/d/sub/; app/d/sub/h=H",
        ),
        // What is made below a set-group-id directory is of its group, and hands it down.
        (
            "app/ !2755 @3:4",
            "COPY f /app/x/y/",
            "app/ !2755 @3:4; app/x/ !2755 @0:4; app/x/y/ !2755 @0:4; app/x/y/f=new",
        ),
        (
            "app/ !2755 @3:4",
            "COPY --chown=9 f /app/x/",
            "app/ !2755 @3:4; app/x/ !2755 @9:9; app/x/f=new @9:9",
        ),
        // Files are replaced; the same file is left out.
        ("app/g=old", "COPY d /app", "app/; app/g=G; app/sub/; app/sub/h=H"),
        ("f=new", "COPY f /f", ""),
        ("d/g=G; d/sub/h=H", "COPY d /d", ""),
        ("d/g=G; d/sub/h=longer", "COPY d /d", "d/; d/sub/; d/sub/h=H"),
        // Links on the way lead on inside the image.
        ("real/x=1; link -> real", "COPY f /link/", "real/; real/f=new"),
        ("real/x=1; link -> /real", "COPY f /link/new/", "real/; real/new/; real/new/f=new"),
        ("real/x=1; link -> ../../../real", "COPY f /link", "real/; real/f=new"),
        ("file=1; link -> file", "COPY f /link", "file=new"),
        ("link -> /none/deep", "COPY f /link", "none/; none/deep=new"),
        ("link -> none", "COPY d /link", "none/; none/g=G; none/sub/; none/sub/h=H"),
        ("a -> b; b -> a", "COPY f /a/x", "error: lstat /a: too many links"),
        // Inside a copied tree they are replaced or in the way.
        ("app/v/old=1; app/other=2", "COPY w /app", "app/; app/v/; app/v/x=X"),
        ("app/v -> /etc; etc/x=1", "COPY w /app", "error: cannot copy to non-directory: /app/v"),
        ("app/v=1", "COPY w /app", "error: cannot copy to non-directory: /app/v"),
        ("app/v/old=1", "COPY v /app/v/../v", "app/; app/v/; app/v/v=new"),
        ("app/g/x=1", "COPY d /app", "error: cannot replace to directory /app/g with file"),
        ("app/g -> /etc/passwd", "COPY d /app", "app/; app/g=G; app/sub/; app/sub/h=H"),
        ("x=1", "COPY f /x/y", "error: mkdir /x: not a directory"),
        ("x=1", "COPY f /x/y/z", "error: lstat /x/y: not a directory"),
        ("x=1", "COPY d /x", "error: cannot copy to non-directory: /x"),
        ("x=1", "COPY f /x/", "error: mkdir /x: not a directory"),
        // Unless what is there is to be replaced.
        ("app/v=1", "COPY --replace w /app", "app/; app/v/; app/v/x=X"),
        ("app/v -> /etc", "COPY --replace w /app", "app/; app/v/; app/v/x=X"),
        ("app/g/x=1", "COPY --replace d /app", "app/; app/g=G; app/sub/; app/sub/h=H"),
    ] {
        check(context, lower, line, want);
    }
}

#[test]
fn equal_sizes_and_times_do_not_make_files_equal() {
    let trees = Trees::new("f=new", "f=old");
    assert_eq!(trees.entries(&copy_op("COPY f /f")).unwrap(), "f=new\n");
}

#[test]
fn owners_by_name_come_from_the_image() {
    let lower = "etc/passwd=app:x:7:8::/:/bin/sh; etc/group=staff:x:9:";
    for (line, want) in [
        ("COPY --chown=app f /x", "x=F @7:8"),
        ("COPY --chown=app:staff f /x", "x=F @7:9"),
        ("COPY --chown=app:0 f /x", "x=F @7:0"),
        ("COPY --chown=3:staff f /x", "x=F @3:9"),
        // Names that the image does not know are root's, as with BuildKit.
        ("COPY --chown=nobody f /x", "x=F"),
        ("COPY --chown=app:none f /x", "x=F @7:8"),
    ] {
        check("f=F", lower, line, want);
    }
    check(
        "f=F",
        "",
        "COPY --chown=app f /x",
        "error: no user or group `app`: the stage has no base image to look it up in",
    );
}

#[test]
fn modes_are_kept_and_a_context_belongs_to_root() {
    let context = "d/s=1 !4711; d/p=2 !600 @5:5; d/e/ !1777 @6:6; d/q|; d/z=3; d/y == d/z";
    check(
        context,
        "",
        "COPY d /x",
        "x/; x/e/ !1777; x/p=2 !600; x/q|; x/s=1 !4711; x/y=3; x/z == x/y",
    );
    // A stage's owners are kept, unless they are given.
    let trees = Trees::new("", &lines("s/p=2 !600 @5:6; s/l -> p @7:8"));
    let mut op = copy_op("COPY s /x");
    op.actions[0].secondary = Some(llb::FileInput::Input(0));
    op.actions[0].input = llb::FileInput::Scratch;
    let want = if crate::files::is_root() {
        "x/\nx/l -> p @7:8\nx/p=2 !600 @5:6\n"
    } else {
        return skip("not root: owners of stages are not tested");
    };
    assert_eq!(trees.entries(&op).unwrap(), want);
}

#[test]
fn times_are_kept_or_given() {
    let trees = Trees::new("d/f=1", "app/old=2");
    for (line, want) in [
        ("COPY d /app", [("app", 1_600_000_000), ("app/f", 1_600_000_000)].as_slice()),
        ("COPY d /new", &[("new", 1_600_000_000), ("new/f", 1_600_000_000)]),
        ("COPY d/f /a/b", &[("a", 86_400), ("a/b", 1_600_000_000)]),
        ("COPY --time=77 d /a/b", &[("a", 77), ("a/b", 77), ("a/b/f", 77)]),
    ] {
        let mut recorder = crate::files::Recorder::default();
        let target = engine::file_op::Target::Sink(&mut recorder);
        trees.apply(&copy_op(line), target).unwrap();
        let got: Vec<_> = recorder
            .entries
            .iter()
            .map(|entry| (String::from_utf8_lossy(&entry.path).into_owned(), entry.mtime.seconds))
            .collect();
        let got: Vec<_> = got.iter().map(|(path, time)| (path.as_str(), *time)).collect();
        assert_eq!(got, want, "{line}");
    }
}

#[test]
fn names_that_would_delete_others_are_left_out() {
    let trees = Trees::new("d/.wh.x=1\nd/.wh.dir/y=2\nd/z=3", "");
    assert_eq!(outcome(&trees, &copy_op("COPY d /o")), "o/\no/z=3\n");
}
