//! `--print=dag`.

use engine::Plan;
use expect_test::expect;
use frontend_cli::build_args::GraphFormat;
use frontend_cli::graph::print;
use llb::{Definition, Input, LocalSource, Metadata, Op, SourceOp};

/// A context copied (a merge, as far as the graph goes) onto another.
fn plan() -> Plan {
    let mut definition = Definition::default();
    let local = |name: &str| {
        let exclude_patterns = vec!["*.o".to_owned()];
        Op::Source(SourceOp::Local(LocalSource { name: name.to_owned(), exclude_patterns }))
    };
    let metadata = |name: &str, stage: &str, lines| Metadata {
        name: name.to_owned(),
        stage: stage.to_owned(),
        lines,
        ..Metadata::default()
    };
    let mut add = |op, inputs: &[Input], metadata| {
        definition.add(op, inputs, metadata).expect("a good vertex")
    };
    let context = add(local("context"), &[], metadata("[internal] load build context", "", None));
    let other = add(local("other"), &[], metadata("[context other] load", "", None));
    add(local("unused"), &[], metadata("nobody asks for this", "", None));
    let inputs = [context, other].map(|vertex| Input { vertex, output: 0 });
    let both = add(Op::Merge, &inputs, metadata("[app 1/1] COPY \"a\" /", "app", Some((2, 3))));
    Plan { definition, targets: vec![both], warnings: Vec::new() }
}

#[test]
fn a_graph_prints_as_text() {
    expect![[r#"
        1 source.local: [context other] load
        2 source.local: [internal] load build context
        3 merge <- 2, 1: [app 1/1] COPY "a" /
    "#]]
    .assert_eq(&print(&plan(), GraphFormat::Text));
}

#[test]
fn a_graph_prints_for_graphviz() {
    expect![[r#"
        digraph build {
          rankdir=BT;
          node [shape=box];
          n1 [label="[context other] load", shape=ellipse];
          n0 [label="[internal] load build context", shape=ellipse];
          n3 [label="[app 1/1] COPY \"a\" /"];
          n0 -> n3;
          n1 -> n3;
        }
    "#]]
    .assert_eq(&print(&plan(), GraphFormat::Dot));
}

#[test]
fn a_graph_prints_as_json() {
    let text = print(&plan(), GraphFormat::Json);
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let vertices = value["vertices"].as_array().expect("a list");
    // Inputs come before those who take them.
    let mut seen = Vec::new();
    for vertex in vertices {
        for input in vertex["inputs"].as_array().expect("a list") {
            assert!(seen.contains(&&input["vertex"]), "{vertex}");
        }
        seen.push(&vertex["digest"]);
    }
    assert_eq!(value["targets"][0], vertices.last().expect("a vertex")["digest"]);
    expect!["0"]
        .assert_eq(&format!("{:#}", vertices.last().expect("a vertex")["inputs"][0]["output"]));
    expect![[r#"
        {
          "context": "other",
          "exclude": [
            "*.o"
          ]
        }"#]]
    .assert_eq(&format!("{:#}", vertices[0]["detail"]));
}
