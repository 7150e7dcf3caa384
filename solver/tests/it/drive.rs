//! The driver against a scripted worker.

use std::sync::{Arc, Mutex};

use llb::{Definition, VertexId};
use oci::Digest;
use solver::{CacheKey, Executed, Found, Slots, Source, Worker};
use tokio_util::sync::CancellationToken;

use crate::graph::{Graph, graph};

/// Runs everything; `fail…` fails, `pass…` fails with what passes, `hang…` ends only when cancelled,
/// `long…` takes a while, `silent…` is never identified.
struct Script {
    definition: Arc<Definition>,
    log: Mutex<Vec<String>>,
}

impl Script {
    fn name(&self, vertex: VertexId) -> String {
        self.definition.vertex(vertex).metadata.name.clone()
    }
}

impl Worker for Script {
    type Result = String;
    type Error = String;

    async fn identify(&self, vertex: VertexId) -> Result<Source<String>, String> {
        let name = self.name(vertex);
        if name.starts_with("silent") {
            std::future::pending::<()>().await;
        }
        Ok(Source { key: Some(CacheKey(Digest::of(name.as_bytes()))), result: Some(name) })
    }

    fn lookup(
        &self,
        _: VertexId,
        _: &CacheKey,
        _: Option<&CacheKey>,
    ) -> Result<Option<Found<String>>, String> {
        Ok(None)
    }

    async fn content(
        &self,
        _: VertexId,
        reads: Vec<bool>,
        inputs: Vec<Option<String>>,
    ) -> Result<Vec<Option<Digest>>, String> {
        let digest =
            |input: Option<String>| Digest::of(input.expect("what is read exists").as_bytes());
        Ok(inputs.into_iter().zip(reads).map(|(input, read)| read.then(|| digest(input))).collect())
    }

    async fn execute(&self, run: Executed<'_, String>) -> Result<String, String> {
        let name = self.name(run.vertex);
        if name.starts_with("long") {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
        if name.contains("fail") || name.starts_with("pass") {
            // Whatever may run beside it has begun by then.
            tokio::task::yield_now().await;
            return Err(format!("{name} failed"));
        }
        if name.starts_with("hang") {
            run.cancel.cancelled().await;
            self.log.lock().unwrap().push(format!("{name} stopped"));
            return Err("stopped".to_owned());
        }
        self.log.lock().unwrap().push(format!("{name}({})", run.inputs.join(",")));
        Ok(name)
    }

    fn is_passing(&self, error: &String) -> bool {
        error.starts_with("pass")
    }
}

async fn solve(
    graph: &Graph,
    target: &str,
    cancel: &CancellationToken,
) -> (Result<Vec<String>, Option<String>>, Vec<String>) {
    let script = Arc::new(Script { definition: graph.definition.clone(), log: Mutex::default() });
    let result = solver::drive(
        script.clone(),
        graph.definition.clone(),
        &[graph.ids[target]],
        Arc::new(Slots::strict(4)),
        "salt",
        cancel,
    )
    .await;
    let log = script.log.lock().unwrap().clone();
    (result.map_err(|failure| failure.map(|(_, error)| error)), log)
}

#[tokio::test]
async fn inputs_arrive_in_order() {
    let graph = graph("a\n b\n copy: b a\n join: copy a b");
    let (result, log) = solve(&graph, "join", &CancellationToken::new()).await;
    assert_eq!(result, Ok(vec!["join".to_owned()]));
    assert_eq!(log, ["copy(b,a)", "join(copy,a,b)"]);
}

#[tokio::test]
async fn a_failure_stops_the_others_and_is_the_one_reported() {
    let graph = graph("a\n hang: a\n fail: a\n join: hang fail");
    let (result, log) = solve(&graph, "join", &CancellationToken::new()).await;
    assert_eq!(result, Err(Some("fail failed".to_owned())));
    assert_eq!(log, ["hang stopped"]);
}

#[tokio::test]
async fn a_failure_that_passes_lets_what_runs_end_and_nothing_begin() {
    for (text, expected, ran) in [
        ("a\n long: a\n pass: a\n next: long\n join: next pass", "pass failed", &["long(a)"][..]),
        // One that stays counts more, whichever is first.
        ("a\n pass: a\n longfail: a\n join: pass longfail", "longfail failed", &[]),
        (
            "a\n pass: a\n hang: a\n fail: a\n join: pass hang fail",
            "fail failed",
            &["hang stopped"],
        ),
    ] {
        let graph = graph(text);
        let (result, log) = solve(&graph, "join", &CancellationToken::new()).await;
        assert_eq!(result, Err(Some(expected.to_owned())));
        assert_eq!(log, ran);
    }
}

#[tokio::test]
async fn cancelling_stops_everything_and_is_no_failure() {
    let hangs = "a\n hang1: a\n hang2: a\n hang3: a\n hang4: a\n hang5: a\n join: hang1 hang2 hang3 hang4 hang5";
    for (text, target, stopped) in [
        ("a\n hang: a", "hang", 1),
        ("silent\n b: silent", "b", 0),
        // The fifth waits for a slot and never starts.
        (hangs, "join", 4),
    ] {
        let graph = graph(text);
        let cancel = CancellationToken::new();
        let stopper = cancel.clone();
        tokio::spawn(async move {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            stopper.cancel();
        });
        let (result, log) = solve(&graph, target, &cancel).await;
        assert_eq!(result, Err(None));
        assert_eq!(log.iter().filter(|line| line.ends_with("stopped")).count(), stopped, "{log:?}");
        assert_eq!(log.len(), stopped);
    }
}
