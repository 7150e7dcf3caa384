//! After a power cut the store gives right bytes or builds again, never empty files.
//!
//! The store is on a file system of its own that stops writing at a chosen moment; what it had
//! not written by then is lost.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::crash_world::{World, content_of, must_succeed, points, told};
use crate::loop_device::LoopDevice;

/// Size of the file system, in megabytes.
const SIZE: u64 = 192;
/// Files in the trees that are built.
const FILES: usize = 120;

/// What is built before the cut, and what after it.
struct Shape {
    name: &'static str,
    before: &'static str,
    /// Exported to a directory, its files are compared.
    after: &'static str,
    /// Where the first build's result goes, besides the store.
    exports: bool,
}

const SHAPES: [Shape; 4] = [
    Shape {
        name: "only COPY",
        before: "FROM scratch\nCOPY tree /tree\n",
        after: "FROM scratch\nCOPY tree /tree\n",
        exports: false,
    },
    Shape { name: "RUN is last", before: RUN_IS_LAST, after: RUN_IS_LAST, exports: false },
    Shape {
        name: "compressed and exported",
        before: "FROM scratch\nCOPY tree /tree\nWORKDIR /tree/deeper\n",
        after: "FROM scratch\nCOPY tree /tree\nWORKDIR /tree/deeper\n",
        exports: true,
    },
    // The tree of the base is unpacked for the first build and used again by the second.
    Shape {
        name: "a base, of which one file is used",
        before: "FROM scratch\nCOPY --from=base /many/1 /x\n",
        after: "FROM base\n",
        exports: false,
    },
];

const RUN_IS_LAST: &str = "\
FROM base
COPY tree /tree
RUN i=0; while [ $i -lt 120 ]; do echo $i made by a step > /made-$i; i=$((i+1)); done
";

/// Moments of a cut: shares of the time of an undisturbed build; later ones are after its end.
const AFTER_ITS_END: f64 = 2.0;

#[test]
fn privileged_a_power_cut_loses_whole_steps_only() {
    let Some(world) = World::new() else { return };
    let Some(mut device) = LoopDevice::create(SIZE) else { return };
    world.make_base();
    let tree = world.path("context/tree");
    for n in 0..FILES {
        std::fs::write(tree.join(n.to_string()), content_of(n)).unwrap();
    }
    for (number, shape) in SHAPES.iter().enumerate() {
        let duration = undisturbed(&world, &device, shape);
        let inside = points(2, 12);
        let share = |n: usize| (n as f64 + 0.5) / inside as f64;
        let moments = (0..inside).map(share).chain([AFTER_ITS_END]);
        for (cut, share) in moments.enumerate() {
            let root = device.path().join(format!("store-{number}-{cut}"));
            let about = format!("{}, cut at {share:.2}", shape.name);
            cut_during(&world, &device, shape, &root, duration.mul_f64(share));
            device.restart();
            look(&world, shape, &root, &about);
            std::fs::remove_dir_all(root).unwrap();
        }
    }
}

/// How long the first build takes. It must give what it should, cut or not.
fn undisturbed(world: &World, device: &LoopDevice, shape: &Shape) -> Duration {
    let root = device.path().join("calm");
    let started = Instant::now();
    must_succeed(&mut first_build(world, shape, &root));
    let duration = started.elapsed();
    look(world, shape, &root, &format!("{}, undisturbed", shape.name));
    std::fs::remove_dir_all(root).unwrap();
    duration
}

/// Starts the first build and cuts the power so much later, or as it has ended.
fn cut_during(world: &World, device: &LoopDevice, shape: &Shape, root: &Path, moment: Duration) {
    let mut build = first_build(world, shape, root);
    let mut child = build.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while started.elapsed() < moment && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    device.cut_power();
    // A machine without power runs nothing.
    let _ = child.kill();
    child.wait().unwrap();
}

fn first_build(world: &World, shape: &Shape, root: &Path) -> Command {
    let mut command = build(world, shape.before, root);
    if shape.exports {
        let output = root.parent().unwrap().join("image.tar");
        command.arg("-o").arg(format!("type=oci,dest={}", output.display()));
    }
    command.args(["-t", "first"]);
    command
}

fn build(world: &World, dockerfile: &str, root: &Path) -> Command {
    std::fs::write(world.path("Dockerfile"), dockerfile).unwrap();
    let mut command = world.mybuild(root);
    let base = format!("base=oci-layout://{}", world.path("base").display());
    command.args(["--progress", "plain", "--build-context", &base, "-f"]);
    command.arg(world.path("Dockerfile")).arg(world.path("context"));
    command
}

/// Whatever the store holds after the cut is whole, and the second build is right.
fn look(world: &World, shape: &Shape, root: &Path, about: &str) {
    if root.exists() {
        world.check_store(root, about);
    }
    let files = world.path("files");
    let mut command = build(world, shape.after, root);
    let built = must_succeed(command.arg("-o").arg(&files));
    let found = read(&files);
    let expected = expected(shape);
    for (path, content) in &expected {
        let is = found.get(path).map(|found| (found.len(), found == content));
        assert_eq!(is, Some((content.len(), true)), "{about}: {path:?}\n{}", told(&built));
    }
    std::fs::remove_dir_all(&files).unwrap();
    world.check_store(root, about);
    // What the first build gives again must be whole, too.
    let again = must_succeed(&mut first_build(world, shape, root));
    world.check_store(root, &format!("{about}\n{}", told(&again)));
    world.check_leftovers(root, about);
}

/// The files that the second build has to give.
fn expected(shape: &Shape) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    if shape.after.contains("FROM base") {
        files.extend((1..=400).map(|n| (format!("many/{n}").into(), content_of(n))));
    }
    if shape.after.contains("COPY tree") {
        files.extend((0..FILES).map(|n| (format!("tree/{n}").into(), content_of(n))));
    }
    if shape.after.contains("RUN") {
        let made = |n: usize| (format!("made-{n}").into(), format!("{n} made by a step\n").into());
        files.extend((0..120).map(made));
    }
    files
}

/// The regular files below a directory.
fn read(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() {
                let path = entry.path().strip_prefix(directory).unwrap().to_owned();
                files.insert(path, std::fs::read(entry.path()).unwrap());
            }
        }
    }
    files
}
