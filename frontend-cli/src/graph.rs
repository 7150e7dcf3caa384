//! `--print=dag`: a build's instruction graph, for people, Graphviz and programs.
//!
//! The JSON is an object with `targets` (digests) and `vertices`, inputs before those who take
//! them; each has `digest`, `op`, `name`, `stage`, `lines` (or null), `detail` and `inputs`
//! (`[{ "vertex": DIGEST, "output": N }]`).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use engine::Plan;
use llb::{Definition, Op, SourceOp, VertexId};
use serde_json::{Value, json};

use crate::build_args::GraphFormat;

/// The graph as text.
pub fn print(plan: &Plan, format: GraphFormat) -> String {
    let vertices = plan.definition.reachable(&plan.targets);
    match format {
        GraphFormat::Text => text(&plan.definition, &vertices),
        GraphFormat::Dot => dot(&plan.definition, &vertices),
        GraphFormat::Json => format!("{:#}\n", json(plan, &vertices)),
    }
}

/// A line a vertex: its number, its inputs' numbers, what it is.
fn text(definition: &Definition, vertices: &[VertexId]) -> String {
    let numbers: BTreeMap<VertexId, usize> = vertices.iter().copied().zip(1..).collect();
    let mut out = String::new();
    for id in vertices {
        let vertex = definition.vertex(*id);
        let inputs: Vec<String> = definition
            .inputs(*id)
            .iter()
            .map(|input| match input.output {
                0 => numbers[&input.vertex].to_string(),
                output => format!("{}.{output}", numbers[&input.vertex]),
            })
            .collect();
        let from =
            if inputs.is_empty() { String::new() } else { format!(" <- {}", inputs.join(", ")) };
        let _ = writeln!(
            out,
            "{} {}{from}: {}",
            numbers[id],
            kind(&vertex.op),
            crate::terminal::harmless(&vertex.metadata.name)
        );
    }
    out
}

fn dot(definition: &Definition, vertices: &[VertexId]) -> String {
    let mut out = String::from("digraph build {\n  rankdir=BT;\n  node [shape=box];\n");
    for id in vertices {
        let vertex = definition.vertex(*id);
        let shape = match vertex.op {
            Op::Source(_) => ", shape=ellipse",
            _ => "",
        };
        let _ =
            writeln!(out, "  n{} [label={}{shape}];", id.index(), quoted(&vertex.metadata.name));
        for input in definition.inputs(*id) {
            let label = match input.output {
                0 => String::new(),
                output => format!(" [label=\"{output}\"]"),
            };
            let _ = writeln!(out, "  n{} -> n{}{label};", input.vertex.index(), id.index());
        }
    }
    out.push_str("}\n");
    out
}

/// A string in DOT's double quotes.
fn quoted(text: &str) -> String {
    let text = crate::terminal::harmless(text).replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{text}\"")
}

fn json(plan: &Plan, vertices: &[VertexId]) -> Value {
    let digest = |id: VertexId| plan.definition.vertex(id).digest.as_str();
    let entries: Vec<Value> = vertices
        .iter()
        .map(|id| {
            let vertex = plan.definition.vertex(*id);
            let inputs: Vec<Value> = plan
                .definition
                .inputs(*id)
                .iter()
                .map(|input| json!({ "vertex": digest(input.vertex), "output": input.output }))
                .collect();
            json!({
                "digest": vertex.digest.as_str(),
                "op": kind(&vertex.op),
                "name": vertex.metadata.name,
                "stage": vertex.metadata.stage,
                "lines": vertex.metadata.lines,
                "detail": detail(&vertex.op),
                "inputs": inputs,
            })
        })
        .collect();
    let targets: Vec<&str> = plan.targets.iter().map(|id| digest(*id)).collect();
    json!({ "targets": targets, "vertices": entries })
}

fn kind(op: &Op) -> &'static str {
    match op {
        Op::Source(SourceOp::Image(_)) => "source.image",
        Op::Source(SourceOp::OciLayout { .. }) => "source.oci-layout",
        Op::Source(SourceOp::Local(_)) => "source.local",
        Op::Source(SourceOp::Git { .. }) => "source.git",
        Op::Source(SourceOp::Http { .. }) => "source.http",
        Op::Exec(_) => "exec",
        Op::File(_) => "file",
        Op::Merge => "merge",
        Op::Diff => "diff",
    }
}

/// What tells one op from another of its kind.
fn detail(op: &Op) -> Value {
    match op {
        Op::Source(SourceOp::Image(image)) => {
            json!({ "reference": image.reference, "platform": image.platform.to_string() })
        }
        Op::Source(SourceOp::OciLayout { name, reference, platform }) => {
            json!({ "layout": name, "reference": reference, "platform": platform.to_string() })
        }
        Op::Source(SourceOp::Local(local)) => {
            json!({ "context": local.name, "exclude": local.exclude_patterns })
        }
        Op::Source(SourceOp::Git { url, .. } | SourceOp::Http { url, .. }) => json!({ "url": url }),
        Op::Exec(exec) => {
            json!({ "args": exec.args, "env": exec.env, "cwd": exec.cwd, "user": exec.user })
        }
        Op::File(file) => json!({ "actions": file.actions.len() }),
        Op::Merge | Op::Diff => json!({}),
    }
}
