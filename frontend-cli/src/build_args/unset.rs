//! `--unset-env`, `--unset-label`, `--unset-volume`, `--unset-expose`.

use engine::request::Unset;

use crate::cli::BuildArgs;
use crate::error::UsageError;

pub(super) fn resolve(args: &BuildArgs) -> Result<Unset, UsageError> {
    Ok(Unset {
        variables: super::each(&args.unset_env, |name| named("--unset-env", name))?,
        labels: super::each(&args.unset_labels, |name| named("--unset-label", name))?,
        volumes: super::each(&args.unset_volumes, |path| named("--unset-volume", path))?,
        ports: super::each(&args.unset_ports, port)?,
    })
}

fn named(flag: &str, name: &str) -> Result<String, UsageError> {
    match name {
        "" => Err(UsageError::new(format!("`{flag}`: the name is empty"))),
        name => Ok(name.to_owned()),
    }
}

/// As configs have it: `80/tcp`.
fn port(text: &str) -> Result<String, UsageError> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_lowercase();
    match number.parse::<u16>() {
        Ok(number) if matches!(&*protocol, "tcp" | "udp" | "sctp") => {
            Ok(format!("{number}/{protocol}"))
        }
        _ => Err(UsageError::new(format!("`--unset-expose {text}`: want PORT or PORT/PROTOCOL"))
            .with_hint("a port is written 80, 80/tcp, 53/udp or 9899/sctp")),
    }
}
