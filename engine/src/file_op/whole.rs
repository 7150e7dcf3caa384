//! Copies of whole trees, which no Dockerfile asks for by itself: snapshots, first contents of cache mounts,
//! exports.

use std::path::Path;

use cache::layer::{DirectoryOptions, Flavor, Lower, Time};
use executor::Host;
use llb::{CopyOp, FileAction, FileActionKind, FileInput, FileOp, Owner, OwnerId, Timestamp};
use oci::Digest;

use super::{FileOpError, Job, Target, apply, input_digest};
use crate::tree::View;

/// An operation that copies what is in the directory `source` of input 0 to the root of an empty
/// tree. `owner` replaces the owners of all files, `time` their times, in seconds since 1970.
pub(crate) fn copy_directory(source: &str, owner: Option<(u32, u32)>, time: Option<i64>) -> FileOp {
    let owner = owner
        .map(|(uid, gid)| Owner { user: Some(OwnerId::Id(uid)), group: Some(OwnerId::Id(gid)) });
    let copy = CopyOp {
        src: if source.is_empty() { "/".to_owned() } else { source.to_owned() },
        dest: "/".to_owned(),
        dest_has_dot: false,
        owner,
        mode: None,
        mode_symbolic: None,
        follow_symlink: true,
        dir_copy_contents: true,
        attempt_unpack: false,
        create_dest_path: true,
        allow_wildcard: false,
        allow_empty_wildcard: true,
        timestamp: time.map(|seconds| Timestamp { seconds, nanoseconds: 0 }),
        include_patterns: Vec::new(),
        exclude_patterns: Vec::new(),
        always_replace_existing: true,
        parents: false,
        display_src: source.to_owned(),
    };
    let action = FileAction {
        input: FileInput::Scratch,
        secondary: Some(FileInput::Input(0)),
        output: Some(0),
        kind: FileActionKind::Copy(copy),
    };
    FileOp { actions: vec![action] }
}

/// Digest of all that is in `view`.
pub(crate) fn digest_of_all(view: &View) -> Result<Digest, FileOpError> {
    let digest = input_digest(&copy_directory("/", None, None), 0, view)?;
    Ok(digest.expect("the input is only read"))
}

/// Does what [`copy_directory`] made with `view` as its input, outside of any layer.
pub(crate) fn copy_out(
    host: &Host,
    scratch: &Path,
    view: &View,
    op: &FileOp,
    target: &Path,
    is_stopped: &(dyn Fn() -> bool + Sync),
) -> Result<(), FileOpError> {
    let options = || DirectoryOptions {
        flavor: Flavor::Plain,
        ignore_owner: host.single_id(),
        lower: Lower::none(),
    };
    let inputs = [Some(view)];
    let job = copy_job(host, scratch, op, &inputs, is_stopped);
    apply(&job, Target::Directory { path: target, options: &options, previous: None })?;
    Ok(())
}

/// The job of an operation that [`copy_directory`] made.
pub(crate) fn copy_job<'a>(
    host: &'a Host,
    scratch: &'a Path,
    op: &'a FileOp,
    inputs: &'a [Option<&'a View>],
    is_stopped: &'a (dyn Fn() -> bool + Sync),
) -> Job<'a> {
    Job { op, output: 0, inputs, default_time: Time::now(), scratch, host, is_stopped }
}
