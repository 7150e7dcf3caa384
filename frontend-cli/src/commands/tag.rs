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
        let name: Reference = args
            .name
            .parse()
            .map_err(|error| UsageError::new(format!("`{}`: {error}", args.name)))?;
        if name.digest().is_some() {
            return Err(UsageError::new(format!(
                "`{}`: a new name cannot have a digest",
                args.name
            ))
            .with_hint("the digest of an image is what it is; give it a tag"));
        }
        Ok(Self { source: args.source.clone(), name })
    }

    pub(super) async fn run(self, workspace: &Workspace) -> anyhow::Result<Exit> {
        workspace.tag_image(&self.source, &self.name).await?;
        Ok(Exit::Success)
    }
}
