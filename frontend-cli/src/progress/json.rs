//! One JSON object a line, for programs.
//!
//! Every object has `time` (RFC 3339, UTC) and `type`; `step` is the step's number. Types, and what
//! else they have:
//!
//! | type | fields |
//! |---|---|
//! | `step-added` | `name`, `stage` (empty for internal steps), `lines` (`[first, last]` in the Dockerfile, or null) |
//! | `step-started` | |
//! | `step-changed` | `parts` (names of what is not as it was when the same instruction last ran) |
//! | `step-cached` | |
//! | `step-done` | `seconds` |
//! | `step-failed` | `message` |
//! | `step-stopped` | `tail` (its last lines), `log` (the file with all of them, or null); `step-canceled` follows |
//! | `step-canceled` | |
//! | `log` | `stream` (`stdout`, `stderr`), `text` (as written, bytes that are not UTF-8 replaced) |
//! | `transfer` | `item`, `current`, `total` (bytes, or null), `done` |
//! | `warning` | `message` |
//! | `lint` | `severity` (`error`, `warning`), `rule` (or null), `message`, `lines`, `hint` (or null) |
//!
//! Fields may be added; a reader passes over what it does not know.

use std::time::Duration;

use engine::{Event, Stream};
use serde::Serialize;

use super::Renderer;

/// The renderer.
#[derive(Debug)]
pub struct Json {
    start: jiff::Timestamp,
    out: Vec<u8>,
}

impl Json {
    /// A renderer for a build that began at `start`.
    pub fn new(start: jiff::Timestamp) -> Self {
        Self { start, out: Vec::new() }
    }
}

/// One line.
#[derive(Serialize)]
struct Entry<'a> {
    time: String,
    #[serde(flatten)]
    kind: Kind<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Kind<'a> {
    StepAdded {
        step: u32,
        name: &'a str,
        stage: &'a str,
        lines: Option<(u32, u32)>,
    },
    StepStarted {
        step: u32,
    },
    StepChanged {
        step: u32,
        parts: &'a [String],
    },
    StepCached {
        step: u32,
    },
    StepDone {
        step: u32,
        seconds: f64,
    },
    StepFailed {
        step: u32,
        message: &'a str,
    },
    StepStopped {
        step: u32,
        tail: &'a [String],
        log: Option<String>,
    },
    StepCanceled {
        step: u32,
    },
    Log {
        step: u32,
        stream: &'a str,
        text: &'a str,
    },
    Transfer {
        step: u32,
        item: &'a str,
        current: u64,
        total: Option<u64>,
        done: bool,
    },
    Warning {
        message: &'a str,
    },
    Lint {
        severity: &'a str,
        rule: Option<&'a str>,
        message: &'a str,
        lines: (u32, u32),
        hint: Option<&'a str>,
    },
}

impl Renderer for Json {
    fn event(&mut self, at: Duration, event: Event) {
        let text;
        let kind = match &event {
            Event::StepAdded { step, name, stage, lines } => {
                Kind::StepAdded { step: step.0, name, stage, lines: *lines }
            }
            Event::StepStarted { step } => Kind::StepStarted { step: step.0 },
            Event::StepChanged { step, parts } => Kind::StepChanged { step: step.0, parts },
            Event::StepCached { step } => Kind::StepCached { step: step.0 },
            Event::StepDone { step, duration } => {
                Kind::StepDone { step: step.0, seconds: duration.as_secs_f64() }
            }
            Event::StepFailed { step, message } => Kind::StepFailed { step: step.0, message },
            Event::StepStopped(stopped) => Kind::StepStopped {
                step: stopped.step.0,
                tail: &stopped.log_tail,
                log: stopped.log_path.as_ref().map(|path| path.display().to_string()),
            },
            Event::StepCanceled { step } => Kind::StepCanceled { step: step.0 },
            Event::Log { step, stream, data } => {
                text = String::from_utf8_lossy(data);
                let stream = match stream {
                    Stream::Stdout => "stdout",
                    Stream::Stderr => "stderr",
                };
                Kind::Log { step: step.0, stream, text: &text }
            }
            Event::Transfer { step, item, current, total, done } => {
                Kind::Transfer { step: step.0, item, current: *current, total: *total, done: *done }
            }
            Event::Warning { message } => Kind::Warning { message },
            Event::Lint(diagnostic) => Kind::Lint {
                severity: match diagnostic.severity {
                    parser::Severity::Error => "error",
                    parser::Severity::Warning => "warning",
                    parser::Severity::Note => "note",
                },
                rule: diagnostic.rule,
                message: &diagnostic.message,
                lines: (diagnostic.lines.start, diagnostic.lines.end),
                hint: diagnostic.hint.as_deref(),
            },
            // The reader has the file.
            Event::Dockerfile { .. } => return,
        };
        let entry = Entry { time: timestamp(self.start, at), kind };
        serde_json::to_writer(&mut self.out, &entry).expect("strings and numbers serialize");
        self.out.push(b'\n');
    }

    fn draw(&mut self, _at: Duration, out: &mut Vec<u8>) {
        out.append(&mut self.out);
    }

    fn finish(&mut self, at: Duration, out: &mut Vec<u8>) {
        self.draw(at, out);
    }
}

/// `at` after `start`, in RFC 3339 with milliseconds.
pub(super) fn timestamp(start: jiff::Timestamp, at: Duration) -> String {
    let time = start.checked_add(at).unwrap_or(start);
    format!("{time:.3}")
}
