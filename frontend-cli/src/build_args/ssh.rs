//! `--ssh`.

use std::collections::BTreeSet;
use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;

use crate::environment::Environment;
use crate::error::UsageError;
use crate::ssh::{Source, Wanted};

/// `default`, `ID`, `ID=SOCKET` or `ID=KEY[,KEY…]`; without a path the agent of `SSH_AUTH_SOCK`.
pub(super) fn parse_all(
    texts: &[String],
    environment: &Environment,
) -> Result<Vec<Wanted>, UsageError> {
    let mut ids = BTreeSet::new();
    let mut agents = Vec::new();
    for text in texts {
        let wanted = parse(text, environment)?;
        if !ids.insert(wanted.id.clone()) {
            let message = format!("`--ssh {text}`: `{}` is given twice", wanted.id);
            return Err(UsageError::new(message));
        }
        agents.push(wanted);
    }
    Ok(agents)
}

fn parse(text: &str, environment: &Environment) -> Result<Wanted, UsageError> {
    let invalid = |what: String| UsageError::new(format!("`--ssh {text}`: {what}"));
    let (id, paths) = text.split_once('=').unwrap_or((text, ""));
    let id = if id.is_empty() { "default" } else { id }.to_owned();
    if paths.is_empty() {
        let socket = environment.path("SSH_AUTH_SOCK").ok_or_else(|| {
            invalid("`SSH_AUTH_SOCK` is not set".to_owned()).with_hint(format!(
                "start an agent (`eval $(ssh-agent)` and `ssh-add`), or give a key with `--ssh \
                 {id}=FILE`"
            ))
        })?;
        return Ok(Wanted { id, source: Source::Socket(socket) });
    }
    if let Some(raw) = paths.split(',').find(|path| path.starts_with("raw=")) {
        return Err(invalid(format!("`{raw}` is not supported"))
            .with_hint("what is lent is an agent; other sockets are not forwarded"));
    }
    let (mut sockets, mut keys) = (Vec::new(), Vec::new());
    for path in paths.split(',') {
        let path = PathBuf::from(path);
        let metadata = path.metadata();
        let metadata =
            metadata.map_err(|error| invalid(format!("`{}`: {error}", path.display())))?;
        match metadata.file_type().is_socket() {
            true => sockets.push(path),
            false => keys.push(path),
        }
    }
    match (sockets.len(), keys.len()) {
        (0, _) => Ok(Wanted { id, source: Source::KeyFiles(keys) }),
        (1, 0) => Ok(Wanted { id, source: Source::Socket(sockets.remove(0)) }),
        (_, 0) => Err(invalid("an id has one socket".to_owned())),
        _ => Err(invalid("sockets and keys do not go together".to_owned())
            .with_hint("give each an id of its own")),
    }
}
