//! The flags of `cache-mount` and its commands.

/// `mybuild cache-mount`
#[derive(Debug, clap::Args)]
pub struct CacheMountArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: CacheMountSubcommand,
}

/// The commands on cache mounts.
#[derive(Debug, clap::Subcommand)]
pub enum CacheMountSubcommand {
    /// List the cache mounts
    ///
    /// The ID is a name of its own for each; the MOUNT ID is what steps call it. Several have the same one where steps give
    /// them another first content, owner or mode, or had it at the same time with `sharing=private`.
    #[command(visible_alias = "list", args_override_self = true, max_term_width = 100)]
    Ls(CacheMountLsArgs),
    /// Show how much space the cache mounts take, or what is in one
    #[command(args_override_self = true, max_term_width = 100)]
    Du(CacheMountDuArgs),
    /// Remove cache mounts
    ///
    /// By MOUNT ID all that have it, by ID one. What a build is using stays.
    #[command(visible_alias = "remove", args_override_self = true, max_term_width = 100)]
    Rm(CacheMountRmArgs),
    /// Copy files between a cache mount and the file system
    ///
    /// One of SOURCE and DESTINATION is MOUNT:PATH, with an ID or MOUNT ID and a path in it; a local path with a colon
    /// begins with `./`. As with `docker cp`: a file or directory goes into DESTINATION if that is a directory, and else gets
    /// that name; `DIRECTORY/.` is what is in the directory. `-` is a tar on standard output or input. Links are
    /// copied as links.
    #[command(
        args_override_self = true,
        max_term_width = 100,
        override_usage = "mybuild cache-mount cp [OPTIONS] MOUNT:PATH DESTINATION|-\n       \
                          mybuild cache-mount cp [OPTIONS] SOURCE|- MOUNT:PATH"
    )]
    Cp(CacheMountCpArgs),
}

/// `mybuild cache-mount ls`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct CacheMountLsArgs {
    /// Print the IDs alone
    #[arg(long, short = 'q')]
    pub quiet: bool,
    /// `table`, `json`, or a template of `{{.ID}}`, `{{.MountID}}`, `{{.Size}}`, `{{.Bytes}}`, `{{.LastUsed}}`, `{{.InUse}}`
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}

/// `mybuild cache-mount du`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct CacheMountDuArgs {
    /// Show what is at the top of this one
    #[arg(value_name = "MOUNT")]
    pub mount: Option<String>,
    /// `table`, `json`, or a template of `{{.Name}}`, `{{.Size}}`, `{{.Bytes}}`
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}

/// `mybuild cache-mount rm`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct CacheMountRmArgs {
    /// IDs or MOUNT IDs
    #[arg(value_name = "MOUNT", required = true)]
    pub mounts: Vec<String>,
    /// It is no failure if there is none
    #[arg(long, short = 'f')]
    pub force: bool,
}

/// `mybuild cache-mount cp`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct CacheMountCpArgs {
    /// What is copied
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// Where it goes
    #[arg(value_name = "DESTINATION")]
    pub destination: String,
    /// Keep owners; else what is copied is root's in the mount, and yours outside
    #[arg(long, short = 'a')]
    pub archive: bool,
    /// Follow SOURCE itself if it is a link
    #[arg(long, short = 'L')]
    pub follow_link: bool,
}
