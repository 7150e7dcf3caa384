//! `mybuild fsck`

use engine::Workspace;

use super::image::tell_warnings;
use crate::cli::FsckArgs;
use crate::exit::Exit;
use crate::terminal::harmless;
use crate::ui;

/// What `mybuild fsck` has to do.
pub(super) struct Check {
    full: bool,
    repair: bool,
}

impl Check {
    pub(super) fn resolve(args: &FsckArgs) -> Self {
        Self { full: args.full, repair: args.repair }
    }

    /// A line for each problem.
    pub(super) async fn run(self, workspace: &Workspace) -> anyhow::Result<Exit> {
        let problems = workspace.fsck(self.full, self.repair).await?;
        // What was looked at and found missing is among the problems already.
        drop(workspace.take_warnings());
        if problems.is_empty() {
            ui::data(b"the store is whole\n")?;
            return Ok(Exit::Success);
        }
        let lines: String =
            problems.iter().map(|p| format!("{}\n", harmless(&p.to_string()))).collect();
        ui::data(lines.as_bytes())?;
        tell_warnings(workspace);
        let what = if self.repair { "found and removed" } else { "found" };
        let s = if problems.len() == 1 { "" } else { "s" };
        ui::error(&format!("{} problem{s} {what}\n", problems.len()));
        Ok(Exit::Failed)
    }
}
