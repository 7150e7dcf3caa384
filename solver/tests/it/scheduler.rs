//! The state machine, fed by hand.

use std::collections::{BTreeMap, BTreeSet};

use expect_test::{Expect, expect};
use oci::Digest;
use solver::{CacheKey, Event, Request, Scheduler};

use crate::graph::{Graph, graph};

/// What earlier builds left: keys, and which salt each result carries.
#[derive(Default)]
struct Cache {
    records: BTreeMap<CacheKey, String>,
    aliases: BTreeMap<CacheKey, CacheKey>,
    /// Content of a vertex's files, where it differs from its name.
    content: BTreeMap<String, String>,
}

impl Cache {
    /// A result's own key and salt.
    fn found(&self, key: &CacheKey) -> Option<(CacheKey, String)> {
        let own = |key: &CacheKey| Some((key.clone(), self.records.get(key)?.clone()));
        own(key).or_else(|| own(self.aliases.get(key)?))
    }
}

/// Solves for `targets`, answering from the cache, and says what was asked, in order.
fn solve(cache: &mut Cache, graph: &Graph, targets: &[&str], build: &str) -> String {
    let targets: Vec<_> = targets.iter().map(|t| graph.ids[*t]).collect();
    let mut scheduler = Scheduler::new(graph.definition.clone(), &targets, build);
    let mut log = String::new();
    while let Some(request) = scheduler.poll() {
        let event = match request {
            Request::Identify(vertex) => {
                let name = graph.name(vertex);
                let local = name.starts_with("local");
                let key = (!local).then(|| CacheKey(Digest::of(name.as_bytes())));
                Event::Identified { vertex, key, available: local }
            }
            Request::Lookup { vertex, key, alias } => match cache.found(&key) {
                Some((key, salt)) => {
                    log += &format!("hit {}\n", graph.name(vertex));
                    if let Some(alias) = alias {
                        cache.aliases.insert(alias, key.clone());
                    }
                    Event::Hit { vertex, key, salt }
                }
                None => Event::Miss(vertex),
            },
            Request::Content(vertex, reads) => {
                log += &format!("read for {}\n", graph.name(vertex));
                let inputs = graph.definition.inputs(vertex);
                let digests = inputs.iter().zip(reads).map(|(input, read)| {
                    let name = graph.name(input.vertex);
                    let content = cache.content.get(name).map_or(name, String::as_str);
                    read.then(|| Digest::of(content.as_bytes()))
                });
                Event::Content(vertex, digests.collect())
            }
            Request::Execute { vertex, key, alias, salt, .. } => {
                log += &format!("run {}\n", graph.name(vertex));
                cache.records.insert(key.clone(), salt);
                if let Some(alias) = alias {
                    cache.aliases.insert(alias, key);
                }
                Event::Executed(vertex)
            }
        };
        scheduler.handle(event);
    }
    assert!(targets.iter().all(|t| scheduler.is_available(*t)), "not solved:\n{log}");
    log
}

/// Builds each graph in turn with one cache.
fn check(builds: &[(&str, &str)], expected: Expect) {
    let mut cache = Cache::default();
    let mut log = String::new();
    for (number, (text, target)) in builds.iter().enumerate() {
        log += &format!("build {number}\n");
        log += &solve(&mut cache, &graph(text), &[target], &format!("salt{number}"));
    }
    expected.assert_eq(&log);
}

const CHAIN: &str = "base
    a: base
    b: a";

#[test]
fn a_known_result_is_not_run_again_and_neither_is_what_it_was_made_from() {
    check(
        &[(CHAIN, "b"), (CHAIN, "b")],
        expect![[r#"
            build 0
            run base
            run a
            run b
            build 1
            hit a
            hit b
        "#]],
    );
}

#[test]
fn what_no_target_needs_is_not_touched() {
    check(
        &[("base\n a: base\n other\n c: other", "a")],
        expect![[r#"
            build 0
            run base
            run a
        "#]],
    );
}

#[test]
fn a_directory_is_always_read_and_decides_by_content() {
    let text = "base
        local
        copy: base local
        after: copy";
    check(
        &[(text, "after"), (text, "after")],
        expect![[r#"
            build 0
            read for copy
            run base
            run copy
            run after
            build 1
            read for copy
            hit copy
            hit after
        "#]],
    );
}

#[test]
fn equal_content_from_another_stage_hits_and_is_known_by_definition_from_then_on() {
    let first = "base
        build1: base
        target
        copy: target build1";
    let second = "base
        build2: base
        target
        copy: target build2";
    let mut cache = Cache::default();
    cache.content.insert("build1".to_owned(), "same".to_owned());
    cache.content.insert("build2".to_owned(), "same".to_owned());
    let mut log = String::new();
    for text in [first, second, second] {
        log += &solve(&mut cache, &graph(text), &["copy"], "salt");
        log += "--\n";
    }
    expect![[r#"
        run base
        run build1
        read for copy
        run target
        run copy
        --
        run base
        run build2
        read for copy
        hit copy
        --
        hit build2
        hit copy
        --
    "#]]
    .assert_eq(&log);
}

#[test]
fn a_step_forced_to_run_makes_its_dependents_run() {
    let forced = "base
        a!: base
        b: a";
    check(
        &[(CHAIN, "b"), (forced, "b"), (CHAIN, "b")],
        expect![[r#"
            build 0
            run base
            run a
            run b
            build 1
            run base
            run a
            run b
            build 2
            hit a
            hit b
        "#]],
    );
}

#[test]
fn what_a_forced_step_has_made_anew_is_not_mixed_with_what_was_made_from_the_old() {
    let text = "base
        target
        a!: base
        b: a
        copy: target a";
    let calm = text.replace('!', "");
    // The second build ends before anything is made from the new `a`.
    check(
        &[
            (&calm, "copy"),
            (&calm, "b"),
            (text, "a"),
            (&calm, "copy"),
            (&calm, "b"),
            (&calm, "copy"),
        ],
        expect![[r#"
            build 0
            run base
            run a
            read for copy
            run target
            run copy
            build 1
            hit a
            run b
            build 2
            run base
            run a
            build 3
            hit a
            read for copy
            hit copy
            build 4
            hit a
            run b
            build 5
            hit a
            hit copy
        "#]],
    );
}

#[test]
fn a_lost_intermediate_result_is_not_made_again_for_a_known_one() {
    let mut cache = Cache::default();
    let chain = graph(CHAIN);
    solve(&mut cache, &chain, &["b"], "1");
    let lost = solver::definition_key(
        &chain.definition.vertex(chain.ids["a"]).op,
        &[(CacheKey(Digest::of(b"base")), 0)],
    );
    assert!(cache.records.remove(&lost).is_some());
    expect![[r#"
        hit b
    "#]]
    .assert_eq(&solve(&mut cache, &chain, &["b"], "2"));
}

#[test]
fn a_diamond_runs_each_side_once() {
    check(
        &[("base\n l: base\n r: base\n join: l r", "join")],
        expect![[r#"
            build 0
            run base
            run l
            run r
            run join
        "#]],
    );
}

#[test]
fn deep_chains_need_no_deep_stack() {
    let mut text = "v0\n".to_owned();
    for i in 1..20_000 {
        text += &format!("v{i}{}: v{}\n", if i % 2 == 0 { "!" } else { "" }, i - 1);
    }
    let mut cache = Cache::default();
    let log = solve(&mut cache, &graph(&text), &["v19999"], "salt");
    assert_eq!(log.lines().count(), 20_000);
}

#[test]
fn every_vertex_runs_at_most_once_and_after_its_inputs_whatever_the_graph() {
    let mut seed = 7u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    for _ in 0..50 {
        let mut text = "base0\n".to_owned();
        for i in 1..30u64 {
            let kind = ["run", "copy", "bind"][random(3) as usize];
            let first = random(i);
            let second = random(i);
            let name = |n: u64, text: &str| {
                text.lines().nth(n as usize).unwrap().split(':').next().unwrap().to_owned()
            };
            text += &format!("{kind}{i}: {} {}\n", name(first, &text), name(second, &text));
        }
        let graph = graph(&text);
        let target = graph.ids.keys().last().unwrap().clone();
        let log = solve(&mut Cache::default(), &graph, &[&target], "salt");
        let mut done = BTreeSet::new();
        for name in log.lines().filter_map(|l| l.strip_prefix("run ")) {
            for input in graph.definition.inputs(graph.ids[name]) {
                assert!(
                    done.contains(graph.name(input.vertex)),
                    "{name} ran before its inputs\n{text}{log}"
                );
            }
            assert!(done.insert(name.to_owned()), "{name} ran twice");
        }
    }
}
