//! `mybuild serve`

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use daemon::{Address, Daemon, ServeError, Tls};
use engine::request::Entitlement;
use engine::{Engine, EngineOptions};
use tokio_util::sync::CancellationToken;

use crate::cli::ServeArgs;
use crate::environment::Environment;
use crate::error::UsageError;
use crate::exit::Exit;
use crate::vocabulary::Flags;
use crate::{build_args, interrupt, ui};

/// What `mybuild serve` has to do.
pub(super) struct Serve {
    addresses: Vec<Address>,
    grants: Vec<Entitlement>,
}

impl Serve {
    pub(super) fn resolve(args: &ServeArgs, environment: &Environment) -> anyhow::Result<Self> {
        let group = args.group.as_deref().map(group).transpose()?;
        let tls = tls(args)?;
        let texts = match args.addresses.as_slice() {
            [] => vec![default_address(environment)?],
            given => given.to_vec(),
        };
        let addresses = texts.iter().map(|text| address(text, group, tls.as_ref()));
        let addresses = addresses.collect::<Result<Vec<_>, _>>()?;
        let uses_tls = |address: &Address| matches!(address, Address::Tcp { .. });
        if tls.is_some() && !addresses.iter().any(uses_tls) {
            return Err(UsageError::new("`--tlscert` does nothing without `--addr tcp://…`").into());
        }
        let uses_group = |address: &Address| matches!(address, Address::Unix { .. });
        if group.is_some() && !addresses.iter().any(uses_group) {
            return Err(UsageError::new("`--group` does nothing without `--addr unix://…`").into());
        }
        let grants = build_args::entitlements(&args.entitlements)?;
        Ok(Self { addresses, grants })
    }

    pub(super) async fn run(
        self,
        options: &EngineOptions,
        notice: Option<String>,
    ) -> anyhow::Result<Exit> {
        let stop = CancellationToken::new();
        interrupt::cancel_on_signals_of_a_daemon(stop.clone())?;
        let engine = Engine::new(options)?;
        // A store that cannot be used is told now, not to the first client.
        drop(engine.workspace(engine::Reserve::Kept)?);
        let shown: Vec<String> = self.addresses.iter().map(Address::to_string).collect();
        let daemon = Daemon::listen(engine, Box::new(Flags), self.grants, self.addresses).await;
        let daemon = daemon.map_err(explained)?;
        if let Some(notice) = notice {
            ui::warning(&notice);
        }
        ui::error(&format!("listening at {}\n", shown.join(", ")));
        daemon.serve(stop).await?;
        Ok(Exit::Success)
    }
}

fn explained(error: ServeError) -> anyhow::Error {
    match error {
        ServeError::Open(_) => UsageError::new(error.to_string())
            .with_hint("give it a certificate with `--tlscert` and `--tlskey`, and its clients one with `--tlscacert`")
            .into(),
        error => error.into(),
    }
}

/// Where it listens when nothing is said.
fn default_address(environment: &Environment) -> Result<String, UsageError> {
    let folder = match rustix::process::geteuid().is_root() {
        true => PathBuf::from("/run"),
        false => environment.path("XDG_RUNTIME_DIR").ok_or_else(|| {
            UsageError::new("no place for the socket: XDG_RUNTIME_DIR is not set")
                .with_hint("name one with `--addr unix://PATH`")
        })?,
    };
    Ok(format!("unix://{}", folder.join("mybuild/mybuild.sock").display()))
}

fn address(text: &str, group: Option<u32>, tls: Option<&Tls>) -> Result<Address, UsageError> {
    let invalid = |what: &str| UsageError::new(format!("`--addr {text}`: {what}"));
    match text.split_once("://") {
        Some(("unix", path)) if Path::new(path).is_absolute() => {
            Ok(Address::Unix { path: path.into(), group })
        }
        Some(("unix", _)) => Err(invalid("the path has to be absolute")),
        Some(("tcp", address)) => {
            let address: SocketAddr = address.parse().map_err(|_| {
                invalid("not an address and a port").with_hint("write tcp://127.0.0.1:1234")
            })?;
            Ok(Address::Tcp { address, tls: tls.cloned() })
        }
        _ => Err(invalid("want unix://PATH or tcp://ADDRESS:PORT")),
    }
}

fn tls(args: &ServeArgs) -> anyhow::Result<Option<Tls>> {
    let (certificate, key) = match (&args.tls_certificate, &args.tls_key) {
        (Some(certificate), Some(key)) => (read(certificate)?, read(key)?),
        (None, None) if args.tls_authority.is_none() => return Ok(None),
        _ => {
            return Err(UsageError::new("`--tlscert` and `--tlskey` go together").into());
        }
    };
    let clients = args.tls_authority.as_deref().map(read).transpose()?;
    Ok(Some(Tls { certificate, key, clients }))
}

fn read(path: &Path) -> Result<Vec<u8>, UsageError> {
    std::fs::read(path)
        .map_err(|error| UsageError::new(format!("failed to read `{}`: {error}", path.display())))
}

/// The number of a group.
fn group(text: &str) -> Result<u32, UsageError> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let number = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(text)).then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    number.ok_or_else(|| UsageError::new(format!("`--group {text}`: there is no such group")))
}
