//! What a build may cost, counted in system calls, bytes and processes rather than by a clock.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::crash_trace::{Call, Trace};
use crate::crash_world::{World, has_strace, must_succeed};

const OPENS: [&str; 3] = ["open", "openat", "openat2"];
const READS: [&str; 7] =
    ["read", "pread64", "readv", "preadv", "copy_file_range", "sendfile", "splice"];
const WRITES: [&str; 7] =
    ["write", "pwrite64", "writev", "pwritev", "copy_file_range", "sendfile", "splice"];
const SYNCS: [&str; 4] = ["syncfs", "fsync", "fdatasync", "msync"];
const FORKS: [&str; 4] = ["fork", "vfork", "clone", "clone3"];

/// A world, if its builds can be watched.
fn world() -> Option<World> {
    if has_strace() { World::new() } else { None }
}

/// The `-q` build of the context in the store, as `app`.
fn build(world: &World, dockerfile: &str) -> Command {
    std::fs::write(world.path("Dockerfile"), dockerfile).unwrap();
    let mut command = world.mybuild(&world.path("store"));
    // With it, layers whose files are younger are written a second time.
    command.env_remove("SOURCE_DATE_EPOCH");
    command.args(["-q", "-t", "app", "--network", "none", "-f"]);
    command.arg(world.path("Dockerfile")).arg(world.path("context"));
    command
}

fn record(world: &World, build: &Command) -> Trace {
    Trace::record(build, "%file,%desc,%process", &world.path("trace"))
}

/// Calls with a path or descriptor at or below `directory`.
fn below<'a>(trace: &'a Trace, directory: &Path) -> impl Iterator<Item = &'a Call> + use<'a> {
    let directory = directory.to_str().unwrap().to_owned();
    trace.calls.iter().filter(move |call| call.text.contains(&directory))
}

/// 2,000 files in 40 directories.
fn plant_many(context: &Path) -> usize {
    for n in 0..2000 {
        let directory = context.join(format!("d{}", n / 50));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(format!("f{n}")), format!("file {n}\n")).unwrap();
    }
    2000
}

#[test]
fn privileged_an_unchanged_context_costs_a_stat_a_file() {
    let Some(world) = world() else { return };
    let context = world.path("context");
    let files = plant_many(&context);
    let build = build(&world, "FROM scratch\nCOPY . /app\n");
    // Files that were written a moment ago are not trusted; by the second build they are old.
    must_succeed(&mut self::build(&world, "FROM scratch\nCOPY . /app\n"));
    age(&context);
    must_succeed(&mut self::build(&world, "FROM scratch\nCOPY . /app\n"));
    let trace = record(&world, &build);
    let opened: Vec<String> = below(&trace, &context)
        .filter(|call| OPENS.contains(&call.name.as_str()))
        .flat_map(Call::paths)
        .filter(|path| Path::new(path).is_file())
        .collect();
    assert_eq!(opened, Vec::<String>::new());
    let calls = below(&trace, &context).count();
    assert!(calls >= files, "{calls} calls: the files were not looked at");
    assert!(calls * 2 <= files * 3, "{calls} calls for {files} files");
}

#[test]
fn privileged_an_edit_opens_no_file_that_did_not_change() {
    const SIZE: usize = 4096;
    let Some(world) = world() else { return };
    let (context, store) = (world.path("context"), world.path("store"));
    let files = plant_many(&context);
    for n in 0..files {
        std::fs::write(context.join(format!("d{}/f{n}", n / 50)), vec![n as u8; SIZE]).unwrap();
    }
    std::fs::copy("/bin/busybox", context.join("busybox")).unwrap();
    let build = || build(&world, "FROM scratch\nCOPY . /app\nRUN [\"/app/busybox\", \"true\"]\n");
    age(&context);
    must_succeed(&mut build());
    std::fs::write(context.join("d7/f350"), "edited\n").unwrap();
    age(&context);
    let trace = record(&world, &build());
    let opened = |directory: &Path| -> BTreeSet<String> {
        below(&trace, directory)
            .filter(|call| OPENS.contains(&call.name.as_str()) && call.succeeded())
            .flat_map(Call::paths)
            .filter(|path| {
                let name = Path::new(path).file_name().and_then(|name| name.to_str());
                name.is_some_and(|name| name.starts_with('f')) && Path::new(path).is_file()
            })
            .collect()
    };
    let edited = context.join("d7/f350").display().to_string();
    assert_eq!(opened(&context), BTreeSet::from([edited]));
    // What did not change stays where it is.
    let made = below(&trace, &store.join("layers-v1"))
        .filter(|call| ["mkdir", "mkdirat", "linkat", "openat"].contains(&call.name.as_str()))
        .filter(|call| call.name != "openat" || call.text.contains("O_CREAT"));
    let made = made.count();
    assert!(made < 20, "{made} files and directories of layers made for one edit");
    let in_layers = opened(&store.join("layers-v1"));
    assert!(in_layers.iter().all(|path| path.ends_with("/f350")), "{in_layers:?}");
    // The tar, which has a header for each file.
    let content = (files * (SIZE + 512)) as u64 + context.join("busybox").metadata().unwrap().len();
    let writes = below(&trace, &store).filter(|call| WRITES.contains(&call.name.as_str()));
    let written: u64 = writes.filter_map(|call| u64::try_from(call.result?).ok()).sum();
    assert!((content..content + content / 10).contains(&written), "{written} of {content}");
}

#[test]
fn privileged_a_build_that_changes_nothing_writes_nothing() {
    let Some(world) = world() else { return };
    world.make_base();
    std::fs::write(world.path("context/file"), "content\n").unwrap();
    let build = || {
        let dockerfile = "FROM base\nCOPY file /file\nRUN busybox true\nWORKDIR /deep\n";
        let mut command = build(&world, dockerfile);
        let base = format!("base=oci-layout://{}", world.path("base").display());
        command.args(["--build-context", &base]);
        command
    };
    must_succeed(&mut build());
    age(&world.path("context"));
    must_succeed(&mut build());
    let trace = record(&world, &build());
    let store = world.path("store");
    let told = |calls: Vec<&Call>| calls.iter().map(|c| format!("{c:?}")).collect::<Vec<_>>();
    assert_eq!(told(trace.of(&SYNCS).collect()), [""; 0]);
    // SQLite makes its shared memory again for the first process that comes; that is no data.
    let is_data = |call: &&Call| call.descriptor().is_none_or(|path| !path.ends_with("-shm"));
    let writes = below(&trace, &store).filter(|call| WRITES.contains(&call.name.as_str()));
    assert_eq!(told(writes.filter(is_data).collect()), [""; 0]);
    let layers = below(&trace, &store.join("layers-v1"));
    assert_eq!(told(layers.filter(|call| OPENS.contains(&call.name.as_str())).collect()), [""; 0]);
    assert_eq!(processes(&trace), 0);
    // The one that hears signals, the one that reads the context, and another where that one has not
    // come to rest in time.
    let threads = trace.of(&FORKS).filter(|call| call.succeeded()).count();
    assert!(threads <= 3, "{threads} threads");
    // Nothing is looked for that only a step needs.
    let tried = below(&trace, Path::new("/dev/net")).chain(trace.calls.iter().filter(is_limit));
    assert_eq!(told(tried.collect()), [""; 0]);
    let renames = ["rename", "renameat", "renameat2"];
    assert_eq!(told(trace.of(&renames).collect()), [""; 0]);
}

#[test]
fn privileged_each_byte_of_a_copied_file_is_hashed_once_and_copied_once() {
    const SIZE: usize = 64 << 10;
    const FILES: usize = 100;
    let Some(world) = world() else { return };
    let context = world.path("context");
    for n in 0..FILES {
        std::fs::write(context.join(format!("f{n}")), vec![n as u8; SIZE]).unwrap();
    }
    age(&context);
    let content = (SIZE * FILES) as u64;
    // Headers, records and the index of the context come on top.
    let about = |times: u64| times * content..times * content + content / 10;
    let check = |dockerfile: &str, reads: u64| {
        let trace = record(&world, &build(&world, dockerfile));
        let bytes = |calls: &[&str], directory: &Path| {
            let calls = below(&trace, directory).filter(|call| calls.contains(&call.name.as_str()));
            calls.filter_map(|call| u64::try_from(call.result?).ok()).sum::<u64>()
        };
        let mapped = below(&trace, &context).filter(|call| call.name == "mmap").count();
        assert_eq!(mapped, 0, "bytes are read unseen");
        let (read, written) = (bytes(&READS, &context), bytes(&WRITES, &world.path("store")));
        assert!(about(reads).contains(&read), "{dockerfile}{read} bytes read of {content}");
        assert!(about(1).contains(&written), "{dockerfile}{written} bytes written of {content}");
    };
    // Once for the key, and once to be copied; known files have their digests in the index.
    check("FROM scratch\nCOPY f* /app/\n", 2);
    check("FROM scratch\nCOPY f* /elsewhere/\n", 1);
}

/// The kernel copies them from the store.
#[test]
fn privileged_layers_go_into_an_archive_unread() {
    const SIZE: usize = 4 << 20;
    let Some(world) = world() else { return };
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    });
    std::fs::write(world.path("context/file"), noise.take(SIZE).collect::<Vec<_>>()).unwrap();
    let mut build = build(&world, "FROM scratch\nCOPY file /\n");
    build.arg("--output").arg(format!("type=oci,dest={}", world.path("image.tar").display()));
    let trace = record(&world, &build);
    // Until it is whole, an archive has no name; the kernel shows a number.
    let into_archive = |copied: bool| {
        let calls = below(&trace, &world.path("#")).filter(|call| {
            WRITES.contains(&call.name.as_str()) && (call.name == "copy_file_range") == copied
        });
        calls.filter_map(|call| usize::try_from(call.result?).ok()).sum::<usize>()
    };
    let (copied, written) = (into_archive(true), into_archive(false));
    assert!(copied >= SIZE && written < SIZE / 10, "{copied} bytes copied, {written} written");
}

#[test]
fn privileged_a_step_costs_few_processes_and_no_program_but_its_own() {
    const MORE: usize = 4;
    let Some(world) = world() else { return };
    let context = world.path("context");
    std::fs::copy("/bin/busybox", context.join("busybox")).unwrap();
    let trace_of = |steps: usize| {
        let steps: String =
            (0..steps).map(|n| format!("RUN [\"/busybox\", \"true\", \"{n}\"]\n")).collect();
        let mut build = build(&world, &format!("FROM scratch\nCOPY busybox /\n{steps}"));
        build.args(["--no-cache"]);
        record(&world, &build)
    };
    let (few, many) = (trace_of(1), trace_of(1 + MORE));
    let more = processes(&many) - processes(&few);
    // The command, and process 1 of its sandbox.
    assert!((MORE..=2 * MORE).contains(&more), "{more} processes for {MORE} more steps");
    let programs = |trace: &Trace| -> Vec<PathBuf> {
        let calls = trace.of(&["execve", "execveat"]).filter(|call| call.succeeded());
        calls.filter_map(|call| call.paths().first().map(PathBuf::from)).collect()
    };
    let new: BTreeSet<PathBuf> = programs(&many).into_iter().collect();
    // The last two are the same program, as what syncs and as a step sees it.
    let known = ["/busybox", env!("CARGO_BIN_EXE_mybuild"), "/proc/self/exe", "/mybuild"];
    let known = known.map(PathBuf::from);
    assert_eq!(new.difference(&known.into()).collect::<Vec<_>>(), Vec::<&PathBuf>::new());
    // Whatever else a sandbox consists of is forked.
    let more = programs(&many).len() - programs(&few).len();
    assert_eq!(more, MORE, "programs for {MORE} more steps");
}

/// A long chain of steps costs no more for each of them than a short one.
#[test]
fn privileged_a_step_opens_few_layers_however_many_it_stands_on_and_makes_few_mounts() {
    const FEW: usize = 6;
    const MANY: usize = 36;
    const MOUNTS: [&str; 2] = ["fsmount", "open_tree"];
    let Some(world) = world() else { return };
    std::fs::copy("/bin/busybox", world.path("context/busybox")).unwrap();
    let trace_of = |steps: usize| {
        let step = |n| format!("RUN [\"/busybox\", \"touch\", \"/file{n}\"]\n");
        let steps: String = (0..steps).map(step).collect();
        let mut build = build(&world, &format!("FROM scratch\nCOPY busybox /\n{steps}"));
        build.args(["--no-cache"]);
        record(&world, &build)
    };
    let (few, many) = (trace_of(FEW), trace_of(MANY));
    let a_step = |count: &dyn Fn(&Trace) -> usize| (count(&many) - count(&few)) / (MANY - FEW);
    let opened = a_step(&|trace| {
        let is_layer = |call: &&Call| call.paths().iter().any(|path| path.ends_with("/fs"));
        trace.of(&OPENS).filter(is_layer).count()
    });
    assert!((1..=8).contains(&opened), "{opened} times a layer's directory is opened for a step");
    let mounts = a_step(&|trace| trace.of(&MOUNTS).filter(|call| call.succeeded()).count());
    assert!((5..=32).contains(&mounts), "{mounts} mounts are made for a step");
}

#[test]
fn privileged_each_file_that_a_step_wrote_is_opened_once() {
    const FILES: usize = 600;
    let Some(world) = world() else { return };
    std::fs::copy("/bin/busybox", world.path("context/busybox")).unwrap();
    let script = "for d in 1 2 3; do /busybox mkdir -p /made/$d; \
                  for f in $(/busybox seq 200); do echo $f > /made/$d/f$f; done; done";
    let dockerfile =
        format!("FROM scratch\nCOPY busybox /\nRUN [\"/busybox\", \"sh\", \"-c\", \"{script}\"]\n");
    let trace = record(&world, &build(&world, &dockerfile));
    let is_file = |path: &String| {
        path.rsplit_once('/')
            .is_some_and(|(directory, name)| directory.contains("/made/") && name.starts_with('f'))
    };
    let named = |call: &&Call| {
        let descriptor = call.descriptor().map(str::to_owned);
        descriptor.iter().chain(&call.paths()).any(is_file)
    };
    let calls: Vec<&Call> = below(&trace, &world.path("store/layers-v1")).filter(named).collect();
    let count = |names: &[&str]| calls.iter().filter(|c| names.contains(&c.name.as_str())).count();
    assert_eq!((count(&OPENS), count(&READS)), (FILES, FILES));
    // Nor is a name looked up for anything else: these go by descriptor.
    let known = [&OPENS[..], &READS, &["fstat", "flistxattr", "fcntl", "close"]].concat();
    let other = calls.iter().find(|call| !known.contains(&call.name.as_str()));
    assert!(other.is_none(), "{other:?}");
    // A note of the reading would have to be written.
    let mut opens = calls.iter().filter(|call| OPENS.contains(&call.name.as_str()));
    assert!(opens.all(|call| call.text.contains("O_NOATIME")));
}

/// What it leaves, every later step looks through.
#[test]
fn privileged_a_step_that_writes_nothing_leaves_no_places_it_was_mounted_on() {
    let Some(world) = world() else { return };
    std::fs::copy("/bin/busybox", world.path("context/busybox")).unwrap();
    let dockerfile = "FROM scratch\nCOPY busybox /\nRUN [\"/busybox\", \"true\"]\n";
    must_succeed(&mut build(&world, dockerfile));
    let layers = std::fs::read_dir(world.path("store/layers-v1")).unwrap().flatten();
    let trees: Vec<PathBuf> = layers.map(|layer| layer.path().join("fs")).collect();
    assert!(trees.iter().any(|tree| tree.join("proc").exists()), "no step's layer: {trees:?}");
    assert!(trees.iter().all(|tree| !tree.join("etc").exists()), "{trees:?}");
}

/// A call that opens or tries a directory in which control groups are made.
fn is_limit(call: &&Call) -> bool {
    call.text.contains("/sys/fs/cgroup")
        && (call.name == "access" || call.text.contains("O_DIRECTORY"))
}

/// Processes (not threads) that were started.
fn processes(trace: &Trace) -> usize {
    let started = trace.of(&FORKS).filter(|call| call.succeeded());
    started.filter(|call| !call.text.contains("CLONE_THREAD")).count()
}

/// Waits until the clock of the file system has gone on far enough for the files to be trusted.
fn age(directory: &Path) {
    use std::os::unix::fs::MetadataExt as _;
    let stamp = directory.with_extension("stamp");
    let changed = |path: &Path| {
        let found = std::fs::metadata(path).unwrap();
        i128::from(found.ctime()) * 1_000_000_000 + i128::from(found.ctime_nsec())
    };
    std::fs::write(&stamp, "").unwrap();
    let first = changed(&stamp);
    while changed(&stamp) - first < 200_000_000 {
        std::thread::sleep(std::time::Duration::from_millis(10));
        std::fs::write(&stamp, "x").unwrap();
    }
    std::fs::remove_file(stamp).unwrap();
}
