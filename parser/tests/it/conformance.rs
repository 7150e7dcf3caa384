//! Answers recorded from BuildKit, read from a directory beside the project.

use std::path::PathBuf;

use serde_json::Value;

/// The directory, or `None`, said aloud, where it is absent.
pub(crate) fn root() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/conformance");
    let root = std::env::var_os("MYBUILD_CONFORMANCE").map_or(PathBuf::from(beside), PathBuf::from);
    if root.join("data").is_dir() {
        return Some(root);
    }
    println!("SKIPPED: no conformance data at {}", root.display());
    None
}

/// The cases of one file, or `None`, said aloud, where the material is absent.
pub(crate) fn cases(file: &str) -> Option<Vec<Value>> {
    let path = root()?.join("data").join(file);
    let text = std::fs::read_to_string(&path).expect("conformance data can be read");
    let mut data: Value = serde_json::from_str(&text).expect("conformance data is JSON");
    match data["cases"].take() {
        Value::Array(cases) => Some(cases),
        _ => panic!("{} holds no cases", path.display()),
    }
}

/// Collects what differs, so that one run tells all.
#[derive(Default)]
pub(crate) struct Differences(Vec<String>);

impl Differences {
    /// Notes a difference of `what` unless `found` is `wanted`.
    pub(crate) fn compare<T: PartialEq + std::fmt::Debug>(
        &mut self,
        what: impl std::fmt::Display,
        found: &T,
        wanted: &T,
    ) {
        if found != wanted {
            self.0.push(format!("{what}\n   found {found:?}\n  wanted {wanted:?}"));
        }
    }

    /// Fails when there was any difference.
    pub(crate) fn finish(self) {
        let shown: Vec<_> = self.0.iter().take(40).map(String::as_str).collect();
        assert!(self.0.is_empty(), "{} differences:\n{}", self.0.len(), shown.join("\n"));
    }
}

/// The strings of a JSON array; none of `null`.
pub(crate) fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().map_or(&[][..], Vec::as_slice);
    items.iter().map(|item| item.as_str().expect("a string").to_owned()).collect()
}
