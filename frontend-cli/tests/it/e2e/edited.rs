//! Files that are edited while the build runs.

use std::fs::{self, Permissions};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::SystemTime;

use super::builder::Builder;
use super::outcome::Outcome;

const CHANGED: &str = "`/file` changed while the build ran";

/// A step waits, and then the file is taken in that was looked at before.
const LATE: &str = "FROM busybox\nWAIT\nCOPY file /late\n";
/// The same, and a step before has taken it in, too.
const TWICE: &str = "FROM busybox\nCOPY file /early\nWAIT\nCOPY file /late\n";
/// The file is looked at for the second time only when the step has waited.
const APART: &str = "FROM busybox AS wait\nCOPY file /early\nWAIT\n\
                     FROM scratch\nCOPY --from=wait /early /early\nCOPY file /late\n";

/// Builds a Dockerfile in which `WAIT` is a step that waits until `edit` has been done to the file;
/// also gives how often that step ran.
fn build(builder: &Builder, dockerfile: &str, edit: fn(&Path, usize)) -> (Outcome, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let wait = format!("RUN --network=host nc 127.0.0.1 {}", address.port());
    let file = builder.path("context/file");
    fs::write(&file, "old").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let (ran, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            // The step reads until its connection is closed.
            while let Ok((_connection, _)) = listener.accept() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                edit(&file, ran.fetch_add(1, Ordering::SeqCst) + 1);
            }
        });
        let words = ["--allow", "network.host", "--no-cache", "-o", "out"];
        let outcome = builder.build(&dockerfile.replace("WAIT", &wait), &words);
        is_over.store(true, Ordering::SeqCst);
        TcpStream::connect(address).unwrap();
        outcome
    });
    (outcome, ran.into_inner())
}

#[test]
fn privileged_a_file_may_be_saved_while_a_step_before_runs() {
    type Edit = fn(&Path, usize);
    let Some(builder) = Builder::new() else { return };
    let same: [Edit; 3] = [
        |file, _| fs::File::open(file).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap(),
        |file, _| fs::write(file, "old").unwrap(),
        |file, _| {
            fs::write(file.with_file_name("new"), "old").unwrap();
            fs::rename(file.with_file_name("new"), file).unwrap();
        },
    ];
    for (number, edit) in same.into_iter().enumerate() {
        for dockerfile in [LATE, TWICE, APART] {
            let (outcome, ran) = build(&builder, dockerfile, edit);
            let outcome = outcome.success();
            assert_eq!((builder.read("out/late").as_str(), ran), ("old", 1), "{number}");
            assert!(!outcome.stderr.contains(CHANGED), "{number}");
        }
    }
    let other: [(Edit, &str, u32); 3] = [
        (|file, _| fs::write(file, "new").unwrap(), "new", 0o644),
        (|file, _| fs::write(file, "longer than before").unwrap(), "longer than before", 0o644),
        (|file, _| fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap(), "old", 0o600),
    ];
    for (edit, content, mode) in other {
        // What does not stand on the file runs once, without the cache, too.
        for (dockerfile, expected) in [(LATE, 1), (TWICE, 2), (APART, 2)] {
            let (outcome, ran) = build(&builder, dockerfile, edit);
            let outcome = outcome.success();
            assert_eq!((builder.read("out/late").as_str(), ran), (content, expected));
            let found = fs::metadata(builder.path("out/late")).unwrap();
            assert_eq!(found.permissions().mode() & 0o777, mode);
            assert_eq!(outcome.stderr.matches(CHANGED).count(), 1, "{}", outcome.stderr);
            if dockerfile != LATE {
                assert_eq!(builder.read("out/early"), content);
            }
            assert!(outcome.steps().iter().all(|step| step.end != "failed"), "{}", outcome.stderr);
        }
    }
    builder.assert_nothing_left();
}

#[test]
fn privileged_a_file_that_never_rests_ends_the_build() {
    let Some(builder) = Builder::new() else { return };
    let edit = |file: &Path, number: usize| fs::write(file, "x".repeat(number)).unwrap();
    let (outcome, ran) = build(&builder, TWICE, edit);
    let outcome = outcome.fails_with(1);
    assert_eq!(ran, 5);
    let error = "`/file` changed while it was read (its size): build again once it is at rest";
    assert!(outcome.words().contains(error), "{}", outcome.words());
    // One that is gone is missed where it stands.
    let gone = |file: &Path, _: usize| fs::remove_file(file).unwrap();
    let outcome = build(&builder, LATE, gone).0.fails_with(1);
    assert!(outcome.words().contains("\"/file\": not found"), "{}", outcome.words());
    builder.assert_nothing_left();
}
