//! What lets us into an account of Azure: its key, a signature, or who we are, as Azure's own libraries find out.

use engine::{AzureAccess, AzureIdentity, ManagedIdentity};

use super::Attributes;
use crate::environment::Environment;
use crate::error::UsageError;

/// Where Azure's directory is, and the service that knows a machine.
const AUTHORITY: &str = "https://login.microsoftonline.com";
const MACHINE: &str = "http://169.254.169.254";
/// Variables that ask for what is not built.
const UNSUPPORTED: [&str; 2] = ["AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_USERNAME"];

impl Attributes<'_> {
    /// What lets in; `key` is that of the attributes.
    pub(super) fn azure(
        &self,
        account_url: &str,
        key: Option<String>,
        environment: &Environment,
    ) -> Result<AzureAccess, UsageError> {
        match key {
            Some(key) => Ok(AzureAccess::Key(key)),
            None if account_url.contains("sig=") => Ok(AzureAccess::Address),
            None => self.identity(environment).map(AzureAccess::Identity),
        }
    }

    fn identity(&self, environment: &Environment) -> Result<AzureIdentity, UsageError> {
        let set = |name: &str| {
            environment.text(name).filter(|value| !value.is_empty()).map(str::to_owned)
        };
        let authority = set("AZURE_AUTHORITY_HOST").unwrap_or_else(|| AUTHORITY.to_owned());
        let client = set("AZURE_CLIENT_ID");
        if let (Some(tenant), Some(client)) = (set("AZURE_TENANT_ID"), client.clone()) {
            if let Some(secret) = set("AZURE_CLIENT_SECRET") {
                return Ok(AzureIdentity::Secret { authority, tenant, client, secret });
            }
            if let Some(variable) = UNSUPPORTED.into_iter().find(|name| set(name).is_some()) {
                let what = format!("{variable}: an identity with it is not supported");
                let hint =
                    "AZURE_CLIENT_SECRET, AZURE_FEDERATED_TOKEN_FILE and managed identities are";
                return Err(self.invalid(&what).with_hint(hint));
            }
            if let Some(file) = set("AZURE_FEDERATED_TOKEN_FILE") {
                let token_file = file.into();
                return Ok(AzureIdentity::Workload { authority, tenant, client, token_file });
            }
        }
        let service = match (set("IDENTITY_ENDPOINT"), set("IDENTITY_HEADER")) {
            (Some(endpoint), Some(header)) => ManagedIdentity::Application { endpoint, header },
            _ => ManagedIdentity::Machine {
                endpoint: set("AZURE_POD_IDENTITY_AUTHORITY_HOST")
                    .unwrap_or_else(|| MACHINE.to_owned()),
            },
        };
        Ok(AzureIdentity::Managed { service, client })
    }
}
