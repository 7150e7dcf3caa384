//! What a build asks for beside the Dockerfile.

use std::collections::{BTreeMap, BTreeSet};

use llb::Rlimit;
use oci::{Platform, Reference};

use crate::diagnostic::Diagnostic;

/// Name of the main context among the local contexts.
pub const MAIN_CONTEXT: &str = "context";

/// The request: everything that decides how a Dockerfile is lowered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Stage to build; `None` for the last.
    pub target: Option<String>,
    /// Stages that are built as well, although the target may not need them.
    pub also: Vec<String>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--label`: these win over the Dockerfile's.
    pub labels: BTreeMap<String, String>,
    /// What the image does not have, whatever its base and the Dockerfile say.
    pub unset: Unset,
    /// Platform that the build runs on.
    pub build_platform: Platform,
    /// Platform that the image is for.
    pub target_platform: Platform,
    /// `target_platform` was asked for. If not, the image keeps the platform of its base.
    pub platform_requested: bool,
    /// Files that `COPY` and `ADD` without `--from` take.
    pub main_context: MainContext,
    /// `--build-context` by name in its familiar form (`app`, `alpine:3.20`, perhaps with
    /// `::os/arch` behind it); a name overrides the stage or image of that name.
    pub named_contexts: BTreeMap<String, NamedContext>,
    /// Which steps run although their result is known.
    pub no_cache: NoCache,
    /// Cache mounts of steps that run although their result is known keep their files.
    pub keep_cache_mounts: bool,
    /// Network of steps that do not choose one.
    pub network: llb::NetworkMode,
    /// `--add-host`: name and address.
    pub extra_hosts: Vec<(String, String)>,
    /// Size of `/dev/shm` in bytes, 0 for the default.
    pub shm_size: u64,
    /// `--ulimit`.
    pub ulimits: Vec<Rlimit>,
    /// Host name in steps, empty for the default (`BUILDKIT_SANDBOX_HOSTNAME` wins).
    pub hostname: String,
    /// Parent cgroup of steps, empty for the default.
    pub cgroup_parent: String,
    /// Put before the ids of cache mounts (`BUILDKIT_CACHE_MOUNT_NS` wins).
    pub cache_mount_namespace: String,
    /// The time of the context or stage that `SOURCE_DATE_EPOCH` names.
    pub source_time: SourceTime,
    /// What steps may ask for: `network.host`, `security.insecure`, `device`, `device=NAME`.
    pub entitlements: BTreeSet<String>,
    /// Several platforms are built at once: names of steps say which.
    pub multi_platform: bool,
    /// Every stage is lowered, not just those that the target needs (checks without a build).
    pub all_stages: bool,
    /// Notes are given, too, on what builds well and could be better.
    pub advice: bool,
    /// Warnings of the parser; those that are not turned off come out with the others.
    pub syntax_warnings: Vec<Diagnostic>,
}

impl Default for Options {
    /// A build of the last stage for this machine from a local context.
    fn default() -> Self {
        Self {
            target: None,
            also: Vec::new(),
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            unset: Unset::default(),
            build_platform: Platform::host(),
            target_platform: Platform::host(),
            platform_requested: false,
            main_context: MainContext::Local { exclude_patterns: Vec::new() },
            named_contexts: BTreeMap::new(),
            no_cache: NoCache::Never,
            keep_cache_mounts: false,
            network: llb::NetworkMode::Default,
            extra_hosts: Vec::new(),
            shm_size: 0,
            ulimits: Vec::new(),
            hostname: String::new(),
            cgroup_parent: String::new(),
            cache_mount_namespace: String::new(),
            source_time: SourceTime::NotAsked,
            entitlements: BTreeSet::new(),
            multi_platform: false,
            all_stages: false,
            advice: false,
            syntax_warnings: Vec::new(),
        }
    }
}

/// What is taken out of an image's config. Steps still have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unset {
    /// Names of variables.
    pub variables: Vec<String>,
    /// Names of labels. Those in [`Options::labels`] stay.
    pub labels: Vec<String>,
    /// Paths of volumes.
    pub volumes: Vec<String>,
    /// Ports, each `number/protocol`.
    pub ports: Vec<String>,
}

/// What a context that is one file over HTTP calls that file.
pub const FETCHED: &str = "context";

/// When a source was last changed: a commit was made, a file or the newest one in an archive was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SourceTime {
    /// Nobody has asked yet: see [`epoch_source()`](super::epoch_source()).
    #[default]
    NotAsked,
    /// The source has none.
    Unknown,
    /// Then, in seconds since 1970.
    At(i64),
}

/// Where the main context comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MainContext {
    /// A directory of the client, called [`MAIN_CONTEXT`].
    Local {
        /// Patterns of its ignore file.
        exclude_patterns: Vec<String>,
    },
    /// A git repository.
    Git {
        /// URL with `#ref:subdir`.
        url: String,
        /// Keep the `.git` directory.
        keep_git_dir: bool,
    },
    /// A file fetched over HTTP.
    Http {
        /// URL.
        url: String,
        /// It is unpacked. Otherwise the context has it alone, called [`FETCHED`].
        is_archive: bool,
    },
    /// An empty tree.
    Empty,
}

/// What a named context is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory of the client.
    Local {
        /// Its name among the local contexts.
        name: String,
        /// Patterns of its own ignore file.
        exclude_patterns: Vec<String>,
    },
    /// An image, as in `docker-image://…`; `scratch` is the empty tree.
    Image(String),
    /// An image in an OCI layout of the client.
    OciLayout {
        /// Its name among the layouts.
        name: String,
        /// Tag or digest in it, empty for the only image.
        reference: String,
    },
    /// A git repository with `#ref:subdir`.
    Git(String),
    /// A file fetched over HTTP.
    Http(String),
    /// An empty tree.
    Scratch,
}

/// Which steps run although their result is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoCache {
    /// None.
    Never,
    /// All.
    Always,
    /// Those of the stages with these names, whatever the case.
    Stages(Vec<String>),
}

impl NoCache {
    pub(super) fn applies_to(&self, stage: &str) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::Stages(names) => names.iter().any(|n| n.eq_ignore_ascii_case(stage)),
        }
    }
}

/// An image whose digest and config lowering needs to know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRequest {
    /// Which one, and where it is.
    pub image: RequestedImage,
    /// The platform wanted.
    pub platform: Platform,
}

/// An image by its name, before anything is known of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestedImage {
    /// In a registry or the local store.
    Named(Reference),
    /// In an OCI layout of the client's.
    InLayout {
        /// Name of the layout among the request's contexts.
        layout: String,
        /// The tag or digest inside it, or nothing.
        reference: String,
    },
}

impl ImageRequest {
    pub(super) fn of_registry(reference: &Reference, platform: Platform) -> Self {
        Self { image: RequestedImage::Named(reference.clone()), platform }
    }
}

/// What was found for an [`ImageRequest`].
#[derive(Debug, Clone, PartialEq)]
pub struct BaseImage {
    /// Digest that the reference resolved to: of the index, if there is one.
    pub digest: oci::Digest,
    /// Config of the platform's image.
    pub config: oci::ImageConfig,
}
