//! The flags of the commands that free room: Docker's and buildx's.

/// `mybuild prune`, `mybuild builder prune`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PruneArgs {
    /// Remove all of the cache
    #[arg(long, short = 'a')]
    pub all: bool,
    /// Do not ask
    #[arg(long, short = 'f')]
    pub force: bool,
    /// `until=24h`, `until=TIME`: what was not used since; `id=`, `parents=`, `description=`, `type=regular`,
    /// `type=internal`, `type=exec.cachemount`, `type=source.git.checkout`, each also with `!=` and, before a
    /// regular expression, `~=`; `shared`, `private`, `inuse`, `mutable`, `immutable`
    #[arg(long = "filter", value_name = "FILTER")]
    pub filters: Vec<String>,
    /// Room that the cache may always have
    #[arg(long = "reserved-space", alias = "keep-storage", value_name = "SIZE")]
    pub reserved_space: Option<String>,
    /// Remove the longest unused until the cache has no more than this
    #[arg(long = "max-used-space", value_name = "SIZE")]
    pub max_used_space: Option<String>,
    /// Remove the longest unused until this much is free on the disk
    #[arg(long = "min-free-space", value_name = "SIZE")]
    pub min_free_space: Option<String>,
    /// List what was removed
    #[arg(long)]
    pub verbose: bool,
    /// Remove nothing, and list what would go
    #[arg(long = "dry-run")]
    pub dry_run: bool,
    /// Say of each part of the cache whether it goes or stays, and why
    #[arg(long)]
    pub why: bool,
}

/// `mybuild image prune`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ImagePruneArgs {
    /// Remove all images that no container uses, not only what those without a name have left
    #[arg(long, short = 'a')]
    pub all: bool,
    /// Do not ask
    #[arg(long, short = 'f')]
    pub force: bool,
    /// `until=24h`, `until=TIME`: images made before; `label=NAME[=VALUE]`, `label!=NAME[=VALUE]`;
    /// `dangling=false` is --all
    #[arg(long = "filter", value_name = "FILTER")]
    pub filters: Vec<String>,
    /// Remove nothing, and list what would go
    #[arg(long = "dry-run")]
    pub dry_run: bool,
    /// Say of each image whether it goes or stays, and why
    #[arg(long)]
    pub why: bool,
}

/// `mybuild system prune`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SystemPruneArgs {
    /// Also remove images that no container uses, and all of the cache
    #[arg(long, short = 'a')]
    pub all: bool,
    /// Do not ask
    #[arg(long, short = 'f')]
    pub force: bool,
    /// Also remove anonymous volumes: they go when the command of their container ends, so there are none
    #[arg(long)]
    pub volumes: bool,
    /// `until=24h`, `until=TIME`: what was not used since, and images made before; `label=NAME[=VALUE]`,
    /// `label!=NAME[=VALUE]`: of images
    #[arg(long = "filter", value_name = "FILTER")]
    pub filters: Vec<String>,
    /// Remove nothing, and list what would go
    #[arg(long = "dry-run")]
    pub dry_run: bool,
    /// Say of each image and each part of the cache whether it goes or stays, and why
    #[arg(long)]
    pub why: bool,
}

/// `mybuild du`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct DuArgs {
    /// Show each part, each image, and all that is in the cache
    #[arg(long, short = 'v')]
    pub verbose: bool,
    /// List what of the cache fits: the filters of `mybuild prune`
    #[arg(long = "filter", value_name = "FILTER")]
    pub filters: Vec<String>,
    /// `json`: numbers of bytes; or a template for each part of the cache that fits, as
    /// `{{.ID}} {{.Size}} {{.Description}}`; `table` before it makes columns
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}
