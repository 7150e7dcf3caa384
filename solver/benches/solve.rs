//! What it costs to find out that nothing has to be done, and in which order to do everything.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use llb::VertexId;
use oci::Digest;
use solver::{CacheKey, Event, Request, Scheduler, definition_key};

#[path = "../tests/it/graph.rs"]
mod graph;

use graph::{Graph, graph};

const STEPS: usize = 600;

/// An image and 600 steps on it: each on the one before, or all beside one another.
fn steps(deep: bool) -> (Graph, Vec<VertexId>) {
    let mut text = String::from("base\n");
    for n in 0..STEPS {
        match n {
            1.. if deep => writeln!(text, "step{n}: step{}", n - 1).unwrap(),
            _ => writeln!(text, "step{n}: base").unwrap(),
        }
    }
    let graph = graph(&text);
    let first = if deep { STEPS - 1 } else { 0 };
    let targets = (first..STEPS).map(|n| graph.ids[&format!("step{n}")]).collect();
    (graph, targets)
}

fn keys(c: &mut Criterion) {
    let inputs = [(CacheKey(Digest::of(b"input")), 0)];
    let graph = graph("base\nstep: base\n");
    let op = graph.definition.vertex(graph.ids["step"]).op.clone();
    c.bench_function("key of a step", |b| {
        b.iter(|| definition_key(black_box(&op), black_box(&inputs)));
    });
}

/// Answers everything from `known`, and keeps what was run.
fn solve((graph, targets): &(Graph, Vec<VertexId>), known: &mut HashSet<CacheKey>) -> usize {
    let mut scheduler = Scheduler::new(graph.definition.clone(), targets, "salt");
    let mut ran = 0;
    while let Some(request) = scheduler.poll() {
        scheduler.handle(match request {
            Request::Identify(vertex) => {
                let key = Some(CacheKey(Digest::of(graph.name(vertex).as_bytes())));
                Event::Identified { vertex, key, available: false }
            }
            Request::Lookup { vertex, key, .. } if known.contains(&key) => {
                Event::Hit { vertex, key, salt: String::new() }
            }
            Request::Lookup { vertex, .. } => Event::Miss(vertex),
            Request::Content(vertex, reads) => {
                Event::Content(vertex, reads.iter().map(|_| None).collect())
            }
            Request::Execute { vertex, key, .. } => {
                ran += 1;
                known.insert(key);
                Event::Executed(vertex)
            }
        });
    }
    ran
}

fn schedules(c: &mut Criterion) {
    for (name, deep) in [("600 steps deep", true), ("600 steps wide", false)] {
        let graph = steps(deep);
        c.bench_function(&format!("run {name}"), |b| {
            b.iter(|| assert_eq!(solve(&graph, &mut HashSet::new()), STEPS + 1));
        });
        let mut known = HashSet::new();
        solve(&graph, &mut known);
        c.bench_function(&format!("find {name}"), |b| {
            b.iter(|| assert_eq!(solve(&graph, &mut known), 0));
        });
    }
}

criterion_group!(benches, keys, schedules);
criterion_main!(benches);
