//! A copied tree is the same tree.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::store::root;

/// Everything that a tree's entries have, in order.
fn describe(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in walkdir::WalkDir::new(root).sort_by_file_name() {
        let entry = entry.unwrap();
        let found = entry.metadata().unwrap();
        let content = match found.file_type() {
            kind if kind.is_file() => Digest::of(&std::fs::read(entry.path()).unwrap()).to_string(),
            kind if kind.is_symlink() => {
                std::fs::read_link(entry.path()).unwrap().display().to_string()
            }
            _ => String::new(),
        };
        lines.push(format!(
            "{} {:o} {}:{} links {} mtime {}.{} {content}",
            entry.path().strip_prefix(root).unwrap().display(),
            found.mode(),
            found.uid(),
            found.gid(),
            if found.is_dir() { 0 } else { found.nlink() },
            found.mtime(),
            found.mtime_nsec(),
        ));
    }
    lines
}

use oci::Digest;

#[test]
fn a_copy_has_modes_times_links_and_attributes() {
    let (source, target) = (root(), root());
    let at = |name: &str| source.path().join(name);
    std::fs::create_dir_all(at("deep/er")).unwrap();
    std::fs::write(at("deep/er/file"), vec![7; 300_000]).unwrap();
    std::fs::hard_link(at("deep/er/file"), at("link")).unwrap();
    std::fs::write(at("set-id"), "x").unwrap();
    std::fs::set_permissions(at("set-id"), PermissionsExt::from_mode(0o4751)).unwrap();
    symlink("../../outside", at("deep/symlink")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o640),
        0,
    )
    .unwrap();
    let long = vec![b'v'; 2000];
    rustix::fs::setxattr(at("set-id"), "user.long", &long, rustix::fs::XattrFlags::empty())
        .unwrap();
    for name in ["deep/er", "deep/er/file", "set-id"] {
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
        std::fs::File::open(at(name)).unwrap().set_modified(time).unwrap();
    }
    for n in 0..500 {
        std::fs::create_dir(at(&format!("many-{n}"))).unwrap();
        std::fs::write(at(&format!("many-{n}/file")), n.to_string()).unwrap();
    }

    cache::copy_tree(source.path(), target.path()).unwrap();
    assert_eq!(describe(source.path()), describe(target.path()));
    let mut value = vec![0; 4096];
    let length =
        rustix::fs::getxattr(target.path().join("set-id"), "user.long", &mut value[..]).unwrap();
    assert_eq!(value[..length], long);
}

#[test]
fn a_tree_that_cannot_be_copied_is_an_error_with_a_path() {
    let (source, target) = (root(), root());
    std::fs::create_dir(source.path().join("directory")).unwrap();
    std::fs::write(source.path().join("directory/file"), "x").unwrap();
    std::fs::create_dir(target.path().join("directory")).unwrap();
    let error = cache::copy_tree(source.path(), target.path()).unwrap_err();
    assert_eq!(error.path, Path::new("directory"));
}
