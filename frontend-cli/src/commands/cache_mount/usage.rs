//! `mybuild cache-mount du`

use engine::Workspace;
use serde_json::{Map, Value};

use crate::cli::CacheMountDuArgs;
use crate::commands::image::tell_warnings;
use crate::docker_units::size;
use crate::error::UsageError;
use crate::exit::Exit;
use crate::listing::{Field, Format};
use crate::ui;

const FIELDS: &[Field] = &[("Name", "NAME"), ("Size", "SIZE"), ("Bytes", "BYTES")];
const TABLE: &str = "{{.Size}}\t{{.Name}}";

/// What `mybuild cache-mount du` has to do.
pub(in crate::commands) struct Usage {
    mount: Option<String>,
    format: Format,
    /// A line for the sum is shown.
    has_total: bool,
}

impl Usage {
    pub(in crate::commands) fn resolve(args: CacheMountDuArgs) -> Result<Self, UsageError> {
        let format = Format::parse(args.format.as_deref(), TABLE, FIELDS)?;
        let has_total = matches!(args.format.as_deref(), None | Some("table"));
        Ok(Self { mount: args.mount, format, has_total })
    }

    /// The largest first.
    pub(in crate::commands) async fn run(self, workspace: &Workspace) -> anyhow::Result<Exit> {
        let mut sizes = match &self.mount {
            Some(mount) => workspace.cache_mount_usage(mount).await?,
            None => {
                let mounts = workspace.cache_mounts().await?;
                mounts.into_iter().map(|mount| (mount.id, mount.bytes)).collect()
            }
        };
        sizes.sort_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
        let total: u64 = sizes.iter().map(|(_, bytes)| bytes).sum();
        if self.has_total {
            sizes.push(("total".to_owned(), total));
        }
        let entries: Vec<_> = sizes.iter().map(|(name, bytes)| entry(name, *bytes)).collect();
        ui::data(self.format.render(&entries, FIELDS)?.as_bytes())?;
        tell_warnings(workspace);
        Ok(Exit::Success)
    }
}

fn entry(name: &str, bytes: u64) -> Map<String, Value> {
    let shown = [("Name", name.to_owned()), ("Size", size(bytes)), ("Bytes", bytes.to_string())];
    shown.into_iter().map(|(field, text)| (field.to_owned(), text.into())).collect()
}
