//! Holds the arrows between rooms: who may import whom, read from the manifests.

use std::collections::BTreeSet;
use std::path::Path;

/// Each room and the rooms it may import.
const ROOMS: [(&str, &[&str]); 9] = [
    ("oci", &[]),
    ("llb", &["oci"]),
    ("parser", &["oci", "llb"]),
    ("solver", &["oci", "llb"]),
    ("cache", &["oci"]),
    ("executor", &[]),
    ("registry", &["oci"]),
    ("engine", &["oci", "llb", "parser", "solver", "cache", "executor", "registry"]),
    ("frontend-cli", &["engine", "parser", "oci"]),
];

fn manifest(path: &Path) -> toml::Table {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn names(table: &toml::Table, key: &str) -> BTreeSet<String> {
    table
        .get(key)
        .and_then(|t| t.as_table())
        .map(|t| t.keys().cloned().collect())
        .unwrap_or_default()
}

#[test]
fn arrows_between_rooms_point_down() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("rooms stand at the top level");
    let members = manifest(&top.join("Cargo.toml"))["workspace"]["members"].clone();
    let members: BTreeSet<String> =
        members.as_array().unwrap().iter().map(|m| m.as_str().unwrap().to_owned()).collect();
    assert_eq!(
        members,
        ROOMS.iter().map(|(room, _)| (*room).to_owned()).collect(),
        "a room is not in the list"
    );
    for (room, allowed) in ROOMS {
        let manifest = manifest(&top.join(room).join("Cargo.toml"));
        let imports: BTreeSet<String> = ["dependencies", "build-dependencies"]
            .iter()
            .flat_map(|key| names(&manifest, key))
            .collect();
        let rooms: BTreeSet<&str> = imports
            .iter()
            .map(String::as_str)
            .filter(|i| ROOMS.iter().any(|(room, _)| room == i))
            .collect();
        let more: Vec<_> = rooms.difference(&allowed.iter().copied().collect()).copied().collect();
        assert!(more.is_empty(), "`{room}` imports {more:?}");
    }
}

#[test]
fn only_the_edges_know_serialised_forms_and_errors_without_type() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("rooms stand at the top level");
    for (room, _) in ROOMS {
        let imports = names(&manifest(&top.join(room).join("Cargo.toml")), "dependencies");
        let only = |library: &str, allowed: &[&str]| {
            assert!(
                !imports.contains(library) || allowed.contains(&room),
                "`{room}` imports `{library}`"
            );
        };
        only("anyhow", &["frontend-cli"]);
        only("reqwest", &["registry"]);
        only("tokio", &["solver", "registry", "engine", "frontend-cli"]);
        only("clap", &["frontend-cli"]);
        only("rusqlite", &["cache"]);
        only("nom", &["parser"]);
    }
}
