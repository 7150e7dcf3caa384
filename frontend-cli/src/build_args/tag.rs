//! Names that an image gets.

use oci::Reference;

use crate::error::UsageError;

/// A name for an image: where it has no tag, `:latest` is meant.
pub(super) fn tag(text: &str) -> Result<Reference, UsageError> {
    let reference: Reference = text.parse().map_err(|error| not_a_name(text, &error))?;
    match reference.digest() {
        Some(_) => Err(UsageError::new(format!(
            "`{text}` cannot be an image's new name: its digest comes from what it holds"
        ))
        .with_hint("write NAME or NAME:TAG")),
        None => Ok(reference),
    }
}

fn not_a_name(text: &str, error: &oci::InvalidReference) -> UsageError {
    let lower = text.to_lowercase();
    let hint = match lower.parse::<Reference>() {
        Ok(_) => format!("did you mean `{lower}`?"),
        Err(_) => "write NAME or NAME:TAG, as in `app:1.0`".to_owned(),
    };
    UsageError::new(format!("`{text}` is not a valid image name: {error}")).with_hint(hint)
}
