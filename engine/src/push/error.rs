//! Why an image could not be pushed, and what to do about it.

use oci::Digest;
use registry::ErrorKind;

use crate::error::{BuildError, Fault};

/// Why a push failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PushError {
    /// The registry has not taken it.
    #[error(transparent)]
    Registry(Box<registry::Error>),
    /// It is no longer in the store.
    #[error("{0} is missing or damaged in the store")]
    NoBlob(Digest),
}

impl PushError {
    fn hint(&self) -> Option<String> {
        let Self::Registry(error) = self else {
            return Some(
                "push it again: what was compressed here is made again; else build or pull it"
                    .to_owned(),
            );
        };
        let host = error.host();
        match error.kind() {
            ErrorKind::Unauthorized | ErrorKind::Denied => Some(format!(
                "check the name, and the credentials for `{host}` in Docker's config.json"
            )),
            ErrorKind::NotFound => Some(format!("`{host}` may not be a registry: check the name")),
            ErrorKind::TooManyRequests => Some("wait before you push again".to_owned()),
            ErrorKind::Untrusted => Some(format!(
                "name its certificate authority in mybuild.toml (`[registry.\"{host}\"]`, `ca`)"
            )),
            ErrorKind::Unavailable => Some(
                "check the network, and push again: what has arrived is not sent again".to_owned(),
            ),
            _ => None,
        }
    }
}

impl From<registry::Error> for PushError {
    fn from(error: registry::Error) -> Self {
        Self::Registry(Box::new(error))
    }
}

impl From<PushError> for BuildError {
    fn from(error: PushError) -> Self {
        let hint = error.hint();
        // A build makes it again.
        let kind = if matches!(error, PushError::NoBlob(_)) { Self::Lost } else { Self::System };
        kind(Fault::of(error)).with_hint_if(hint)
    }
}
