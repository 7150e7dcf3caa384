//! A stack of layers as this machine can mount it: layer by layer, with the lowest flattened into one
//! where there are more than one mount takes, or all of them where overlayfs does not work.

use std::fs::File;
use std::path::PathBuf;

use cache::layer::{DiffOptions, DirectoryOptions, DirectorySink, Flavor, LayerError, Lower};
use cache::{LayerId, Store, StoreError};
use executor::MAX_LAYERS;
use llb::encode::Encoder;

use crate::machine::Machine;

/// As many layers are flattened as it takes, but always a multiple of this, so that the next step finds
/// what this one has flattened.
const GROUP: usize = 300;
/// Domain of the memos of flattened layers.
const FLATTENED: &str = "flattened layers";
/// Mounts of a process besides its layers that count against the same limit.
const SPARE: usize = 20;

/// Why layers could not be flattened.
#[derive(Debug, thiserror::Error)]
pub(super) enum FlattenError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error("failed to open a layer")]
    Open(#[from] std::io::Error),
    #[error(transparent)]
    Mount(#[from] executor::OverlayError),
}

/// How many of a stack's layers are flattened into one, so that it can be mounted.
pub(super) fn flattened_of(layers: usize) -> usize {
    let too_many = (layers + 1).saturating_sub(MAX_LAYERS - SPARE);
    if too_many > 1 { too_many.next_multiple_of(GROUP) } else { 0 }
}

/// The stack with its lowest `count` layers as one.
pub(super) fn flatten_lowest(
    machine: &Machine,
    store: &Store,
    ids: &[LayerId],
    mut directories: Vec<PathBuf>,
    count: usize,
) -> Result<Vec<PathBuf>, FlattenError> {
    if count > 0 {
        let flattened = flatten(machine, store, &ids[..count], &directories[..count])?;
        directories.splice(..count, [flattened]);
    }
    Ok(directories)
}

/// One directory with the files that the layers have together when nothing is below them: it needs
/// no marks of what is deleted. Kept, since the next step wants it again.
fn flatten(
    machine: &Machine,
    store: &Store,
    ids: &[LayerId],
    directories: &[PathBuf],
) -> Result<PathBuf, FlattenError> {
    let mut encoder = Encoder::new(FLATTENED);
    encoder.list(ids, |e, id| {
        e.text(id.as_str());
    });
    let key = encoder.finish();
    let known = |store: &Store| {
        let memo = store.memo(FLATTENED, &key)?;
        store.layer(memo.layers.first()?)?.directory
    };
    if let Some(directory) = known(store) {
        return Ok(directory);
    }
    let layer = store.new_layer()?;
    for directory in directories {
        let root = File::open(layer.fs())?;
        let options = DirectoryOptions {
            flavor: Flavor::Plain,
            ignore_owner: machine.host().single_id(),
            lower: Lower::none(),
        };
        let mut sink = DirectorySink::new(root.into(), options)?;
        let upper = File::open(directory)?;
        let read = DiffOptions { flavor: machine.flavor(), lower: None, all_xattrs: true };
        cache::layer::diff(&upper, &read, &mut sink)?;
        sink.finish()?;
    }
    let directory = layer.fs();
    let id = store.seal(layer);
    store.put_memo(FLATTENED, &key, &cache::Memo::new(vec![id.clone()]));
    Ok(store.layer(&id).and_then(|info| info.directory).unwrap_or(directory))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use cache::layer::{Content, Entry, EntryKind, LayerSink};

    use super::*;

    /// Layers that each write `all` and a file of their own.
    fn layers(store: &Store, count: usize) -> (Vec<LayerId>, Vec<PathBuf>) {
        let layer = |number: usize| {
            let layer = store.new_layer().unwrap();
            let fs = layer.fs();
            std::fs::write(fs.join("all"), number.to_string()).unwrap();
            std::fs::write(fs.join(format!("own{number}")), "").unwrap();
            (store.seal(layer), fs)
        };
        (0..count).map(layer).unzip()
    }

    #[test]
    fn stacks_are_flattened_from_below_and_once() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path(), cache::Options::default()).unwrap();
        let machine = Machine::probe(executor::Emulators::default(), Vec::new());
        let (ids, directories) = layers(&store, 700);
        let most = MAX_LAYERS - SPARE;
        let flattened = |ids: &[LayerId], directories: &[PathBuf]| {
            let count = flattened_of(ids.len());
            flatten_lowest(&machine, &store, ids, directories.to_vec(), count).unwrap()
        };
        for (count, expected) in [(1, 1), (most, most), (most + 1, most + 2 - GROUP), (700, 101)] {
            let (ids, directories) = (&ids[..count], &directories[..count]);
            let stack = flattened(ids, directories);
            assert_eq!(stack.len(), expected, "{count} layers");
            assert_eq!(stack.last(), directories.last());
            // The next step finds what this one has flattened.
            assert_eq!(flattened(ids, directories), stack);
        }
        let stack = flattened(&ids, &directories);
        for (place, last) in [(0, 2 * GROUP - 1), (1, 2 * GROUP)] {
            let all = std::fs::read_to_string(stack[place].join("all")).unwrap();
            assert_eq!(all, last.to_string());
        }
        assert_eq!(std::fs::read_dir(&stack[0]).unwrap().count(), 2 * GROUP + 1);
        // Whatever is added on top, what is flattened below stays.
        let (more_ids, more) = layers(&store, 1);
        let taller = flattened(&[ids, more_ids].concat(), &[directories, more].concat());
        assert_eq!(taller[..stack.len()], stack);
    }

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry::new(path, kind, 0o755)
    }

    fn attribute(mut entry: Entry, name: &str) -> Entry {
        entry.xattrs.insert(name.into(), b"1".to_vec());
        entry
    }

    /// A layer with these entries; the content of a file is its path.
    fn layer(machine: &Machine, store: &Store, entries: &[Entry]) -> (LayerId, PathBuf) {
        let layer = store.new_layer().unwrap();
        let root = File::open(layer.fs()).unwrap();
        let mut sink =
            DirectorySink::new(root.into(), machine.directory_options(Lower::none())).unwrap();
        for entry in entries {
            sink.entry(entry, Content::Bytes(&entry.path)).unwrap();
        }
        sink.finish().unwrap();
        let directory = layer.fs();
        (store.seal(layer), directory)
    }

    /// What is below a directory, sorted, with the names of attributes.
    fn listed(root: &Path) -> Vec<String> {
        let mut sink = Listing(Vec::new());
        let read = DiffOptions { flavor: Flavor::Plain, lower: None, all_xattrs: true };
        cache::layer::diff(File::open(root).unwrap(), &read, &mut sink).unwrap();
        sink.0
    }

    struct Listing(Vec<String>);

    impl LayerSink for Listing {
        fn entry(&mut self, entry: &Entry, _: Content<'_>) -> Result<(), LayerError> {
            let path = String::from_utf8_lossy(&entry.path);
            let kind = match &entry.kind {
                EntryKind::File { .. } => String::new(),
                EntryKind::Directory => "/".to_owned(),
                EntryKind::Hardlink { target } => {
                    format!(" = {}", String::from_utf8_lossy(target))
                }
                kind => format!(" {kind:?}"),
            };
            let names = entry.xattrs.keys().map(|name| String::from_utf8_lossy(name));
            let attributes: String = names.map(|name| format!(" {name}")).collect();
            if !path.is_empty() {
                self.0.push(format!("{path}{kind}{attributes}"));
            }
            Ok(())
        }
    }

    /// What it shows, the entries of each layer, and what is left of them.
    type Case<'a> = (&'a str, Vec<Vec<Entry>>, &'a [&'a str]);

    #[test]
    fn what_a_later_layer_takes_away_is_not_in_the_flattened_one() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path(), cache::Options::default()).unwrap();
        let machine = Machine::probe(executor::Emulators::default(), Vec::new());
        machine.snapshotter(&store).unwrap();
        let file = |path: &str| entry(path, EntryKind::File { size: path.len() as u64 });
        let directory = |path: &str| entry(path, EntryKind::Directory);
        let whiteout = |path: &str| entry(path, EntryKind::Whiteout);
        let opaque = |path: &str| entry(path, EntryKind::Opaque);
        let hard_link =
            |path: &str, target: &str| entry(path, EntryKind::Hardlink { target: target.into() });
        let tree = || vec![directory("d"), file("d/x"), directory("d/y"), file("d/y/z")];
        let cases: Vec<Case<'_>> = vec![
            ("a file is deleted", vec![vec![file("a"), file("b")], vec![whiteout("a")]], &["b"]),
            (
                "one in a directory",
                vec![tree(), vec![directory("d"), whiteout("d/x")]],
                &["d/", "d/y/", "d/y/z"],
            ),
            ("a directory is deleted", vec![tree(), vec![file("b")], vec![whiteout("d")]], &["b"]),
            ("it is made again", vec![tree(), vec![whiteout("d")], vec![directory("d")]], &["d/"]),
            (
                "it hides what was there",
                vec![tree(), vec![directory("d"), opaque("d"), file("d/n")]],
                &["d/", "d/n"],
            ),
            (
                "a file becomes a directory",
                vec![vec![file("d")], tree()],
                &["d/", "d/x", "d/y/", "d/y/z"],
            ),
            ("a directory becomes a file", vec![tree(), vec![file("d")]], &["d"]),
            ("and a directory again", vec![tree(), vec![file("d")], vec![directory("d")]], &["d/"]),
            (
                "one of two names is deleted",
                vec![
                    vec![file("a"), hard_link("b", "a"), hard_link("c", "a")],
                    vec![whiteout("a")],
                ],
                &["b", "c = b"],
            ),
            (
                "one of two names is written",
                vec![vec![file("a"), hard_link("b", "a")], vec![file("a")]],
                &["a", "b"],
            ),
            (
                "a link replaces a file",
                vec![vec![file("a"), file("b")], vec![file("a"), hard_link("b", "a")]],
                &["a", "b = a"],
            ),
            (
                "an attribute is gone",
                vec![
                    vec![attribute(directory("d"), "user.a"), attribute(file("f"), "user.a")],
                    vec![attribute(directory("d"), "user.b"), file("f")],
                ],
                &["d/ user.b", "f"],
            ),
        ];
        for (case, layers, expected) in cases {
            let layers = layers.iter().map(|entries| layer(&machine, &store, entries));
            let (ids, directories): (Vec<_>, Vec<_>) = layers.unzip();
            let count = ids.len();
            let stack = flatten_lowest(&machine, &store, &ids, directories, count).unwrap();
            assert_eq!(stack.len(), 1, "{case}");
            assert_eq!(listed(&stack[0]), expected, "{case}");
        }
    }
}
