//! Registries without a store: who may log in.

use registry::{Credential, Credentials, ErrorKind, Login, Registries};

use crate::engine::EngineOptions;
use crate::error::{BuildError, Fault};
use crate::registry_hint;

/// Registries as the configuration says they are reached. It needs no store, and so no user namespace.
pub struct RegistryClient {
    config: registry::Config,
}

impl RegistryClient {
    /// Reads the configuration. Connects to nothing.
    ///
    /// # Errors
    /// [`BuildError::Input`] if the configuration cannot be used.
    pub fn new(options: &EngineOptions) -> Result<Self, BuildError> {
        Ok(Self { config: options.configuration()?.registries() })
    }

    /// Shows `credential` to the registry `domain`.
    ///
    /// # Errors
    /// [`BuildError::Input`] if the registry does not take it, else [`BuildError::System`].
    pub async fn log_in(&self, domain: &str, credential: &Credential) -> Result<Login, BuildError> {
        let registries = Registries::new(self.config.clone(), Credentials::anonymous());
        registries.log_in(domain, credential).await.map_err(|error| match error.kind() {
            ErrorKind::Unauthorized | ErrorKind::Denied => BuildError::Input(Fault::of(error)),
            kind => failed(error).with_hint_if(registry_hint::of(kind).map(str::to_owned)),
        })
    }
}

/// A registry did not do what it was asked.
pub(crate) fn failed(error: registry::Error) -> BuildError {
    BuildError::System(Fault::of(error))
}
