//! The names that the fields of manifests and configs have in Go's templates, and in JSON.
//!
//! `{{.Manifest.Digest}}` names what is `digest` in JSON.

use serde_json::Value;

/// In JSON, and in Go.
const NAMES: &[(&str, &str)] = &[
    ("annotations", "Annotations"),
    ("architecture", "Architecture"),
    ("artifactType", "ArtifactType"),
    ("author", "Author"),
    ("comment", "Comment"),
    ("config", "Config"),
    ("created", "Created"),
    ("created_by", "CreatedBy"),
    ("data", "Data"),
    ("diff_ids", "DiffIDs"),
    ("digest", "Digest"),
    ("empty_layer", "EmptyLayer"),
    ("history", "History"),
    ("image", "Image"),
    ("manifest", "Manifest"),
    ("manifests", "Manifests"),
    ("mediaType", "MediaType"),
    ("name", "Name"),
    ("os", "OS"),
    ("os.features", "OSFeatures"),
    ("os.version", "OSVersion"),
    ("platform", "Platform"),
    ("rootfs", "RootFS"),
    ("schemaVersion", "SchemaVersion"),
    ("size", "Size"),
    ("type", "Type"),
    ("urls", "URLs"),
    ("variant", "Variant"),
];
/// Fields whose own keys are the user's.
const OF_THE_USER: [&str; 5] = ["annotations", "Annotations", "Labels", "ExposedPorts", "Volumes"];

/// A value from JSON, with Go's names.
pub fn from_json(value: &Value) -> Value {
    renamed(value, |key| NAMES.iter().find(|(json, _)| *json == key).map(|(_, go)| *go))
}

/// What Go's `json` makes of such a value.
pub fn to_json(key: &str, value: &Value) -> Value {
    if OF_THE_USER.contains(&key) {
        return value.clone();
    }
    renamed(value, |key| NAMES.iter().find(|(_, go)| *go == key).map(|(json, _)| *json))
}

fn renamed(value: &Value, name: impl Fn(&str) -> Option<&'static str> + Copy) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| renamed(item, name)).collect(),
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| {
                let value = match OF_THE_USER.contains(&key.as_str()) {
                    true => value.clone(),
                    false => renamed(value, name),
                };
                (name(key).unwrap_or(key).to_owned(), value)
            };
            map.iter().map(entry).collect()
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{from_json, to_json};

    #[test]
    fn fields_have_gos_names_in_templates_and_their_own_in_json() {
        let image = json!({
            "mediaType": "m", "digest": "d", "size": 1,
            "platform": {"os": "linux", "architecture": "amd64", "os.version": "1"},
            "config": {"Env": ["a=b"], "Labels": {"size": "large"}},
            "annotations": {"digest": "kept"}, "manifests": [{"urls": []}], "other": null,
        });
        let shown = from_json(&image);
        assert_eq!(shown["Manifests"][0]["URLs"], json!([]));
        assert_eq!(shown["Platform"]["OSVersion"], "1");
        assert_eq!(shown["Config"]["Labels"]["size"], "large");
        assert_eq!(shown["Annotations"]["digest"], "kept");
        assert_eq!(to_json("", &shown), image);
        assert_eq!(to_json("Labels", &json!({"Size": 1})), json!({"Size": 1}));
    }
}
