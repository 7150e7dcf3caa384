//! `--call outline`: what the target takes from whoever builds it.

use parser::lower::{Mounted, Outline};
use serde_json::{Value, json};

use super::{bytes, columns, location, object, pretty};

/// For people.
pub fn text(outline: &Outline) -> String {
    let mut out = target(outline);
    let mut add = |table: String| {
        if !table.is_empty() {
            out.push_str(&table);
            out.push('\n');
        }
    };
    let arguments = outline.arguments.iter();
    let arguments = arguments.map(|a| [a.name.as_str(), a.value.as_str(), a.description.as_str()]);
    add(table(["BUILD ARG", "VALUE", "DESCRIPTION"], arguments.collect()));
    add(table(["SECRET", "REQUIRED"], mounted(&outline.secrets)));
    add(table(["SSH", "REQUIRED"], mounted(&outline.ssh)));
    out
}

fn target(outline: &Outline) -> String {
    let name = if outline.name.is_empty() { "(default)" } else { &outline.name };
    match (outline.name.as_str(), outline.description.as_str()) {
        ("", "") => String::new(),
        (_, "") => columns(&[["TARGET:", name]], 1) + "\n",
        (_, said) => columns(&[["TARGET:", name], ["DESCRIPTION:", said]], 1) + "\n",
    }
}

fn mounted(list: &[Mounted]) -> Vec<[&str; 2]> {
    list.iter().map(|m| [m.id.as_str(), if m.required { "true" } else { "" }]).collect()
}

/// Nothing without rows.
fn table<'a, const N: usize>(heading: [&'a str; N], rows: Vec<[&'a str; N]>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    columns(&[vec![heading], rows].concat(), 3)
}

/// BuildKit's JSON.
pub fn json(outline: &Outline, dockerfile: &str) -> String {
    let arguments = outline.arguments.iter().map(|argument| {
        object([
            ("name", json!(argument.name)),
            ("description", json!(argument.description)),
            ("value", json!(argument.value)),
            ("location", location(argument.lines)),
        ])
    });
    let mounts = |list: &[Mounted], id: &str| -> Value {
        let all = list.iter().map(|mounted| {
            object([
                (id, json!(mounted.id)),
                ("required", json!(mounted.required)),
                ("location", location(mounted.lines)),
            ])
        });
        all.collect()
    };
    pretty(&object([
        ("name", json!(outline.name)),
        ("description", json!(outline.description)),
        ("args", arguments.collect()),
        ("secrets", mounts(&outline.secrets, "name")),
        ("ssh", mounts(&outline.ssh, "name")),
        ("cache", mounts(&outline.caches, "ID")),
        ("sources", json!([bytes(dockerfile)])),
    ]))
}
