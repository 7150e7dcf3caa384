//! `mybuild cache-mount ls`

use engine::{MountItem, Workspace};
use serde_json::{Map, Value};

use crate::cli::CacheMountLsArgs;
use crate::commands::image::tell_warnings;
use crate::docker_units::{age, size};
use crate::error::UsageError;
use crate::exit::Exit;
use crate::listing::{Field, Format};
use crate::ui;

const FIELDS: &[Field] = &[
    ("ID", "ID"),
    ("MountID", "MOUNT ID"),
    ("Size", "SIZE"),
    ("Bytes", "BYTES"),
    ("LastUsed", "LAST USED"),
    ("InUse", "IN USE"),
];
const TABLE: &str = "{{.ID}}\t{{.MountID}}\t{{.Size}}\t{{.LastUsed}}\t{{.InUse}}";

/// What `mybuild cache-mount ls` has to do.
pub(in crate::commands) struct List {
    format: Format,
}

impl List {
    pub(in crate::commands) fn resolve(args: &CacheMountLsArgs) -> Result<Self, UsageError> {
        let format = match (args.quiet, args.format.as_deref()) {
            (true, None | Some("table")) => Format::parse(Some("{{.ID}}"), TABLE, FIELDS)?,
            (_, format) => Format::parse(format, TABLE, FIELDS)?,
        };
        Ok(Self { format })
    }

    /// The one used last first.
    pub(in crate::commands) async fn run(self, workspace: &Workspace) -> anyhow::Result<Exit> {
        let mut mounts = workspace.cache_mounts().await?;
        mounts.sort_by(|a, b| (b.used, &a.id, &a.name).cmp(&(a.used, &b.id, &b.name)));
        let now = jiff::Timestamp::now().as_second();
        let entries: Vec<_> = mounts.iter().map(|mount| entry(mount, now)).collect();
        ui::data(self.format.render(&entries, FIELDS)?.as_bytes())?;
        tell_warnings(workspace);
        Ok(Exit::Success)
    }
}

fn entry(mount: &MountItem, now: i64) -> Map<String, Value> {
    let shown = [
        ("ID", mount.name.clone()),
        ("MountID", mount.id.clone()),
        ("Size", size(mount.bytes)),
        ("Bytes", mount.bytes.to_string()),
        ("LastUsed", age(now - mount.used)),
        ("InUse", if mount.is_in_use { "yes" } else { "" }.to_owned()),
    ];
    shown.into_iter().map(|(field, text)| (field.to_owned(), text.into())).collect()
}
