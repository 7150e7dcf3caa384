//! The flags of the commands on containers that stay: Docker's.

/// The commands on containers that stay.
#[derive(Debug, clap::Subcommand)]
pub enum ContainerSubcommand {
    /// List containers
    ///
    /// Those that `mybuild run --name NAME` runs; with --all also those whose command has ended. A container
    /// without a name is gone when its command ends, and is in no list.
    #[command(args_override_self = true, max_term_width = 100)]
    Ps(PsArgs),
    /// Remove containers whose command has ended
    #[command(args_override_self = true, max_term_width = 100)]
    Rm(RmArgs),
    /// Make an image of what a container has left
    ///
    /// The image is the container's, with what its command has written as one more layer; what is in volumes
    /// and mounted directories is not in it. The config is the container's: with its command, its user, its
    /// variables, and what --change says. Prints the image's id.
    #[command(args_override_self = true, max_term_width = 100)]
    Commit(CommitArgs),
    /// Remove all containers whose command has ended
    #[command(
        hide = true,
        args_override_self = true,
        max_term_width = 100,
        override_usage = "mybuild container prune [OPTIONS]"
    )]
    ContainerPrune(ContainerPruneArgs),
}

/// `mybuild ps`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PsArgs {
    /// Also those whose command has ended
    #[arg(long, short = 'a')]
    pub all: bool,
    /// Print the ids alone
    #[arg(long, short = 'q')]
    pub quiet: bool,
    /// Print everything in full
    #[arg(long = "no-trunc")]
    pub no_trunc: bool,
    /// Show how many bytes each has written
    #[arg(long, short = 's')]
    pub size: bool,
    /// `table`, `table TEMPLATE`, `json` or a template (`{{.Names}} {{.Status}}`)
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}

/// `mybuild rm`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RmArgs {
    /// Names, or beginnings of ids
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
    /// Ignore containers that do not exist; one that runs stays
    #[arg(long, short = 'f')]
    pub force: bool,
    /// Also remove its anonymous volumes: they are gone already
    #[arg(long, short = 'v', hide = true)]
    pub volumes: bool,
}

/// `mybuild commit`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct CommitArgs {
    /// Name, or the beginning of an id
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// What the image is called
    #[arg(value_name = "NAME[:TAG]")]
    pub name: Option<String>,
    /// Who made it (`Ada <ada@example.com>`)
    #[arg(long, short = 'a', value_name = "TEXT")]
    pub author: Option<String>,
    /// A comment, which `mybuild history` shows
    #[arg(long, short = 'm', value_name = "TEXT")]
    pub message: Option<String>,
    /// An instruction that changes the config, as in a Dockerfile (`ENV DEBUG=1`, `CMD ["serve"]`)
    #[arg(long = "change", short = 'c', value_name = "INSTRUCTION")]
    pub changes: Vec<String>,
}

/// `mybuild container prune`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ContainerPruneArgs {
    /// Do not ask
    #[arg(long, short = 'f')]
    pub force: bool,
    /// `until=24h`, `until=TIME`: those made before
    #[arg(long = "filter", value_name = "FILTER")]
    pub filters: Vec<String>,
    /// Remove nothing, and list what would go
    #[arg(long = "dry-run")]
    pub dry_run: bool,
}
