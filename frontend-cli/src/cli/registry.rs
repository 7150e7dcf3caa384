//! The flags of the commands on registries: Docker's.

/// The commands on registries.
#[derive(Debug, clap::Subcommand)]
pub enum RegistrySubcommand {
    /// Log in to a registry
    ///
    /// Shows name and password to the registry, and keeps them if it takes them: in Docker's
    /// config.json, or with the credential helper that is named there. Without --username they are
    /// asked for, unless there are some that the registry still takes. Where the registry's token service
    /// gives an identity token, that is kept instead of the password.
    #[command(args_override_self = true, max_term_width = 100)]
    Login(LoginArgs),
    /// Log out from a registry
    ///
    /// Removes its name and password from Docker's config.json, or from the credential helper that is
    /// named there.
    #[command(max_term_width = 100)]
    Logout(LogoutArgs),
    /// Show the manifest or index of an image in its registry
    #[command(
        hide = true,
        args_override_self = true,
        max_term_width = 100,
        override_usage = "mybuild manifest inspect [OPTIONS] NAME[:TAG|@DIGEST]"
    )]
    ManifestInspect(ManifestInspectArgs),
    /// Show what an image in its registry is made of
    #[command(
        hide = true,
        args_override_self = true,
        max_term_width = 100,
        override_usage = "mybuild imagetools inspect [OPTIONS] NAME[:TAG|@DIGEST]"
    )]
    ImagetoolsInspect(ImagetoolsInspectArgs),
    /// Make an image of images in registries
    ///
    /// Gives an image further names, or makes one index of several images, without pulling them. In a
    /// repository nothing moves but the new index; blobs of another repository of the same registry are
    /// mounted, those of another registry are passed on and kept nowhere.
    ///
    /// A source is a name, a digest or a descriptor in JSON; for a digest and a descriptor there must be one
    /// repository that they can be from.
    #[command(
        hide = true,
        args_override_self = true,
        max_term_width = 100,
        override_usage = "mybuild imagetools create [OPTIONS] -t NAME [SOURCE]…"
    )]
    ImagetoolsCreate(ImagetoolsCreateArgs),
}

/// `mybuild login`
#[derive(Clone, Default, clap::Args)]
pub struct LoginArgs {
    /// Host of the registry, with its port if it has one; without it, Docker Hub
    #[arg(value_name = "SERVER")]
    pub server: Option<String>,
    /// Name
    #[arg(long, short = 'u', value_name = "NAME")]
    pub username: Option<String>,
    /// Password or token: other users of this machine may see it; better is --password-stdin
    #[arg(long, short = 'p', value_name = "PASSWORD")]
    pub password: Option<String>,
    /// Read the password or token from standard input
    #[arg(long = "password-stdin")]
    pub password_stdin: bool,
}

impl std::fmt::Debug for LoginArgs {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginArgs")
            .field("server", &self.server)
            .field("username", &self.username)
            .field("password_stdin", &self.password_stdin)
            .finish_non_exhaustive()
    }
}

/// `mybuild logout`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LogoutArgs {
    /// Host of the registry, with its port if it has one; without it, Docker Hub
    #[arg(value_name = "SERVER")]
    pub server: Option<String>,
}

/// `mybuild manifest inspect`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ManifestInspectArgs {
    /// Name with tag or digest
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub name: String,
    /// Show the descriptor, the bytes and the content, of each manifest of an index
    #[arg(long, short = 'v')]
    pub verbose: bool,
    /// The registry may speak plain HTTP, or show a certificate that nobody trusts
    #[arg(long)]
    pub insecure: bool,
}

/// `mybuild imagetools inspect`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ImagetoolsInspectArgs {
    /// Name with tag or digest
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub name: String,
    /// Print the manifest or index to the byte
    #[arg(long)]
    pub raw: bool,
    /// A template (`{{.Manifest.Digest}}`, `{{json .Image}}`): there are .Name, .Manifest and .Image
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}

/// `mybuild imagetools create`
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ImagetoolsCreateArgs {
    /// Names, digests, or descriptors in JSON
    #[arg(value_name = "SOURCE")]
    pub sources: Vec<String>,
    /// Name of the new image
    #[arg(long = "tag", short = 't', value_name = "NAME[:TAG]")]
    pub tags: Vec<String>,
    /// Files with descriptors in JSON
    #[arg(long = "file", short = 'f', value_name = "FILE")]
    pub files: Vec<std::path::PathBuf>,
    /// Add to the image that the first name has already
    #[arg(long)]
    pub append: bool,
    /// Print the new image instead of writing it anywhere
    #[arg(long = "dry-run")]
    pub dry_run: bool,
    /// `index:KEY=VALUE`, `manifest-descriptor:KEY=VALUE`, `manifest-descriptor[PLATFORM]:KEY=VALUE`
    #[arg(long = "annotation", value_name = "LEVEL:KEY=VALUE")]
    pub annotations: Vec<String>,
    /// Make an index of a single image, too; `--prefer-index=false` gives it another name as it is
    #[arg(long = "prefer-index", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub prefer_index: Option<String>,
}
