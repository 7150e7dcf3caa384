//! A fetched file as a layer.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use cache::layer::{Content, DirectorySink, Entry, EntryKind, LayerSink, Lower, Time};
use cache::{LayerId, Store};
use llb::HttpSource;

use super::cause::Cause;
use super::transfer::Received;
use crate::error::{BoxedError, BuildError};
use crate::machine::Machine;

/// Makes a layer that has the file `name` and nothing else. The file itself becomes part of it.
pub(super) fn make(
    store: &Store,
    machine: &Machine,
    received: Received,
    name: &str,
    modified: Option<i64>,
    source: &HttpSource,
) -> Result<LayerId, Cause> {
    // It says how trees are written here.
    machine.snapshotter(store)?;
    let layer = store.new_layer().map_err(failed)?;
    let root = File::open(layer.fs()).map_err(Cause::Storage)?;
    let options = machine.directory_options(Lower::none());
    let mut sink = DirectorySink::new(root.into(), options).map_err(failed)?;
    let kind = EntryKind::File { size: received.size };
    let seconds = modified.unwrap_or(0);
    let entry = Entry {
        uid: source.uid,
        gid: source.gid,
        mtime: Time { seconds, nanoseconds: 0 },
        ..Entry::new(name, kind, source.mode)
    };
    put(&mut sink, &entry, received, seconds)?;
    sink.finish().map_err(failed)?;
    Ok(store.seal(layer))
}

fn put(
    sink: &mut DirectorySink,
    entry: &Entry,
    received: Received,
    seconds: i64,
) -> Result<(), Cause> {
    let file = received.file.as_file();
    if (entry.uid, entry.gid) != (0, 0) {
        return sink.entry(entry, Content::File(file)).map_err(failed);
    }
    // What is moved stays as it is.
    file.set_permissions(Permissions::from_mode(entry.mode)).map_err(Cause::Storage)?;
    file.set_modified(time(seconds)).map_err(Cause::Storage)?;
    let path = received.file.path();
    let (directory, name) = (path.parent(), path.file_name().map(Path::new));
    let (Some(directory), Some(path)) = (directory, name) else {
        return Err(Cause::Storage(io::ErrorKind::NotFound.into()));
    };
    let directory = File::open(directory).map_err(Cause::Storage)?;
    let content = Content::Move { directory: directory.as_fd(), path };
    sink.entry(entry, content).map_err(failed)
}

fn time(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = match seconds < 0 {
        true => SystemTime::UNIX_EPOCH.checked_sub(distance),
        false => SystemTime::UNIX_EPOCH.checked_add(distance),
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

fn failed(error: impl Into<BoxedError>) -> Cause {
    Cause::Build(BuildError::system("failed to keep a fetched file").because(error))
}
