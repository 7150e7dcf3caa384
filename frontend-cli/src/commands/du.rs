//! `mybuild du`

use engine::{DiskUsage, Engine};

use super::image::tell_warnings;
use crate::cli::DuArgs;
use crate::docker_units::size;
use crate::error::UsageError;
use crate::exit::Exit;
use crate::listing::align;
use crate::ui;

/// What `mybuild du` has to do.
pub(super) struct ShowUsage {
    verbose: bool,
    json: bool,
}

impl ShowUsage {
    pub(super) fn resolve(args: &DuArgs) -> Result<Self, UsageError> {
        let json = match args.format.as_deref() {
            None | Some("table") => false,
            Some("json") => true,
            Some(other) => {
                return Err(UsageError::new(format!("`--format {other}` is not supported"))
                    .with_hint("formats are table and json"));
            }
        };
        Ok(Self { verbose: args.verbose, json })
    }

    pub(super) async fn run(self, engine: &Engine) -> anyhow::Result<Exit> {
        let usage = engine.disk_usage().await?;
        let mut text = match self.json {
            true => format!("{}\n", json(&usage)),
            false => align(&rows(&usage, self.verbose)),
        };
        if self.verbose && !self.json {
            let images = engine.images().await?;
            let mut rows = vec!["IMAGE\tSIZE".to_owned()];
            rows.extend(images.iter().map(|image| {
                let name =
                    image.reference.as_ref().map_or(image.name.clone(), oci::Reference::familiar);
                format!("{name}\t{}", size(image.size))
            }));
            if rows.len() > 1 {
                text = format!("{text}\n{}", align(&rows));
            }
        }
        ui::data(text.as_bytes())?;
        tell_warnings(engine);
        Ok(Exit::Success)
    }
}

fn rows(usage: &DiskUsage, verbose: bool) -> Vec<String> {
    let row = |what: &str, count: Option<u64>, bytes: u64| {
        format!(
            "{what}\t{}\t{}",
            count.map_or(String::new(), |count| count.to_string()),
            size(bytes)
        )
    };
    let mut rows = vec!["TYPE\tTOTAL\tSIZE".to_owned(), row("images", None, usage.images)];
    if verbose {
        rows.push(row("other blobs", None, usage.blobs));
        rows.push(row("layers", Some(usage.layer_count), usage.layers));
        rows.push(row("steps", Some(usage.steps), usage.records));
        rows.push(row("cache mounts", None, usage.mounts));
        rows.push(row("logs", None, usage.logs));
        rows.push(row("temporary", None, usage.temporary));
        rows.push(row("reserve", None, usage.ballast));
    } else {
        rows.push(row("build cache", Some(usage.steps), usage.blobs + usage.layers));
        rows.push(row("cache mounts", None, usage.mounts));
        let rest = usage.records + usage.logs + usage.temporary + usage.ballast;
        rows.push(row("records, logs", None, rest));
    }
    rows.push(row("all", None, usage.total));
    rows
}

fn json(usage: &DiskUsage) -> serde_json::Value {
    serde_json::json!({
        "total": usage.total,
        "images": usage.images,
        "blobs": usage.blobs,
        "layers": usage.layers,
        "mounts": usage.mounts,
        "logs": usage.logs,
        "records": usage.records,
        "temporary": usage.temporary,
        "ballast": usage.ballast,
        "steps": usage.steps,
        "layer_count": usage.layer_count,
    })
}
