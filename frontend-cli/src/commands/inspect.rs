//! `mybuild inspect`

use std::collections::BTreeMap;

use engine::Workspace;
use engine::images::ImageDetails;
use oci::{ContainerConfig, Descriptor, DiffId, Digest, Platform};
use serde::Serialize;
use serde_json::Value;

use super::image::{platform, tell_warnings};
use crate::cli::InspectArgs;
use crate::error::{self, UsageError};
use crate::exit::Exit;
use crate::template::{Data, Template};
use crate::ui;

/// What `mybuild inspect` has to do.
pub(super) struct Inspect {
    images: Vec<String>,
    format: Format,
    platform: Option<Platform>,
}

enum Format {
    /// An array of objects for people.
    Pretty,
    /// A line an image.
    Json,
    Template(Template),
}

/// An image in the shape of Docker's API.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown {
    id: Digest,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    comment: String,
    created: String,
    author: String,
    config: ShownConfig,
    architecture: String,
    variant: String,
    os: String,
    os_version: String,
    size: u64,
    #[serde(rename = "RootFS")]
    root_fs: RootFs,
    descriptor: Descriptor,
}

#[derive(Serialize)]
struct RootFs {
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(rename = "Layers")]
    layers: Vec<DiffId>,
}

/// Docker's fields with their empty values, and those of others.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ShownConfig {
    user: String,
    exposed_ports: Value,
    env: Vec<String>,
    cmd: Vec<String>,
    healthcheck: Value,
    args_escaped: bool,
    volumes: Value,
    working_dir: String,
    entrypoint: Vec<String>,
    on_build: Vec<String>,
    labels: BTreeMap<String, String>,
    stop_signal: String,
    shell: Vec<String>,
    #[serde(flatten)]
    extra: BTreeMap<String, Value>,
}

impl Inspect {
    pub(super) fn resolve(args: InspectArgs) -> Result<Self, UsageError> {
        if let Some(kind) = args.kind.filter(|kind| kind != "image" && !kind.is_empty()) {
            return Err(UsageError::new(format!("`--type {kind}` is not supported"))
                .with_hint("what can be inspected is an image"));
        }
        let format = match args.format.as_deref() {
            None | Some("") => Format::Pretty,
            Some("json") => Format::Json,
            Some(text) => {
                let parsed = Template::parse(text);
                Format::Template(parsed.map_err(|e| UsageError::new(format!("`--format`: {e}")))?)
            }
        };
        Ok(Self { images: args.images, format, platform: platform(args.platform.as_deref())? })
    }

    /// Shows what there is, and then says what there is not.
    pub(super) async fn run(self, workspace: &Workspace) -> anyhow::Result<Exit> {
        let mut found = Vec::new();
        let mut failures = Vec::new();
        for name in &self.images {
            match workspace.image(name, self.platform.clone()).await {
                Ok(details) => found.push(shown(details)),
                Err(error) => failures.push(error),
            }
        }
        let text = self.text(&found);
        ui::data(text?.as_bytes())?;
        tell_warnings(workspace);
        let mut exit = Exit::Success;
        for failure in failures {
            exit = error::report(&failure.into(), false);
        }
        Ok(exit)
    }

    fn text(&self, images: &[Shown]) -> anyhow::Result<String> {
        let values = images.iter().map(value);
        match &self.format {
            Format::Pretty => {
                let mut out = Vec::new();
                let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
                let mut serializer = serde_json::Serializer::with_formatter(&mut out, indent);
                let shown: Value = values.map(|value| for_json("", &value)).collect();
                InOrder(&shown).serialize(&mut serializer)?;
                Ok(format!("{}\n", String::from_utf8(out)?))
            }
            Format::Json => {
                let line = |value: Value| serde_json::to_string(&InOrder(&for_json("", &value)));
                values.map(|value| Ok(format!("{}\n", line(value)?))).collect()
            }
            Format::Template(template) => {
                let line = |value: Value| {
                    let text = template.render(Data { value: &value, json: for_json })?;
                    Ok(format!("{text}\n"))
                };
                values.map(line).collect()
            }
        }
    }
}

fn shown(details: ImageDetails) -> Shown {
    let config = details.config;
    let comment = config.history.last().map(|entry| entry.comment.clone()).unwrap_or_default();
    Shown {
        id: details.id,
        repo_tags: details.names,
        repo_digests: details.repo_digests,
        comment,
        created: config.created.unwrap_or_default(),
        author: config.author,
        config: shown_config(config.config),
        architecture: config.architecture,
        variant: config.variant,
        os: config.os,
        os_version: config.os_version,
        size: details.layer_sizes.iter().sum(),
        root_fs: RootFs { kind: "layers", layers: config.rootfs.diff_ids },
        descriptor: details.manifest,
    }
}

fn shown_config(config: ContainerConfig) -> ShownConfig {
    ShownConfig {
        user: config.user,
        exposed_ports: value(&config.exposed_ports),
        env: config.env,
        cmd: config.cmd.unwrap_or_default(),
        healthcheck: value(&config.healthcheck),
        args_escaped: config.args_escaped,
        volumes: value(&config.volumes),
        working_dir: config.working_dir,
        entrypoint: config.entrypoint.unwrap_or_default(),
        on_build: config.on_build,
        labels: config.labels,
        stop_signal: config.stop_signal,
        shell: config.shell,
        extra: config.extra,
    }
}

fn value(data: &impl Serialize) -> Value {
    serde_json::to_value(data).expect("it is plain data")
}

/// Empty lists and maps that Docker's JSON has as `null`.
const NULL_WHEN_EMPTY: [&str; 6] = ["Cmd", "Entrypoint", "Env", "OnBuild", "Labels", "Volumes"];
/// Fields that Docker's JSON leaves out when they are empty.
const OMITTED_WHEN_EMPTY: [&str; 8] = [
    "ExposedPorts",
    "Healthcheck",
    "ArgsEscaped",
    "StopSignal",
    "Shell",
    "Variant",
    "OsVersion",
    "Author",
];

/// A value as Docker's JSON has it. Templates see empty fields, too.
fn for_json(key: &str, value: &Value) -> Value {
    if NULL_WHEN_EMPTY.contains(&key) && is_empty(value) {
        return Value::Null;
    }
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(key, value)| {
                !OMITTED_WHEN_EMPTY.contains(&key.as_str()) || !is_empty(value)
            });
            kept.map(|(key, value)| (key.clone(), for_json(key, value))).collect()
        }
        other => other.clone(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// The order in which Docker prints fields; others follow by name.
const ORDER: [&str; 35] = [
    "Id",
    "RepoTags",
    "RepoDigests",
    "Comment",
    "Created",
    "Author",
    "Config",
    "Architecture",
    "Variant",
    "Os",
    "OsVersion",
    "Size",
    "RootFS",
    "Descriptor",
    "Type",
    "Layers",
    "User",
    "ExposedPorts",
    "Env",
    "Cmd",
    "Healthcheck",
    "ArgsEscaped",
    "Volumes",
    "WorkingDir",
    "Entrypoint",
    "OnBuild",
    "Labels",
    "StopSignal",
    "Shell",
    "mediaType",
    "digest",
    "size",
    "urls",
    "annotations",
    "platform",
];

/// A value whose fields are printed in [`ORDER`].
struct InOrder<'a>(&'a Value);

impl Serialize for InOrder<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(map) => {
                let place =
                    |key: &str| ORDER.iter().position(|known| *known == key).unwrap_or(ORDER.len());
                let mut fields: Vec<(&String, &Value)> = map.iter().collect();
                fields.sort_by_key(|(key, _)| place(key));
                serializer.collect_map(fields.into_iter().map(|(key, value)| (key, InOrder(value))))
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(InOrder)),
            other => other.serialize(serializer),
        }
    }
}
