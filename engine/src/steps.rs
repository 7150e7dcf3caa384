//! Steps as the user sees them: numbers, names, logs.

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use cache::LogWriter;
use llb::{Definition, VertexId};

use crate::event::{Event, Progress, StepId, Stream};

/// Lines of a step's output that an error message repeats.
const TAIL_LINES: usize = 50;
/// Longest line kept in the tail, in bytes.
const TAIL_LINE_BYTES: usize = 2000;

/// Hands out step numbers and tells the client what becomes of each.
pub(crate) struct Steps {
    progress: Arc<dyn Progress>,
    next: AtomicU32,
    by_vertex: Mutex<HashMap<VertexId, (StepId, State)>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Ended,
}

impl Steps {
    pub(crate) fn new(progress: Arc<dyn Progress>) -> Self {
        Self { progress, next: AtomicU32::new(1), by_vertex: Mutex::default() }
    }

    /// Announces the steps of the plan.
    pub(crate) fn add_plan(&self, definition: &Definition, targets: &[VertexId]) {
        for id in definition.reachable(targets) {
            let metadata = &definition.vertex(id).metadata;
            let step = self.add(&metadata.name, &metadata.stage, metadata.lines);
            self.by_vertex.lock().expect("no panic while held").insert(id, (step, State::Waiting));
        }
    }

    fn add(&self, name: &str, stage: &str, lines: Option<(u32, u32)>) -> StepId {
        let step = StepId(self.next.fetch_add(1, Ordering::Relaxed));
        let (name, stage) = (name.to_owned(), stage.to_owned());
        self.event(Event::StepAdded { step, name, stage, lines });
        step
    }

    /// A step of the builder itself that starts now: resolving an image, exporting.
    pub(crate) fn internal(self: &Arc<Self>, name: &str) -> InternalStep {
        let step = self.add(name, "", None);
        self.event(Event::StepStarted { step });
        InternalStep { steps: self.clone(), step, start: Instant::now(), ended: false }
    }

    pub(crate) fn event(&self, event: Event) {
        self.progress.event(event);
    }

    pub(crate) fn warn(&self, message: impl Into<String>) {
        self.event(Event::Warning { message: message.into() });
    }

    pub(crate) fn id(&self, vertex: VertexId) -> StepId {
        self.by_vertex.lock().expect("no panic while held")[&vertex].0
    }

    /// Moves a vertex's step on; false if it ended already.
    fn advance(&self, vertex: VertexId, to: State) -> Option<StepId> {
        let mut by_vertex = self.by_vertex.lock().expect("no panic while held");
        let (step, state) = by_vertex.get_mut(&vertex)?;
        if *state == State::Ended || *state == to {
            return None;
        }
        *state = to;
        Some(*step)
    }

    pub(crate) fn started(&self, vertex: VertexId) {
        if let Some(step) = self.advance(vertex, State::Running) {
            self.event(Event::StepStarted { step });
        }
    }

    pub(crate) fn cached(&self, vertex: VertexId) {
        if let Some(step) = self.advance(vertex, State::Ended) {
            self.event(Event::StepCached { step });
        }
    }

    /// A source that needs no work of its own: read in place by those who take it in.
    pub(crate) fn cached_source(&self, vertex: VertexId) {
        let start = Instant::now();
        self.started(vertex);
        self.done(vertex, start);
    }

    pub(crate) fn done(&self, vertex: VertexId, start: Instant) {
        if let Some(step) = self.advance(vertex, State::Ended) {
            self.event(Event::StepDone { step, duration: start.elapsed() });
        }
    }

    pub(crate) fn failed(&self, vertex: VertexId, message: &str) {
        if let Some(step) = self.advance(vertex, State::Ended) {
            self.event(Event::StepFailed { step, message: message.to_owned() });
        }
    }

    /// The build is over. Steps that ran were stopped; after a success, what never had to run
    /// counts as cached.
    pub(crate) fn close(&self, success: bool) {
        let mut open: Vec<(VertexId, StepId, State)> = {
            let by_vertex = self.by_vertex.lock().expect("no panic while held");
            by_vertex.iter().map(|(v, (step, state))| (*v, *step, *state)).collect()
        };
        open.retain(|(_, _, state)| *state != State::Ended);
        open.sort_by_key(|(_, step, _)| *step);
        for (vertex, step, state) in open {
            match state {
                State::Running => self.event(Event::StepCanceled { step }),
                State::Waiting if success => self.cached(vertex),
                _ => {}
            }
        }
    }
}

/// A step of the builder itself. Dropped without [`InternalStep::done`] or
/// [`InternalStep::failed`], it was cancelled.
pub(crate) struct InternalStep {
    steps: Arc<Steps>,
    pub(crate) step: StepId,
    start: Instant,
    ended: bool,
}

impl InternalStep {
    pub(crate) fn done(mut self) {
        self.ended = true;
        self.steps.event(Event::StepDone { step: self.step, duration: self.start.elapsed() });
    }

    pub(crate) fn failed(mut self, message: &str) {
        self.ended = true;
        self.steps.event(Event::StepFailed { step: self.step, message: message.to_owned() });
    }
}

impl Drop for InternalStep {
    fn drop(&mut self) {
        if !self.ended {
            self.steps.event(Event::StepCanceled { step: self.step });
        }
    }
}

/// Where a step's output goes: to the client, whole to a file, and its end into memory.
pub(crate) struct StepLog {
    steps: Arc<Steps>,
    step: StepId,
    open: Box<dyn Fn() -> Option<LogWriter> + Send>,
    file: Option<LogWriter>,
    tail: VecDeque<Vec<u8>>,
    partial: Vec<u8>,
}

impl StepLog {
    /// A log for `step`; `open` makes its file when the first byte comes.
    pub(crate) fn new(
        steps: Arc<Steps>,
        step: StepId,
        open: impl Fn() -> Option<LogWriter> + Send + 'static,
    ) -> Self {
        Self { steps, step, open: Box::new(open), file: None, tail: VecDeque::new(), partial: Vec::new() }
    }

    /// Takes in output.
    pub(crate) fn write(&mut self, stream: Stream, data: &[u8]) {
        if self.file.is_none() {
            self.file = (self.open)();
        }
        // A full disk must not stop the step: its own writes will tell.
        if let Some(file) = &mut self.file {
            let _ = file.write_all(data);
        }
        for byte in data {
            if *byte == b'\n' {
                self.end_line();
            } else if self.partial.len() < TAIL_LINE_BYTES {
                self.partial.push(*byte);
            }
        }
        self.steps.event(Event::Log { step: self.step, stream, data: data.to_vec() });
    }

    fn end_line(&mut self) {
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(std::mem::take(&mut self.partial));
    }

    /// The last lines, and the file that holds all of them.
    pub(crate) fn finish(mut self) -> (Vec<String>, Option<PathBuf>) {
        if !self.partial.is_empty() {
            self.end_line();
        }
        let lines = self.tail.iter().map(|l| String::from_utf8_lossy(l).into_owned()).collect();
        if let Some(file) = &mut self.file {
            let _ = file.flush();
        }
        (lines, self.file.map(|file| file.path().to_owned()))
    }
}
