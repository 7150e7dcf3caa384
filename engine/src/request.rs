//! What is asked of a build. Nothing here is specific to a command line or a wire format.

mod cache;
mod output;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

pub use cache::{CacheFormat, CacheLocation, CacheMode, CacheSource, CacheTarget};
use executor::{HostAddress, Limits};
use oci::{Platform, Reference};
pub use output::{
    Compression, CompressionAlgorithm, Dangling, Destination, ImageForm, LocalMode, MediaTypes,
    Output, Push, StoreNames,
};
pub use parser::lower::Unset;

use crate::annotations::Annotation;

/// One build.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// The Dockerfile.
    pub dockerfile: DockerfileSource,
    /// The main context.
    pub context: ContextSource,
    /// `--ignorefile`: what of the main context is not there; `None` for the ignore files that belong to
    /// the Dockerfile or the context.
    pub ignore_file: Option<PathBuf>,
    /// `--build-context`: name to specification as written (`dir`, `docker-image://…`,
    /// `oci-layout://…`, the address of a git repository or of a file; `target:…` is a bake matter and
    /// refused).
    pub named_contexts: BTreeMap<String, String>,
    /// `--target`
    pub target: Option<String>,
    /// `--also`: stages that have to build, too. Their results go nowhere.
    pub also: Vec<String>,
    /// `--build-arg`
    pub build_args: BTreeMap<String, String>,
    /// `--label`
    pub labels: BTreeMap<String, String>,
    /// `--unset-env` and the like: what the image does not have, whatever its base and the Dockerfile say.
    pub unset: Unset,
    /// `--squash`: what the build adds to its base becomes one layer.
    pub squash: bool,
    /// `--platform`; empty means the host's.
    pub platforms: Vec<Platform>,
    /// `--no-cache`, `--no-cache-filter`
    pub no_cache: NoCache,
    /// `--keep-cache-mounts`: what runs again for that keeps what its cache mounts hold.
    pub keep_cache_mounts: bool,
    /// `--pull`
    pub pull: PullPolicy,
    /// `--offline`: nothing is asked of the network, whatever the source. Steps keep theirs.
    pub offline: bool,
    /// `--network`
    pub network: NetworkMode,
    /// `--add-host`: name and what it stands for.
    pub extra_hosts: Vec<(String, HostAddress)>,
    /// `--shm-size` in bytes, 0 for the default.
    pub shm_size: u64,
    /// `--ulimit`
    pub ulimits: Vec<Ulimit>,
    /// Host name of steps, empty for the default.
    pub hostname: String,
    /// `--cgroup-parent`, empty for the default.
    pub cgroup_parent: String,
    /// `--memory`, `--cpu-quota`, …: limits of each step by control group. They enter no key.
    pub limits: Limits,
    /// `--step-disk`: bytes that each step may write; `None` leaves a reserve of the disk free.
    pub step_disk: Option<u64>,
    /// `--allow`
    pub entitlements: Vec<Entitlement>,
    /// `--jobs`: steps that may run at once. `None`: one per core, never below 4, and more while
    /// the machine idles because steps mostly wait.
    pub jobs: Option<usize>,
    /// `--tag`
    pub tags: Vec<Reference>,
    /// `--output`; empty means that the image lands in the store.
    pub outputs: Vec<Output>,
    /// `--cache-from`: caches that others share; of several that know a step the first counts.
    pub cache_from: Vec<CacheSource>,
    /// `--cache-to`
    pub cache_to: Vec<CacheTarget>,
    /// `--cache-to type=inline`: the image carries records of the steps whose layers it has.
    pub inline_cache: bool,
    /// Times in what is written out.
    pub times: Times,
    /// `--annotation`; of two for the same, the last counts.
    pub annotations: Vec<Annotation>,
    /// Whether the result is an index over images; `None`: where there are several platforms.
    pub index: Option<bool>,
}

impl BuildRequest {
    /// Whether the result is an index over images.
    pub(crate) fn is_index(&self) -> bool {
        self.index.unwrap_or(self.platforms.len() > 1)
    }

    /// What the image of an output is called.
    pub(crate) fn names_of(&self, form: &ImageForm) -> Vec<Reference> {
        self.tags.iter().chain(&form.names).cloned().collect()
    }

    /// What is put on the image of an output: what is said of all, and then what is said of this one.
    pub(crate) fn annotations_of(&self, form: &ImageForm) -> Vec<Annotation> {
        self.annotations.iter().chain(&form.annotations).cloned().collect()
    }
}

/// Where the Dockerfile's text comes from.
#[derive(Debug, Clone)]
pub enum DockerfileSource {
    /// A file, as the client calls it; or, when the context is an archive and the path relative, one in
    /// the archive. `None`: `Dockerfile` in the context (or `dockerfile`, if
    /// only that exists).
    File(Option<PathBuf>),
    /// What is at this URL. No `NAME.dockerignore` belongs to it.
    Url(String),
    /// The text itself (standard input). No `NAME.dockerignore` belongs to it.
    Text {
        /// What to call it in messages.
        name: String,
        /// The text.
        text: Vec<u8>,
    },
}

/// The main context.
#[derive(Debug, Clone)]
pub enum ContextSource {
    /// A directory, read in place, as the client calls it.
    Directory(PathBuf),
    /// A directory that is not on this machine, as the client calls it: what a build needs of it is asked for
    /// when it is.
    Distant {
        /// Its name.
        name: String,
        /// What its ignore file says.
        exclude_patterns: Vec<String>,
    },
    /// A tar archive (plain or compressed), unpacked to a temporary directory.
    Archive(TarSource),
    /// The files of a git repository, of an archive at a URL, or the Dockerfile there: whatever its address
    /// says to [`parser::lower::remote`].
    Remote(String),
    /// No files at all (Dockerfile on standard input).
    Empty,
}

/// An archive, as the client calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TarSource {
    /// A file.
    Path(PathBuf),
    /// The client's standard input.
    Stdin,
}

impl fmt::Display for TarSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "`{}`", path.display()),
            Self::Stdin => f.write_str("on standard input"),
        }
    }
}

/// Which known results are not used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NoCache {
    /// All known results are used.
    #[default]
    Never,
    /// None is.
    Always,
    /// Not those of these stages.
    Stages(Vec<String>),
}

/// When a base image is looked up in its registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// When the store does not have it.
    #[default]
    Missing,
    /// Always (`--pull`): the registry's answer counts.
    Always,
    /// Never.
    Never,
    /// Always, but the store's answer will do when the registry has none.
    Newer,
}

/// Network of the steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NetworkMode {
    /// Each its own, connected by user-mode networking where there is one.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The host's.
    Host,
}

/// `--ulimit name=soft:hard`; -1 is unlimited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    /// `nofile`, ….
    pub name: String,
    /// Soft limit.
    pub soft: i64,
    /// Hard limit.
    pub hard: i64,
}

/// What `--allow` grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entitlement {
    /// `RUN --network=host`
    NetworkHost,
    /// `RUN --security=insecure`
    SecurityInsecure,
    /// `RUN --device`: of all devices, or of this one or this class.
    Device(Option<String>),
}

/// What outputs say about times. There is one image for all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// `source-date-epoch=`
    pub epoch: Epoch,
    /// `rewrite-timestamp=`
    pub rewrite: Rewrite,
}

/// The time of the sources.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Epoch {
    /// What the build argument `SOURCE_DATE_EPOCH` says, or its default in the Dockerfile.
    #[default]
    OfBuild,
    /// This one, in seconds since 1970.
    Given(i64),
    /// None: times stay what they are.
    None,
}

/// Which times in the layers that the build makes become the time of the sources, where there is one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rewrite {
    /// Later ones, since nothing else was asked for.
    #[default]
    Default,
    /// Later ones (`true`).
    Later,
    /// All of them (`all`).
    All,
    /// None (`false`).
    None,
}
