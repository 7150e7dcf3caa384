//! The files that describe devices, as they are written.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What is wrong with a description.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpecError {
    #[error("it is not text")]
    Text(#[from] std::str::Utf8Error),
    #[error("{0}")]
    Form(String),
    #[error("`kind` is `{0}`, and not VENDOR/CLASS")]
    Kind(String),
    #[error("`cdiVersion` is `{0}`, and {first} to {last} are supported", first = VERSIONS[0], last = VERSIONS[VERSIONS.len() - 1])]
    Version(String),
    #[error("a device has no name")]
    NoName,
}

/// Versions of the form of these files ("Container Device Interface Specification") that are read.
const VERSIONS: [&str; 10] =
    ["0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];

/// What others note for themselves.
type Annotations = BTreeMap<String, String>;

/// One file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Spec {
    cdi_version: String,
    #[serde(default, rename = "annotations")]
    _annotations: Annotations,
    pub(super) kind: String,
    #[serde(default)]
    pub(super) devices: Vec<Described>,
    /// What each of the devices brings.
    #[serde(default)]
    pub(super) container_edits: ContainerEdits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Described {
    pub(super) name: String,
    #[serde(default, rename = "annotations")]
    _annotations: Annotations,
    #[serde(default)]
    pub(super) container_edits: ContainerEdits,
}

/// What a process gets.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct ContainerEdits {
    pub(super) env: Vec<String>,
    pub(super) device_nodes: Vec<DeviceNode>,
    pub(super) mounts: Vec<MountSpec>,
    pub(super) hooks: Vec<Hook>,
    pub(super) additional_gids: Vec<u32>,
    pub(super) intel_rdt: Option<Unused>,
    pub(super) net_devices: Vec<Unused>,
}

/// What is only refused.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Unused {}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Hook {
    #[serde(default)]
    pub(super) hook_name: String,
    #[serde(default)]
    pub(super) path: String,
    #[serde(default, rename = "args")]
    _args: Vec<String>,
    #[serde(default, rename = "env")]
    _env: Vec<String>,
    #[serde(default, rename = "timeout")]
    _timeout: Option<i64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct DeviceNode {
    pub(super) path: String,
    pub(super) host_path: Option<String>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    pub(super) file_mode: Option<u32>,
    pub(super) permissions: Option<String>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct MountSpec {
    pub(super) host_path: String,
    pub(super) container_path: String,
    pub(super) options: Vec<String>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
}

/// Reads a description, which is YAML or, what is the same, JSON.
pub(super) fn parse(bytes: &[u8]) -> Result<Spec, SpecError> {
    let text = std::str::from_utf8(bytes)?;
    let spec: Spec = serde_saphyr::from_str(text)
        .map_err(|error| SpecError::Form(one_line(&error.to_string())))?;
    if !VERSIONS.contains(&spec.cdi_version.as_str()) {
        return Err(SpecError::Version(spec.cdi_version));
    }
    let is_kind = |kind: &str| {
        let parts = kind.split_once('/');
        parts.is_some_and(|(vendor, class)| !vendor.is_empty() && !class.is_empty())
            && !kind.contains('=')
    };
    if !is_kind(&spec.kind) {
        return Err(SpecError::Kind(spec.kind));
    }
    match spec.devices.iter().any(|device| device.name.is_empty()) {
        true => Err(SpecError::NoName),
        false => Ok(spec),
    }
}

fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = r#"cdiVersion: "0.6.0"
kind: vendor.com/gpu
containerEdits:
  env:
    - ALL=1
devices:
  - name: "0"
    annotations: {a: b}
    containerEdits:
      env: [GPU=0]
      deviceNodes:
        - {path: /dev/gpu0, hostPath: /dev/null, type: c, major: 1, minor: 3, fileMode: 438}
      mounts:
        - hostPath: /usr/lib
          containerPath: /gpu
          options: [ro, nosuid]
"#;

    #[test]
    fn a_description_is_read_as_yaml_and_as_json() {
        let json = r#"{"cdiVersion": "0.6.0", "kind": "vendor.com/gpu",
            "devices": [{"name": "0", "annotations": {"a": "b"}, "containerEdits": {"env": ["GPU=0"],
              "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/null", "type": "c",
                "major": 1, "minor": 3, "fileMode": 438}],
              "mounts": [{"hostPath": "/usr/lib", "containerPath": "/gpu",
                "options": ["ro", "nosuid"]}]}}],
            "containerEdits": {"env": ["ALL=1"]}}"#;
        let shown = |text: &str| format!("{:?}", parse(text.as_bytes()).unwrap());
        assert_eq!(shown(YAML), shown(json));
        assert!(shown(YAML).contains("file_mode: Some(438)"));
    }

    #[test]
    fn what_describes_nothing_is_told() {
        for (text, expected) in [
            (
                "{cdiVersion: 9.0.0, kind: a/b}",
                "`cdiVersion` is `9.0.0`, and 0.1.0 to 1.1.0 are supported",
            ),
            ("{cdiVersion: 1.0.0, kind: gpu}", "`kind` is `gpu`, and not VENDOR/CLASS"),
            ("{cdiVersion: 1.0.0, kind: a/b=c}", "`kind` is `a/b=c`, and not VENDOR/CLASS"),
            (
                "{\"cdiVersion\": \"0.5.0\", \"kind\": \"a/b\", \"devices\": [{\"name\": \"\"}]}",
                "a device has no name",
            ),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().to_string(), expected);
        }
        // What is not known might have mattered.
        for (text, field) in [
            ("kind: a/b", "cdiVersion"),
            ("{cdiVersion: 1.0.0, kind: a/b, wrong: 1}", "wrong"),
            ("{cdiVersion: 1.0.0, kind: a/b, devices: [{name: a, wrong: 1}]}", "wrong"),
            ("{cdiVersion: 1.0.0, kind: a/b, containerEdits: {wrong: 1}}", "wrong"),
            ("{cdiVersion: 1.0.0, kind: a/b, containerEdits: {mounts: [{wrong: 1}]}}", "wrong"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(field), "{text}: {error}");
        }
        assert!(parse(b"\xff").is_err() && parse(b"").is_err() && parse(b"[1]").is_err());
    }

    /// Every byte changed, and every end too early: an error or a description, and never a panic.
    #[test]
    fn whatever_the_bytes_are_they_are_refused_or_read() {
        for end in 0..YAML.len() {
            let _ = parse(&YAML.as_bytes()[..end]);
        }
        for place in 0..YAML.len() {
            for value in [0, b'"', b':', b'&', b'*', b'{', 0xff] {
                let mut bytes = YAML.as_bytes().to_vec();
                bytes[place] = value;
                let _ = parse(&bytes);
            }
        }
        // Names that stand for more and more of each other take no more than a moment.
        let bomb: String =
            (1..40).map(|n| format!("a{n}: &a{n} [*a{}, *a{}]\n", n - 1, n - 1)).collect();
        assert!(parse(format!("a0: &a0 x\n{bomb}").as_bytes()).is_err());
    }
}
