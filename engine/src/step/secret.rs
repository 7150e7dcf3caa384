//! The values of secrets.

use executor::Secret;

use crate::client::{Client, SECRET_MAX};
use crate::error::BuildError;

/// A secret's value; `None` if it is not given and need not be.
pub(super) fn secret(
    client: &dyn Client,
    id: &str,
    optional: bool,
) -> Result<Option<Secret>, BuildError> {
    match client.secret(id)? {
        Some(secret) if secret.0.len() as u64 > SECRET_MAX => {
            Err(BuildError::input(format!("failed to read secret `{id}`: it is larger than 1 MiB")))
        }
        None if !optional => {
            let hint =
                format!("give it with `--secret id={id},src=FILE` or `--secret id={id},env=NAME`");
            Err(BuildError::refused(format!("secret {id}: not found")).with_hint(hint))
        }
        found => Ok(found),
    }
}
