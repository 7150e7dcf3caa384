//! Stages on their way to the graph.

use std::borrow::Cow;
use std::rc::Rc;

use llb::Input;
use oci::{ContainerConfig, History, ImageConfig, Platform};

use super::environment::Environment;
use super::options::{ImageRequest, NamedContext};
use super::outline::ArgumentsTaken;
use crate::check::Place;
use crate::instruction::{Instruction, Stage};

/// The system whose paths have backslashes.
pub(super) const WINDOWS: &str = "windows";

/// Number of a stage in [`super::Lowering::stages`].
pub(super) type StageId = usize;

/// An instruction, and the stages it takes files from.
#[derive(Debug)]
pub(super) struct Command<'d> {
    pub(super) instruction: Cow<'d, Instruction>,
    /// For `COPY`, the one source if `--from` is there; for `RUN`, one for each mount.
    pub(super) sources: Vec<Option<StageId>>,
    /// Comes from an `ONBUILD` of the base.
    pub(super) from_onbuild: bool,
}

/// Why a stage is there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin<'d> {
    /// `FROM`.
    From(&'d Stage),
    /// `--from` of something that is no stage: an image or a named context.
    Source(Place<'d>),
}

impl<'d> Origin<'d> {
    pub(super) fn place(&self) -> Place<'d> {
        match self {
            Self::From(stage) => Place::stage(stage),
            Self::Source(place) => *place,
        }
    }
}

/// A named context that takes the place of a stage or image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Override<'d> {
    /// Its name with the platform, if it has one.
    pub(super) name: &'d str,
    pub(super) context: &'d NamedContext,
}

/// What a stage is at one point: files, variables, config.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// The files, `None` while there are none.
    pub(super) tree: Option<Input>,
    /// Config of the image; its history is kept apart, in [`StageState::history`].
    pub(super) image: Rc<ImageConfig>,
    /// What `$name` means, and what a process sees.
    pub(super) environment: Rc<Environment>,
    /// `ARG`s so far, with their values, for the history.
    pub(super) arguments: Rc<Vec<(String, String)>>,
    /// A `WORKDIR` was there, so a relative one is well defined.
    pub(super) workdir_set: bool,
}

impl State {
    pub(super) fn config(&mut self) -> &mut ContainerConfig {
        &mut self.image_mut().config
    }

    pub(super) fn image_mut(&mut self) -> &mut ImageConfig {
        Rc::make_mut(&mut self.image)
    }

    pub(super) fn set_variable(&mut self, name: &str, value: &str) {
        Rc::make_mut(&mut self.environment).set(name, value);
    }

    /// The working directory with `/`, the root if none is set.
    pub(super) fn directory(&self) -> Cow<'_, str> {
        match self.image.config.working_dir.as_str() {
            "" => Cow::Borrowed("/"),
            directory if self.image.os == WINDOWS => Cow::Owned(directory.replace('\\', "/")),
            directory => Cow::Borrowed(directory),
        }
    }

    /// Sets the working directory, in the image's own notation.
    pub(super) fn set_directory(&mut self, directory: &str) {
        let is_windows = self.image.os == WINDOWS;
        let directory =
            if is_windows { directory.replace('/', "\\") } else { directory.to_owned() };
        if self.image.config.working_dir != directory {
            self.config().working_dir = directory;
        }
    }
}

/// How far a stage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Its base is not known yet.
    Waiting,
    /// Its base is known.
    Resolved,
    /// Its instructions are in the graph.
    Dispatched,
}

/// One stage, or one `--from` source that is none.
#[derive(Debug)]
pub(super) struct StageState<'d> {
    pub(super) origin: Origin<'d>,
    /// What `FROM` says, variables expanded.
    pub(super) base_name: String,
    /// How to go on where an argument in `FROM` has no value.
    pub(super) unset: Option<String>,
    /// What it is called in names of steps: its name, `stage-N`, or nothing.
    pub(super) label: String,
    pub(super) platform: Option<Platform>,
    pub(super) named_context: Option<Override<'d>>,
    /// The earlier stage it is built on.
    pub(super) base: Option<StageId>,
    /// How many stages that the target needs are still to be built on this one.
    pub(super) heirs: usize,
    /// The stages its instructions take files from.
    pub(super) sources: Vec<(StageId, Place<'d>)>,
    pub(super) commands: Vec<Command<'d>>,
    pub(super) progress: Progress,
    /// The base stage's `ONBUILD`s are among the commands.
    pub(super) has_triggers: bool,
    /// The instruction at hand is an `ONBUILD` of the base.
    pub(super) in_trigger: bool,
    pub(super) ignore_cache: bool,
    /// Steps in all, and how many have been named.
    pub(super) steps_total: usize,
    pub(super) steps_named: usize,
    pub(super) state: State,
    /// The arguments that count in it.
    pub(super) taken: ArgumentsTaken,
    /// What the stage's own instructions add to the history.
    pub(super) history: Vec<History>,
    /// Image at the bottom.
    pub(super) image: Option<ImageRequest>,
    /// Places of the last `CMD`, `ENTRYPOINT` and `HEALTHCHECK`.
    pub(super) last_cmd: Option<Place<'static>>,
    pub(super) last_entrypoint: Option<Place<'static>>,
    pub(super) last_healthcheck: Option<Place<'static>>,
}

impl<'d> StageState<'d> {
    pub(super) fn new(origin: Origin<'d>, base_name: String) -> Self {
        Self {
            origin,
            base_name,
            unset: None,
            label: String::new(),
            platform: None,
            named_context: None,
            base: None,
            heirs: 0,
            sources: Vec::new(),
            commands: Vec::new(),
            progress: Progress::Waiting,
            has_triggers: false,
            in_trigger: false,
            ignore_cache: false,
            steps_total: 0,
            steps_named: 0,
            state: State::default(),
            taken: ArgumentsTaken::default(),
            history: Vec::new(),
            image: None,
            last_cmd: None,
            last_entrypoint: None,
            last_healthcheck: None,
        }
    }

    /// The name after `AS`.
    pub(super) fn name(&self) -> Option<String> {
        match self.origin {
            Origin::From(stage) => stage.name.as_ref().map(|name| name.value.clone()),
            Origin::Source(_) => None,
        }
    }

    /// What a stage starts with that is built on this one. The last of them gets it all but the tree,
    /// which others copy from: of a long chain of stages, only one has a config at any time.
    pub(super) fn bequeath(&mut self) -> State {
        self.heirs -= 1;
        match self.heirs {
            0 => {
                let tree = self.state.tree;
                std::mem::replace(&mut self.state, State { tree, ..State::default() })
            }
            _ => self.state.clone(),
        }
    }

    /// A `--from` source that is no stage.
    pub(super) fn is_external(&self) -> bool {
        matches!(self.origin, Origin::Source(_))
    }
}
