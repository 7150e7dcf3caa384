//! Somebody has changed files of the store behind its back: what comes out is right all the same.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::crash_world::{World, must_succeed, run, told};

/// A base that is unpacked, a stage that no image has, a step and a copy that one has.
const DOCKERFILE: &str = "\
FROM base AS tools
RUN echo from a stage > /tool
FROM base
RUN echo from a step > /step && busybox rm /many/7
COPY tree /tree
COPY --from=tools /tool /tool
RUN busybox cat /step /tool /tree/1 /tree/3 /many/1 /many/8 > /all
";
/// What the image says when it is run.
const SHOW: &str = "run app busybox cat /all /step /tool /tree/3 /many/8";

struct Damaged {
    world: World,
    root: PathBuf,
    /// What it is when nothing is wrong.
    image: Vec<u8>,
    shown: Vec<u8>,
}

impl Damaged {
    fn new() -> Option<Self> {
        let world = World::new()?;
        world.make_base();
        for n in 0..20 {
            std::fs::write(world.path(&format!("context/tree/{n}")), format!("file {n}\n"))
                .unwrap();
        }
        std::fs::write(world.path("context/Dockerfile"), DOCKERFILE).unwrap();
        let root = world.path("store");
        let mut damaged = Self { world, root, image: Vec::new(), shown: Vec::new() };
        for built in [damaged.build(), damaged.build_with(&["-t", "app"])] {
            assert!(built.status.success(), "{}", told(&built));
        }
        damaged.image = std::fs::read(damaged.world.path("image")).unwrap();
        let shown = damaged.show();
        assert!(shown.status.success(), "{}", told(&shown));
        damaged.shown = shown.stdout;
        Some(damaged)
    }

    fn build_with(&self, words: &[&str]) -> Output {
        let base = format!("base=oci-layout://{}", self.world.path("base").display());
        let mut command = self.world.mybuild(&self.root);
        command.args(["--progress", "plain", "--build-context", &base]).args(words);
        run(command.arg("context"))
    }

    fn build(&self) -> Output {
        let image = format!("type=oci,dest={}", self.world.path("image").display());
        self.build_with(&["-o", &image])
    }

    fn files(&self) -> Output {
        let files = self.world.path("files");
        let _ = std::fs::remove_dir_all(&files);
        self.build_with(&["-o", files.to_str().unwrap()])
    }

    fn show(&self) -> Output {
        run(self.world.mybuild(&self.root).args(SHOW.split(' ')))
    }

    fn fsck(&self, words: &[&str]) -> Output {
        run(self.world.mybuild(&self.root).arg("fsck").args(words))
    }

    /// The file `name` in each tree that has it: there is a layer as it was made, and one with the
    /// times of the epoch.
    fn each_in_tree(&self, name: &str) -> Vec<PathBuf> {
        let layers = std::fs::read_dir(self.root.join("layers-v1")).unwrap();
        let paths = layers.map(|layer| layer.unwrap().path().join("fs").join(name));
        let found: Vec<PathBuf> = paths.filter(|path| path.is_file()).collect();
        assert!(!found.is_empty(), "no tree has {name}");
        found
    }
}

/// Flips a bit, leaving size and modification time as they were.
fn flip(path: &Path) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 0).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 0).unwrap();
    file.set_modified(modified).unwrap();
}

/// Something that is done to a file of a layer's tree.
struct Damage {
    name: &'static str,
    file: &'static str,
    change: fn(&Path),
}

/// What a run of the image and an output of files must know nothing of.
const DAMAGES: [Damage; 7] = [
    Damage { name: "a flip in a step's file", file: "step", change: flip },
    Damage { name: "a flip in a copied file", file: "tree/3", change: flip },
    Damage { name: "a flip in the base", file: "many/8", change: flip },
    Damage {
        name: "a file rewritten",
        file: "many/8",
        change: |path| std::fs::write(path, "other").unwrap(),
    },
    Damage {
        name: "a file removed",
        file: "all",
        change: |path| std::fs::remove_file(path).unwrap(),
    },
    Damage {
        name: "a file replaced by a link",
        file: "step",
        change: |path| {
            std::fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/all", path).unwrap();
        },
    },
    Damage {
        name: "a layer that hides those below",
        file: "step",
        change: |path| {
            let fs = path.parent().unwrap();
            std::fs::write(fs.with_file_name("opaque"), "").unwrap();
        },
    },
];

#[test]
fn privileged_an_image_with_a_damaged_tree_runs_as_it_should() {
    let Some(damaged) = Damaged::new() else { return };
    for Damage { name: about, file, change } in DAMAGES {
        damaged.each_in_tree(file).iter().for_each(|path| change(path));
        let shown = damaged.show();
        assert!(shown.status.success(), "{about}: {}", told(&shown));
        assert!(shown.stdout == damaged.shown, "{about}: {}", told(&shown));
        let said = String::from_utf8_lossy(&shown.stderr);
        assert!(said.contains("were changed, making them again"), "{about}: {said}");
        let again = damaged.show();
        let said = String::from_utf8_lossy(&again.stderr);
        assert!(!said.contains("changed"), "{about}: it is mended: {said}");
        // What was not run is mended by others.
        damaged.fsck(&["--repair"]);
        damaged.world.check_store(&damaged.root, about);
    }
}

#[test]
fn privileged_a_build_on_damaged_trees_gives_what_it_should() {
    let Some(damaged) = Damaged::new() else { return };
    let files = |damaged: &Damaged| {
        let built = damaged.files();
        assert!(built.status.success(), "{}", told(&built));
        let sum = "find . -type f | sort | xargs cat | sha256sum; find . | sort";
        let mut listed = Command::new("sh");
        listed.args(["-c", sum]).current_dir(damaged.world.path("files"));
        (must_succeed(&mut listed).stdout, String::from_utf8_lossy(&built.stderr).into_owned())
    };
    let (expected, _) = files(&damaged);
    for Damage { name: about, file, change } in DAMAGES {
        damaged.each_in_tree(file).iter().for_each(|path| change(path));
        let (found, said) = files(&damaged);
        assert!(found == expected, "{about}: {said}");
        assert!(said.contains("were changed, making them again"), "{about}: {said}");
        let built = damaged.build();
        assert!(built.status.success(), "{about}: {}", told(&built));
        let image = std::fs::read(damaged.world.path("image")).unwrap();
        assert!(image == damaged.image, "{about}: the image is another one");
    }
}

/// Whatever an image is made of: its documents, layers as they came and as they were compressed.
#[test]
fn privileged_an_archive_is_written_from_whole_blobs() {
    let Some(damaged) = Damaged::new() else { return };
    let blobs = damaged.root.join("blobs/sha256");
    let names = || std::fs::read_dir(&blobs).unwrap().map(|blob| blob.unwrap().path());
    let all: Vec<PathBuf> = names().collect();
    for blob in all.iter().filter(|blob| blob.is_file()) {
        flip(blob);
        let built = damaged.build();
        assert!(built.status.success(), "{}: {}", blob.display(), told(&built));
        let image = std::fs::read(damaged.world.path("image")).unwrap();
        assert!(
            image == damaged.image,
            "after a flip in {} the image is another one",
            blob.display()
        );
    }
}

#[test]
fn privileged_a_check_finds_every_damaged_tree() {
    for words in [&[][..], &["--full"]] {
        let Some(damaged) = Damaged::new() else { return };
        let whole = damaged.fsck(words);
        assert_eq!(whole.stdout, b"the store is whole\n", "{words:?}: {}", told(&whole));
        // Each is in a layer of its own, the last one in a stage that is in no image.
        for (number, name) in ["step", "tree/3", "many/8", "all", "tool"].into_iter().enumerate() {
            damaged.each_in_tree(name).iter().for_each(|path| flip(path));
            let found = damaged.fsck(words);
            assert_eq!(found.status.code(), Some(1), "{name}: {}", told(&found));
            let said = String::from_utf8_lossy(&found.stdout).into_owned();
            let layers = said.lines().filter(|line| line.starts_with("layer-content: layer "));
            assert!(layers.count() > number, "{name}: {said}");
        }
        damaged.fsck(&[words, &["--repair"]].concat());
        let whole = damaged.fsck(&["--full"]);
        assert_eq!(whole.stdout, b"the store is whole\n", "{words:?}: {}", told(&whole));
        let built = damaged.build();
        assert!(built.status.success(), "{words:?}: {}", told(&built));
        assert!(std::fs::read(damaged.world.path("image")).unwrap() == damaged.image);
    }
}

/// A copy has other inodes and times. Its trees are held against their digests, or made again.
#[test]
fn privileged_a_copied_store_builds_the_same() {
    let Some(mut damaged) = Damaged::new() else { return };
    let copy = damaged.world.path("copy");
    must_succeed(Command::new("cp").arg("-a").arg(&damaged.root).arg(&copy));
    damaged.root = copy;
    damaged.each_in_tree("step").iter().for_each(|path| flip(path));
    let shown = damaged.show();
    assert!(shown.stdout == damaged.shown, "{}", told(&shown));
    let built = damaged.build();
    assert!(built.status.success(), "{}", told(&built));
    assert!(std::fs::read(damaged.world.path("image")).unwrap() == damaged.image);
    damaged.fsck(&["--full", "--repair"]);
    damaged.world.check_store(&damaged.root, "a copy");
}
