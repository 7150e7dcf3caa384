//! Several workspaces of one engine in one process, with steps that run.
//!
//! The test has a `main` of its own: the program is also the init of the sandboxes that it starts, and
//! the root of its own user namespace.

#[path = "../it/world.rs"]
mod world;

use std::fs;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use engine::{
    BuildRequest, Destination, Engine, ImageForm, LocalMode, Output, PruneFilter, Reach, Reserve,
    Workspace,
};
use tokio_util::sync::CancellationToken;
use world::World;

const BUSYBOX: &str = "/bin/busybox";
const NAME: &str = "privileged_builds_and_a_prune_in_one_process_do_not_disturb_each_other";

fn main() {
    engine::run_init_if_asked();
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--list") {
        return say(&format!("{NAME}: test"));
    }
    if args.iter().any(|arg| !arg.starts_with('-') && !NAME.contains(arg.as_str())) {
        return;
    }
    engine::enter_user_namespace().expect("a user namespace can be made");
    builds_and_a_prune_do_not_disturb_each_other();
    say(&format!("test {NAME} ... ok"));
}

/// Prints a line; the reader may be gone.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// One whose context has a program.
fn world(name: &str) -> World {
    let world = World::empty();
    fs::copy(BUSYBOX, world.path("context/busybox")).expect("a static busybox is installed");
    fs::write(world.path("context/a"), name).unwrap();
    world
}

const BUILDS: usize = 50;

/// Two build, a third prunes.
fn builds_and_a_prune_do_not_disturb_each_other() {
    let worlds = ["one", "two"].map(world);
    let engine = worlds[0].engine();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let pruner = scope.spawn(|| prune_until(&engine, &is_over));
        let builders: Vec<_> =
            worlds.iter().map(|world| scope.spawn(|| build_often(&engine, world))).collect();
        let ended: Vec<_> = builders.into_iter().map(thread::ScopedJoinHandle::join).collect();
        is_over.store(true, Ordering::Relaxed);
        let rounds = pruner.join().unwrap();
        assert!(ended.iter().all(Result::is_ok), "a builder failed");
        assert!(rounds > 1, "it was pruned {rounds} times");
    });
    assert_store_is_empty(&worlds[0], &engine);
    drop(engine);
    assert_nothing_lives();
}

fn assert_store_is_empty(world: &World, engine: &Engine) {
    let problems = run(engine.workspace(Reserve::Used).unwrap().fsck(true, false)).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    // Nothing has a name and nobody uses anything.
    assert_eq!(prune_until(engine, &AtomicBool::new(true)), 1);
    for folder in ["leases-v1", "tmp-v1", "layers-v1", "blobs/sha256"] {
        let left: Vec<_> = fs::read_dir(world.path("store").join(folder)).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
    let locks = fs::read_dir(world.path("store/locks-v1")).unwrap();
    let mut locks: Vec<_> = locks.map(|entry| entry.unwrap().file_name()).collect();
    locks.sort();
    // Shared ones stay.
    assert_eq!(locks, ["database", "index"]);
}

/// What an engine keeps ready, and the groups of it, go with the engine.
fn assert_nothing_lives() {
    for thread in fs::read_dir("/proc/self/task").unwrap() {
        let children = fs::read_to_string(thread.unwrap().path().join("children"));
        assert_eq!(children.unwrap_or_default(), "");
    }
    let ours = format!("mybuild-{}-", std::process::id());
    for entry in walkdir::WalkDir::new("/sys/fs/cgroup").into_iter().flatten() {
        let name = entry.file_name().to_string_lossy();
        assert!(!name.starts_with(&ours), "left: {}", entry.path().display());
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(work)
}

/// Half of the builds: some on a workspace that stays open, some on one of their own; each of a file that
/// has changed, and of one that has not.
fn build_often(engine: &Engine, world: &World) {
    run(async {
        let kept = engine.workspace(Reserve::Kept).unwrap();
        for number in 0..BUILDS / 2 {
            fs::write(world.path("context/b"), number.to_string()).unwrap();
            if number % 2 == 0 {
                build(&kept, world, number).await;
            } else {
                build(&engine.workspace(Reserve::Kept).unwrap(), world, number).await;
            }
        }
    });
}

async fn build(workspace: &Workspace, world: &World, number: usize) {
    let dockerfile = "FROM scratch AS a; COPY busybox a /; RUN [\"/busybox\", \"cp\", \"/a\", \"/x\"]; \
        FROM scratch; COPY --from=a /x /y; COPY busybox b /; \
        RUN --network=none [\"/busybox\", \"cp\", \"/b\", \"/c\"]";
    let dest = world.path(&format!("out-{number}"));
    let outputs = vec![
        Output::Local { dest: dest.clone(), platform_split: None, mode: LocalMode::Copy },
        Output::Oci {
            dest: Destination::Path(world.path("out.tar")),
            tar: true,
            form: ImageForm::default(),
        },
    ];
    let request = BuildRequest { outputs, ..world.request(dockerfile) };
    let cancel = CancellationToken::new();
    let built = workspace.build(request, world.client(), world.listener(), cancel).await;
    built.unwrap_or_else(|error| panic!("build {number}: {error}: {:?}", world.told()));
    assert_eq!(fs::read_to_string(dest.join("c")).unwrap(), number.to_string());
    assert_eq!(fs::read(dest.join("y")).unwrap(), fs::read(world.path("context/a")).unwrap());
    fs::remove_dir_all(dest).unwrap();
}

/// Removes all it can, again and again until it is over; says how often.
fn prune_until(engine: &Engine, is_over: &AtomicBool) -> usize {
    for rounds in 1.. {
        let filter = PruneFilter { reach: Reach::All, ..PruneFilter::default() };
        let workspace = engine.workspace(Reserve::Used).unwrap();
        run(workspace.prune(filter)).unwrap();
        if is_over.load(Ordering::Relaxed) {
            return rounds;
        }
    }
    unreachable!("it ends some day")
}
