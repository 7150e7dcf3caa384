//! `mybuild images`

use engine::Workspace;
use engine::images::ListedImage;
use serde_json::{Map, Value};

use super::image::{short_id, tell_warnings};
use crate::cli::ImagesArgs;
use crate::docker_units::{at, since, size};
use crate::error::UsageError;
use crate::exit::Exit;
use crate::listing::{Field, Format};
use crate::spelling::boolean;
use crate::ui;

const FIELDS: &[Field] = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("VirtualSize", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("Platforms", "PLATFORMS"),
];

const TABLE: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const TABLE_WITH_DIGESTS: &str =
    "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";

/// What `mybuild images` has to do.
pub(super) struct List {
    format: Format,
    no_trunc: bool,
    filters: Vec<Filter>,
}

enum Filter {
    Reference(String),
    Dangling(bool),
    Label(String, Option<String>),
    Before(String),
    Since(String),
}

impl List {
    pub(super) fn resolve(args: ImagesArgs) -> Result<Self, UsageError> {
        let table = if args.digests { TABLE_WITH_DIGESTS } else { TABLE };
        let format = match (args.quiet, args.format.as_deref()) {
            (true, None | Some("table")) => Format::parse(Some("{{.ID}}"), table, FIELDS)?,
            (_, format) => Format::parse(format, table, FIELDS)?,
        };
        let mut filters: Vec<Filter> =
            args.filters.iter().map(|text| Filter::parse(text)).collect::<Result<_, _>>()?;
        filters.extend(args.reference.map(Filter::Reference));
        for filter in &filters {
            filter.check()?;
        }
        Ok(Self { format, no_trunc: args.no_trunc, filters })
    }

    pub(super) async fn run(self, workspace: &Workspace) -> anyhow::Result<Exit> {
        let all = workspace.images().await?;
        let mut shown: Vec<&ListedImage> = all.iter().collect();
        for filter in &self.filters {
            let limit = filter.limit(workspace).await?;
            shown.retain(|image| filter.takes(image, limit));
        }
        let entries: Vec<_> = shown.into_iter().map(|image| self.entry(image)).collect();
        ui::data(self.format.render(&entries, FIELDS)?.as_bytes())?;
        tell_warnings(workspace);
        Ok(Exit::Success)
    }

    fn entry(&self, image: &ListedImage) -> Map<String, Value> {
        let none = || "<none>".to_owned();
        let (repository, tag) = match &image.reference {
            Some(reference) => {
                (reference.familiar_name(), reference.tag().map_or_else(none, str::to_owned))
            }
            None => (image.name.clone(), none()),
        };
        let id = if self.no_trunc { image.id.to_string() } else { short_id(&image.id) };
        let created = image.created.as_deref();
        let platforms: Vec<String> = image.platforms.iter().map(ToString::to_string).collect();
        let shown = [
            ("Repository", repository),
            ("Tag", tag),
            ("Digest", image.digest.to_string()),
            ("ID", id),
            ("CreatedSince", since(created, jiff::Timestamp::now())),
            ("CreatedAt", at(created, &jiff::tz::TimeZone::system())),
            ("Size", size(image.size)),
            ("VirtualSize", size(image.size)),
            ("Containers", "N/A".to_owned()),
            ("SharedSize", "N/A".to_owned()),
            ("UniqueSize", "N/A".to_owned()),
            ("Platforms", platforms.join(",")),
        ];
        shown.into_iter().map(|(field, text)| (field.to_owned(), text.into())).collect()
    }
}

impl Filter {
    fn parse(text: &str) -> Result<Self, UsageError> {
        let invalid = || {
            UsageError::new(format!("`--filter {text}` is not a filter of images"))
                .with_hint("filters are reference=, dangling=, label=, before= and since=")
        };
        let (name, value) = text.split_once('=').ok_or_else(invalid)?;
        Ok(match name {
            "reference" => Self::Reference(value.to_owned()),
            "dangling" => Self::Dangling(boolean(value).ok_or_else(invalid)?),
            "label" => match value.split_once('=') {
                Some((key, value)) => Self::Label(key.to_owned(), Some(value.to_owned())),
                None => Self::Label(value.to_owned(), None),
            },
            "before" => Self::Before(value.to_owned()),
            "since" => Self::Since(value.to_owned()),
            _ => return Err(invalid()),
        })
    }

    /// Refuses a pattern that is none.
    fn check(&self) -> Result<(), UsageError> {
        let Self::Reference(pattern) = self else { return Ok(()) };
        let any: oci::Reference = "any".parse().expect("a name");
        any.familiar_matches(pattern)
            .map(drop)
            .map_err(|error| UsageError::new(format!("`{pattern}`: {error}")))
    }

    /// The time of the image that a filter compares with.
    async fn limit(&self, workspace: &Workspace) -> anyhow::Result<Option<jiff::Timestamp>> {
        let (Self::Before(name) | Self::Since(name)) = self else { return Ok(None) };
        let image = workspace.image(name, None).await?;
        Ok(image.config.created.and_then(|time| time.parse().ok()))
    }

    fn takes(&self, image: &ListedImage, limit: Option<jiff::Timestamp>) -> bool {
        let created =
            || image.created.as_ref().and_then(|time| time.parse::<jiff::Timestamp>().ok());
        match self {
            Self::Reference(pattern) => {
                let matches = image.reference.as_ref().map(|name| name.familiar_matches(pattern));
                matches.is_some_and(|matches| matches.unwrap_or(false)) || image.name == *pattern
            }
            // Every image of the store has a name: what loses its last one is not listed.
            Self::Dangling(wanted) => !wanted,
            Self::Label(key, value) => {
                let found = image.labels.get(key);
                found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
            }
            Self::Before(_) => created() < limit,
            Self::Since(_) => created() > limit,
        }
    }
}
