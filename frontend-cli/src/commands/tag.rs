//! `mybuild tag`

use engine::Workspace;
use oci::Reference;

use crate::cli::TagArgs;
use crate::error::UsageError;
use crate::exit::Exit;

/// What `mybuild tag` has to do.
pub(super) struct Tag {
    source: String,
    name: Reference,
}

impl Tag {
    pub(super) fn resolve(args: &TagArgs) -> Result<Self, UsageError> {
        Ok(Self { source: args.source.clone(), name: new_name(&args.name)? })
    }

    pub(super) async fn run(self, workspace: &Workspace) -> anyhow::Result<Exit> {
        workspace.tag_image(&self.source, &self.name).await?;
        Ok(Exit::Success)
    }
}

/// What an image is to be called.
pub(super) fn new_name(text: &str) -> Result<Reference, UsageError> {
    let name: Reference =
        text.parse().map_err(|error| UsageError::new(format!("`{text}`: {error}")))?;
    match name.digest() {
        None => Ok(name),
        Some(_) => Err(UsageError::new(format!("`{text}`: a new name cannot have a digest"))
            .with_hint("the digest of an image is what it is; give it a tag")),
    }
}
