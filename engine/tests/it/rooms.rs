//! Holds the arrows between rooms: who may import whom, read from the manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Each room and the rooms it may import.
const ROOMS: [(&str, &[&str]); 14] = [
    ("oci", &[]),
    ("llb", &["oci"]),
    ("parser", &["oci", "llb"]),
    ("buildkit-cache", &["oci", "llb", "parser"]),
    ("solver", &["oci", "llb"]),
    ("cache", &["oci"]),
    ("executor", &[]),
    ("http-client", &[]),
    ("git-client", &[]),
    ("registry", &["oci", "http-client"]),
    ("remote-cache", &["oci", "http-client", "registry"]),
    (
        "engine",
        &[
            "oci",
            "llb",
            "parser",
            "solver",
            "cache",
            "executor",
            "http-client",
            "git-client",
            "registry",
            "remote-cache",
            "buildkit-cache",
        ],
    ),
    ("daemon", &["engine", "parser", "llb", "oci"]),
    ("frontend-cli", &["daemon", "engine", "parser", "oci"]),
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
        only("reqwest", &["http-client"]);
        only("rustls", &["http-client"]);
        only(
            "tokio",
            &[
                "solver",
                "http-client",
                "git-client",
                "registry",
                "remote-cache",
                "engine",
                "daemon",
                "frontend-cli",
            ],
        );
        only("tonic", &["daemon"]);
        only("prost", &["daemon"]);
        only("clap", &["frontend-cli"]);
        only("rusqlite", &["cache"]);
        only("nom", &["parser"]);
    }
}

/// All files below `folder`.
fn sources(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = walkdir::WalkDir::new(folder).into_iter().map(Result::unwrap);
    entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path)
}

/// Rooms that know the client only by what it gives: they must do for several at once.
const CLIENTLESS: [&str; 4] = ["engine", "remote-cache", "registry", "http-client"];

#[test]
fn the_engine_reads_no_environment_and_no_standard_streams() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("rooms stand at the top level");
    let own =
        ["std::env", "env::var", "io::stdin", "io::stdout", "io::stderr", "print!", "println!"];
    for room in CLIENTLESS {
        for source in sources(&top.join(room).join("src")) {
            let code = code(&source);
            for (number, line) in code.lines().enumerate() {
                let is_code = !line.trim_start().starts_with("//");
                let used = own.iter().find(|name| is_code && line.contains(**name));
                assert_eq!(used, None, "{}:{}", source.display(), number + 1);
            }
        }
    }
}

/// A file this long holds more than one thing.
const LINES_MAX: usize = 500;

#[test]
fn files_are_short() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("rooms stand at the top level");
    for (room, _) in ROOMS {
        for source in sources(&top.join(room).join("src")) {
            let lines = std::fs::read_to_string(&source).unwrap().lines().count();
            assert!(lines < LINES_MAX, "{} has {lines} lines", source.display());
        }
    }
}

/// A module is a file and the folder of its name.
#[test]
fn modules_import_nothing_that_stands_above_them() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("rooms stand at the top level");
    for (room, _) in ROOMS {
        let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        collect_imports(&top.join(room).join("src"), None, &mut imports);
        for (module, used) in &imports {
            let strange = used.iter().find(|used| !imports.contains_key(*used));
            assert_eq!(strange, None, "`{room}`: `{module}` does not name the file that has it");
        }
        // Whatever imports only modules that are gone goes as well; a circle is what is left.
        loop {
            let left: BTreeSet<String> = imports.keys().cloned().collect();
            imports.retain(|module, used| used.iter().any(|u| u != module && left.contains(u)));
            if imports.len() == left.len() {
                break;
            }
        }
        assert!(imports.is_empty(), "`{room}` has a circle among {imports:?}");
    }
}

/// A file without its tests, which may use what they like.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    match text.split_once("#[cfg(test)]\nmod tests {") {
        Some((code, _)) => code.to_owned(),
        None => text,
    }
}

/// Adds what each module below `folder` takes by `crate::…`; the top folder's are called by their files.
fn collect_imports(
    folder: &Path,
    module: Option<&str>,
    imports: &mut BTreeMap<String, BTreeSet<String>>,
) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let module = module.unwrap_or(&name);
        if path.is_dir() {
            collect_imports(&path, Some(module), imports);
        } else if module != "lib" {
            let code = code(&path);
            imports.entry(module.to_owned()).or_default().extend(modules_used(&code));
        }
    }
}

/// `a` of every `crate::a…`, and of `crate::{a, b::c}` all that stands first.
fn modules_used(code: &str) -> BTreeSet<String> {
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n");
    let first = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut used = BTreeSet::new();
    for (at, name) in code.match_indices("crate::") {
        let rest = &code[at + name.len()..];
        used.insert(first(rest));
        let mut depth = 0;
        for (at, c) in rest.char_indices() {
            depth += i32::from(c == '{') - i32::from(c == '}');
            match (depth, c) {
                (0, _) => break,
                (1, '{' | ',') => drop(used.insert(first(&rest[at + 1..]))),
                _ => {}
            }
        }
    }
    used.remove("");
    used
}
