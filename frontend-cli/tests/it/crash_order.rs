//! Data before names before rows: the order in which a build makes things durable, read from a
//! trace of its system calls.

use crate::crash_trace::{Call, Trace};
use crate::crash_world::{World, has_strace};

/// Everything that writes, names or syncs.
const CALLS: &str = "openat,write,writev,pwrite64,pwritev,copy_file_range,sendfile,splice,ftruncate,\
                     fallocate,ioctl,link,linkat,symlink,symlinkat,mkdir,mkdirat,mknodat,\
                     rename,renameat,renameat2,fsync,fdatasync,syncfs";
const WRITES: [&str; 10] = [
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "copy_file_range",
    "sendfile",
    "splice",
    "ftruncate",
    "fallocate",
    "ioctl",
];
const MAKES: [&str; 6] = ["link", "linkat", "symlink", "symlinkat", "mkdir", "mkdirat"];
const RENAMES: [&str; 3] = ["rename", "renameat", "renameat2"];
const FILE_SYNCS: [&str; 2] = ["fsync", "fdatasync"];

#[test]
fn privileged_data_is_synced_before_it_is_named_and_named_before_it_is_recorded() {
    if !has_strace() {
        return;
    }
    let Some(world) = World::with_inputs() else { return };
    let root = world.path("store");
    let build = world.build(&root, &world.path("image"));
    let trace = Trace::record(&build, CALLS, &world.path("trace"));
    let found = violations(&trace, root.to_str().unwrap());
    assert_eq!(found.wrong, Vec::<String>::new());
    // The rules have been asked about something.
    assert!(found.blobs >= 10, "{} blobs", found.blobs);
    assert!(found.trees >= 100, "{} writes to trees", found.trees);
    assert!(found.commits >= 1, "{} commits", found.commits);
}

/// What a trace does wrong, and how much there was to do wrong.
#[derive(Debug, Default)]
struct Found {
    wrong: Vec<String>,
    blobs: usize,
    trees: usize,
    commits: usize,
}

fn violations(trace: &Trace, root: &str) -> Found {
    let mut found = Found::default();
    let blobs = format!("{root}/blobs/");
    let trees = format!("{root}/layers-v1/");
    let index = format!("{root}/index.json");
    for rename in trace.of(&RENAMES).filter(|call| call.succeeded()) {
        let [from, to] = &rename.paths()[..] else { panic!("{rename:?}") };
        if !to.starts_with(&blobs) && *to != index {
            continue;
        }
        found.blobs += usize::from(to.starts_with(&blobs));
        let written = last_write(trace, from, rename.began);
        if !synced_between(trace, root, from, written, rename.began) {
            found.wrong.push(format!("`{to}` was named before its bytes were synced"));
        }
        let (directory, _) = to.rsplit_once('/').expect("a path has a directory");
        if let Some(commit) = next_commit(trace, root, rename.ended)
            && !synced_between(trace, root, directory, rename.ended, commit.began)
        {
            found.wrong.push(format!("`{to}` was recorded before its name was synced"));
        }
    }
    let commits: Vec<&Call> = commits(trace, root).collect();
    found.commits = commits.len();
    let Some(last) = commits.last() else { return found };
    for call in trace.of(&WRITES).chain(trace.of(&MAKES)) {
        let is_made = |path: &String| path.starts_with(&trees) && call.succeeded();
        let Some(path) = target(call).filter(is_made) else { continue };
        found.trees += 1;
        // Work directories are emptied after their tree is recorded; nobody reads them.
        if call.ended < last.began && !synced_between(trace, root, &path, call.ended, last.began) {
            found.wrong.push(format!("`{path}` was recorded before its bytes were synced"));
        }
    }
    found
}

/// What a call writes to or makes.
fn target(call: &Call) -> Option<String> {
    match call.name.as_str() {
        // From the first to the second.
        "copy_file_range" | "splice" => call.descriptors().get(1).map(|path| (*path).to_owned()),
        name if MAKES.contains(&name) => call.paths().pop(),
        _ => call.descriptor().map(str::to_owned),
    }
}

/// When a file was last written to before `limit`.
fn last_write(trace: &Trace, path: &str, limit: usize) -> usize {
    let writes = trace.of(&WRITES).filter(|call| target(call).as_deref() == Some(path));
    writes.map(|call| call.ended).filter(|ended| *ended < limit).max().unwrap_or(0)
}

/// Whether a sync that covers `path` began after `start` and was over before `end`.
fn synced_between(trace: &Trace, root: &str, path: &str, start: usize, end: usize) -> bool {
    let covers = |call: &Call| match call.name.as_str() {
        "syncfs" => call.descriptor().is_some_and(|found| found.starts_with(root)),
        _ => call.descriptor() == Some(path),
    };
    let mut syncs = trace
        .calls
        .iter()
        .filter(|call| call.name == "syncfs" || FILE_SYNCS.contains(&call.name.as_str()));
    syncs.any(|call| call.succeeded() && call.began > start && call.ended < end && covers(call))
}

/// Syncs of SQLite's log: what makes rows count.
fn commits<'a>(trace: &'a Trace, root: &str) -> impl Iterator<Item = &'a Call> {
    let log = format!("{root}/records-v1.db-wal");
    trace.of(&FILE_SYNCS).filter(move |call| call.descriptor() == Some(&log))
}

fn next_commit<'a>(trace: &'a Trace, root: &str, after: usize) -> Option<&'a Call> {
    commits(trace, root).find(|call| call.began > after)
}

/// The detector detects.
#[test]
fn an_order_that_loses_bytes_is_found() {
    const RIGHT: [&str; 7] = [
        "write(3</s/tmp-v1/a>, \"x\", 1) = 1",
        "openat(9</s/layers-v1/b/fs>, \"f\", O_CREAT) = 4</s/layers-v1/b/fs/f>",
        "write(4</s/layers-v1/b/fs/f>, \"x\", 1) = 1",
        "syncfs(5</s>) = 0",
        "rename(\"/s/tmp-v1/a\", \"/s/blobs/sha256/a\") = 0",
        "fsync(6</s/blobs/sha256>) = 0",
        "fdatasync(7</s/records-v1.db-wal>) = 0",
    ];
    let wrong = |order: &[usize]| {
        let lines: Vec<String> = order.iter().map(|at| format!("1 {}", RIGHT[*at])).collect();
        violations(&Trace::parse(&lines.join("\n")), "/s").wrong.len()
    };
    assert_eq!(wrong(&[0, 1, 2, 3, 4, 5, 6]), 0);
    // No sync of the data at all, one too early for the blob, for the tree, for both.
    assert_eq!(wrong(&[0, 1, 2, 4, 5, 6]), 2);
    assert_eq!(wrong(&[1, 2, 3, 0, 4, 5, 6]), 1);
    assert_eq!(wrong(&[0, 3, 1, 2, 4, 5, 6]), 1);
    assert_eq!(wrong(&[3, 0, 1, 2, 4, 5, 6]), 2);
    // No sync of the directory, and one after the rows.
    assert_eq!(wrong(&[0, 1, 2, 3, 4, 6]), 1);
    assert_eq!(wrong(&[0, 1, 2, 3, 4, 6, 5]), 1);
    // The sync was still under way when the blob was named.
    let overlapping = "\
        1 write(3</s/tmp-v1/a>, \"x\", 1) = 1\n\
        1 syncfs(5</s> <unfinished ...>\n\
        2 rename(\"/s/tmp-v1/a\", \"/s/blobs/sha256/a\") = 0\n\
        1 <... syncfs resumed>) = 0\n";
    assert_eq!(violations(&Trace::parse(overlapping), "/s").wrong.len(), 1);
}
