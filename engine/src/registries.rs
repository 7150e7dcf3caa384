//! What is done at registries without a store: logging in, looking at images, putting new ones together.

mod assemble;
mod source;

use std::sync::Arc;

use oci::{Descriptor, Reference};
use registry::{Credential, Credentials, ErrorKind, Login, Registries};

use crate::engine::EngineOptions;
use crate::error::{BuildError, Fault};
use crate::registry_hint;

pub use assemble::{Assembled, Assembly, Form, Put};
pub use source::{Said, Source};

/// The largest image config that is read, in bytes.
const CONFIG_MAX: u64 = 8 << 20;

/// Registries as the configuration says they are reached. It needs no store, and so no user namespace.
pub struct RegistryClient {
    registries: Arc<Registries>,
}

impl RegistryClient {
    /// Reads the configuration. Connects to nothing. Of the registries in `insecure` any certificate is
    /// trusted, and they may speak plain HTTP.
    ///
    /// # Errors
    /// [`BuildError::Input`] if the configuration cannot be used.
    pub fn new(
        options: &EngineOptions,
        credentials: Credentials,
        insecure: &[&str],
    ) -> Result<Self, BuildError> {
        let config = options.configuration()?;
        let mut config = config.registries(options.config_home.as_deref());
        insecure.iter().for_each(|domain| config.trust_blindly(domain));
        Ok(Self { registries: Arc::new(Registries::new(config, credentials)) })
    }

    /// Shows `credential` to the registry `domain`.
    ///
    /// # Errors
    /// [`BuildError::Input`] if the registry does not take it, else [`BuildError::System`].
    pub async fn log_in(&self, domain: &str, credential: &Credential) -> Result<Login, BuildError> {
        self.registries.log_in(domain, credential).await.map_err(|error| match error.kind() {
            ErrorKind::Unauthorized | ErrorKind::Denied => BuildError::Input(Fault::of(error)),
            _ => failed(error),
        })
    }

    /// The manifest or index that `name` names, to the byte.
    ///
    /// # Errors
    /// [`BuildError::System`] if it is not available.
    pub async fn manifest(&self, name: &Reference) -> Result<(Descriptor, Vec<u8>), BuildError> {
        let (descriptor, bytes) = self.registries.manifest(name).await.map_err(failed)?;
        Ok((descriptor, bytes.into()))
    }

    /// A config in the repository of `name`.
    ///
    /// # Errors
    /// [`BuildError::System`] if it is not available.
    pub async fn config(
        &self,
        name: &Reference,
        config: &Descriptor,
    ) -> Result<Vec<u8>, BuildError> {
        let fetched = self.registries.fetch_bytes(name, config, CONFIG_MAX).await;
        Ok(fetched.map_err(failed)?.into())
    }
}

/// A registry did not do what it was asked.
fn failed(error: registry::Error) -> BuildError {
    let hint = registry_hint::of(error.kind());
    BuildError::System(Fault::of(error)).with_hint_if(hint.map(str::to_owned))
}
