//! `mybuild login`

use std::io::{self, Read as _};

use anyhow::Context as _;
use engine::{Client as _, Credential, Credentials, EngineOptions, Kept, RegistryClient};

use crate::cli::LoginArgs;
use crate::client::CommandLine;
use crate::environment::Environment;
use crate::error::{self, UsageError};
use crate::exit::Exit;
use crate::{prompt, registry_name, ui};

/// Longest password on standard input, in bytes.
const PASSWORD_MAX: u64 = 64 << 10;

/// What `mybuild login` has to do.
pub(super) struct Login {
    registry: String,
    username: Option<String>,
    password: Password,
    credentials: Credentials,
    stdin_is_terminal: bool,
}

/// Where the password comes from.
enum Password {
    /// The command line.
    Given(String),
    /// All of standard input.
    Stdin,
    /// It is asked for.
    Asked,
}

impl Login {
    pub(super) fn resolve(args: LoginArgs, environment: &Environment) -> Result<Self, UsageError> {
        let password = match (args.password, args.password_stdin) {
            (Some(_), true) => {
                return Err(UsageError::new(
                    "`--password` and `--password-stdin` do not go together",
                ));
            }
            (Some(password), false) => Password::Given(password),
            (None, true) => Password::Stdin,
            (None, false) => Password::Asked,
        };
        let username = args.username.filter(|username| !username.is_empty());
        if matches!(password, Password::Stdin) && username.is_none() {
            return Err(UsageError::new("`--password-stdin` needs `--username`"));
        }
        if let Some(username) = &username {
            check_username(username)?;
        }
        Ok(Self {
            registry: registry_name::parse(args.server.as_deref())?,
            username,
            password,
            credentials: CommandLine::new(environment).credentials(),
            stdin_is_terminal: environment.stdin_is_terminal,
        })
    }

    pub(super) async fn run(self, options: &EngineOptions) -> anyhow::Result<Exit> {
        let client = RegistryClient::new(options, Credentials::default(), &[])?;
        if let Password::Given(_) = self.password {
            ui::warning(
                "other users of this machine may see a password on the command line: use \
                 `--password-stdin`",
            );
        }
        let known = self.credentials.get(&self.registry, "").await;
        if self.username.is_none()
            && matches!(self.password, Password::Asked)
            && let Ok(Some(known)) = &known
            && self.still_takes(&client, known).await?
        {
            return Ok(Exit::Success);
        }
        let (username, password) = self.ask(known.ok().flatten())?;
        let credential = Credential::Basic { username: username.clone(), password };
        let login = client.log_in(&self.registry, &credential).await?;
        if !login.checked {
            let registry = registry_name::shown(&self.registry);
            ui::warning(&format!("{registry} asks for no password: it was not checked"));
        }
        let kept = self.credentials.keep(&self.registry, &username, &login.credential).await?;
        if let Kept::File(file) = kept {
            ui::warning(&format!(
                "the {} is not encrypted in `{}`: a credential helper keeps it safer",
                match login.credential {
                    Credential::Basic { .. } => "password",
                    Credential::IdentityToken(_) => "identity token",
                },
                file.display()
            ));
        }
        ui::data(b"Login Succeeded\n")?;
        Ok(Exit::Success)
    }

    /// Whether the registry takes what is known already.
    async fn still_takes(
        &self,
        client: &RegistryClient,
        known: &Credential,
    ) -> anyhow::Result<bool> {
        ui::error("Authenticating with existing credentials…\n");
        match client.log_in(&self.registry, known).await {
            Ok(_) => {
                ui::data(b"Login Succeeded\n")?;
                Ok(true)
            }
            Err(refused @ engine::BuildError::Input(_)) if self.stdin_is_terminal => {
                error::report(&refused.into(), false);
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Name and password, asked for as far as they are not given.
    fn ask(&self, known: Option<Credential>) -> anyhow::Result<(String, String)> {
        if matches!(self.password, Password::Stdin) {
            let username = self.username.clone().expect("checked");
            return Ok((username, checked_password(password_of_stdin()?)?));
        }
        let is_complete = self.username.is_some() && matches!(self.password, Password::Given(_));
        if !is_complete && !self.stdin_is_terminal {
            let error = UsageError::new("name and password cannot be asked for without a terminal");
            return Err(error.with_hint("give `--username NAME --password-stdin`").into());
        }
        let username = match (&self.username, known) {
            (Some(username), _) => username.clone(),
            (None, Some(Credential::Basic { username, .. })) => {
                let typed = answer(prompt::line(&format!("Username ({username}): "))?)?;
                if typed.is_empty() { username } else { typed }
            }
            (None, _) => answer(prompt::line("Username: ")?)?,
        };
        check_username(&username)?;
        if username.is_empty() {
            return Err(UsageError::new("there is no name to log in with").into());
        }
        let password = match &self.password {
            Password::Given(password) => password.clone(),
            _ => answer(prompt::secret("Password: ")?)?,
        };
        Ok((username, checked_password(password)?))
    }
}

/// In `NAME:PASSWORD` the name ends at the first colon (RFC 7617).
fn check_username(username: &str) -> Result<(), UsageError> {
    match username.contains(':') || username.chars().any(char::is_control) {
        true => Err(UsageError::new(format!("`{username}` is not a valid name to log in with"))),
        false => Ok(()),
    }
}

fn checked_password(password: String) -> Result<String, UsageError> {
    match password.is_empty() {
        true => Err(UsageError::new("the password is empty")),
        false => Ok(password),
    }
}

fn answer(typed: Option<String>) -> anyhow::Result<String> {
    typed.ok_or_else(|| engine::BuildError::Canceled.into())
}

/// All of it, without the line break at its end.
fn password_of_stdin() -> anyhow::Result<String> {
    let mut password = String::new();
    let mut stdin = io::stdin().lock().take(PASSWORD_MAX + 1);
    stdin.read_to_string(&mut password).context("failed to read the password")?;
    if password.len() as u64 > PASSWORD_MAX {
        return Err(UsageError::new("the password is larger than 64 KiB").into());
    }
    let password = password.strip_suffix('\n').unwrap_or(&password);
    Ok(password.strip_suffix('\r').unwrap_or(password).to_owned())
}
