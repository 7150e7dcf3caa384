//! What the user sees while a build runs.
//!
//! A [`Display`] receives the engine's events on any thread and hands them to one drawing thread,
//! which owns a [`Renderer`]: [`tree`] for a terminal, [`plain`] for a log, [`json`] and
//! [`raw_json`] for programs. Renderers get the time with each event and write bytes, so that tests
//! can feed them a recorded build.

pub mod json;
mod lines;
pub mod measure;
pub mod plain;
pub mod raw_json;
mod steps;
pub mod tree;

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine::{Event, Progress, StoppedStep};
use tokio_util::sync::CancellationToken;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A live tree on a terminal.
    Tree {
        /// Lines of output under each running step.
        log_lines: usize,
    },
    /// Lines.
    Plain,
    /// One JSON object an event.
    Json,
    /// BuildKit's status messages as JSON.
    RawJson,
    /// Nothing; the image id alone on standard output.
    Quiet,
    /// Nothing.
    None,
}

/// Turns events into bytes for standard error.
pub trait Renderer: Send {
    /// Something happened, `at` after the build's start.
    fn event(&mut self, at: Duration, event: Event);

    /// Appends to `out` what is to be shown now. Called after a burst of events, and every
    /// [`Renderer::interval`] while nothing happens.
    fn draw(&mut self, at: Duration, out: &mut Vec<u8>);

    /// Appends the last state. Nothing is called afterwards.
    fn finish(&mut self, at: Duration, out: &mut Vec<u8>);

    /// How often to draw when nothing happens, if at all.
    fn interval(&self) -> Option<Duration> {
        None
    }
}

/// Time between two frames: 12 a second look alive and cost nothing.
const FRAME: Duration = Duration::from_millis(80);
/// Events under way to the drawing thread. When the terminal stalls, so do the steps' outputs. Each
/// may be 64 KiB of output, and all of them are shown before a build that is stopped ends.
const QUEUE: usize = 64;

enum Message {
    Event(Duration, Event),
    Finish(Duration),
}

/// What is to be drawn when the build is over.
#[derive(Debug, Default)]
pub struct Findings {
    /// The Dockerfile's name and text.
    pub dockerfile: Option<(String, Arc<str>)>,
    /// What was found, in the order in which it was told.
    pub diagnostics: Vec<parser::Diagnostic>,
    /// Other warnings, which a [`Renderer`] shows, too.
    pub warnings: Vec<String>,
    /// What steps had written when the build was stopped.
    pub stopped: Vec<StoppedStep>,
    /// Nobody reads what is shown any more: the pipe is closed.
    pub unread: bool,
}

/// Shows a build's progress until [`Display::finish`].
pub struct Display {
    started: Instant,
    findings: Arc<Mutex<Findings>>,
    drawing: Option<(SyncSender<Message>, JoinHandle<()>)>,
    shows_changes: bool,
}

impl Display {
    /// Starts showing in `mode` on standard error. When nobody reads that any more `unread` is
    /// cancelled.
    pub fn start(mode: Mode, unread: &CancellationToken) -> Self {
        let findings = Arc::<Mutex<Findings>>::default();
        let out = Screen { findings: Arc::clone(&findings), unread: unread.clone() };
        let started = Instant::now();
        let renderer: Option<Box<dyn Renderer>> = match mode {
            Mode::Tree { log_lines } => Some(Box::new(tree::Tree::new(
                log_lines,
                anstream::stderr().is_terminal() && wants_color(),
                crate::terminal::size_of_stderr,
            ))),
            Mode::Plain => Some(Box::new(plain::Plain::new())),
            Mode::Json => Some(Box::new(json::Json::new(jiff::Timestamp::now()))),
            Mode::RawJson => Some(Box::new(raw_json::RawJson::new(jiff::Timestamp::now()))),
            Mode::Quiet | Mode::None => None,
        };
        let drawing = renderer.map(|renderer| {
            let (sender, receiver) = sync_channel(QUEUE);
            let thread = std::thread::Builder::new()
                .name("progress".to_owned())
                .spawn(move || show(renderer, &receiver, started, &out))
                .expect("failed to spawn thread");
            (sender, thread)
        });
        let shows_changes = matches!(mode, Mode::Plain | Mode::Json);
        Self { started, findings, drawing, shows_changes }
    }

    /// What the engine tells its events.
    pub fn progress(&self) -> Arc<dyn Progress> {
        Arc::new(Sender {
            started: self.started,
            findings: Arc::clone(&self.findings),
            to: self.drawing.as_ref().map(|(sender, _)| sender.clone()),
            shows_changes: self.shows_changes,
        })
    }

    /// Shows the last state and waits until it is written. Events after this are dropped.
    pub fn finish(self) -> Findings {
        if let Some((sender, thread)) = self.drawing {
            let _ = sender.send(Message::Finish(self.started.elapsed()));
            // A panic there has told about itself.
            let _ = thread.join();
        }
        std::mem::take(&mut self.findings.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn wants_color() -> bool {
    anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never
}

struct Sender {
    started: Instant,
    findings: Arc<Mutex<Findings>>,
    to: Option<SyncSender<Message>>,
    shows_changes: bool,
}

impl Progress for Sender {
    fn shows_changes(&self) -> bool {
        self.shows_changes
    }

    fn event(&self, event: Event) {
        let findings = || self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        match &event {
            Event::Lint(diagnostic) => findings().diagnostics.push(diagnostic.clone()),
            Event::Warning { message } => findings().warnings.push(message.clone()),
            Event::StepStopped(stopped) => findings().stopped.push(stopped.clone()),
            Event::Dockerfile { name, text } => {
                findings().dockerfile = Some((name.clone(), Arc::clone(text)));
            }
            _ => {}
        }
        if let Some(to) = &self.to {
            // The drawing thread is gone only when the build is over.
            let _ = to.send(Message::Event(self.started.elapsed(), event));
        }
    }
}

/// The drawing thread.
fn show(
    mut renderer: Box<dyn Renderer>,
    messages: &Receiver<Message>,
    started: Instant,
    screen: &Screen,
) {
    let mut last_frame: Option<Instant> = None;
    let mut out = Vec::new();
    loop {
        let message = match renderer.interval() {
            Some(interval) => match messages.recv_timeout(interval) {
                Err(RecvTimeoutError::Timeout) => None,
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Disconnected) => return,
            },
            None => match messages.recv() {
                Ok(message) => Some(message),
                Err(_) => return,
            },
        };
        for message in message.into_iter().chain(messages.try_iter()).take(QUEUE) {
            match message {
                Message::Event(at, event) => renderer.event(at, event),
                Message::Finish(at) => {
                    renderer.finish(at, &mut out);
                    screen.write(&mut out);
                    return;
                }
            }
        }
        // A burst of events is one frame, not many.
        let due = renderer
            .interval()
            .is_none_or(|interval| last_frame.is_none_or(|last| last.elapsed() >= interval));
        if due {
            renderer.draw(started.elapsed(), &mut out);
            screen.write(&mut out);
            last_frame = Some(Instant::now());
        }
    }
}

/// Where frames go.
struct Screen {
    findings: Arc<Mutex<Findings>>,
    unread: CancellationToken,
}

impl Screen {
    /// Writes a frame at once. A closed pipe is the end, as it is for every program that writes to
    /// one; a terminal that has gone away, or a full disk, is no reason to stop a build.
    fn write(&self, out: &mut Vec<u8>) {
        let written = io::stderr().lock().write_all(out);
        out.clear();
        if written.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            self.findings.lock().unwrap_or_else(PoisonError::into_inner).unread = true;
            self.unread.cancel();
        }
    }
}
