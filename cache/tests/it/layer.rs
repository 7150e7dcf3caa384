//! Layers: archives made by hand, unpacked, looked at, and read back.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use cache::layer::{
    DirectoryOptions, DirectorySink, ExtractOptions, Flavor, LayerError, UnpackOptions, Unpacked,
    extract_archive, read_xattrs, unpack,
};

mod archive;
mod compress;
mod diff;
mod hostile;
mod limits;
mod lower;
mod round_trip;
mod seekable;
mod sink;
mod tarball;

/// The form of trees this user can make.
fn flavor() -> Flavor {
    if is_root() { Flavor::Trusted } else { Flavor::User }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says aloud that `what` is not tested here.
fn skip(what: &str) {
    let _ = std::io::Write::write_all(
        &mut std::io::stderr(),
        format!("skipped, needs root: {what}\n").as_bytes(),
    );
}

fn open(path: &Path) -> OwnedFd {
    File::open(path).unwrap().into()
}

fn sink(root: &Path, flavor: Flavor) -> DirectorySink {
    let mut options = DirectoryOptions::new(flavor);
    options.ignore_owner = !is_root();
    DirectorySink::new(open(root), options).unwrap()
}

fn unpack_to(root: &Path, bytes: &[u8]) -> Result<Unpacked, LayerError> {
    unpack(bytes, sink(root, flavor()), &UnpackOptions::default())
}

fn extract_to(root: &Path, bytes: &[u8]) -> Result<(), LayerError> {
    let mut sink = sink(root, Flavor::Plain);
    extract_archive(bytes, &mut sink, &ExtractOptions::default())?;
    sink.finish().map(drop)
}

/// An error with its causes, as the user sees it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        write!(text, ": {error}").unwrap();
        source = error.source();
    }
    text
}

/// A tree as text, a line a name: what it is, and what is not as plain as can be.
fn listing(root: &Path) -> String {
    let mut text = String::new();
    let mut first_names = BTreeMap::new();
    list(root, root, &mut first_names, &mut text);
    text
}

fn list(root: &Path, path: &Path, names: &mut BTreeMap<u64, PathBuf>, text: &mut String) {
    let mut children: Vec<PathBuf> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    children.sort_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
    for child in children {
        line(root, &child, names, text);
        if fs::symlink_metadata(&child).unwrap().is_dir() {
            list(root, &child, names, text);
        }
    }
}

fn line(root: &Path, path: &Path, names: &mut BTreeMap<u64, PathBuf>, text: &mut String) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let file_type = metadata.file_type();
    let name = path.strip_prefix(root).unwrap().to_path_buf();
    let name_text = shorten(name.as_os_str().as_bytes());
    let device = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
    if file_type.is_char_device() && device == (0, 0) {
        writeln!(text, "{name_text} whiteout").unwrap();
        return;
    }
    if !metadata.is_dir() && metadata.nlink() > 1 {
        if let Some(first) = names.get(&metadata.ino()) {
            writeln!(text, "{name_text} = {}", first.display()).unwrap();
            return;
        }
        names.insert(metadata.ino(), name);
    }
    let mode = metadata.mode() & 0o7777;
    if metadata.is_dir() {
        write!(text, "{name_text}/ {mode:o}").unwrap();
    } else if metadata.is_file() {
        write!(text, "{name_text} {mode:o}").unwrap();
        match metadata.size() {
            0 => {}
            1..=40 => write!(text, " {:?}", fs::read_to_string(path).unwrap()).unwrap(),
            size => write!(text, " {size} bytes").unwrap(),
        }
    } else if metadata.is_symlink() {
        let target = fs::read_link(path).unwrap();
        write!(text, "{name_text} -> {}", shorten(target.as_os_str().as_bytes())).unwrap();
    } else if file_type.is_fifo() {
        write!(text, "{name_text} fifo {mode:o}").unwrap();
    } else {
        let kind = if file_type.is_block_device() { "block" } else { "char" };
        write!(text, "{name_text} {kind} {}:{} {mode:o}", device.0, device.1).unwrap();
    }
    let owner = (metadata.uid(), metadata.gid());
    if is_root() && owner != (0, 0) {
        write!(text, " {}:{}", owner.0, owner.1).unwrap();
    }
    if (metadata.mtime(), metadata.mtime_nsec()) != (0, 0) {
        write!(text, " at {}.{:09}", metadata.mtime(), metadata.mtime_nsec()).unwrap();
    }
    for (key, value) in read_xattrs(rustix::fs::CWD, path.as_os_str().as_bytes()).unwrap() {
        match &key[..] {
            // Without root nearly everything has one.
            b"user.mybuild.owner" if !is_root() => {}
            b"trusted.overlay.opaque" | b"user.overlay.opaque" => text.push_str(" opaque"),
            key => {
                write!(text, " [{}={}]", key.escape_ascii(), value.escape_ascii()).unwrap();
            }
        }
    }
    text.push('\n');
}

/// Long runs of one letter are counted.
fn shorten(name: &[u8]) -> String {
    let mut text = String::new();
    for run in name.chunk_by(|a, b| a == b) {
        match run.len() {
            0..=9 => write!(text, "{}", run.escape_ascii()).unwrap(),
            length => write!(text, "{{{}*{length}}}", run[..1].escape_ascii()).unwrap(),
        }
    }
    text
}
