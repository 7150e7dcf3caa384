//! However a build ends, what nobody will use is gone, at latest when the next command is over.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::builder::Builder;

/// A step that writes a large file and many small ones.
const WRITES: &str = "FROM busybox\n\
    RUN dd if=/dev/zero of=/large bs=1M count=64 2>/dev/null; mkdir /many; \
    i=0; while [ $i -lt 3000 ]; do echo > /many/$i; i=$((i+1)); done; echo written; ";

/// The names below a directory of the store.
fn names(builder: &Builder, directory: &str) -> BTreeSet<OsString> {
    let entries = std::fs::read_dir(builder.store().join(directory)).expect("a bucket");
    entries.map(|entry| entry.expect("an entry").file_name()).collect()
}

/// Starts a build whose step has written everything and goes on.
fn start_writing(builder: &Builder) -> Child {
    builder.write("context/Dockerfile", format!("{WRITES}while :; do sleep 1000; done\n"));
    let mut command = builder.command(&["build", "--progress", "json", "context"]);
    let mut child = builder.spawn(command.stdout(Stdio::null()));
    let stderr = child.stderr.as_mut().expect("a pipe");
    let written = BufReader::new(stderr)
        .lines()
        .map_while(Result::ok)
        .any(|line| line.contains(r#""text":"written"#));
    assert!(written, "the step has written");
    child
}

#[test]
fn privileged_a_failed_build_leaves_nothing_of_what_its_step_wrote() {
    let Some(builder) = Builder::new() else { return };
    let before = names(&builder, "layers-v1");
    builder.build(&format!("{WRITES}exit 3\n"), &[]).fails_with(1);
    assert_eq!(names(&builder, "layers-v1"), before);
    assert_eq!(names(&builder, "leases-v1"), BTreeSet::new());
    builder.assert_nothing_left();
}

#[test]
fn privileged_what_a_stopped_build_leaves_goes_with_the_next_command() {
    let Some(builder) = Builder::new() else { return };
    let before = names(&builder, "layers-v1");
    for (signal, code) in [(Signal::INT, Some(130)), (Signal::KILL, None)] {
        let mut child = start_writing(&builder);
        assert_ne!(names(&builder, "layers-v1"), before);
        kill_process(Pid::from_child(&child), signal).expect("an own child");
        let mut rest = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut rest).expect("text");
        assert_eq!(child.wait().expect("an own child").code(), code, "{rest}");
        // What is there still has an owner: a lease that nobody holds.
        if names(&builder, "layers-v1") != before {
            assert_eq!(names(&builder, "leases-v1").len(), 1, "after {signal:?}");
        }
        builder.run(&["images"]).success();
        assert_eq!(names(&builder, "layers-v1"), before, "after {signal:?}");
        assert_eq!(names(&builder, "leases-v1"), BTreeSet::new(), "after {signal:?}");
        builder.assert_no_process_or_mount_left();
    }
    // A control group of what was killed is removed by the next program that makes one, once its last
    // member is gone: it may be in the kernel as long as the disk takes what the step wrote.
    for _ in 0..30 {
        builder.build("FROM busybox\nRUN true\n", &["--no-cache"]).success();
        if builder.control_groups().is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    builder.assert_nothing_left();
}

/// The layer of a base image says less than its digest does: it is unpacked in vain.
#[test]
fn privileged_a_layer_that_cannot_be_unpacked_leaves_nothing() {
    let Some(builder) = Builder::new() else { return };
    builder.build(&format!("{WRITES}\n"), &["-o", "type=oci,tar=false,dest=base"]).success();
    builder.run(&["prune", "--all", "--force"]).success();
    let before = names(&builder, "layers-v1");
    let blobs = std::fs::read_dir(builder.path("base/blobs/sha256")).expect("blobs");
    let blobs = blobs.map(|entry| entry.expect("an entry").path());
    let largest = blobs.max_by_key(|path| path.metadata().expect("a blob").len());
    let largest = largest.expect("a layer");
    let bytes = std::fs::read(&largest).expect("a layer");
    let mut bytes = [bytes.as_slice(), b"more"].concat();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&largest, bytes).expect("written");
    let base = builder.path("base");
    let base = format!("base=oci-layout://{}", base.display());
    builder.build("FROM base\nRUN true\n", &["--build-context", &base]).fails_with(1);
    assert_eq!(names(&builder, "layers-v1"), before);
    assert_eq!(names(&builder, "leases-v1"), BTreeSet::new());
    builder.assert_nothing_left();
}
