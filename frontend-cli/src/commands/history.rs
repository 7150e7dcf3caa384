//! `mybuild history`

use std::time::Duration;

use engine::Workspace;
use engine::images::ImageDetails;
use oci::{DiffId, Platform};
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
    ("Duration", "DURATION"),
    ("Layer", "LAYER"),
    ("Comment", "COMMENT"),
];
const TABLE: &str = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
const TABLE_OF_NUMBERS: &str = "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
/// Columns of an instruction that is shown in short.
const CREATED_BY_COLUMNS: usize = 45;
/// What stands for the ids of intermediate images, which there are none of.
const MISSING: &str = "<missing>";

/// What is known of an entry's layer; nothing of an entry without one.
#[derive(Default)]
struct Layer<'a> {
    digest: Option<&'a DiffId>,
    bytes: u64,
    /// How long its step took, where that is known.
    duration: Option<Duration>,
}

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
        let durations = workspace.layer_durations(&image.config.rootfs.diff_ids).await?;
        let entries = self.entries(&image, &durations);
        ui::data(self.format.render(&entries, FIELDS)?.as_bytes())?;
        tell_warnings(workspace);
        Ok(Exit::Success)
    }

    /// The newest entry first, as Docker shows them.
    fn entries(
        &self,
        image: &ImageDetails,
        durations: &[Option<Duration>],
    ) -> Vec<Map<String, Value>> {
        let durations = durations.iter().copied().chain(std::iter::repeat(None));
        let sizes = image.layer_sizes.iter().copied().zip(durations);
        let mut layers = image
            .config
            .rootfs
            .diff_ids
            .iter()
            .zip(sizes)
            .map(|(digest, (bytes, duration))| Layer { digest: Some(digest), bytes, duration });
        let mut history: Vec<(&oci::History, Layer<'_>)> = Vec::new();
        for entry in &image.config.history {
            let layer = if entry.empty_layer { None } else { layers.next() };
            history.push((entry, layer.unwrap_or_default()));
        }
        // A config need not have a history.
        let nameless = oci::History::default();
        history.extend(layers.map(|layer| (&nameless, layer)));
        let id = if self.no_trunc { image.id.to_string() } else { short_id(&image.id) };
        let ids = std::iter::once(id.as_str()).chain(std::iter::repeat(MISSING));
        history
            .into_iter()
            .rev()
            .zip(ids)
            .map(|((entry, layer), id)| self.entry(entry, layer, id))
            .collect()
    }

    fn entry(&self, entry: &oci::History, layer: Layer<'_>, id: &str) -> Map<String, Value> {
        let Layer { digest, bytes, duration } = layer;
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
            ("Duration", duration.map(|took| self.duration(took)).unwrap_or_default()),
            ("Layer", digest.map(ToString::to_string).unwrap_or_default()),
            ("Comment", entry.comment.replace(['\t', '\n'], " ")),
        ];
        shown.into_iter().map(|(field, text)| (field.to_owned(), text.into())).collect()
    }

    /// In seconds for people, else in milliseconds.
    fn duration(&self, took: Duration) -> String {
        match self.human {
            true => format!("{:.1}s", took.as_secs_f64()),
            false => took.as_millis().to_string(),
        }
    }
}
