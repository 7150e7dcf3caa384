//! The flags of the commands on images and on the store: Docker's, as far as they make sense without
//! a daemon.

use std::path::PathBuf;

use super::cache_mount::CacheMountArgs;
use super::prune::{DuArgs, ImagePruneArgs, PruneArgs, SystemPruneArgs};
use super::run::RunArgs;

/// The commands on images and on the store.
#[derive(Debug, clap::Subcommand)]
pub enum ImageSubcommand {
    /// List the images of the store
    #[command(args_override_self = true, max_term_width = 100)]
    Images(ImagesArgs),
    /// Show everything about images, as JSON
    #[command(args_override_self = true, max_term_width = 100)]
    Inspect(InspectArgs),
    /// Show the history of an image, layer by layer
    #[command(args_override_self = true, max_term_width = 100)]
    History(HistoryArgs),
    /// Show which files differ between images, layers, containers and directories
    ///
    /// FROM and TO are containers that `mybuild run --name NAME` has left, images, layers or directories. `app~1` is the image `app` without its topmost layer,
    /// `app~2` without two; a layer stands for itself and what is below it, and is named by its id
    /// (`mybuild du --verbose`) or its digest (`mybuild history --format '{{.Layer}} {{.CreatedBy}}'`). What
    /// begins with `/`, `./` or `../` is a directory, and so is `dir:PATH`. With FROM alone: what the
    /// container has changed, or what the topmost layer changes.
    ///
    /// A line a path, as `docker diff` writes them: A is new, C is another or has something in it that is, D is
    /// gone with all that was in it. Compared are kind, mode, owner, content, the target of a link, devices and
    /// extended attributes; not times.
    #[command(args_override_self = true, max_term_width = 100)]
    Diff(DiffArgs),
    /// Add a name to an image
    #[command(max_term_width = 100)]
    Tag(TagArgs),
    /// Remove names from images
    ///
    /// An image whose last name is removed is no longer listed; its space is freed by
    /// `mybuild prune`.
    #[command(args_override_self = true, max_term_width = 100)]
    Rmi(RmiArgs),
    /// Write images to an archive that `mybuild load`, `docker load` and others read
    #[command(args_override_self = true, max_term_width = 100)]
    Save(SaveArgs),
    /// Read images from an archive of `docker save` and the like, or from an OCI layout
    #[command(args_override_self = true, max_term_width = 100)]
    Load(LoadArgs),
    /// Download an image from its registry
    #[command(args_override_self = true, max_term_width = 100)]
    Pull(PullArgs),
    /// Upload images to their registry
    ///
    /// Layers that the store has without compression are compressed with gzip. What the registry has
    /// already is not sent again. The tag comes last: a push that fails leaves it what it was.
    #[command(args_override_self = true, max_term_width = 100)]
    Push(PushArgs),
    /// Run a command in a container of an image
    ///
    /// The container runs in the foreground, in the same sandbox as the steps of a build. When its command
    /// ends, everything it wrote is removed, unless it has a --name and no --rm: then it stays for
    /// `mybuild diff`, `commit` and `rm`. What it wrote to volumes of the image goes in any case; data to
    /// keep goes to a directory named with --volume. The exit code is the command's; 125 if it could not be
    /// started, 126 if it is not executable, 127 if it was not found.
    #[command(
        args_override_self = true,
        max_term_width = 100,
        disable_help_flag = true,
        override_usage = "mybuild run [OPTIONS] IMAGE [COMMAND [ARGUMENT]…]"
    )]
    Run(Box<RunArgs>),
    /// Free space in the store: remove unused data, or the build cache
    ///
    /// Without flags this removes what failed builds and images without a name have left, and tars that
    /// layers give back. With --all it removes the whole build cache and the cache mounts; with a filter or
    /// a limit, what of the cache fits it. Images with names always stay, and so does what running builds
    /// and containers use.
    ///
    /// As for Docker: `mybuild image prune` removes images, `mybuild builder prune` the build cache, `mybuild
    /// container prune` containers whose command has ended, `mybuild system prune` all of these.
    #[command(args_override_self = true, max_term_width = 100)]
    Prune(PruneArgs),
    /// Remove the build cache and the cache mounts, except for the layers of images with names
    #[command(
        hide = true,
        args_override_self = true,
        max_term_width = 100,
        override_usage = "mybuild builder prune [OPTIONS]"
    )]
    BuilderPrune(PruneArgs),
    /// Remove what images without a name have left; with --all, images that no container uses
    #[command(
        hide = true,
        args_override_self = true,
        max_term_width = 100,
        override_usage = "mybuild image prune [OPTIONS]"
    )]
    ImagePrune(ImagePruneArgs),
    /// Remove containers whose command has ended, the build cache, and what images without a name have left
    ///
    /// With --all it also removes images that no container uses, and the cache of those.
    #[command(
        hide = true,
        args_override_self = true,
        max_term_width = 100,
        override_usage = "mybuild system prune [OPTIONS]"
    )]
    SystemPrune(SystemPruneArgs),
    /// Show how much space the store takes
    ///
    /// `images` is what `mybuild image prune --all` can give back, `build cache` and `cache mounts` what
    /// `mybuild prune --all` does.
    #[command(args_override_self = true, max_term_width = 100)]
    Du(DuArgs),
    /// Look after cache mounts (`RUN --mount=type=cache`): list and remove them, copy to and from them
    #[command(max_term_width = 100, override_usage = "mybuild cache-mount COMMAND …")]
    CacheMount(CacheMountArgs),
    /// Check the store for damage
    ///
    /// Builds may run at the same time. A line for each problem; exit code 1 if there is any, also
    /// when --repair has removed it.
    #[command(max_term_width = 100)]
    Fsck(FsckArgs),
}

/// `mybuild images`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ImagesArgs {
    /// Only images of this name (with `*` and `?`)
    #[arg(value_name = "NAME[:TAG]")]
    pub reference: Option<String>,
    /// Print the ids alone
    #[arg(long, short = 'q')]
    pub quiet: bool,
    /// Print whole ids
    #[arg(long = "no-trunc")]
    pub no_trunc: bool,
    /// Show digests
    #[arg(long)]
    pub digests: bool,
    /// Also intermediate images: there are none
    #[arg(long, short = 'a', hide = true)]
    pub all: bool,
    /// `table`, `table TEMPLATE`, `json` or a template (`{{.Repository}}:{{.Tag}}`)
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// `reference=PATTERN`, `dangling=BOOL`, `label=NAME[=VALUE]`, `before=IMAGE`, `since=IMAGE`
    #[arg(long = "filter", short = 'f', value_name = "FILTER")]
    pub filters: Vec<String>,
}

/// `mybuild inspect`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct InspectArgs {
    /// Names, digests or ids
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,
    /// `json` or a template (`{{json .Config.Cmd}}`)
    #[arg(long, short = 'f', value_name = "FORMAT")]
    pub format: Option<String>,
    /// What to inspect: only `image`
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// The image for this platform
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,
}

/// `mybuild history`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct HistoryArgs {
    /// Name, digest or id
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// Print the ids alone
    #[arg(long, short = 'q')]
    pub quiet: bool,
    /// Print everything in full
    #[arg(long = "no-trunc")]
    pub no_trunc: bool,
    /// Sizes and times for people; `--human=false` for numbers
    #[arg(long, short = 'H', value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub human: Option<String>,
    /// `table`, `table TEMPLATE`, `json` or a template (`{{.CreatedBy}}`); `{{.Duration}}` is how long the step
    /// took, where the store has it
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// The image for this platform
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,
}

/// `mybuild diff`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct DiffArgs {
    /// Container, image, layer or directory
    #[arg(value_name = "FROM")]
    pub from: String,
    /// Container, image, layer or directory
    #[arg(value_name = "TO")]
    pub to: Option<String>,
    /// `json`, `table`, `table TEMPLATE` or a template (`{{.Kind}} {{.Path}}`); sizes are bytes
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Exit with 1 if there are differences, and with 2 if something goes wrong
    #[arg(long = "exit-code")]
    pub exit_code: bool,
    /// The images for this platform
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,
}

/// `mybuild tag`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TagArgs {
    /// Name, digest or id
    #[arg(value_name = "IMAGE")]
    pub source: String,
    /// The new name
    #[arg(value_name = "NAME[:TAG]")]
    pub name: String,
}

/// `mybuild rmi`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RmiArgs {
    /// Names, digests or ids
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,
    /// Remove all names of an id, and ignore images that do not exist
    #[arg(long, short = 'f')]
    pub force: bool,
    /// Keep parents without names: there are none
    #[arg(long = "no-prune", hide = true)]
    pub no_prune: bool,
}

/// `mybuild save`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SaveArgs {
    /// Names, digests or ids
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,
    /// The archive; without it, standard output
    #[arg(long, short = 'o', value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Only the images for this platform
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,
}

/// `mybuild load`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LoadArgs {
    /// The archive, or the directory of an OCI layout; without it, standard input
    #[arg(long, short = 'i', value_name = "PATH")]
    pub input: Option<PathBuf>,
    /// Print the names alone
    #[arg(long, short = 'q')]
    pub quiet: bool,
}

/// `mybuild pull`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PullArgs {
    /// Name with tag or digest
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub name: String,
    /// The image for this platform
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,
    /// Print the name alone
    #[arg(long, short = 'q')]
    pub quiet: bool,
    /// `auto`, `tty`, `plain`, `json`, `rawjson`, `quiet` or `none` [env: BUILDKIT_PROGRESS]
    #[arg(long, value_name = "KIND")]
    pub progress: Option<String>,
    /// All tags of a repository
    #[arg(long = "all-tags", short = 'a', hide = true)]
    pub all_tags: bool,
}

/// `mybuild push`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PushArgs {
    /// Name of an image of the store
    #[arg(value_name = "NAME[:TAG]")]
    pub name: String,
    /// All tags that the store has of the name
    #[arg(long = "all-tags", short = 'a')]
    pub all_tags: bool,
    /// Only the image for this platform
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,
    /// Print the name alone
    #[arg(long, short = 'q')]
    pub quiet: bool,
    /// `auto`, `tty`, `plain`, `json`, `rawjson`, `quiet` or `none` [env: BUILDKIT_PROGRESS]
    #[arg(long, value_name = "KIND")]
    pub progress: Option<String>,
}

/// `mybuild fsck`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct FsckArgs {
    /// Read every byte, and compare it with its digest
    #[arg(long)]
    pub full: bool,
    /// Remove what is damaged: the next build makes or fetches it again
    #[arg(long)]
    pub repair: bool,
}
