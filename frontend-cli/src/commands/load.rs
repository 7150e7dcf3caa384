//! `mybuild load`

use std::io::IsTerminal as _;
use std::sync::Arc;

use engine::Workspace;
use engine::images::ArchiveSource;
use engine::request::TarSource;

use super::image::tell_warnings;
use crate::cli::LoadArgs;
use crate::client::CommandLine;
use crate::error::UsageError;
use crate::exit::Exit;
use crate::{interrupt, ui};

/// What `mybuild load` has to do.
pub(super) struct Load {
    source: ArchiveSource,
    quiet: bool,
}

impl Load {
    pub(super) fn resolve(args: LoadArgs) -> Result<Self, UsageError> {
        let source = match args.input {
            Some(path) if path.as_os_str() != "-" && path.is_dir() => ArchiveSource::Layout(path),
            Some(path) if path.as_os_str() != "-" => ArchiveSource::Archive(TarSource::Path(path)),
            _ if std::io::stdin().is_terminal() => {
                return Err(UsageError::new("an archive does not come from a terminal")
                    .with_hint("name a file with `--input FILE`, or redirect standard input"));
            }
            _ => ArchiveSource::Archive(TarSource::Stdin),
        };
        Ok(Self { source, quiet: args.quiet })
    }

    pub(super) async fn run(self, workspace: &Workspace) -> anyhow::Result<Exit> {
        let mut text = String::new();
        let client = Arc::new(CommandLine::default());
        let cancel = interrupt::cancel_on_signals_quietly(workspace)?;
        for image in workspace.load(self.source, client, cancel).await? {
            for name in &image.names {
                let line = if self.quiet {
                    format!("{name}\n")
                } else {
                    format!("Loaded image: {name}\n")
                };
                text.push_str(&line);
            }
            if image.names.is_empty() {
                let id = &image.id;
                let line =
                    if self.quiet { format!("{id}\n") } else { format!("Loaded image ID: {id}\n") };
                text.push_str(&line);
            }
        }
        ui::data(text.as_bytes())?;
        tell_warnings(workspace);
        Ok(Exit::Success)
    }
}
