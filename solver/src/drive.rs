//! Runs a [`Scheduler`] on tokio.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use llb::{Definition, Op, VertexId};
use oci::Digest;
use tokio_util::sync::CancellationToken;

use crate::key::{CacheKey, ContentInput};
use crate::scheduler::{Event, Request, Scheduler};
use crate::slots::Slots;

/// What a source turned out to be.
pub struct Source<R> {
    /// Its key, `None` for content without a name.
    pub key: Option<CacheKey>,
    /// Its result, if nothing needs to be fetched for it.
    pub result: Option<R>,
}

/// A result found in the cache.
pub struct Found<R> {
    /// The key it is kept under.
    pub key: CacheKey,
    /// The salt kept with it.
    pub salt: String,
    /// The result.
    pub result: R,
}

/// What to run.
pub struct Executed<'a, R> {
    /// Which vertex.
    pub vertex: VertexId,
    /// Where its result is kept.
    pub key: &'a CacheKey,
    /// Another key that leads to the same result.
    pub alias: Option<&'a CacheKey>,
    /// Kept with the result.
    pub salt: &'a str,
    /// What of each input is in the key, one an input, in order; nothing of a source's.
    pub taken_in: &'a [ContentInput],
    /// The inputs' results, one an input, in order.
    pub inputs: Vec<R>,
    /// Cancelled when the build ends early.
    pub cancel: CancellationToken,
}

/// Knows what ops do and where results live. A result is that of a vertex, all outputs together.
pub trait Worker: Send + Sync + 'static {
    /// A vertex's result: a cheap handle.
    type Result: Clone + Send + Sync + 'static;
    /// Why something failed.
    type Error: Send + 'static;

    /// Finds out what a source is.
    fn identify(
        &self,
        vertex: VertexId,
    ) -> impl Future<Output = Result<Source<Self::Result>, Self::Error>> + Send;

    /// Looks for a result; `alias` leads to what is found from then on. Takes microseconds: it is
    /// called in the driver's own loop.
    fn lookup(
        &self,
        vertex: VertexId,
        key: &CacheKey,
        alias: Option<&CacheKey>,
    ) -> Result<Option<Found<Self::Result>>, Self::Error>;

    /// Digests what `vertex` takes in from those inputs that `reads` marks; `None` for the others.
    fn content(
        &self,
        vertex: VertexId,
        reads: Vec<bool>,
        inputs: Vec<Option<Self::Result>>,
    ) -> impl Future<Output = Result<Vec<Option<Digest>>, Self::Error>> + Send;

    /// Runs a vertex and keeps its result.
    fn execute(
        &self,
        run: Executed<'_, Self::Result>,
    ) -> impl Future<Output = Result<Self::Result, Self::Error>> + Send;

    /// Whether the caller solves again after `error`. Then what runs is not stopped: its results are
    /// found the next time.
    fn is_passing(&self, error: &Self::Error) -> bool;
}

/// What came of a task: `None` if the build ended before it.
type Answer<R, E> = Option<Result<(Event, Option<R>), (VertexId, E)>>;
/// What is under way. The driver polls it itself: whatever takes time happens elsewhere (in a blocking
/// room, a sandbox, a registry), so that another thread would only have to be woken for nothing.
type Tasks<R, E> = FuturesUnordered<BoxFuture<'static, Answer<R, E>>>;

/// Solves `definition` for `targets` and gives back their results, in order. Processes take a slot
/// each. The first failure (its vertex and error) cancels everything else; `cancel` does, too: what
/// was being looked up is left as it is, what was being run is waited for and has to end soon. After a
/// failure that [passes](Worker::is_passing) nothing new begins, and what runs is waited for.
///
/// Errors: the first failure, if need be the first that does not pass; `None` when the caller
/// cancelled before anything failed.
pub async fn drive<W: Worker>(
    worker: Arc<W>,
    definition: Arc<Definition>,
    targets: &[VertexId],
    slots: Arc<Slots>,
    fresh_salt: &str,
    cancel: &CancellationToken,
) -> Result<Vec<W::Result>, Option<(VertexId, W::Error)>> {
    let ends = Ends::new(cancel);
    let mut scheduler = Scheduler::new(definition.clone(), targets, fresh_salt);
    let mut results: HashMap<VertexId, W::Result> = HashMap::new();
    let mut tasks: Tasks<W::Result, W::Error> = FuturesUnordered::new();
    let mut failure = None;
    loop {
        while let Some(request) = if ends.idle.is_cancelled() { None } else { scheduler.poll() } {
            match start(&worker, &definition, &slots, &ends, &results, request, &mut tasks) {
                Ok(Some((event, result))) => take(&mut scheduler, &mut results, event, result),
                Ok(None) => {}
                Err(error) => fail(&*worker, &mut failure, &ends, error),
            }
        }
        if tasks.is_empty() {
            break;
        }
        tokio::select! {
            Some(answer) = tasks.next() => match answer {
                Some(Ok((event, result))) => take(&mut scheduler, &mut results, event, result),
                Some(Err(error)) => fail(&*worker, &mut failure, &ends, error),
                None => {}
            },
            () = ends.running.cancelled(), if !ends.running.is_cancelled() => {}
        }
    }
    if let Some(error) = failure {
        return Err(Some(error));
    }
    if cancel.is_cancelled() {
        return Err(None);
    }
    Ok(targets.iter().map(|t| results[t].clone()).collect())
}

fn take<R>(
    scheduler: &mut Scheduler,
    results: &mut HashMap<VertexId, R>,
    event: Event,
    result: Option<R>,
) {
    if let Some(result) = result {
        let (Event::Identified { vertex, .. }
        | Event::Hit { vertex, .. }
        | Event::Executed(vertex)) = &event
        else {
            unreachable!("only these events carry a result")
        };
        results.insert(*vertex, result);
    }
    scheduler.handle(event);
}

/// What ends early.
struct Ends {
    /// What runs.
    running: CancellationToken,
    /// What does not run yet; with what runs at the latest.
    idle: CancellationToken,
}

impl Ends {
    fn new(cancel: &CancellationToken) -> Self {
        let running = cancel.child_token();
        Self { idle: running.child_token(), running }
    }
}

fn fail<W: Worker>(
    worker: &W,
    failure: &mut Option<(VertexId, W::Error)>,
    ends: &Ends,
    error: (VertexId, W::Error),
) {
    // What fails after the stop failed because of it.
    if ends.running.is_cancelled() {
        return;
    }
    let passes = worker.is_passing(&error.1);
    if failure.is_none() || !passes {
        *failure = Some(error);
    }
    if passes { &ends.idle } else { &ends.running }.cancel();
}

/// Starts what a request asks for; look-ups are answered at once.
#[expect(clippy::type_complexity, reason = "an answer and its error, named nowhere else")]
fn start<W: Worker>(
    worker: &Arc<W>,
    definition: &Arc<Definition>,
    slots: &Arc<Slots>,
    ends: &Ends,
    results: &HashMap<VertexId, W::Result>,
    request: Request,
    tasks: &mut Tasks<W::Result, W::Error>,
) -> Result<Option<(Event, Option<W::Result>)>, (VertexId, W::Error)> {
    let worker = worker.clone();
    match request {
        Request::Lookup { vertex, key, alias } => {
            let found = worker.lookup(vertex, &key, alias.as_ref()).map_err(|e| (vertex, e))?;
            return Ok(Some(match found {
                Some(found) => {
                    (Event::Hit { vertex, key: found.key, salt: found.salt }, Some(found.result))
                }
                None => (Event::Miss(vertex), None),
            }));
        }
        Request::Identify(vertex) => {
            let idle = ends.idle.clone();
            tasks.push(Box::pin(async move {
                let source = idle.run_until_cancelled(worker.identify(vertex)).await?;
                Some(source.map_err(|e| (vertex, e)).map(|source| {
                    let available = source.result.is_some();
                    (Event::Identified { vertex, key: source.key, available }, source.result)
                }))
            }));
        }
        Request::Content(vertex, reads) => {
            let inputs =
                definition.inputs(vertex).iter().map(|i| results.get(&i.vertex).cloned()).collect();
            let idle = ends.idle.clone();
            tasks.push(Box::pin(async move {
                let digests =
                    idle.run_until_cancelled(worker.content(vertex, reads, inputs)).await?;
                Some(digests.map_err(|e| (vertex, e)).map(|d| (Event::Content(vertex, d), None)))
            }));
        }
        Request::Execute { vertex, key, alias, salt, inputs: taken_in } => {
            let inputs: Vec<W::Result> =
                definition.inputs(vertex).iter().map(|i| results[&i.vertex].clone()).collect();
            let is_process = matches!(definition.vertex(vertex).op, Op::Exec(_));
            let (slots, idle, cancel) = (slots.clone(), ends.idle.clone(), ends.running.clone());
            tasks.push(Box::pin(async move {
                let _slot = match is_process {
                    true => Some(idle.run_until_cancelled(slots.acquire()).await?),
                    false => None,
                };
                // The slot may have come because the steps that had it were stopped.
                if idle.is_cancelled() {
                    return None;
                }
                let run = Executed {
                    vertex,
                    key: &key,
                    alias: alias.as_ref(),
                    salt: &salt,
                    taken_in: &taken_in,
                    inputs,
                    cancel,
                };
                let result = worker.execute(run).await.map_err(|e| (vertex, e));
                Some(result.map(|result| (Event::Executed(vertex), Some(result))))
            }));
        }
    }
    Ok(None)
}
