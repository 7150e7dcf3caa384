//! Root file systems over layers, as this machine can have them.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use cache::layer::{DiffOptions, DirectorySink, Flavor, Lower};
use cache::{LayerId, NewLayer, Snapshotter, Store};
use executor::Root;

use crate::error::BuildError;
use crate::layer::flatten::{FlattenError, flatten_lowest, flattened_of};
use crate::machine::Machine;
use crate::tree::{self, TreeError, View};

const PUT_TOGETHER: &str = "failed to put layers together";

/// A stack of layers, ready to be mounted; one directory with all files where overlayfs does not work.
#[derive(Clone)]
pub(crate) struct Rootfs {
    machine: Arc<Machine>,
    store: Store,
    lowers: Vec<PathBuf>,
}

impl Rootfs {
    /// Over the layers `ids`, whose directories are `directories`, the bottom one first.
    pub(super) fn over(
        machine: &Arc<Machine>,
        store: &Store,
        ids: &[LayerId],
        directories: Vec<PathBuf>,
    ) -> Result<Self, BuildError> {
        let lowers = mountable(machine, store, ids, directories)?;
        Ok(Self { machine: machine.clone(), store: store.clone(), lowers })
    }

    /// With nothing in it.
    pub(crate) fn empty(machine: &Arc<Machine>, store: &Store) -> Self {
        Self { machine: machine.clone(), store: store.clone(), lowers: Vec::new() }
    }

    /// The directories to mount, the bottom one first.
    pub(crate) fn lowers(&self) -> &[PathBuf] {
        &self.lowers
    }

    /// Opens it for reading.
    pub(crate) fn view(&self) -> Result<View, TreeError> {
        tree::view_of_layers(self.machine.host(), &self.lowers)
    }

    /// A root that can be written to: what is written goes to `layer`. Where nothing can be mounted,
    /// `layer` gets a copy of all files, and [`Self::collect_changes`] finds out afterwards what changed.
    pub(crate) fn writable(&self, layer: &NewLayer) -> Result<Root, BuildError> {
        if self.machine.snapshotter(&self.store)? != Snapshotter::Copy {
            let lowers = self.lowers.clone();
            return Ok(Root::Overlay { lowers, upper: layer.fs(), work: layer.work() });
        }
        if let Some(whole) = self.lowers.first() {
            cache::copy_tree(whole, &layer.fs()).map_err(|e| {
                BuildError::system("failed to copy the root file system").because(e)
            })?;
        }
        Ok(Root::Directory(layer.fs()))
    }

    /// What a process has written, as a layer: the overlay's upper directory itself, or the changes
    /// of a copy.
    pub(crate) fn collect_changes(&self, written: NewLayer) -> Result<NewLayer, BuildError> {
        if self.machine.snapshotter(&self.store)? != Snapshotter::Copy {
            return Ok(written);
        }
        self.changes(&written)
            .map_err(|e| BuildError::system("failed to find out what a step changed").because(e))
    }

    fn changes(&self, written: &NewLayer) -> Result<NewLayer, FlattenError> {
        let lower = self.lowers.first().map(File::open).transpose()?;
        self.difference(lower.map(OwnedFd::from), File::open(written.fs())?.into())
    }

    /// What this tree has and lacks beside `base`, as a layer over that.
    pub(crate) fn changes_over(&self, base: &Self) -> Result<NewLayer, BuildError> {
        self.differing(base).map_err(|e| BuildError::system(PUT_TOGETHER).because(e))
    }

    fn differing(&self, base: &Self) -> Result<NewLayer, FlattenError> {
        match self.open()? {
            Some(whole) => self.difference(base.open()?, whole),
            None => {
                let nothing = self.store.new_layer()?;
                self.difference(base.open()?, File::open(nothing.fs())?.into())
            }
        }
    }

    /// The tree, open; nothing if it is empty.
    fn open(&self) -> Result<Option<OwnedFd>, FlattenError> {
        match &self.lowers[..] {
            [] => Ok(None),
            several => Ok(Some(executor::open_overlay(self.machine.host(), several)?)),
        }
    }

    /// What changed from one tree to another.
    fn difference(
        &self,
        lower: Option<OwnedFd>,
        merged: OwnedFd,
    ) -> Result<NewLayer, FlattenError> {
        let layer = self.store.new_layer()?;
        let mut sink = DirectorySink::new(
            File::open(layer.fs())?.into(),
            self.machine.directory_options(Lower::none()),
        )?;
        match lower {
            Some(lower) => cache::layer::diff_trees(lower, &merged, &mut sink)?,
            None => {
                let options = DiffOptions { flavor: Flavor::Plain, lower: None, all_xattrs: true };
                cache::layer::diff(&merged, &options, &mut sink)?
            }
        };
        sink.finish()?;
        Ok(layer)
    }
}

/// What can be mounted in place of the layers `ids`, whose directories are `directories`.
fn mountable(
    machine: &Machine,
    store: &Store,
    ids: &[LayerId],
    directories: Vec<PathBuf>,
) -> Result<Vec<PathBuf>, BuildError> {
    let count = match machine.snapshotter(store)? {
        Snapshotter::Copy if directories.len() > 1 => directories.len(),
        Snapshotter::Copy => 0,
        Snapshotter::Overlay(_) => flattened_of(directories.len()),
    };
    flatten_lowest(machine, store, ids, directories, count)
        .map_err(|e| BuildError::system(PUT_TOGETHER).because(e))
}
