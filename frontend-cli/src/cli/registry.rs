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
