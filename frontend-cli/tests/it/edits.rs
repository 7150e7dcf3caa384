//! A context that is edited again and again gives what a build in a new store gives, though layers
//! stand on layers before them.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::crash_world::{World, must_succeed, names};

/// Copies the tree into a layer that a step runs on, and into one that is copied from. The steps write
/// down all that they see of it.
const DOCKERFILE: &str = r#"
FROM base AS look
RUN printf 'cd "$1"; find . -path ./more -prune -o -print | sort | while read -r n; do stat -c "%%n %%f %%u %%g %%Y" "$n"; [ -L "$n" ] && readlink "$n"; [ -f "$n" ] && md5sum "$n"; done; true' > /look; busybox touch -d @1600000000 /look

FROM look AS other
COPY tree /tree
RUN busybox sh /look /tree > /seen; busybox touch -d @1600000000 /seen

FROM look
COPY tree /tree
RUN busybox sh /look /tree > /seen; busybox touch -d @1600000000 /seen
COPY --from=other /tree /copied
COPY --from=other /seen /seen-there
RUN busybox sh /look /copied > /seen-copied; busybox touch -d @1600000000 /seen-copied
RUN echo more >> /tree/7; rm /tree/8; busybox touch -d @1600000000 /tree/7 /tree
"#;

type Edit = (&'static str, fn(&Path), bool);

/// What is done to the tree, and whether that takes a whole tree in the store.
const EDITS: [Edit; 13] = [
    ("one file edited", |tree| write(tree, "3", "FILE 3\n"), false),
    ("a second edit", |tree| write(tree, "3", "twice"), false),
    (
        "mode, new names",
        |tree| {
            let mode = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(tree.join("7"), mode).unwrap();
            write(tree, "sub/new", "new");
            std::fs::create_dir(tree.join("sub/empty")).unwrap();
            symlink("../3", tree.join("sub/link")).unwrap();
        },
        false,
    ),
    ("edited back", |tree| write(tree, "3", "file 3\n"), false),
    ("a file deleted", |tree| std::fs::remove_file(tree.join("5")).unwrap(), true),
    ("edited after that", |tree| write(tree, "sub/file", "deepest\n"), false),
    (
        "a file becomes a directory",
        |tree| {
            std::fs::remove_file(tree.join("9")).unwrap();
            std::fs::create_dir(tree.join("9")).unwrap();
            write(tree, "9/inside", "");
        },
        false,
    ),
    (
        "a directory becomes a file",
        |tree| {
            std::fs::remove_dir_all(tree.join("sub/empty")).unwrap();
            write(tree, "sub/empty", "not any more");
        },
        false,
    ),
    (
        "a directory with files becomes a file",
        |tree| {
            std::fs::remove_dir_all(tree.join("sub")).unwrap();
            write(tree, "sub", "all gone");
        },
        true,
    ),
    (
        "a file becomes a link",
        |tree| {
            std::fs::remove_file(tree.join("4")).unwrap();
            symlink("3", tree.join("4")).unwrap();
        },
        false,
    ),
    ("a second name", |tree| std::fs::hard_link(tree.join("6"), tree.join("six")).unwrap(), true),
    (
        "one name again",
        |tree| {
            std::fs::remove_file(tree.join("six")).unwrap();
            // Else it were the tree before, found by its content, with the times of then.
            write(tree, "3", "one name");
        },
        true,
    ),
    ("many edits", |tree| (0..200).for_each(|n| write(tree, &format!("more/{n}"), "many")), true),
];

fn write(tree: &Path, name: &str, content: &str) {
    std::fs::write(tree.join(name), content).unwrap();
}

#[test]
fn privileged_edited_contexts_build_what_new_ones_do() {
    let Some(world) = World::with_many_inputs() else { return };
    std::fs::write(world.path("context/Dockerfile"), DOCKERFILE).unwrap();
    let (store, tree) = (world.path("store"), world.path("context/tree"));
    assert!(build(&world, &store) == build(&world, &world.path("fresh")), "before any edit");
    for (number, (about, edit, is_whole)) in EDITS.into_iter().enumerate() {
        let before = whole_trees(&store);
        edit(&tree);
        let image = build(&world, &store);
        let fresh = world.path(&format!("fresh-{number}"));
        assert!(image == build(&world, &fresh), "{about}: another image");
        let new = whole_trees(&store) - before;
        assert_eq!(new > 0, is_whole, "{about}: {new} whole trees");
        // What is needed stays, and is found again.
        must_succeed(world.mybuild(&store).args(["prune", "--force"]));
        assert!(image == build(&world, &store), "{about}: another image after prune");
        world.check_store(&store, about);
        world.check_leftovers(&store, about);
        std::fs::remove_dir_all(fresh).unwrap();
    }
    must_succeed(world.mybuild(&store).args(["prune", "--all", "--force"]));
    assert_eq!(names(&store.join("layers-v1")).len(), 0);
}

#[test]
fn privileged_a_layer_over_a_damaged_one_is_built_anew() {
    let Some(world) = World::with_many_inputs() else { return };
    std::fs::write(world.path("context/Dockerfile"), DOCKERFILE).unwrap();
    let (store, tree) = (world.path("store"), world.path("context/tree"));
    build(&world, &store);
    let damaged = |content: &str| {
        for layer in whole_layers(&store) {
            std::fs::write(layer.join("tree/10"), content).unwrap();
        }
    };
    // It is below the new layer, …
    damaged("damaged below");
    write(&tree, "3", "edited");
    let expected = build(&world, &world.path("fresh"));
    assert!(build(&world, &store) == expected, "another image");
    // … or below one that is there and of which a new step wants something.
    write(&tree, "3", "edited again");
    build(&world, &store);
    damaged("damaged below, again");
    let more = format!(
        "{DOCKERFILE}RUN busybox sh /look /tree > /seen-last; busybox touch -d @0 /seen-last\n"
    );
    std::fs::write(world.path("context/Dockerfile"), more).unwrap();
    let expected = build(&world, &world.path("fresh"));
    assert!(build(&world, &store) == expected, "another image");
}

/// The bytes of the image's archive.
fn build(world: &World, store: &Path) -> Vec<u8> {
    let image = world.path("image.tar");
    must_succeed(&mut world.build(store, &image));
    std::fs::read(image).unwrap()
}

/// The trees of layers that have all of the context's.
fn whole_layers(store: &Path) -> Vec<PathBuf> {
    let layers = store.join("layers-v1");
    let trees = names(&layers).into_iter().map(|layer| layers.join(layer).join("fs"));
    trees.filter(|tree| tree.join("tree/10").exists()).collect()
}

fn whole_trees(store: &Path) -> usize {
    whole_layers(store).len()
}
