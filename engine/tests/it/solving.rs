//! Definitions written by hand, and several workspaces of one engine in one process.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use engine::{
    BuildError, BuildRequest, Compression, Destination, Engine, Limits, Output, PruneFilter,
    PullPolicy, Reach, Reserve, SolveRequest, Solved, Workspace,
};
use llb::{
    CopyOp, Definition, FileAction, FileActionKind, FileInput, FileOp, Input, LocalSource,
    Metadata, Op, SourceOp,
};
use tokio_util::sync::CancellationToken;

use crate::building::World;
use crate::files::plain_copy;

/// The context called `name`, copied over nothing.
fn copied(name: &str) -> SolveRequest {
    let mut definition = Definition::default();
    let metadata = |name: &str| Metadata { name: name.to_owned(), ..Metadata::default() };
    let local = LocalSource { name: name.to_owned(), exclude_patterns: vec!["no".to_owned()] };
    let local = Op::Source(SourceOp::Local(local));
    let context = definition.add(local, &[], metadata("files")).unwrap();
    let copy = CopyOp { src: "/".to_owned(), dest: "/".to_owned(), ..plain_copy() };
    let copy = FileAction {
        input: FileInput::Scratch,
        secondary: Some(FileInput::Input(0)),
        output: Some(0),
        kind: FileActionKind::Copy(copy),
    };
    let inputs = [Input { vertex: context, output: 0 }];
    let copy = Op::File(FileOp { actions: vec![copy] });
    let copied = definition.add(copy, &inputs, metadata("copy")).unwrap();
    SolveRequest {
        definition,
        targets: vec![Input { vertex: copied, output: 0 }],
        pull: PullPolicy::Never,
        offline: false,
        limits: Limits::default(),
        step_disk: None,
        jobs: None,
    }
}

async fn solve(world: &World, request: SolveRequest) -> Result<Solved, BuildError> {
    let cancel = CancellationToken::new();
    world.workspace().solve(request, world.client(), world.listener(), cancel).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_needs_no_dockerfile() {
    let world = World::new("a=1; d/b=2; no=3");
    let solved = solve(&world, copied("context")).await.unwrap();
    let [layers] = solved.targets.as_slice() else { panic!("one target: {solved:?}") };
    let [layer] = layers.as_slice() else { panic!("one layer: {solved:?}") };
    let (algorithm, hex) = (layer.blob.digest.algorithm(), layer.blob.digest.hex());
    let blob = fs::File::open(world.path(&format!("store/blobs/{algorithm}/{hex}"))).unwrap();
    let mut archive = tar::Archive::new(blob);
    let names = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned());
    let names: Vec<_> = names.filter(|name| name.as_os_str() != "./").collect();
    assert_eq!(names, [Path::new("a"), Path::new("d/"), Path::new("d/b")]);
    // Again, it is known.
    let again = solve(&world, copied("context")).await.unwrap();
    assert_eq!(again.targets, solved.targets);
    assert!(!world.told().iter().any(|line| line == "2 runs"), "{:?}", world.told());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_client_does_not_have_is_an_error_that_names_it() {
    let world = World::new("a=1");
    let error = solve(&world, copied("other")).await.unwrap_err();
    assert_eq!(error.to_string(), "no local context is called `other`");
}

const BUILDS: usize = 50;

#[test]
fn builds_and_a_prune_in_one_process_do_not_disturb_each_other() {
    let worlds = ["one", "two"].map(|name| World::new(&format!("a={name}; b=1")));
    let engine = Arc::new(worlds[0].engine());
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
    assert_nothing_left(&worlds[0], &engine);
}

fn assert_nothing_left(world: &World, engine: &Engine) {
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
    for thread in fs::read_dir("/proc/self/task").unwrap() {
        let children = fs::read_to_string(thread.unwrap().path().join("children"));
        assert_eq!(children.unwrap_or_default(), "");
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
    let dockerfile = "FROM scratch AS a; COPY a /x; FROM scratch; COPY --from=a /x /y; COPY b /";
    let dest = world.path(&format!("out-{number}"));
    let outputs = vec![
        Output::Local { dest: dest.clone(), platform_split: None },
        Output::Oci {
            dest: Destination::Path(world.path("out.tar")),
            tar: true,
            compression: Compression::default(),
        },
    ];
    let request = BuildRequest { outputs, ..world.request(dockerfile) };
    let cancel = CancellationToken::new();
    let built = workspace.build(request, world.client(), world.listener(), cancel).await;
    built.unwrap_or_else(|error| panic!("build {number}: {error}: {:?}", world.told()));
    assert_eq!(fs::read_to_string(dest.join("b")).unwrap(), number.to_string());
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
