//! A stack of layers as this machine can mount it: layer by layer, with the lowest melted together
//! where there are more than one mount takes, or all melted into one where overlayfs does not work.

use std::fs::File;
use std::path::PathBuf;

use cache::layer::{DiffOptions, DirectoryOptions, DirectorySink, Flavor, LayerError, Lower};
use cache::{LayerId, NewLayer, Snapshotter, Store, StoreError};
use executor::{MAX_LAYERS, Root};
use llb::encode::Encoder;

use crate::error::BuildError;
use crate::machine::Machine;

/// Layers that are melted into one. Divides stacks always at the same places, so that the next
/// step finds what this one has melted.
const GROUP: usize = 300;
/// Mounts of a process besides its layers that count against the same limit.
const SPARE: usize = 20;

/// Why layers could not be melted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MeltError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error("failed to open a layer")]
    Open(#[from] std::io::Error),
}

/// What can be mounted in place of the layers `ids`, whose directories are `directories`.
pub(crate) fn mountable(
    machine: &Machine,
    store: &Store,
    ids: &[LayerId],
    directories: Vec<PathBuf>,
) -> Result<Vec<PathBuf>, BuildError> {
    let melted = match machine.snapshotter(store)? {
        Snapshotter::Copy if directories.len() > 1 => {
            melt(machine, store, ids, &directories, Flavor::Plain).map(|whole| vec![whole])
        }
        Snapshotter::Overlay(_) if directories.len() > MAX_LAYERS - SPARE => {
            melt_groups(machine, store, ids, &directories)
        }
        _ => Ok(directories),
    };
    melted.map_err(|e| BuildError::system("failed to put layers together", &e))
}

fn melt_groups(
    machine: &Machine,
    store: &Store,
    ids: &[LayerId],
    directories: &[PathBuf],
) -> Result<Vec<PathBuf>, MeltError> {
    let mut stack = Vec::new();
    let mut rest = 0;
    while stack.len() + directories.len() - rest > MAX_LAYERS - SPARE {
        let group = rest..directories.len().min(rest + GROUP);
        rest = group.end;
        stack.push(melt(
            machine,
            store,
            &ids[group.clone()],
            &directories[group],
            machine.flavor(),
        )?);
    }
    stack.extend_from_slice(&directories[rest..]);
    Ok(stack)
}

/// One directory with what the layers make together; kept, since the next step wants it again.
fn melt(
    machine: &Machine,
    store: &Store,
    ids: &[LayerId],
    directories: &[PathBuf],
    flavor: Flavor,
) -> Result<PathBuf, MeltError> {
    let mut encoder = Encoder::new("melted layers");
    encoder.flag(flavor == Flavor::Plain).list(ids, |e, id| {
        e.text(id.as_str());
    });
    let key = encoder.finish();
    let known = |store: &Store| {
        let record = store.record(&key)?;
        store.layer(record.outputs.first()?.first()?)?.directory
    };
    if let Some(directory) = known(store) {
        return Ok(directory);
    }
    let layer = store.new_layer()?;
    for directory in directories {
        let root = File::open(layer.fs())?;
        let options = DirectoryOptions {
            flavor,
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
    store.put_record(&cache::Record::new(key, vec![vec![id.clone()]]));
    Ok(store.layer(&id).and_then(|info| info.directory).unwrap_or(directory))
}

/// A writable root over what [`mountable`] gave. Where nothing can be mounted, `layer` gets a copy
/// of all files, and [`harvest`] finds out afterwards what changed.
pub(crate) fn writable(
    machine: &Machine,
    store: &Store,
    lowers: &[PathBuf],
    layer: &NewLayer,
) -> Result<Root, BuildError> {
    if machine.snapshotter(store)? != Snapshotter::Copy {
        return Ok(Root::Overlay {
            lowers: lowers.to_vec(),
            upper: layer.fs(),
            work: layer.work(),
        });
    }
    if let Some(whole) = lowers.first() {
        cache::copy_tree(whole, &layer.fs())
            .map_err(|e| BuildError::system("failed to copy the root file system", &e))?;
    }
    Ok(Root::Directory(layer.fs()))
}

/// What a process has written, as a layer: the overlay's upper directory itself, or the changes
/// of a copy.
pub(crate) fn harvest(
    machine: &Machine,
    store: &Store,
    lowers: &[PathBuf],
    written: NewLayer,
) -> Result<NewLayer, BuildError> {
    if machine.snapshotter(store)? != Snapshotter::Copy {
        return Ok(written);
    }
    changes(machine, store, lowers, &written)
        .map_err(|e| BuildError::system("failed to find out what a step changed", &e))
}

fn changes(
    machine: &Machine,
    store: &Store,
    lowers: &[PathBuf],
    written: &NewLayer,
) -> Result<NewLayer, MeltError> {
    let layer = store.new_layer()?;
    let mut sink = DirectorySink::new(
        File::open(layer.fs())?.into(),
        machine.directory_options(Lower::none()),
    )?;
    let merged = File::open(written.fs())?;
    match lowers.first() {
        Some(lower) => cache::layer::diff_trees(File::open(lower)?.into(), &merged, &mut sink)?,
        None => {
            let options = DiffOptions { flavor: Flavor::Plain, lower: None, all_xattrs: true };
            cache::layer::diff(&merged, &options, &mut sink)?
        }
    };
    sink.finish()?;
    Ok(layer)
}

#[cfg(test)]
mod tests {
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
    fn stacks_are_melted_from_below_and_once() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path(), cache::Options::default()).unwrap();
        let machine = Machine::probe();
        let (ids, directories) = layers(&store, 700);
        let most = MAX_LAYERS - SPARE;
        for (count, expected) in [(1, 1), (most, most), (most + 1, most + 2 - GROUP), (700, 102)] {
            let (ids, directories) = (&ids[..count], &directories[..count]);
            let melted = melt_groups(&machine, &store, ids, directories).unwrap();
            assert_eq!(melted.len(), expected, "{count} layers");
            assert_eq!(melted.last(), directories.last());
            // The next step finds what this one has melted.
            assert_eq!(melt_groups(&machine, &store, ids, directories).unwrap(), melted);
        }
        let melted = melt_groups(&machine, &store, &ids, &directories).unwrap();
        for (place, last) in [(0, GROUP - 1), (1, 2 * GROUP - 1), (2, 2 * GROUP)] {
            let all = std::fs::read_to_string(melted[place].join("all")).unwrap();
            assert_eq!(all, last.to_string());
        }
        assert_eq!(std::fs::read_dir(&melted[1]).unwrap().count(), GROUP + 1);
        // Whatever is added on top, the groups below stay.
        let (more_ids, more) = layers(&store, 1);
        let (ids, directories) = ([ids, more_ids].concat(), [directories, more].concat());
        let taller = melt_groups(&machine, &store, &ids, &directories).unwrap();
        assert_eq!(taller[..melted.len()], melted);
    }
}
