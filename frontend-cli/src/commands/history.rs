//! `mybuild history`

use engine::Workspace;
use engine::images::ImageDetails;
use oci::Platform;
use serde_json::{Map, Value};

use super::image::{platform, short_id, tell_warnings};
use crate::cli::HistoryArgs;
use crate::docker_units::{since, size};
use crate::error::UsageError;
use crate::exit::Exit;
use crate::listing::{Field, Format, shorten};
use crate::spelling::boolean;
use crate::ui;

const FIELDS: &[Field] = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];
const TABLE: &str = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
const TABLE_OF_NUMBERS: &str = "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
/// Columns of an instruction that is shown in short.
const CREATED_BY_COLUMNS: usize = 45;
/// What stands for the ids of intermediate images, which there are none of.
const MISSING: &str = "<missing>";

/// What `mybuild history` has to do.
pub(super) struct ShowHistory {
    image: String,
    platform: Option<Platform>,
    format: Format,
    no_trunc: bool,
    human: bool,
}

impl ShowHistory {
    pub(super) fn resolve(args: HistoryArgs) -> Result<Self, UsageError> {
        let human = match args.human.as_deref() {
            None => true,
            Some(text) => boolean(text)
                .ok_or_else(|| UsageError::new(format!("`--human={text}`: want true or false")))?,
        };
        let table = if human { TABLE } else { TABLE_OF_NUMBERS };
        let format = match (args.quiet, args.format.as_deref()) {
            (true, None | Some("table")) => Format::parse(Some("{{.ID}}"), table, FIELDS)?,
            (_, format) => Format::parse(format, table, FIELDS)?,
        };
        let platform = platform(args.platform.as_deref())?;
        Ok(Self { image: args.image, platform, format, no_trunc: args.no_trunc, human })
    }

    pub(super) async fn run(self, workspace: &Workspace) -> anyhow::Result<Exit> {
        let image = workspace.image(&self.image, self.platform.clone()).await?;
        let entries = self.entries(&image);
        ui::data(self.format.render(&entries, FIELDS)?.as_bytes())?;
        tell_warnings(workspace);
        Ok(Exit::Success)
    }

    /// The newest entry first, as Docker shows them.
    fn entries(&self, image: &ImageDetails) -> Vec<Map<String, Value>> {
        let mut sizes = image.layer_sizes.iter().copied();
        let mut history: Vec<(&oci::History, u64)> = Vec::new();
        for entry in &image.config.history {
            let size = if entry.empty_layer { 0 } else { sizes.next().unwrap_or(0) };
            history.push((entry, size));
        }
        // A config need not have a history.
        let nameless = oci::History::default();
        history.extend(sizes.map(|size| (&nameless, size)));
        let id = if self.no_trunc { image.id.to_string() } else { short_id(&image.id) };
        let ids = std::iter::once(id.as_str()).chain(std::iter::repeat(MISSING));
        history
            .into_iter()
            .rev()
            .zip(ids)
            .map(|((entry, size), id)| self.entry(entry, size, id))
            .collect()
    }

    fn entry(&self, entry: &oci::History, bytes: u64, id: &str) -> Map<String, Value> {
        let created = entry.created.as_deref();
        let created_by = entry.created_by.replace(['\t', '\n'], " ");
        let created_by =
            if self.no_trunc { created_by } else { shorten(&created_by, CREATED_BY_COLUMNS) };
        let shown = [
            ("ID", id.to_owned()),
            ("CreatedSince", since(created, jiff::Timestamp::now())),
            ("CreatedAt", created.unwrap_or(crate::docker_units::UNKNOWN_TIME).to_owned()),
            ("CreatedBy", created_by),
            ("Size", if self.human { size(bytes) } else { bytes.to_string() }),
            ("Comment", entry.comment.replace(['\t', '\n'], " ")),
        ];
        shown.into_iter().map(|(field, text)| (field.to_owned(), text.into())).collect()
    }
}
