//! A store that cannot take one byte or one file more: what makes room in it works, and so does what
//! only looks.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::crash_world::{World, must_succeed, run, told};
use crate::loop_device::{LoopDevice, fill_up};

/// Size of the file systems, in megabytes, and files that they may have.
const SIZE: u64 = 64;
const INODES: u64 = 3000;

const DOCKERFILE: &str = "FROM scratch\nCOPY . /\nRUN [\"/busybox\", \"dd\", \"if=/dev/zero\", \
    \"of=/large\", \"bs=1M\", \"count=4\"]\n";

/// What there is none left of.
#[derive(Debug, Clone, Copy)]
enum Full {
    Bytes,
    Inodes,
}

impl Full {
    fn fill(self, directory: &Path) {
        let filler = directory.join("filler-files");
        std::fs::create_dir_all(&filler).unwrap();
        match self {
            Self::Bytes => fill_up(directory),
            Self::Inodes => {
                let mut numbers = 0..;
                while File::create(filler.join(numbers.next().unwrap().to_string())).is_ok() {}
            }
        }
        let more = directory.join("more");
        assert!(std::fs::write(&more, [1; 5000]).is_err(), "{self:?}");
        let _ = std::fs::remove_file(more);
    }

    /// Takes away what filled it; the store is still as full as it was itself.
    fn empty(directory: &Path) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name == "filler-files" {
                std::fs::remove_dir_all(path).unwrap();
            } else if name.starts_with("filler") {
                std::fs::remove_file(path).unwrap();
            }
        }
    }
}

/// A file system in memory.
struct Memory(tempfile::TempDir);

impl Memory {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let options = format!("size={SIZE}m,nr_inodes={INODES}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(directory.path());
        mount.status().is_ok_and(|status| status.success()).then_some(Self(directory))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

fn build(world: &World, root: &Path, words: &[&str]) -> Output {
    run(world.mybuild(root).args(["--progress", "plain", "-t", "app"]).args(words).arg("input"))
}

/// What has no room says how to make some, and how much there is.
fn check_hint(failed: &Output, code: i32, about: &str) {
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert_eq!(failed.status.code(), Some(code), "{about}: {said}");
    let hint = said.lines().find(|line| line.starts_with("hint: ")).unwrap_or(&said);
    assert!(hint.contains("`mybuild prune`"), "{about}: {hint}");
    assert!(hint.contains(" MB") && hint.contains(" inodes"), "{about}: {hint}");
}

/// Everything that must work in a full store, in a store that is full twice.
fn check(world: &World, place: &Path, full: Full) {
    let about = format!("{full:?} in {}", place.display());
    let root = place.join("store");
    let ran = |words: &[&str]| {
        let output = run(world.mybuild(&root).args(words));
        assert!(output.status.success(), "{about}: {words:?}: {}", told(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    for round in 0..2 {
        let built = build(world, &root, &[]);
        assert!(built.status.success(), "{about}: {}", told(&built));
        full.fill(place);
        for _ in 0..2 {
            assert!(ran(&["images"]).contains("app"), "{about}");
            ran(&["du"]);
            assert_eq!(ran(&["fsck"]), "the store is whole\n", "{about}");
        }
        // A build may not take the room that the others need. What it frees is bytes.
        let tries = if matches!(full, Full::Inodes) { 3 } else { 0 };
        for _ in 0..tries {
            let container = run(world.mybuild(&root).args(["run", "app", "/busybox", "true"]));
            check_hint(&container, 125, &about);
            check_hint(&build(world, &root, &["--no-cache"]), 1, &about);
        }
        ran(&["rmi", "app"]);
        ran(&["prune", "--all", "--force"]);
        assert!(!ran(&["images"]).contains("app"), "{about}");
        let layers = std::fs::read_dir(root.join("layers-v1")).unwrap().count();
        assert_eq!(layers, 0, "{about}, round {round}");
        Full::empty(place);
    }
}

fn world() -> Option<World> {
    let world = World::new()?;
    let input = world.path("input");
    std::fs::create_dir(&input).unwrap();
    std::fs::copy("/bin/busybox", input.join("busybox")).unwrap();
    for n in 0..50 {
        std::fs::write(input.join(format!("{n}")), "small\n").unwrap();
    }
    std::fs::write(input.join("Dockerfile"), DOCKERFILE).unwrap();
    Some(world)
}

#[test]
fn privileged_room_is_made_in_a_full_store_on_a_disk() {
    let Some(world) = world() else { return };
    for full in [Full::Bytes, Full::Inodes] {
        let Some(device) = LoopDevice::with_inodes(SIZE, INODES) else { return };
        check(&world, &device.path(), full);
    }
}

#[test]
fn privileged_room_is_made_in_a_full_store_in_memory() {
    let Some(world) = world() else { return };
    for full in [Full::Bytes, Full::Inodes] {
        let Some(memory) = Memory::mount() else { return };
        let place: PathBuf = memory.0.path().to_owned();
        check(&world, &place, full);
    }
}

/// Without what was set aside, what can be made again goes.
#[test]
fn privileged_a_full_store_without_a_reserve_starts_all_the_same() {
    let Some(world) = world() else { return };
    let Some(device) = LoopDevice::with_inodes(SIZE, INODES) else { return };
    let root = device.path().join("store");
    must_succeed(world.mybuild(&root).args(["-t", "app", "input"]));
    std::fs::remove_dir_all(root.join("ballast-v2")).unwrap();
    Full::Inodes.fill(&device.path());
    must_succeed(world.mybuild(&root).arg("images"));
    must_succeed(world.mybuild(&root).args(["prune", "--all", "--force"]));
}
