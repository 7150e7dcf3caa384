//! Vertices of our definitions as steps of BuildKit's.

use std::collections::HashMap;

use llb::{Definition, FileInput, Op, SourceOp, VertexId};
use oci::Platform;
use serde::Serialize;

use crate::step::{Step, StepInput};
use crate::{exec, file, go};

/// The step of a vertex that is not a source, with `inputs` inputs, on `platform` (see [`platforms`]).
/// `None` for a source: what it is decides [`crate::source::step`].
pub fn step(op: &Op, inputs: usize, platform: &Platform) -> Option<Step> {
    Some(match op {
        Op::Source(_) => return None,
        Op::Exec(op) => exec::step(op, platform),
        Op::File(op) => file::step(op),
        Op::Merge => whole(&merge(inputs), inputs),
        Op::Diff => whole(&diff(), inputs),
    })
}

/// The platform of each vertex: that of the image at its bottom, `target` where there is none.
pub fn platforms(definition: &Definition, target: &Platform) -> HashMap<VertexId, Platform> {
    let mut platforms: HashMap<VertexId, Platform> = HashMap::new();
    for id in definition.vertices() {
        let op = &definition.vertex(id).op;
        let platform = match op {
            Op::Source(SourceOp::Image(image)) => image.platform.clone(),
            Op::Source(SourceOp::OciLayout { platform, .. }) => platform.clone(),
            _ => {
                let below = below(op)
                    .and_then(|number| definition.inputs(id).get(number).map(|input| input.vertex));
                below.map_or(target, |below| &platforms[&below]).clone()
            }
        };
        platforms.insert(id, platform);
    }
    platforms
}

/// The input that the result of `op` is built on.
fn below(op: &Op) -> Option<usize> {
    match op {
        Op::Source(_) => None,
        Op::Exec(exec) => exec.mounts.iter().find(|mount| mount.dest == "/")?.input,
        Op::File(file) => match file.actions.first()?.input {
            FileInput::Input(number) => Some(number),
            _ => None,
        },
        Op::Merge | Op::Diff => Some(0),
    }
}

/// A step that takes all of all its inputs.
fn whole(keyed: &impl Serialize, inputs: usize) -> Step {
    let input = |number| StepInput { number, selector: String::new(), content: None };
    Step { digests: vec![go::digest(keyed)], inputs: (0..inputs).map(input).collect() }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct MergeKeyed {
    r#type: &'static str,
    merge: Merge,
}

#[derive(Serialize)]
struct Merge {
    inputs: Vec<Index>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DiffKeyed {
    r#type: &'static str,
    diff: Diff,
}

#[derive(Serialize)]
struct Diff {
    lower: Index,
    upper: Index,
}

#[derive(Serialize)]
struct Index {
    #[serde(skip_serializing_if = "is_zero")]
    input: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

fn merge(inputs: usize) -> MergeKeyed {
    let inputs = (0..inputs).map(|input| Index { input }).collect();
    MergeKeyed { r#type: "buildkit.merge.v0", merge: Merge { inputs } }
}

fn diff() -> DiffKeyed {
    let diff = Diff { lower: Index { input: 0 }, upper: Index { input: 1 } };
    DiffKeyed { r#type: "buildkit.diff.v0", diff }
}
