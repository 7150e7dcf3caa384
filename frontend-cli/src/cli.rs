//! The syntax of the command line: which words there are. What they mean is decided elsewhere
//! ([`crate::build_args`] for `build`).

mod build;
mod cache_mount;
mod containers;
mod images;
mod prune;
mod registry;
mod run;
mod serve;

use std::path::PathBuf;

pub use build::BuildArgs;
pub use cache_mount::*;
pub use containers::*;
pub use images::*;
pub use prune::*;
pub use registry::*;
pub use run::{RefusedRunArgs, RunArgs};
pub use serve::ServeArgs;

/// Builds container images from Dockerfiles.
///
/// `mybuild -t app:1.0 .` builds the Dockerfile of the current directory and keeps the image in the
/// store, which is an OCI image layout that other tools can read. No daemon is needed, and no root.
#[derive(Debug, clap::Parser)]
#[command(
    name = "mybuild",
    version,
    arg_required_else_help = true,
    args_override_self = true,
    max_term_width = 100,
    override_usage = "mybuild [build] [OPTIONS] CONTEXT\n       mybuild COMMAND …",
    after_help = "`mybuild build --help` shows the options of a build; `build` itself may be left out.\n\
        `mybuild imagetools --help` and `mybuild manifest --help`: images where they are, in registries.",
    after_long_help = "`mybuild build --help` shows the options of a build; `build` itself may be left out.\n\
        `mybuild imagetools --help` and `mybuild manifest --help`: images where they are, in registries.\n\n\
        Exit codes: 0 success, 1 the build failed, 2 wrong usage, 130 interrupted, 141 nobody reads the \
        progress; `run` ends with the command's, or with 125.\n\n\
        Environment: MYBUILD_ROOT (the store), MYBUILD_CONFIG (the configuration file), \
        SOURCE_DATE_EPOCH, DOCKER_DEFAULT_PLATFORM, BUILDKIT_PROGRESS, BUILDKIT_TTY_LOG_LINES, NO_COLOR; \
        HTTP_PROXY, HTTPS_PROXY, FTP_PROXY, NO_PROXY and ALL_PROXY (in either case) reach the steps, \
        but neither the image nor the cache."
)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Subcommand,
}

/// Flags of every command.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct GlobalArgs {
    /// Directory of the store
    ///
    /// Without it: $MYBUILD_ROOT, else /var/lib/mybuild for root and $XDG_DATA_HOME/mybuild for others.
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub root: Option<PathBuf>,
    /// Show more: causes of errors, excerpts for warnings
    #[arg(long, short = 'D', global = true, help_heading = "Global options")]
    pub debug: bool,
}

/// The commands.
#[derive(Debug, clap::Subcommand)]
pub enum Subcommand {
    /// Build an image from a Dockerfile
    ///
    /// CONTEXT is a directory, a tar archive (plain or compressed), or `-` for a tar archive or a
    /// Dockerfile on standard input.
    #[command(
        args_override_self = true,
        max_term_width = 100,
        override_usage = "mybuild [build] [OPTIONS] CONTEXT"
    )]
    Build(Box<BuildArgs>),
    /// The commands on images and on the store.
    #[command(flatten)]
    Image(ImageSubcommand),
    /// The commands on containers that stay.
    #[command(flatten)]
    Container(ContainerSubcommand),
    /// The commands on registries, which need no store.
    #[command(flatten)]
    Registry(RegistrySubcommand),
    /// Build for other programs: buildctl, docker buildx and whatever else speaks BuildKit's API
    ///
    /// `docker buildx create --driver remote unix:///run/mybuild/mybuild.sock` and `buildctl --addr` take its address.
    #[command(args_override_self = true, max_term_width = 100)]
    Serve(ServeArgs),
    /// Print a completion script for a shell
    ///
    /// For bash: `mybuild completions bash > /etc/bash_completion.d/mybuild`
    Completions(CompletionsArgs),
    /// Print a manual page
    ///
    /// `mybuild man | man -l -` shows the program's page, `mybuild man build` is that of `build`.
    Man(ManArgs),
}

/// `mybuild completions`
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// For which shell
    pub shell: clap_complete::Shell,
}

/// `mybuild man`
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Page of this command
    #[arg(value_name = "COMMAND")]
    pub command: Option<String>,
}
