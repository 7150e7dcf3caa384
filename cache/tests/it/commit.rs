//! Commits are all or nothing, and in the right order.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use cache::{CommitStep, Options, PruneFilter, Reach, Store};
use oci::{Descriptor, Digest, media_type};

use crate::child;
use crate::room::age;
use crate::store::{layer, open, record, root};

const STEPS: [CommitStep; 6] = [
    CommitStep::Started,
    CommitStep::Synced,
    CommitStep::BlobsNamed,
    CommitStep::BlobNamesSynced,
    CommitStep::IndexNamed,
    CommitStep::RowsWritten,
];

/// Puts one of each thing into the store.
fn fill(store: &Store) {
    let manifest = br#"{"schemaVersion":2}"#;
    let (digest, size) = store.put_blob(manifest).unwrap();
    let id = layer(store, "content");
    store.put_record(&record("step", &[id]));
    store.tag("app:1.0", &Descriptor::new(media_type::MANIFEST, digest, size)).unwrap();
}

#[test]
fn a_killed_commit_has_happened_or_not() {
    if let Some((root, step)) = child::role() {
        let options = Options {
            on_commit_step: Some(Arc::new(move |reached| {
                if format!("{reached:?}") == step {
                    std::process::abort();
                }
            })),
            ..Options::default()
        };
        let store = Store::open(&root, options).unwrap();
        fill(&store);
        store.flush().unwrap();
        unreachable!("no step of this name");
    }
    for step in STEPS {
        let root = root();
        let status = child::run(
            "commit::a_killed_commit_has_happened_or_not",
            root.path(),
            &format!("{step:?}"),
        );
        assert_eq!(status.signal(), Some(libc::SIGABRT), "{step:?}");
        check_after(root.path(), step);
    }
}

fn check_after(root: &Path, step: CommitStep) {
    let store = open(root);
    let key = Digest::of(b"step");
    let found = store.record(&key);
    assert_eq!(found.is_some(), step == CommitStep::RowsWritten, "{step:?}");
    if let Some(found) = found {
        let directory = store.layer(&found.outputs[0][0]).unwrap().directory.unwrap();
        assert_eq!(std::fs::read(directory.join("file")).unwrap(), b"content");
    }
    if let Some(image) = store.resolve("app:1.0") {
        assert_eq!(store.read_small(&image.digest, 100).unwrap(), br#"{"schemaVersion":2}"#);
    }
    // What the killed session has left goes, and the work can be done again.
    let tmp = root.join("tmp-v1");
    crate::store::wait_until(|| std::fs::read_dir(&tmp).unwrap().next().is_none());
    fill(&store);
    store.flush().unwrap();
    let layers = root.join("layers-v1");
    crate::store::wait_until(|| {
        let expected = if step == CommitStep::RowsWritten { 2 } else { 1 };
        std::fs::read_dir(&layers).unwrap().count() == expected
    });
    assert_eq!(store.fsck(&Default::default()).unwrap(), [], "{step:?}");
    assert_eq!(store.take_warnings(), [], "{step:?}");
}

/// A blob is what no other build makes again, as that of a step that says the time.
#[test]
fn a_killed_commit_leaves_no_blob_that_prune_does_not_take() {
    for step in STEPS {
        let root = root();
        child::run(
            "commit::a_killed_commit_has_happened_or_not",
            root.path(),
            &format!("{step:?}"),
        );
        let blobs = || std::fs::read_dir(root.path().join("blobs/sha256")).unwrap().count();
        let all = PruneFilter { reach: Reach::All, ..PruneFilter::default() };
        // What is tagged stays.
        let is_tagged = matches!(step, CommitStep::IndexNamed | CommitStep::RowsWritten);
        open(root.path()).prune(&all).unwrap();
        assert_eq!(blobs(), usize::from(is_tagged), "{step:?}");
        let store = open(root.path());
        store.untag("app:1.0").unwrap();
        store.flush().unwrap();
        drop(store);
        open(root.path()).prune(&all).unwrap();
        assert_eq!(blobs(), 0, "{step:?}");
    }
}

#[test]
fn a_build_that_changes_nothing_commits_nothing() {
    let root = root();
    {
        let store = open(root.path());
        fill(&store);
    }
    let steps: Arc<Mutex<Vec<CommitStep>>> = Arc::default();
    let seen = steps.clone();
    let options = Options {
        on_commit_step: Some(Arc::new(move |step| seen.lock().unwrap().push(step))),
        ..Options::default()
    };
    let store = Store::open(root.path(), options).unwrap();
    let found = store.record(&Digest::of(b"step")).unwrap();
    store.put_record(&found);
    let image = store.resolve("app:1.0").unwrap();
    store.tag("app:1.0", &image).unwrap();
    store.put_blob(br#"{"schemaVersion":2}"#).unwrap();
    store.flush().unwrap();
    drop(store);
    assert_eq!(*steps.lock().unwrap(), []);
}

/// When a row was last used, in seconds since 1970.
fn used(root: &Path, key: &str) -> i64 {
    let database = rusqlite::Connection::open(root.join("records-v1.db")).unwrap();
    let used = "SELECT used FROM entry WHERE instr(key, CAST(?1 AS BLOB)) > 0";
    database.query_row(used, [key], |row| row.get(0)).unwrap()
}

/// Uses are noted by the hour: what was noted half an hour ago is not noted again.
#[test]
fn a_use_is_noted_when_the_last_one_is_an_hour_ago() {
    let root = root();
    let key = Digest::of(b"step");
    for (seconds, is_noted) in [(1800, false), (7200, true)] {
        fill(&open(root.path()));
        age(root.path(), seconds);
        let before = used(root.path(), key.as_str());
        let store = open(root.path());
        store.record(&key).unwrap();
        // Something else has to be written for it to be written, too.
        store.put_alias(&Digest::of(&seconds.to_be_bytes()), &key);
        store.flush().unwrap();
        drop(store);
        assert_eq!(used(root.path(), key.as_str()) > before, is_noted, "after {seconds} s");
    }
}

#[test]
fn rows_alone_are_written_without_syncing_the_disk() {
    let name = "commit::rows_alone_are_written_without_syncing_the_disk";
    if let Some((root, rounds)) = child::role() {
        let store = open(&root);
        for round in 0..rounds.parse::<u8>().unwrap() {
            store.put_alias(&Digest::of(&[round]), &Digest::of(b"b"));
            store.flush().unwrap();
        }
        return;
    }
    // A process syncs when it comes and goes, however much it writes in between.
    let syncs = |rounds: &str| {
        let root = root();
        drop(open(root.path()));
        let trace = trace(name, root.path(), rounds, "trace=syncfs,fsync,fdatasync,sync,msync")?;
        Some(
            trace.lines().filter(|line| line.contains("sync(") || line.contains("syncfs(")).count(),
        )
    };
    assert_eq!(syncs("1"), syncs("5"));
}

#[test]
fn work_is_committed_in_the_background() {
    let root = root();
    let store = open(root.path());
    fill(&store);
    let other = open(root.path());
    crate::store::wait_until(|| other.record(&Digest::of(b"step")).is_some());
}

/// The calls that `test` makes as a child, one a line; nothing without strace.
fn trace(test: &str, root: &Path, argument: &str, calls: &str) -> Option<String> {
    if Command::new("strace").arg("-V").output().is_err() {
        eprintln!("skipped: strace is not installed");
        return None;
    }
    let trace = root.join("trace");
    let traced = child::command(test, root, argument);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-qq", "-e", calls, "-o"]).arg(&trace);
    strace.arg(traced.get_program()).args(traced.get_args());
    strace.envs(traced.get_envs().filter_map(|(name, value)| Some((name, value?))));
    assert!(strace.output().unwrap().status.success());
    Some(std::fs::read_to_string(&trace).unwrap())
}

/// What the kernel was asked for, in order, as far as it matters for what survives.
#[test]
fn data_is_synced_before_it_is_named_and_named_before_rows_say_so() {
    if let Some((root, _)) = child::role() {
        let store = open(&root);
        fill(&store);
        store.flush().unwrap();
        return;
    }
    let name = "commit::data_is_synced_before_it_is_named_and_named_before_rows_say_so";
    let root = root();
    drop(open(root.path()));
    let calls = "trace=syncfs,rename,renameat,renameat2,fsync,fdatasync,pwrite64";
    let Some(trace) = trace(name, root.path(), "", calls) else { return };
    let lines: Vec<&str> = trace.lines().filter(|line| !line.contains("resumed>")).collect();
    let position = |what: &[&str]| {
        let found = lines.iter().position(|line| what.iter().all(|what| line.contains(what)));
        found.unwrap_or_else(|| panic!("no {what:?} in\n{trace}"))
    };
    let order = [
        position(&["syncfs("]),
        position(&["rename", "blobs/sha256"]),
        position(&["fsync(", "blobs/sha256>"]),
        position(&["rename", "index.json\""]),
        position(&["fsync(", &format!("{}>", root.path().display())]),
        position(&["pwrite64(", "records-v1.db-wal>"]),
    ];
    assert!(order.is_sorted(), "{order:?} in\n{trace}");
    let is_blob = |line: &&str| line.contains("rename") && line.contains("blobs/sha256");
    let last_blob = lines.iter().rposition(is_blob).unwrap();
    assert!(last_blob < order[2], "every blob is named before the directory is synced\n{trace}");
    assert_eq!(lines.iter().filter(|line| line.contains("syncfs(")).count(), 1, "{trace}");
}
