//! `--call targets`: what can be built.

use parser::instruction::Stage;
use serde_json::{Value, json};

use super::{bytes, columns, location, object, pretty};

/// For people.
pub fn text(stages: &[Stage]) -> String {
    let names: Vec<String> =
        numbered(stages).map(|(stage, is_last)| title(stage, is_last)).collect();
    let rows = names.iter().zip(stages).map(|(name, stage)| [name.as_str(), stage.doc.as_str()]);
    let heading = [["TARGET", "DESCRIPTION"]];
    columns(&heading.into_iter().chain(rows).collect::<Vec<_>>(), 1)
}

/// Each stage, and whether it is the one that is built when none is named.
fn numbered(stages: &[Stage]) -> impl Iterator<Item = (&Stage, bool)> {
    stages.iter().enumerate().map(|(number, stage)| (stage, number + 1 == stages.len()))
}

fn name(stage: &Stage) -> &str {
    stage.name.as_ref().map_or("", |name| &name.value)
}

fn title(stage: &Stage, is_last: bool) -> String {
    match (name(stage), is_last) {
        ("", true) => "(default)".to_owned(),
        (name, true) => format!("{name} (default)"),
        (name, false) => name.to_owned(),
    }
}

/// BuildKit's JSON.
pub fn json(stages: &[Stage], dockerfile: &str) -> String {
    let targets = numbered(stages).map(|(stage, is_last)| {
        object([
            ("name", json!(name(stage))),
            ("default", json!(is_last)),
            ("description", json!(stage.doc)),
            ("base", json!(stage.base.value)),
            ("platform", json!(stage.platform.as_ref().map(|platform| &platform.value))),
            ("location", location(stage.lines)),
        ])
    });
    let targets: Value = targets.collect();
    pretty(&json!({ "targets": targets, "sources": [bytes(dockerfile)] }))
}
