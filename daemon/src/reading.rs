//! Files of trees that clients read while a build goes on.

use std::sync::Arc;

use engine::tree::{Kind, Lookup as _, Stat, TreeError, View, path};
use tonic::{Code, Status};

use crate::wire::fsutil;
use crate::wire::gateway::FileRange;

/// The largest part of a file that is given at once, in bytes: answers to clients have less than 4 MiB.
const READ_MAX: u64 = 3 << 20;
/// Names that are listed of a directory.
const NAMES_MAX: usize = 20_000;

/// The content of the file at `name`, or a part of it.
pub(crate) fn read_file(
    view: &View,
    name: &str,
    range: Option<FileRange>,
) -> Result<Vec<u8>, Status> {
    use std::os::unix::fs::FileExt as _;
    let found = find(view, name, true)?;
    let file = view.open_regular(&found.path).map_err(|error| unreadable(name, &error))?;
    let size = file.metadata().map_err(|error| unreadable(name, &error))?.len();
    let range = range.unwrap_or_default();
    let offset = u64::try_from(range.offset).map_err(|_| invalid("offset"))?.min(size);
    let rest = size - offset;
    let length = match u64::try_from(range.length).map_err(|_| invalid("length"))? {
        0 => rest,
        length => length.min(rest),
    };
    if length > READ_MAX {
        let message = format!("`{name}` has more than 3 MiB: read it in parts");
        return Err(Status::out_of_range(message));
    }
    let mut bytes = vec![0; usize::try_from(length).expect("it is small")];
    file.read_exact_at(&mut bytes, offset).map_err(|error| unreadable(name, &error))?;
    Ok(bytes)
}

/// What is in the directory at `name`, whose names match `pattern` if there is one.
pub(crate) fn read_dir(
    view: &View,
    name: &str,
    pattern: &str,
) -> Result<Vec<fsutil::Stat>, Status> {
    let found = find(view, name, true)?;
    if found.stat.kind != Kind::Directory {
        return Err(Status::unknown(format!("readdir {name}: not a directory")));
    }
    let mut entries = Vec::new();
    for entry in view.names(&found.path).map_err(|error| failed(&error))? {
        let is_wanted = pattern.is_empty()
            || engine::tree::glob::matches(pattern.as_bytes(), &entry)
                .map_err(|_| invalid("pattern"))?;
        let place = path::join(&found.path, &entry);
        if !is_wanted {
            continue;
        }
        if let Some((stat, link)) = view.lstat(&place).map_err(|error| failed(&error))? {
            entries.push(wire(&entry, &stat, &link));
        }
        if entries.len() > NAMES_MAX {
            return Err(Status::out_of_range(format!("`{name}` has more than {NAMES_MAX} names")));
        }
    }
    Ok(entries)
}

/// What is at `name`; a link itself.
pub(crate) fn stat_file(view: &View, name: &str) -> Result<fsutil::Stat, Status> {
    let found = find(view, name, false)?;
    let last = path::split(&found.path).map_or(&b"/"[..], |(_, last)| last).to_vec();
    Ok(wire(&last, &found.stat, &found.link))
}

struct Found {
    path: Vec<u8>,
    stat: Stat,
    link: Vec<u8>,
}

fn find(view: &View, name: &str, follow: bool) -> Result<Found, Status> {
    let resolved = view.resolve(name.as_bytes(), follow).map_err(|error| failed(&error))?;
    let absent = || Status::not_found(format!("lstat {name}: no such file or directory"));
    let (stat, link) =
        view.lstat(&resolved.path).map_err(|error| failed(&error))?.ok_or_else(absent)?;
    Ok(Found { path: resolved.path, stat, link })
}

fn wire(name: &[u8], stat: &Stat, link: &[u8]) -> fsutil::Stat {
    let nanoseconds = stat.mtime.seconds.saturating_mul(1_000_000_000);
    fsutil::Stat {
        path: String::from_utf8_lossy(name).into_owned(),
        mode: mode(stat),
        uid: stat.uid,
        gid: stat.gid,
        size: i64::try_from(stat.size).unwrap_or(i64::MAX),
        mod_time: nanoseconds.saturating_add(stat.mtime.nanoseconds.into()),
        linkname: String::from_utf8_lossy(link).into_owned(),
        devmajor: stat.rdev.0.into(),
        devminor: stat.rdev.1.into(),
        ..Default::default()
    }
}

/// The bits of Go's `FileMode`.
fn mode(stat: &Stat) -> u32 {
    let bits = u32::from(stat.mode);
    let kind = match stat.kind {
        Kind::Directory => 1 << 31,
        Kind::File => 0,
        Kind::Symlink => 1 << 27,
        Kind::Fifo => 1 << 25,
        Kind::CharDevice => 1 << 26 | 1 << 21,
        Kind::BlockDevice => 1 << 26,
        Kind::Socket => 1 << 24,
    };
    let set = |of: u32, to: u32| if bits & of == 0 { 0 } else { to };
    bits & 0o777 | kind | set(0o4000, 1 << 23) | set(0o2000, 1 << 22) | set(0o1000, 1 << 20)
}

fn failed(error: &TreeError) -> Status {
    Status::new(Code::Unknown, error.to_string())
}

fn unreadable(name: &str, error: &std::io::Error) -> Status {
    Status::unknown(format!("failed to read `{name}`: {error}"))
}

fn invalid(what: &str) -> Status {
    Status::invalid_argument(format!("the {what} is not valid"))
}

/// Runs `work` on a tree where it may wait for the disk.
pub(crate) async fn on<T: Send + 'static>(
    view: Arc<View>,
    work: impl FnOnce(&View) -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(move || work(&view)).await;
    done.unwrap_or_else(|_| Err(Status::internal("reading has crashed")))
}
