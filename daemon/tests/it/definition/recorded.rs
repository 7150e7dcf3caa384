//! What BuildKit's own frontend (of August 2026) makes of Dockerfiles, beside what ours makes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use daemon::definition::{self, Definition, Reading};
use daemon::wire::pb;
use oci::{Digest, ImageConfig, Platform};
use parser::lower::{BaseImage, Lowered, Options, Outcome, lower};
use prost::Message as _;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/definition/recorded").join(name)
}

/// The image that every `FROM` got.
fn base() -> BaseImage {
    let config = serde_json::json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Env": ["PATH=/usr/bin:/bin", "A=1"], "User": "me" },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", "0".repeat(64))] },
    });
    let config: ImageConfig = serde_json::from_value(config).unwrap();
    BaseImage { digest: Digest::of(b"base"), config }
}

fn options(name: &str) -> Options {
    let usual = Options {
        build_platform: Platform::new("linux", "amd64", ""),
        target_platform: Platform::new("linux", "amd64", ""),
        ..Options::default()
    };
    match name {
        "flags" => Options {
            shm_size: 1 << 20,
            hostname: "box".to_owned(),
            cgroup_parent: "parent".to_owned(),
            ulimits: vec![llb::Rlimit { name: "nofile".to_owned(), soft: 10, hard: 20 }],
            extra_hosts: vec![("h".to_owned(), "1.2.3.4".to_owned())],
            build_args: BTreeMap::from([("HTTP_PROXY".to_owned(), "http://proxy".to_owned())]),
            ..usual
        },
        _ => usual,
    }
}

fn lowered(name: &str) -> Lowered {
    let text = std::fs::read_to_string(path(&format!("{name}.Dockerfile"))).unwrap();
    let parsed = parser::parse(&text);
    let options = options(name);
    let mut images = BTreeMap::new();
    loop {
        match lower(&parsed.dockerfile, &options, &images).unwrap() {
            Outcome::Lowered(lowered) => return *lowered,
            Outcome::NeedImages(needed) => {
                images.extend(needed.into_iter().map(|request| (request, base())));
            }
        }
    }
}

pub(crate) fn loaded(name: &str) -> Definition {
    let bytes = std::fs::read(path(&format!("{name}.llb"))).unwrap();
    let definition = pb::Definition::decode(&bytes[..]).unwrap();
    let reading = Reading {
        platform: Platform::new("linux", "amd64", ""),
        entitlements: &BTreeSet::new(),
        results: &|_| None,
    };
    definition::read(&definition, &reading).unwrap()
}

/// The steps by their names, each with its digest and what that is made of.
fn steps(definition: &llb::Definition, target: Option<llb::Input>) -> Vec<(String, String)> {
    let targets: Vec<llb::VertexId> = target.iter().map(|target| target.vertex).collect();
    let printed = llb::print::json(definition, &targets, &llb::print::no_label);
    let mut steps: Vec<(String, String)> = printed["vertices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|vertex| (vertex["digest"].as_str().unwrap().to_owned(), vertex["op"].to_string()))
        .collect();
    steps.sort();
    steps
}

#[test]
fn a_step_is_the_same_from_a_dockerfile_and_from_a_definition() {
    for name in ["run", "mounts", "copy", "remote", "scripts", "flags", "scratch"] {
        let (ours, theirs) = (lowered(name), loaded(name));
        let ours = steps(&ours.definition, ours.target);
        let theirs = steps(&theirs.steps, theirs.target);
        let only = |these: &[(String, String)], those: &[(String, String)]| -> Vec<String> {
            let others: BTreeSet<&String> = those.iter().map(|(digest, _)| digest).collect();
            let missing = these.iter().filter(|(digest, _)| !others.contains(digest));
            missing.map(|(_, op)| op.clone()).collect()
        };
        assert_eq!(only(&ours, &theirs), only(&theirs, &ours), "{name}");
        assert!(ours.len() > 1, "{name} has no steps");
    }
}

#[test]
fn steps_keep_their_names_and_places() {
    let read = loaded("scripts");
    let target = read.target.unwrap().vertex;
    let metadata = &read.steps.vertex(target).metadata;
    assert_eq!(metadata.name, "[stage-0 4/4] RUN echo shell");
    assert_eq!(metadata.command, "/bin/ash -c echo shell");
    assert_eq!(metadata.lines, Some((11, 11)));
    let file = read.file.unwrap();
    assert_eq!(file.name, "Dockerfile");
    assert_eq!(file.text.lines().nth(10), Some("RUN echo shell"));
}
