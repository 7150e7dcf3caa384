//! What is written comes back.

use std::collections::BTreeMap;

use cache::layer::{
    Content, DiffOptions, Entry, EntryKind, LayerSink, TarSink, Time, UnpackOptions, unpack,
    write_tar,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::{flavor, is_root, open, sink};

/// A name in a tree that a layer could have been.
#[derive(Debug, Clone)]
enum Node {
    File(Vec<u8>),
    /// Another name of one of the files before it, counted from the first.
    Link(usize),
    Directory {
        opaque: bool,
        children: BTreeMap<Vec<u8>, (Self, Metadata)>,
    },
    Symlink(Vec<u8>),
    Fifo,
    Device(bool, u32, u32),
    Whiteout,
}

#[derive(Debug, Clone)]
struct Metadata {
    mode: u32,
    owner: (u32, u32),
    seconds: u32,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let any = vec(any::<u8>(), 1..20).prop_filter("a name", |name| {
        !name.contains(&0) && !name.contains(&b'/') && !name.starts_with(b".")
    });
    prop_oneof![
        6 => "[a-c.]{1,3}".prop_map(String::into_bytes)
            .prop_filter("a name", |name| !matches!(&name[..], b"." | b"..")),
        1 => any,
        1 => "[a-z]{90,250}".prop_map(String::into_bytes),
    ]
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let id = || prop_oneof![3 => Just(0), 1 => 0..70_000_u32, 1 => Just(3_000_000)];
    let xattrs = btree_map("[a-z]{1,8}", vec(any::<u8>(), 0..40), 0..3);
    (0..0o10000_u32, id(), id(), any::<u32>(), xattrs).prop_map(
        |(mode, uid, gid, seconds, xattrs)| {
            // Without privilege one's own files must be readable.
            let mode = if is_root() { mode } else { mode | 0o400 };
            let own = || (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            let owner = if is_root() { (uid, gid) } else { own() };
            let key = |name: &String| format!("user.{name}").into_bytes();
            let xattrs = xattrs.iter().map(|(name, value)| (key(name), value.clone())).collect();
            Metadata { mode, owner, seconds, xattrs }
        },
    )
}

fn node() -> impl Strategy<Value = (Node, Metadata)> {
    let leaf = prop_oneof![
        6 => vec(any::<u8>(), 0..2000).prop_map(Node::File),
        2 => any::<usize>().prop_map(Node::Link),
        2 => vec(1..255_u8, 1..200).prop_map(Node::Symlink),
        1 => Just(Node::Fifo),
        1 => (any::<bool>(), 1..4000_u32, 0..1_000_000_u32)
            .prop_map(|(block, major, minor)| Node::Device(block, major, minor)),
        2 => Just(Node::Whiteout),
    ];
    let leaf = (leaf, metadata());
    leaf.prop_recursive(5, 60, 8, |inner| {
        let children = (any::<bool>(), btree_map(name(), inner, 0..8));
        let directory =
            children.prop_map(|(opaque, children)| Node::Directory { opaque, children });
        (directory, metadata())
    })
}

/// Writes the tree in canonical order.
fn write(
    children: &BTreeMap<Vec<u8>, (Node, Metadata)>,
    parent: &[u8],
    files: &mut Vec<(Vec<u8>, Metadata)>,
    tar: &mut TarSink<Vec<u8>>,
) {
    for (name, (node, metadata)) in children {
        let mut path = parent.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend(name);
        let mut entry = Entry::new(path.clone(), EntryKind::Fifo, metadata.mode);
        (entry.uid, entry.gid) = metadata.owner;
        entry.mtime = Time { seconds: metadata.seconds.into(), nanoseconds: 0 };
        let mut content = Content::None;
        match node {
            Node::File(bytes) => {
                entry.kind = EntryKind::File { size: bytes.len() as u64 };
                content = Content::Bytes(bytes);
                entry.xattrs.clone_from(&metadata.xattrs);
                files.push((path, metadata.clone()));
            }
            Node::Link(_) if files.is_empty() => continue,
            Node::Link(number) => {
                let (target, metadata) = files[number % files.len()].clone();
                entry.kind = EntryKind::Hardlink { target };
                entry.mode = metadata.mode;
                (entry.uid, entry.gid) = metadata.owner;
                entry.mtime.seconds = metadata.seconds.into();
                entry.xattrs = metadata.xattrs;
            }
            Node::Directory { opaque, children } => {
                // Without privilege a directory must at least be readable by its owner.
                entry.mode |= if is_root() { 0 } else { 0o700 };
                entry.kind = EntryKind::Directory;
                entry.xattrs.clone_from(&metadata.xattrs);
                tar.entry(&entry, Content::None).unwrap();
                if *opaque {
                    let opaque = Entry::new(path.clone(), EntryKind::Opaque, 0);
                    tar.entry(&opaque, Content::None).unwrap();
                }
                write(children, &path, files, tar);
                continue;
            }
            Node::Symlink(target) => {
                entry.kind = EntryKind::Symlink { target: target.clone() };
                entry.mode = 0o777;
            }
            Node::Fifo => {}
            Node::Device(..) if !is_root() => continue,
            Node::Device(block, major, minor) => {
                let (major, minor) = (*major, *minor);
                entry.kind = match block {
                    true => EntryKind::BlockDevice { major, minor },
                    false => EntryKind::CharDevice { major, minor },
                };
            }
            Node::Whiteout => entry = Entry::new(path, EntryKind::Whiteout, 0),
        }
        tar.entry(&entry, content).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_layer_unpacked_and_read_back_is_the_same_tar(
        tree in btree_map(name(), node(), 0..8),
    ) {
        let mut sink_tar = TarSink::new(Vec::new());
        write(&tree, b"", &mut Vec::new(), &mut sink_tar);
        let (tar, size) = sink_tar.finish().unwrap();
        prop_assert_eq!(size, tar.len() as u64);

        let root = tempfile::tempdir().unwrap();
        let unpacked =
            unpack(&tar[..], sink(root.path(), flavor()), &UnpackOptions::default()).unwrap();
        prop_assert_eq!(&unpacked.finished.warnings, &[]);
        prop_assert_eq!(&unpacked.diff_id.0, &oci::Digest::of(&tar));

        let mut again = Vec::new();
        let options = DiffOptions { flavor: flavor(), lower: None, all_xattrs: true };
        let written = write_tar(open(root.path()), &options, &mut again).unwrap();
        prop_assert_eq!(&written.warnings, &[]);
        prop_assert!(again == tar, "the tars differ");
        prop_assert_eq!(written.diff_id, unpacked.diff_id);
        prop_assert_eq!(written.size, tar.len() as u64);
        make_removable(root.path());
    }

    #[test]
    fn a_damaged_archive_is_unpacked_or_refused(
        changes in vec((0..4096_usize, any::<u8>()), 1..12),
    ) {
        let mut bytes = super::archive::archive(
            "dir d\nfile d/f data=hello pax=mtime:1.5\nlink d/l to=f\nhard h to=d/f\nfile d/.wh.x",
        );
        for (position, byte) in changes {
            let position = position % bytes.len();
            bytes[position] = byte;
            // Most changes would only break a checksum.
            fix_checksum(&mut bytes, position / 512);
        }
        let root = tempfile::tempdir().unwrap();
        let _ = super::unpack_to(root.path(), &bytes);
        make_removable(root.path());
    }
}

fn fix_checksum(bytes: &mut [u8], block: usize) {
    let block = &mut bytes[block * 512..][..512];
    if &block[257..262] == b"ustar" {
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
    }
}

fn make_removable(root: &std::path::Path) {
    if !is_root() {
        // Directories nobody may write into cannot be emptied.
        let parent = open(root.parent().unwrap());
        let name = std::os::unix::ffi::OsStrExt::as_bytes(root.file_name().unwrap());
        cache::layer::remove_tree(parent, name).unwrap();
        std::fs::create_dir(root).unwrap();
    }
}
