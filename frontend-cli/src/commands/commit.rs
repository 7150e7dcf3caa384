//! `mybuild commit`

use engine::Workspace;
use engine::containers::CommitRequest;

use super::image::tell_warnings;
use crate::cli::CommitArgs;
use crate::error::UsageError;
use crate::exit::Exit;
use crate::ui;

/// What `mybuild commit` has to do.
pub(super) struct Commit(CommitRequest);

impl Commit {
    pub(super) fn resolve(args: CommitArgs) -> Result<Self, UsageError> {
        let name = args.name.as_deref().map(super::tag::new_name).transpose()?;
        Ok(Self(CommitRequest {
            container: args.container,
            name,
            author: args.author.unwrap_or_default(),
            message: args.message.unwrap_or_default(),
            changes: args.changes,
        }))
    }

    pub(super) async fn run(self, workspace: &Workspace) -> anyhow::Result<Exit> {
        let id = workspace.commit(self.0).await?;
        ui::data(format!("{id}\n").as_bytes())?;
        tell_warnings(workspace);
        Ok(Exit::Success)
    }
}
