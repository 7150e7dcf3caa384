//! Vertices and edges.

use llb::{Definition, GraphError, Input, Metadata, Op, VertexId};

use crate::ops::{exec, image, local, mount, named, small};

fn input(vertex: VertexId, output: usize) -> Input {
    Input { vertex, output }
}

#[test]
fn an_equal_vertex_is_not_added_twice() {
    let mut definition = Definition::default();
    let mut add = |again| {
        let metadata = Metadata { ignore_cache: again, ..named(if again { "b" } else { "a" }) };
        definition.add(image("busybox"), &[], metadata).expect("a vertex")
    };
    let (first, second) = (add(false), add(true));
    assert_eq!(first, second);
    assert_eq!(definition.vertices().count(), 1);
    let metadata = &definition.vertex(first).metadata;
    // Somebody wants it to run again, so it does.
    assert_eq!((metadata.name.as_str(), metadata.ignore_cache), ("a", true));
}

#[test]
fn inputs_keep_their_order_even_when_they_are_the_same() {
    let mut definition = Definition::default();
    let a = definition.add(image("a"), &[], named("a")).expect("a vertex");
    let b = definition.add(image("b"), &[], named("b")).expect("a vertex");
    let inputs = [input(b, 0), input(a, 0), input(b, 0)];
    let merged = definition.add(Op::Merge, &inputs, named("merge")).expect("a vertex");
    assert_eq!(definition.inputs(merged), inputs);
    assert_eq!(definition.dependents(b), [merged]);
    assert_eq!(definition.dependents(merged), []);
}

#[test]
fn what_is_reachable_comes_inputs_first() {
    let (mut definition, target) = small();
    let unused = definition.add(local("unused"), &[], named("unused")).expect("a vertex");
    let order = definition.reachable(&[target]);
    assert_eq!(order.len(), 5);
    assert!(!order.contains(&unused));
    for (place, &id) in order.iter().enumerate() {
        for input in definition.inputs(id) {
            assert!(order[..place].contains(&input.vertex), "an input comes first");
        }
    }
    assert_eq!(order.last(), Some(&target));
    assert_eq!(definition.reachable(&[]), []);
}

#[test]
fn edges_that_lead_nowhere_are_refused() {
    let mut definition = Definition::default();
    let base = definition.add(image("a"), &[], named("base")).expect("a vertex");
    let run = || Op::Exec(exec("make"));
    let error = definition.add(run(), &[], named("run")).expect_err("no input 0");
    assert_eq!(error, GraphError::NoSuchInput { name: "run".to_owned(), input: 0, inputs: 0 });
    let error = definition.add(run(), &[input(base, 1)], named("run")).expect_err("no output 1");
    assert_eq!(error.to_string(), "`run` takes output 1 of `base`, which has 1");
    assert_eq!(definition.vertices().count(), 1, "what is refused leaves nothing");
}

#[test]
fn a_process_has_an_output_for_each_mount_that_names_one() {
    let mut run = exec("make");
    run.mounts.push(mount("/out", None, Some(1)));
    run.mounts.push(mount("/tmp", None, None));
    let mut definition = Definition::default();
    let base = definition.add(image("a"), &[], named("base")).expect("a vertex");
    let run = definition.add(Op::Exec(run), &[input(base, 0)], named("run")).expect("a vertex");
    let take = |output| {
        let mut definition = definition.clone();
        definition.add(Op::Merge, &[input(run, output)], named("take")).is_ok()
    };
    assert_eq!([0, 1, 2].map(take), [true, true, false]);
}

#[test]
fn outputs_are_numbered_without_gaps() {
    for (second, wrong) in [(1, None), (2, Some(1)), (0, Some(1))] {
        let mut run = exec("make");
        run.mounts.push(mount("/out", None, Some(second)));
        let mut definition = Definition::default();
        let base = definition.add(image("a"), &[], named("base")).expect("a vertex");
        let added = definition.add(Op::Exec(run), &[input(base, 0)], named("run"));
        let error =
            wrong.map(|output| GraphError::OutputNumbers { name: "run".to_owned(), output });
        assert_eq!(added.err(), error);
    }
}

#[test]
fn a_digest_covers_everything_below() {
    let build = |base: &str| {
        let mut definition = Definition::default();
        let base = definition.add(image(base), &[], named("base")).expect("a vertex");
        let mut last = base;
        for step in 0..3 {
            let op = Op::Exec(exec(&format!("step {step}")));
            last = definition.add(op, &[input(last, 0)], named("step")).expect("a vertex");
        }
        definition.vertex(last).digest.clone()
    };
    assert_eq!(build("a"), build("a"));
    assert_ne!(build("a"), build("b"));
}

/// A thousand layers deep, with no recursion that could overflow.
#[test]
fn long_chains_are_no_problem() {
    let mut definition = Definition::default();
    let mut last = definition.add(image("a"), &[], named("base")).expect("a vertex");
    for step in 0..10_000 {
        let op = Op::Exec(exec(&step.to_string()));
        last = definition.add(op, &[input(last, 0)], named("step")).expect("a vertex");
    }
    assert_eq!(definition.reachable(&[last]).len(), 10_001);
}
