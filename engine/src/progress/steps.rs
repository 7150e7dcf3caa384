//! Steps as the user sees them: numbers, names, logs.

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use cache::LogWriter;
use llb::{Definition, VertexId};
use oci::Digest;

use crate::error::BuildError;
use crate::progress::event::{Event, Progress, StepId, StoppedStep, Stream};

/// Lines of a step's output that an error message repeats.
const TAIL_LINES: usize = 50;
/// Longest line kept in the tail, in bytes.
const TAIL_LINE_BYTES: usize = 2000;

/// Hands out step numbers and tells the client what becomes of each.
pub(crate) struct Steps {
    progress: Arc<dyn Progress>,
    next: AtomicU32,
    by_vertex: Mutex<HashMap<VertexId, (StepId, State)>>,
    /// Steps of all plans, by what they do.
    by_digest: Mutex<HashMap<Digest, StepId>>,
    /// What was said of results in the making.
    warnings: Mutex<HashMap<VertexId, Vec<String>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Ended,
    /// It has ended in an attempt before, which is not told again.
    EndedBefore,
}

impl Steps {
    pub(crate) fn new(progress: Arc<dyn Progress>) -> Self {
        let (by_vertex, by_digest, warnings) = Default::default();
        Self { progress, next: AtomicU32::new(1), by_vertex, by_digest, warnings }
    }

    /// Announces the steps of the plan, but for those of an earlier one, which has ended.
    pub(crate) fn add_plan(&self, definition: &Definition, targets: &[VertexId]) {
        self.by_vertex.lock().expect("no panic while held").clear();
        for id in definition.reachable(targets) {
            let vertex = definition.vertex(id);
            let known = {
                let by_digest = self.by_digest.lock().expect("no panic while held");
                by_digest.get(&vertex.digest).copied()
            };
            let planned = match known {
                Some(step) => (step, State::EndedBefore),
                None => {
                    let metadata = &vertex.metadata;
                    let step = self.add(&metadata.name, &metadata.stage, metadata.lines);
                    let mut by_digest = self.by_digest.lock().expect("no panic while held");
                    by_digest.insert(vertex.digest.clone(), step);
                    (step, State::Waiting)
                }
            };
            self.by_vertex.lock().expect("no panic while held").insert(id, planned);
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

    /// A warning that belongs to the vertex's result: a build that uses it shows the warning, too.
    pub(crate) fn warn_of(&self, vertex: VertexId, message: String) {
        self.warn(message.as_str());
        let mut warnings = self.warnings.lock().expect("no panic while held");
        warnings.entry(vertex).or_default().push(message);
    }

    /// What was said of the vertex's result since it was last asked.
    pub(crate) fn take_warnings(&self, vertex: VertexId) -> Vec<String> {
        self.warnings.lock().expect("no panic while held").remove(&vertex).unwrap_or_default()
    }

    pub(crate) fn id(&self, vertex: VertexId) -> StepId {
        self.by_vertex.lock().expect("no panic while held")[&vertex].0
    }

    /// Moves a vertex's step on; `None` if it is there or has ended already.
    fn advance(&self, vertex: VertexId, to: State) -> Option<StepId> {
        let mut by_vertex = self.by_vertex.lock().expect("no panic while held");
        let (step, state) = by_vertex.get_mut(&vertex)?;
        let is_news = match *state {
            State::Waiting | State::Running => *state != to,
            State::EndedBefore => to == State::Running,
            State::Ended => return None,
        };
        *state = to;
        is_news.then_some(*step)
    }

    pub(crate) fn started(&self, vertex: VertexId) {
        if let Some(step) = self.advance(vertex, State::Running) {
            self.event(Event::StepStarted { step });
        }
    }

    /// Whether anybody wants to know why steps run.
    pub(crate) fn shows_changes(&self) -> bool {
        self.progress.shows_changes()
    }

    /// A step runs because of `parts`, see [`Event::StepChanged`].
    pub(crate) fn changed(&self, vertex: VertexId, parts: Vec<String>) {
        if !parts.is_empty() {
            self.event(Event::StepChanged { step: self.id(vertex), parts });
        }
    }

    pub(crate) fn cached(&self, vertex: VertexId) {
        if let Some(step) = self.advance(vertex, State::Ended) {
            self.event(Event::StepCached { step });
        }
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

    /// Its process was stopped; one that had written nothing has nothing to show.
    pub(crate) fn stopped(&self, stopped: StoppedStep) {
        if !stopped.log_tail.is_empty() {
            self.event(Event::StepStopped(stopped));
        }
    }

    /// The build starts again: what has ended may run once more.
    pub(crate) fn start_again(&self) {
        self.warnings.lock().expect("no panic while held").clear();
        let mut by_vertex = self.by_vertex.lock().expect("no panic while held");
        for (_, state) in by_vertex.values_mut() {
            *state = match *state {
                State::Waiting | State::Running => State::Waiting,
                State::Ended | State::EndedBefore => State::EndedBefore,
            };
        }
    }

    /// The build is over. Steps that ran were stopped; after a success, what never had to run
    /// counts as cached.
    pub(crate) fn close(&self, success: bool) {
        let mut open: Vec<(VertexId, StepId, State)> = {
            let by_vertex = self.by_vertex.lock().expect("no panic while held");
            by_vertex.iter().map(|(v, (step, state))| (*v, *step, *state)).collect()
        };
        open.retain(|(_, _, state)| matches!(state, State::Waiting | State::Running));
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
    /// It is over, well or not; a cancelled one says so when dropped.
    pub(crate) fn ended<T>(self, result: Result<T, BuildError>) -> Result<T, BuildError> {
        match &result {
            Ok(_) => self.done(),
            Err(BuildError::Canceled) => {}
            Err(error) => self.failed(&error.to_string()),
        }
        result
    }

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

type OpenLog = Box<dyn FnOnce() -> Option<LogWriter> + Send>;

/// Where a step's output goes: to the client, whole to a file, and its end into memory.
pub(crate) struct StepLog {
    steps: Arc<Steps>,
    step: StepId,
    /// Makes the file; taken when the first byte comes.
    open: Option<OpenLog>,
    file: Option<LogWriter>,
    tail: VecDeque<Vec<u8>>,
    partial: Vec<u8>,
    /// Something of the partial line was left out.
    is_cut: bool,
}

impl StepLog {
    /// A log for `step`; `open` makes its file when the first byte comes.
    pub(crate) fn new(
        steps: Arc<Steps>,
        step: StepId,
        open: impl FnOnce() -> Option<LogWriter> + Send + 'static,
    ) -> Self {
        Self {
            steps,
            step,
            open: Some(Box::new(open)),
            file: None,
            tail: VecDeque::new(),
            partial: Vec::new(),
            is_cut: false,
        }
    }

    /// Takes in output.
    pub(crate) fn write(&mut self, stream: Stream, data: &[u8]) {
        if let Some(open) = self.open.take() {
            self.file = open();
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
            } else {
                self.is_cut = true;
            }
        }
        self.steps.event(Event::Log { step: self.step, stream, data: data.to_vec() });
    }

    fn end_line(&mut self) {
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        if std::mem::take(&mut self.is_cut) {
            self.partial.extend_from_slice("…".as_bytes());
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes events down, one a word.
    #[derive(Default)]
    struct Words(Mutex<Vec<String>>);

    impl Progress for Words {
        fn event(&self, event: Event) {
            let word = match event {
                Event::StepAdded { step, .. } => format!("added{}", step.0),
                Event::StepStarted { step } => format!("started{}", step.0),
                Event::StepCached { step } => format!("cached{}", step.0),
                Event::StepDone { step, .. } => format!("done{}", step.0),
                Event::StepFailed { step, .. } => format!("failed{}", step.0),
                Event::StepCanceled { step } => format!("canceled{}", step.0),
                other => format!("{other:?}"),
            };
            self.0.lock().unwrap().push(word);
        }
    }

    /// Lets things happen to one step, then closes the build; says what was told.
    fn told(happens: &[&str], success: bool) -> String {
        let words = Arc::new(Words::default());
        let steps = Steps::new(words.clone());
        let mut definition = Definition::default();
        let op = llb::Op::Merge;
        let vertex = definition.add(op, &[], llb::Metadata::default()).unwrap();
        steps.add_plan(&definition, &[vertex]);
        for what in happens {
            match *what {
                "start" => steps.started(vertex),
                "cached" => steps.cached(vertex),
                "done" => steps.done(vertex, Instant::now()),
                "fail" => steps.failed(vertex, "why"),
                "again" => steps.start_again(),
                other => panic!("{other}"),
            }
        }
        steps.close(success);
        words.0.lock().unwrap().join(" ")
    }

    #[test]
    fn a_step_ends_once_and_however_the_build_ends() {
        for (happens, success, expected) in [
            (&["start", "done"][..], true, "added1 started1 done1"),
            (&["start", "start", "done", "done", "cached"], true, "added1 started1 done1"),
            (&["cached", "start", "done"], true, "added1 cached1"),
            (&[], true, "added1 cached1"),
            (&[], false, "added1"),
            (&["start"], false, "added1 started1 canceled1"),
            (&["fail"], false, "added1 failed1"),
            (&["cached", "again", "start", "done"], true, "added1 cached1 started1 done1"),
            (&["start", "done", "again", "cached"], true, "added1 started1 done1"),
            (&["start", "done", "again", "again"], true, "added1 started1 done1"),
            (&["start", "again", "start", "done"], true, "added1 started1 started1 done1"),
        ] {
            assert_eq!(told(happens, success), expected, "{happens:?}");
        }
    }

    #[test]
    fn a_step_of_the_builder_tells_how_it_ended() {
        let words = Arc::new(Words::default());
        let steps = Arc::new(Steps::new(words.clone()));
        let failure = || BuildError::refused("why");
        assert!(steps.internal("good").ended(Ok(())).is_ok());
        assert!(steps.internal("bad").ended(Err::<(), _>(failure())).is_err());
        assert!(steps.internal("stopped").ended(Err::<(), _>(BuildError::Canceled)).is_err());
        drop(steps.internal("dropped"));
        let told = words.0.lock().unwrap().join(" ");
        assert_eq!(
            told,
            "added1 started1 done1 added2 started2 failed2 added3 started3 canceled3 added4 started4 canceled4"
        );
    }

    #[test]
    fn a_log_keeps_the_last_lines() {
        let words = Arc::new(Words::default());
        let mut log = StepLog::new(Arc::new(Steps::new(words)), StepId(1), || None);
        for number in 0..TAIL_LINES + 2 {
            log.write(Stream::Stdout, b"li");
            log.write(Stream::Stderr, format!("ne {number}\n").as_bytes());
        }
        log.write(Stream::Stdout, &vec![b'x'; 2 * TAIL_LINE_BYTES]);
        let (tail, path) = log.finish();
        assert_eq!((tail.len(), path), (TAIL_LINES, None));
        assert_eq!(tail[0], "line 3");
        assert_eq!(tail[TAIL_LINES - 1], "x".repeat(TAIL_LINE_BYTES) + "…");
    }
}
