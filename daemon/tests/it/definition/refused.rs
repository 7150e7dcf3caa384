//! Definitions that are refused, each with a word on what is wrong.

use std::collections::BTreeSet;

use daemon::definition::{self, Definition, DefinitionError, Reading};
use daemon::wire::pb;
use oci::{Digest, Platform};
use prost::Message as _;

use super::ops::{definition, exec, files, input, op, root, source};

fn read(definition: &pb::Definition) -> Result<Definition, DefinitionError> {
    let reading = Reading {
        platform: Platform::new("linux", "amd64", ""),
        entitlements: &BTreeSet::new(),
        results: &|_| None,
    };
    definition::read(definition, &reading)
}

/// The error with its causes.
fn error(definition: &pb::Definition) -> String {
    let error = read(definition).expect_err("it is refused");
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    text
}

fn sources(attributes: &[(&str, &str)], identifier: &str) -> pb::Definition {
    definition(&[source(identifier, attributes)])
}

fn process(change: impl FnOnce(&mut pb::ExecOp)) -> pb::Definition {
    let mut process = exec(&["true"]);
    change(&mut process);
    definition(&[op(&[], pb::op::Op::Exec(process))])
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    let passthrough = pb::PassthroughOp { id: "a".to_owned(), outputs: vec![0] };
    let cases: Vec<(pb::Definition, &str)> = vec![
        (
            definition(&[op(&[], pb::op::Op::Passthrough(passthrough))]),
            "`passthrough a`: passthrough ops are not supported by this builder",
        ),
        (
            definition(&[op(&[], pb::op::Op::Build(pb::BuildOp::default()))]),
            "`build`: build ops are not supported by this builder",
        ),
        (
            sources(&[], "docker-image+blob://a"),
            "a source of the kind `docker-image+blob` is not supported by this builder",
        ),
        (
            sources(&[("image.layerlimit", "1")], "docker-image://a"),
            "the attribute `image.layerlimit` is not supported by this builder",
        ),
        (
            sources(&[("image.resolvemode", "never")], "docker-image://a"),
            "`never` is not a valid value of `image.resolvemode`",
        ),
        (sources(&[], "docker-image://A:B:C"), "`A:B:C` is not a valid image: "),
        (sources(&[], "no scheme"), "`no scheme` is not a valid source"),
        (
            sources(&[("local.followpaths", "a")], "local://a"),
            "`a` is not a valid value of `local.followpaths`, want a list in JSON",
        ),
        (
            sources(&[("git.authtokensecret", "MINE")], "git://example.org/a"),
            "the value `MINE` of the attribute `git.authtokensecret` is not supported",
        ),
        (
            sources(&[("http.header.accept", "a")], "https://example.org/a"),
            "the attribute `http.header.accept` is not supported",
        ),
        (
            sources(&[("http.perm", "0999")], "https://example.org/a"),
            "`0999` is not a valid value of `http.perm`, want a number",
        ),
        (sources(&[], "oci-layout://a"), "a source of the kind `oci-layout` is not supported"),
        (sources(&[], "mybuild-result://gone"), "the result `gone` is not available any more"),
        (process(|exec| exec.meta = None), "it has no process"),
        (process(|exec| exec.mounts.clear()), "it has no root file system"),
        (process(|exec| exec.mounts.push(root())), "a process with two roots is not supported"),
        (process(|exec| exec.mounts[0].input = 1), "it takes input 1, but has 0"),
        (process(|exec| exec.mounts[0].mount_type = 9), "`9` is not a valid mount type"),
        (
            process(|exec| exec.mounts[0].mount_type = pb::MountType::Tmpfs as i32),
            "a root that is not a file tree is not supported",
        ),
        (process(|exec| exec.network = 1), "network.host is not allowed"),
        (process(|exec| exec.security = 1), "security.insecure is not allowed"),
        (
            process(|exec| {
                exec.cdi_devices.push(pb::CdiDevice { name: "v/c=d".to_owned(), optional: false });
            }),
            "device v/c=d is not allowed",
        ),
        (
            process(|exec| {
                exec.mounts.push(pb::Mount { dest: "/a".to_owned(), output: 0, ..root() });
            }),
            "two of its outputs have the number 0",
        ),
        (definition(&[op(&[], files(&[]))]), "it has no action"),
        (definition(&[op(&[], files(&[(5, "/a")]))]), "it takes input 5, but has 0"),
        (definition(&[op(&[], files(&[(0, "/a")]))]), "it takes input 0, but has 0"),
    ];
    for (definition, expected) in cases {
        let error = error(&definition);
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    }
}

#[test]
fn capabilities_and_metadata_that_are_not_known_are_refused_by_name() {
    let with = |metadata: pb::OpMetadata| {
        let mut definition = definition(&[source("docker-image://a", &[])]);
        let digest = Digest::of(&definition.def[0]).to_string();
        definition.metadata.insert(digest, metadata);
        error(&definition)
    };
    let caps = |needed| [("exec.meta.telepathy".to_owned(), needed)].into();
    assert_eq!(
        with(pb::OpMetadata { caps: caps(true), ..Default::default() }),
        "`docker-image://a` needs `exec.meta.telepathy`, which this builder does not have"
    );
    let resources = pb::LinuxResources { memory: 1, ..Default::default() };
    let error = with(pb::OpMetadata { linux_resources: Some(resources), ..Default::default() });
    assert!(
        error.ends_with("a step with limits of its own is not supported by this builder"),
        "{error}"
    );
    let export = pb::ExportCache { value: false };
    let error = with(pb::OpMetadata { export_cache: Some(export), ..Default::default() });
    assert!(
        error.ends_with("a step that says whether caches get it is not supported by this builder"),
        "{error}"
    );
}

#[test]
fn fields_that_are_not_known_are_refused_by_number() {
    // As a later version of the protocol may have them.
    let image = source("docker-image://a", &[]).encode_to_vec();
    let mut with_field = image.clone();
    with_field.extend([(12 << 3) | 2, 0]);
    let mut inside = op(&[], pb::op::Op::Exec(exec(&["true"]))).encode_to_vec();
    // The op's last field is the process: one more field in that.
    let at = inside.iter().position(|byte| *byte == (2 << 3 | 2)).unwrap();
    inside[at + 1] += 2;
    inside.extend([(7 << 3), 1]);
    for (bytes, expected) in [
        (with_field, "unknown field 12 in its op"),
        (inside, "unknown field 7 in its exec op"),
        (vec![0xff; 12], "its bytes are not a message"),
        (image[..image.len() - 1].to_vec(), "its bytes are not a message"),
    ] {
        let result = pb::Op { inputs: vec![input(&bytes)], ..Default::default() };
        let definition =
            pb::Definition { def: vec![bytes, result.encode_to_vec()], ..Default::default() };
        let error = error(&definition);
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    }
}

#[test]
fn what_is_not_a_graph_is_refused() {
    let image = source("docker-image://a", &[]);
    let alone = pb::Definition { def: vec![image.encode_to_vec()], ..Default::default() };
    let no_result = "the last op of a definition has one input, the result, and does nothing";
    assert_eq!(error(&alone), no_result);
    let mut dangling = definition(std::slice::from_ref(&image));
    dangling.def.remove(0);
    assert!(error(&dangling).ends_with("which is not in the definition"));
    let mut far = definition(&[image]);
    let mut result = pb::Op::decode(&far.def[1][..]).unwrap();
    result.inputs[0].index = 7;
    far.def[1] = result.encode_to_vec();
    assert!(error(&far).ends_with("it takes output 7 of an op that has none of this number"));
    // A tree without anything in it is no error.
    assert_eq!(read(&pb::Definition::default()).unwrap().target, None);
}

#[test]
fn large_definitions_cost_no_more_than_they_may() {
    // Each step on the one before: no stack is as deep.
    let mut ops = vec![op(&[], files(&[(-1, "/0")]))];
    for number in 1..20_000 {
        let before = ops.last().unwrap().encode_to_vec();
        ops.push(op(&[&before], files(&[(0, &format!("/{number}"))])));
    }
    assert_eq!(read(&definition(&ops)).unwrap().steps.vertices().count(), 20_000);
    // The name of a merge has the names of what is merged: twice as many at each step.
    let mut ops = vec![source("docker-image://a", &[])];
    for _ in 0..64 {
        let before = ops.last().unwrap().encode_to_vec();
        let inputs = (0..2).map(|input| pb::MergeInput { input }).collect();
        ops.push(op(&[&before, &before], pb::op::Op::Merge(pb::MergeOp { inputs })));
    }
    let read_back = read(&definition(&ops)).unwrap();
    let name = &read_back.steps.vertex(read_back.target.unwrap().vertex).metadata.name;
    assert_eq!(name.chars().count(), 301);
    // Fields take two bytes, and much more when they are read.
    let many = pb::MergeOp { inputs: vec![pb::MergeInput { input: 0 }; 600_000] };
    let many = definition(&[op(&[], pb::op::Op::Merge(many))]);
    assert_eq!(error(&many), "the definition has more than 500000 fields");
    let tiny = pb::Definition { def: vec![Vec::new(); 100_001], ..Default::default() };
    assert_eq!(error(&tiny), "the definition has more than 100000 ops");
    // Copies from results of actions, each in the next.
    let mut actions = vec![super::ops::made(-1, "/a")];
    for number in 0..100 {
        actions.push(super::ops::copied(number));
    }
    let nested = pb::op::Op::File(pb::FileOp { actions });
    assert!(error(&definition(&[op(&[], nested)])).contains("over 32 levels are not supported"));
}
