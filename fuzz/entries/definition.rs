//! Definitions as clients send them: no panic, no more memory than there is to have, and what is understood
//! is a graph of which each step can be printed and named.

use std::collections::BTreeSet;

use daemon::definition::{self, Definition, DefinitionError, Reading};
use daemon::wire::pb;
use prost::Message;

/// Reads `bytes` as a definition, as it is and with its ops linked again.
pub(crate) fn run(bytes: &[u8]) {
    let Ok(given) = pb::Definition::decode(bytes) else { return };
    for definition in [linked(&given), given] {
        match read(&definition) {
            Ok(found) => check(&definition, &found),
            Err(error) => drop(error.to_string()),
        }
    }
}

fn read(definition: &pb::Definition) -> Result<Definition, DefinitionError> {
    definition::read(
        definition,
        &Reading {
            platform: oci::Platform::new("linux", "amd64", ""),
            entitlements: &BTreeSet::from(["network.host".to_owned(), "device".to_owned()]),
            results: &|_| None,
        },
    )
}

fn check(definition: &pb::Definition, found: &Definition) {
    let targets: Vec<_> = found.target.iter().map(|target| target.vertex).collect();
    drop(llb::print::json(&found.steps, &targets, &llb::print::no_label));
    for vertex in found.steps.vertices() {
        let step = found.steps.vertex(vertex);
        drop(llb::parts::parts(&step.op));
        assert!(step.metadata.name.chars().count() <= 301);
        let (lines, text) = (step.metadata.lines, found.file.as_ref().map(|file| &file.text));
        assert!(lines.is_none_or(|(start, end)| {
            start <= end && text.is_some_and(|text| text.lines().count() >= end as usize)
        }));
    }
    let again = read(definition).expect("it was read a moment ago");
    let digest = |read: &Definition| {
        read.target.map(|target| read.steps.vertex(target.vertex).digest.clone())
    };
    assert_eq!(digest(&again), digest(found));
}

/// The same ops, each with inputs that are there, whatever became of their digests: a change to one would
/// tear it off otherwise.
fn linked(given: &pb::Definition) -> pb::Definition {
    let ops = given.def.iter().filter_map(|bytes| pb::Op::decode(&bytes[..]).ok());
    let mut def: Vec<Vec<u8>> = Vec::new();
    for (place, mut op) in ops.enumerate() {
        for input in &mut op.inputs {
            let from = input.digest.bytes().map(usize::from).sum::<usize>() % place.max(1);
            if let Some(bytes) = def.get(from) {
                input.digest = oci::Digest::of(bytes).to_string();
            }
        }
        def.push(op.encode_to_vec());
    }
    if let Some(last) = def.last() {
        let digest = oci::Digest::of(last).to_string();
        let result = pb::Op { inputs: vec![pb::Input { digest, index: 0 }], ..Default::default() };
        def.push(result.encode_to_vec());
    }
    pb::Definition { def, ..given.clone() }
}
