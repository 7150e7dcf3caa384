//! File operations: `COPY`, `ADD`, `WORKDIR` and the like become a layer without a process and
//! without mounting what they change.
//!
//! The actions of an operation are worked out in memory first, as a [`Plan`] of the new layer over the
//! tree below; nothing is written until all of them are known to succeed. Then the plan goes into a
//! directory that later steps mount, or straight into the layer's tar when no step will look at it.
//! Both come from the same list of entries, so both have the same `diff_id`. The semantics, down to
//! the wording of errors, are BuildKit's.
//!
//! Read [`apply`], then `plan` (the layer in the making), `copy` and `edit` (the actions), `emit`,
//! `directory` and `change` (what may lie over the directory before).

mod archive;
mod change;
mod copy;
mod directory;
mod edit;
mod emit;
mod manifest;
mod mode;
mod owner;
mod plan;
mod taken_in;
mod whole;
mod written;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cache::layer::{DirectoryOptions, LayerError, LayerSink, Time};
use llb::{FileActionKind, FileInput, FileOp};

use crate::tree::{TreeError, View};

pub use archive::is_archive;
pub use change::Small;
pub use manifest::{InvalidManifest, Manifest};
pub use mode::{InvalidMode, SymbolicMode};
pub use plan::Plan;
pub use taken_in::input_digest;
pub(crate) use taken_in::{TakenIn, digest_of_taken_in, taken_in};
pub(crate) use whole::{copy_directory, copy_job, copy_out, digest_of_all};
pub use written::{TarBefore, Written};

/// What an operation works on.
pub struct Job<'a> {
    /// The operation.
    pub op: &'a FileOp,
    /// Which of its outputs is wanted.
    pub output: usize,
    /// The vertex's inputs, by number; `None` for an empty tree.
    pub inputs: &'a [Option<&'a View>],
    /// Time of what is made from nothing, where the operation names none: a result must not depend on
    /// the clock.
    pub default_time: Time,
    /// A directory for temporary files, on the file system of the target.
    pub scratch: &'a Path,
    /// The machine, for mounting intermediate results.
    pub host: &'a executor::Host,
    /// Whether nobody wants the result any more; asked ahead of each file.
    pub is_stopped: &'a (dyn Fn() -> bool + Sync),
}

/// Where the layer goes.
pub enum Target<'a> {
    /// An empty directory, which becomes overlayfs's upper directory.
    Directory {
        /// The directory.
        path: &'a Path,
        /// How whiteouts and owners are written; made for each thread.
        options: &'a (dyn Fn() -> DirectoryOptions + Sync),
        /// What the same operation made last time.
        previous: Option<Previous<'a>>,
    },
    /// A sink that takes the entries in the order of the tar.
    Sink(&'a mut dyn LayerSink),
    /// The same, when the layer's directory was written already: contents come from there, whatever
    /// happened to the inputs meanwhile.
    Again {
        /// The sink.
        sink: &'a mut dyn LayerSink,
        /// What was written.
        written: Written,
    },
}

/// The layer that the same operation made last time. Where little has changed, the new directory may
/// hold that alone, to be mounted over this one; otherwise it shares nothing with it, since a step
/// would see that.
pub struct Previous<'a> {
    /// What [`Applied::manifest`] said of it.
    pub manifest: &'a Manifest,
    /// What is always written whole.
    pub small: Small,
}

/// What was written.
#[derive(Debug, Default)]
pub struct Applied {
    /// What is in the layer's directory, for the next run of the same operation; empty for a change.
    pub manifest: Manifest,
    /// The directory holds what changed, and belongs over the previous one.
    pub is_change: bool,
    /// Bytes in files.
    pub bytes: u64,
    /// Files.
    pub files: u64,
    /// What was left out, and why.
    pub warnings: Vec<String>,
}

/// Why a file operation failed.
#[derive(Debug, thiserror::Error)]
pub enum FileOpError {
    /// A tree could not be read, or a path in it is not what the operation needs.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A directory of the source meets something else at the destination.
    #[error("cannot copy to non-directory: {path}")]
    NotDirectory {
        /// Path at the destination.
        path: String,
    },
    /// A file of the source meets a directory at the destination.
    #[error("cannot replace to directory {path} with file")]
    IsDirectory {
        /// Path at the destination.
        path: String,
    },
    /// A wildcard that must match something matches nothing.
    #[error("{source_path} not found")]
    NoMatch {
        /// The source as written.
        source_path: String,
    },
    /// The destination's parent must exist and does not.
    #[error("failed to stat {path}: no such file or directory")]
    NoParent {
        /// The destination as written.
        path: String,
    },
    /// `rm` of the root.
    #[error("cannot remove the root directory")]
    RemovesRoot,
    /// The owner's name does not resolve.
    #[error("failed to find the owner")]
    Owner(#[from] executor::UserError),
    /// The caller's user namespace does not have the owner.
    #[error("`{path}` cannot have this owner: {source}")]
    Unmapped {
        /// The destination as written.
        path: String,
        /// Which id.
        source: executor::UserError,
    },
    /// The owner's name is to be looked up in a tree that is not there.
    #[error("no user or group `{name}`: the stage has no base image to look it up in")]
    NoOwnerTree {
        /// The name.
        name: String,
    },
    /// The symbolic mode is none.
    #[error(transparent)]
    Mode(#[from] InvalidMode),
    /// An archive could not be extracted.
    #[error("failed to extract `{path}`")]
    Extract {
        /// The archive's path in its tree.
        path: String,
        /// Why.
        source: LayerError,
    },
    /// The layer could not be written.
    #[error("failed to write the layer")]
    Write(#[from] LayerError),
    /// The target or a temporary file could not be opened.
    #[error("failed to open `{}`", path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Nobody wants the result any more.
    #[error("canceled")]
    Stopped,
    /// The operation refers to an input or action that it does not have.
    #[error("malformed file operation: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
}

/// Which tree output `output` of `op` is a change of: an input or the empty tree.
pub fn base(op: &FileOp, output: usize) -> Result<FileInput, FileOpError> {
    let mut at = producer(op, output)?;
    // Actions refer to earlier ones only, so this ends.
    loop {
        match op.actions[at].input {
            FileInput::Action(earlier) if earlier < at => at = earlier,
            FileInput::Action(_) => {
                return Err(FileOpError::Malformed { what: "a loop of actions" });
            }
            input => return Ok(input),
        }
    }
}

fn producer(op: &FileOp, output: usize) -> Result<usize, FileOpError> {
    op.actions
        .iter()
        .position(|action| action.output == Some(output))
        .ok_or(FileOpError::Malformed { what: "no action makes this output" })
}

/// Runs the actions of `job` and writes the layer to `target`. Blocks; uses rayon's threads.
pub fn apply(job: &Job<'_>, target: Target<'_>) -> Result<Applied, FileOpError> {
    plan(job)?.write(target, job.is_stopped)
}

/// Runs the actions of `job`: the layer, before anything is written.
pub fn plan<'a>(job: &'a Job<'a>) -> Result<Plan<'a>, FileOpError> {
    let mut run = Run { job, trees: Vec::new() };
    let at = producer(job.op, job.output)?;
    let mut plan = run.plan(at)?;
    plan.date_changed_directories();
    Ok(plan)
}

/// One run of the actions.
struct Run<'a> {
    job: &'a Job<'a>,
    /// Results of actions that others copy from, written out so that they can be read.
    trees: Vec<(usize, Arc<Intermediate>)>,
}

/// The result of an action as a tree.
struct Intermediate {
    view: View,
    _directory: tempfile::TempDir,
}

impl Applied {
    /// Counts the file that `item` is, if it is one.
    fn count(&mut self, item: &emit::Item<'_, '_>) {
        if let Some(file) = item.file() {
            self.files += 1;
            self.bytes += file.size;
        }
    }
}

impl<'a> Run<'a> {
    /// The layer after action `at`.
    fn plan(&mut self, at: usize) -> Result<Plan<'a>, FileOpError> {
        let mut chain = vec![at];
        let lower = loop {
            let first = *chain.last().expect("the chain starts with an action");
            match self.job.op.actions[first].input {
                FileInput::Action(earlier) if earlier < first => chain.push(earlier),
                FileInput::Action(_) => {
                    return Err(FileOpError::Malformed { what: "a loop of actions" });
                }
                FileInput::Input(input) => break self.input(input)?,
                FileInput::Scratch => break None,
            }
        };
        let mut plan = Plan::new(lower);
        for at in chain.into_iter().rev() {
            self.run(at, &mut plan)?;
        }
        Ok(plan)
    }

    fn run(&mut self, at: usize, plan: &mut Plan<'a>) -> Result<(), FileOpError> {
        let action = &self.job.op.actions[at];
        let time = self.job.default_time;
        match &action.kind {
            FileActionKind::Copy(copy) => {
                let owner =
                    owner::resolve(copy.owner.as_ref(), &copy.dest, self.job, &mut plan.warnings)?;
                match action.secondary {
                    None | Some(FileInput::Scratch) => {
                        let source = copy::From::Empty;
                        copy::copy(plan, copy, source, owner, self.job)
                    }
                    Some(FileInput::Input(input)) => {
                        let source = match self.input(input)? {
                            Some(view) => copy::From::Input(view),
                            None => copy::From::Empty,
                        };
                        copy::copy(plan, copy, source, owner, self.job)
                    }
                    Some(FileInput::Action(earlier)) => {
                        let source = copy::From::Action(self.tree(earlier, at)?);
                        copy::copy(plan, copy, source, owner, self.job)
                    }
                }
            }
            FileActionKind::Mkfile(op) => {
                let owner =
                    owner::resolve(op.owner.as_ref(), &op.path, self.job, &mut plan.warnings)?;
                edit::mkfile(plan, op, owner, time)
            }
            FileActionKind::Mkdir(op) => {
                let owner =
                    owner::resolve(op.owner.as_ref(), &op.path, self.job, &mut plan.warnings)?;
                edit::mkdir(plan, op, owner, time)
            }
            FileActionKind::Symlink(op) => {
                let owner =
                    owner::resolve(op.owner.as_ref(), &op.path, self.job, &mut plan.warnings)?;
                edit::symlink(plan, op, owner, time)
            }
            FileActionKind::Rm(op) => edit::rm(plan, op),
        }
    }

    fn input(&self, input: usize) -> Result<Option<&'a View>, FileOpError> {
        let what = "no such input";
        self.job.inputs.get(input).copied().ok_or(FileOpError::Malformed { what })
    }

    /// The result of action `earlier` as a tree that `at` can copy from.
    fn tree(&mut self, earlier: usize, at: usize) -> Result<Arc<Intermediate>, FileOpError> {
        if earlier >= at {
            return Err(FileOpError::Malformed { what: "a loop of actions" });
        }
        if let Some((_, tree)) = self.trees.iter().find(|(action, _)| *action == earlier) {
            return Ok(Arc::clone(tree));
        }
        let plan = self.plan(earlier)?;
        let tree = Arc::new(self.write_out(&plan)?);
        self.trees.push((earlier, Arc::clone(&tree)));
        Ok(tree)
    }

    fn write_out(&self, plan: &Plan<'_>) -> Result<Intermediate, FileOpError> {
        let scratch = self.job.scratch;
        let directory = tempfile::tempdir_in(scratch)
            .map_err(|source| FileOpError::Open { path: scratch.into(), source })?;
        let flavor = match self.job.host.userxattr() {
            true => cache::layer::Flavor::User,
            false => cache::layer::Flavor::Trusted,
        };
        let single_id = self.job.host.single_id();
        let options =
            move || DirectoryOptions { ignore_owner: single_id, ..DirectoryOptions::new(flavor) };
        let target =
            Target::Directory { path: directory.path(), options: &options, previous: None };
        plan.write(target, self.job.is_stopped)?;
        let mut layers = plan.lower.map_or(Vec::new(), |view| view.layers().to_vec());
        layers.push(directory.path().into());
        let view = crate::tree::view_of_layers(self.job.host, &layers)?;
        Ok(Intermediate { view, _directory: directory })
    }
}
