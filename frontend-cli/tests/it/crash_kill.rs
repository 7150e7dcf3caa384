//! A build killed at any point leaves a store that opens, is whole, and builds the same image;
//! and leaves nothing running or mounted.

use std::collections::BTreeMap;
use std::fs::DirEntry;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::crash_circumstances::Circumstances;
use crate::crash_trace::Trace;
use crate::crash_world::{
    World, has_strace, must_succeed, names, points, run_by, told, under_warden, warden,
};

/// Calls that make things durable or visible, and calls that make or remove them.
const NAMING: [&str; 6] = ["rename", "renameat", "renameat2", "fsync", "fdatasync", "syncfs"];
const MAKING: [&str; 7] =
    ["linkat", "unlink", "unlinkat", "mkdir", "mkdirat", "pwrite64", "ftruncate"];
/// Builds at the same time.
const LANES: usize = 2;

/// Where a build is killed.
#[derive(Debug, Clone, Copy)]
enum Point {
    /// This long after its start.
    After(Duration),
    /// When a thread makes this call for the nth time.
    Call(&'static str, usize),
}

/// What an undisturbed build gives.
struct Undisturbed {
    /// The context that was built in the store before; without one, it is new. A copy of a store would
    /// not do: it has other inodes.
    before: Option<&'static str>,
    image: Vec<u8>,
    layers: usize,
    duration: Duration,
}

#[test]
fn privileged_a_build_killed_at_any_time_does_no_harm() {
    const NAME: &str = "crash_kill::privileged_a_build_killed_at_any_time_does_no_harm";
    if warden() {
        return;
    }
    let Some(world) = World::with_inputs() else { return };
    let expected = undisturbed(&world);
    let count = points(20, 120);
    let point = |n: usize| Point::After(expected.duration.mul_f64(n as f64 / count as f64));
    sweep(&world, NAME, &expected, (0..count).map(point).collect());
}

#[test]
fn privileged_a_build_after_an_edit_killed_at_any_time_does_no_harm() {
    const NAME: &str =
        "crash_kill::privileged_a_build_after_an_edit_killed_at_any_time_does_no_harm";
    if warden() {
        return;
    }
    let Some(world) = World::with_many_inputs() else { return };
    let before = world.path("store-before");
    must_succeed(&mut world.build(&before, &world.path("image-before")));
    let copied = [world.path("context"), world.path("context-before")];
    must_succeed(Command::new("cp").arg("-a").args(copied));
    std::fs::write(world.path("context/tree/7"), "edited\n").unwrap();
    let mut expected = undisturbed(&world);
    expected.layers += names(&before.join("layers-v1")).len();
    expected.before = Some("context-before");
    let count = points(12, 80);
    let point = |n: usize| Point::After(expected.duration.mul_f64(n as f64 / count as f64));
    sweep(&world, NAME, &expected, (0..count).map(point).collect());
}

#[test]
fn privileged_a_build_killed_at_any_call_does_no_harm() {
    const NAME: &str = "crash_kill::privileged_a_build_killed_at_any_call_does_no_harm";
    if warden() {
        return;
    }
    if !has_strace() {
        return;
    }
    let Some(world) = World::with_inputs() else { return };
    let expected = undisturbed(&world);
    let counts = calls(&world);
    let mut chosen = spread(&counts, &NAMING, points(15, 80));
    chosen.extend(spread(&counts, &MAKING, points(5, 80)));
    assert!(chosen.len() >= 20, "{counts:?}");
    sweep(&world, NAME, &expected, chosen);
}

/// At most `count` points among all calls of these names.
fn spread(counts: &BTreeMap<String, usize>, names: &[&'static str], count: usize) -> Vec<Point> {
    let all: Vec<Point> = names
        .iter()
        .flat_map(|name| {
            (1..=counts.get(*name).copied().unwrap_or(0)).map(|n| Point::Call(name, n))
        })
        .collect();
    let count = count.min(all.len());
    (0..count).map(|n| all[n * all.len() / count]).collect()
}

/// How often a thread of an undisturbed build makes each call, at most.
fn calls(world: &World) -> BTreeMap<String, usize> {
    let root = world.path("store-calls");
    let names = [&NAMING[..], &MAKING].concat().join(",");
    let build = world.build(&root, &world.path("image-calls"));
    let trace = Trace::record(&build, &names, &world.path("trace"));
    let mut counts = BTreeMap::<(u32, String), usize>::new();
    let place = root.to_str().unwrap();
    for call in trace.calls.iter().filter(|call| call.text.contains(place)) {
        *counts.entry((call.thread, call.name.clone())).or_default() += 1;
    }
    let mut most = BTreeMap::new();
    for ((_, name), count) in counts {
        let entry = most.entry(name).or_default();
        *entry = count.max(*entry);
    }
    most
}

fn undisturbed(world: &World) -> Undisturbed {
    let (root, image) = (world.path("store-calm"), world.path("image-calm"));
    let started = Instant::now();
    must_succeed(&mut world.build(&root, &image));
    let duration = started.elapsed();
    world.check_leftovers(&root, "undisturbed");
    world.check_store(&root, "undisturbed");
    let layers = names(&root.join("layers-v1")).len();
    Undisturbed { before: None, image: std::fs::read(image).unwrap(), layers, duration }
}

fn sweep(world: &World, name: &str, expected: &Undisturbed, points: Vec<Point>) {
    let points = Mutex::new(points.into_iter().enumerate());
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                loop {
                    let Some((number, point)) = points.lock().unwrap().next() else { return };
                    kill_and_look(world, name, expected, number, point);
                }
            });
        }
    });
    world.check_mounts("at the end");
    check_cgroups(world);
}

fn kill_and_look(world: &World, name: &str, expected: &Undisturbed, number: usize, point: Point) {
    let root = &world.path(&format!("store-{number}"));
    let image = &world.path(&format!("image-{number}"));
    let circumstances = Circumstances::of(number);
    let about = format!("{point:?}, {circumstances:?}");
    if let Some(before) = expected.before {
        must_succeed(&mut circumstances.start(&world.build_in(before, root, image)));
    }
    let build = circumstances.start(&world.build(root, image));
    let killed =
        circumstances.in_company(world, root, &expected.image, || kill(name, &build, point));
    assert!(killed.status.success(), "{about}: {}", told(&killed));
    // Opening is what clears up; the store must be whole before anything is built in it.
    world.check_store(root, &about);
    must_succeed(&mut world.build(root, image));
    let rebuilt = std::fs::read(image).unwrap();
    assert!(rebuilt == expected.image, "{about}: the image is another one");
    world.check_store(root, &about);
    world.check_leftovers(root, &about);
    // What one builder has made while a prune took the other's record of it is replaced.
    must_succeed(world.mybuild(root).args(["prune", "-f"]));
    let layers = names(&root.join("layers-v1")).len();
    assert!(layers <= expected.layers, "{about}: {layers} layers, not {}", expected.layers);
    std::fs::remove_dir_all(root).unwrap();
}

fn kill(name: &str, build: &Command, point: Point) -> Output {
    match point {
        Point::After(after) => under_warden(name, build, Some(after)),
        Point::Call(call, n) => under_warden(name, &killed_at(build, call, n), None),
    }
}

/// The same command, killed when a thread makes this call for the nth time.
fn killed_at(build: &Command, call: &str, n: usize) -> Command {
    let inject = format!("inject={call}:signal=KILL:when={n}");
    let trace = format!("trace={call}");
    let words = ["-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    run_by("strace", &words, build)
}

/// That control groups of processes that are gone go with the next start.
fn check_cgroups(world: &World) {
    let before = orphaned_groups();
    let build = &mut world.build(&world.path("store-calm"), &world.path("image-calm"));
    must_succeed(build.arg("--no-cache"));
    let left: Vec<PathBuf> = before.into_iter().filter(|group| group.exists()).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

/// Groups called `mybuild-PID-START-N` of processes that are gone.
fn orphaned_groups() -> Vec<PathBuf> {
    let mut orphaned = Vec::new();
    let mut directories = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = std::fs::read_dir(directory) else { continue };
        let is_directory = |entry: &DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        for entry in entries.flatten().filter(is_directory) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let numbers: Vec<&str> =
                name.strip_prefix("mybuild-").map_or(Vec::new(), |rest| rest.split('-').collect());
            match numbers[..] {
                [pid, start, n]
                    if [pid, start, n].iter().all(|number| number.parse::<u64>().is_ok()) =>
                {
                    if !Path::new("/proc").join(pid).exists() {
                        orphaned.push(entry.path());
                    }
                }
                _ => directories.push(entry.path()),
            }
        }
    }
    orphaned
}
