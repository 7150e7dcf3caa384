//! An archive, unpacked as a layer, as `ADD` does and as a cache mount's: no panic, and nothing outside of the tree is
//! touched.

use std::fs::File;
use std::path::Path;

use cache::layer::{
    DirectoryOptions, DirectorySink, ExtractOptions, Flavor, Limits, Over, UnpackOptions,
    extract_archive, merge_archive, unpack,
};

/// A few bytes may stand for very many.
const LIMITS: Limits = Limits { bytes: 1 << 20, entries: 1000, ratio: 400, free_bytes: 1 << 20 };

/// Unpacks `bytes` into a directory beside one that must stay as it is.
pub(crate) fn run(bytes: &[u8]) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name);
    for name in ["layer", "added", "merged", "beside"] {
        std::fs::create_dir(path(name)).expect("a fresh directory");
    }
    std::fs::write(path("beside/canary"), "alive").expect("a fresh file");
    let options = UnpackOptions { limits: LIMITS, ..UnpackOptions::default() };
    drop(unpack(bytes, sink(&path("layer"), Flavor::User), &options));
    let mut added = sink(&path("added"), Flavor::Plain);
    let options = ExtractOptions { limits: LIMITS, ..ExtractOptions::default() };
    if extract_archive(bytes, &mut added, &options).is_ok() {
        drop(added.finish());
    }
    // The second time over what is there.
    for over in [Over::Older, Over::Files] {
        let root = File::open(path("merged")).expect("a directory of ours");
        drop(merge_archive(bytes, root.into(), over, directory_options(Flavor::Plain), &options));
    }
    assert_eq!(names(directory.path()), ["added", "beside", "layer", "merged"]);
    assert_eq!(names(&path("beside")), ["canary"]);
    assert_eq!(std::fs::read(path("beside/canary")).expect("it is there"), b"alive");
}

fn sink(root: &Path, flavor: Flavor) -> DirectorySink {
    let root = File::open(root).expect("a directory of ours");
    DirectorySink::new(root.into(), directory_options(flavor)).expect("a directory of ours")
}

fn directory_options(flavor: Flavor) -> DirectoryOptions {
    let is_root = rustix::process::geteuid().is_root();
    DirectoryOptions { ignore_owner: !is_root, ..DirectoryOptions::new(flavor) }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory of ours");
    let name = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let mut names: Vec<String> =
        entries.map(|entry| name(entry.expect("it can be read"))).collect();
    names.sort_unstable();
    names
}
