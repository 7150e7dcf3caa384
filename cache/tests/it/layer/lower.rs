//! Layers that need to know what is below them.

use std::fs;
use std::path::Path;

use cache::layer::{DirectoryOptions, Lower, adopt};
use expect_test::{Expect, expect};

use super::archive::archive;
use super::{chain, flavor, is_root, listing, open, skip, unpack_to};

/// Unpacks `layers`, the lowest first, each before it knows those below; then lets the last one
/// have what it lacks from there.
fn check(layers: &[&str], expect: Expect) {
    let place = tempfile::tempdir().unwrap();
    let root = |number: usize| place.path().join(number.to_string());
    let mut finished = None;
    for (number, layer) in layers.iter().enumerate() {
        fs::create_dir(root(number)).unwrap();
        finished = Some(unpack_to(&root(number), &archive(layer)).unwrap().finished);
    }
    let top = layers.len() - 1;
    let below = (0..top).rev().map(|number| open(&root(number)).into()).collect();
    let mut options = DirectoryOptions::new(flavor());
    options.lower = Lower::new(below, flavor());
    options.ignore_owner = !is_root();
    let adopted = adopt(open(&root(top)), options, &finished.unwrap());
    expect.assert_eq(&match adopted {
        Ok(_) => listing(Path::new(&root(top))),
        Err(error) => format!("error: {}\n", chain(&error)),
    });
}

#[test]
fn implied_directories_are_those_below() {
    check(
        &["dir a mode=711 mtime=5\ndir a/b mode=1777 mtime=6", "file a/b/c/f data=1"],
        expect![[r#"
            a/ 711 at 5.000000000
            a/b/ 1777 at 6.000000000
            a/b/c/ 755
            a/b/c/f 644 "1"
        "#]],
    );
    // What the layer says itself counts, before and after.
    check(
        &["dir a mode=711\ndir b mode=711", "file a/f\ndir a mode=700\ndir b mode=750\nfile b/f"],
        expect![[r#"
            a/ 700
            a/f 644
            b/ 750
            b/f 644
        "#]],
    );
    // A whiteout in between hides the lowest; so does an opaque parent.
    check(
        &[
            "dir a mode=711\ndir p\ndir p/q mode=711",
            "file .wh.a\ndir p\nfile p/.wh..wh..opq",
            "file a/f\nfile p/q/f",
        ],
        expect![[r#"
            a/ 755
            a/f 644
            p/ 755
            p/q/ 755
            p/q/f 644
        "#]],
    );
    check(
        &["dir a mode=711", "dir a mode=500", "file a/f"],
        expect![[r#"
            a/ 500
            a/f 644
        "#]],
    );
    // A link below is not a directory.
    check(
        &["dir b mode=711\nlink a to=b", "file a/f"],
        expect![[r#"
            a/ 755
            a/f 644
        "#]],
    );
}

#[test]
fn privileged_implied_directories_have_owners() {
    if !is_root() {
        return skip("owners of implied directories");
    }
    check(
        &["dir a uid=7 gid=8 pax=SCHILY.xattr.user.x:y", "file a/f"],
        expect![[r#"
            a/ 755 7:8 [user.x=y]
            a/f 644
        "#]],
    );
}

#[test]
fn hard_links_reach_below() {
    check(
        &["dir d mode=700\nfile d/f data=1 mode=755 mtime=3", "hard h to=d/f\nhard i to=d/f"],
        expect![[r#"
            d/ 700
            d/f 755 "1" at 3.000000000
            h = d/f
            i = d/f
        "#]],
    );
    check(
        &["file f data=1", "file f data=2", "hard h to=f"],
        expect![[r#"
            f 644 "2"
            h = f
        "#]],
    );
    check(
        &["link f to=x", "hard h to=f"],
        expect![[r#"
            f -> x
            h = f
        "#]],
    );
    for below in ["dir g", "dir f", "fifo f\nfile .wh.f"] {
        check(
            &[below, "file .wh.f", "hard h to=f"],
            expect![[r#"
                error: `h` links to `f`, which does not exist
            "#]],
        );
    }
    check(
        &["file f data=1", "file .wh.f\nhard h to=f"],
        expect![[r#"
            error: `h` links to `f`, which does not exist
        "#]],
    );
}
