//! Lines for a log file or a CI system. The number of a step is the same in every build of the
//! same Dockerfile, and every line begins with it.
//!
//! ```text
//! #4 [build 2/3] RUN make
//! #4 0.512 cc -c main.c
//! #4 DONE 8.2s
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use engine::{Event, StepId};

use super::Renderer;
use super::lines::{Line, Lines};
use super::measure;
use crate::terminal;

/// The renderer.
#[derive(Debug, Default)]
pub struct Plain {
    steps: BTreeMap<StepId, Step>,
    text: String,
}

#[derive(Debug, Default)]
struct Step {
    name: String,
    is_named: bool,
    started: Duration,
    output: Lines,
    transfers: BTreeMap<String, Duration>,
}

/// So many parts of a step are listed at most.
const PARTS: usize = 8;
/// How often a transfer is reported while it goes on.
const TRANSFER_INTERVAL: Duration = Duration::from_secs(5);

impl Plain {
    /// A renderer.
    pub fn new() -> Self {
        Self::default()
    }

    /// A line of a step, after the step's name if that has not been told.
    fn line(&mut self, id: StepId, text: &str) {
        let step = self.steps.entry(id).or_default();
        if !step.is_named {
            step.is_named = true;
            let _ = writeln!(self.text, "#{} {}", id.0, step.name);
        }
        if !text.is_empty() {
            let _ = writeln!(self.text, "#{} {text}", id.0);
        }
    }

    /// The last line of a step, after what it left unfinished.
    fn last_line(&mut self, id: StepId, text: &str) {
        let rest = self.steps.entry(id).or_default().output.rest();
        self.output(id, rest);
        self.line(id, text);
        self.text.push('\n');
    }

    fn output(&mut self, id: StepId, lines: impl IntoIterator<Item = Line>) {
        for line in lines {
            let step = self.steps.entry(id).or_default();
            let at = line.at.saturating_sub(step.started).as_secs_f64();
            self.line(id, format!("{at:.3} {}", line.text).trim_end());
        }
    }

    fn transfer(&mut self, id: StepId, at: Duration, item: &str, text: &str, done: bool) {
        let step = self.steps.entry(id).or_default();
        let last = *step.transfers.entry(item.to_owned()).or_insert(at);
        if done || at.saturating_sub(last) >= TRANSFER_INTERVAL {
            step.transfers.insert(item.to_owned(), at);
            let end = if done { " done" } else { "" };
            self.line(id, &format!("{item} {text}{end}"));
        }
    }
}

impl Renderer for Plain {
    fn event(&mut self, at: Duration, event: Event) {
        match event {
            Event::StepAdded { step, name, .. } => {
                self.steps.entry(step).or_default().name = terminal::harmless(&name);
            }
            Event::StepStarted { step } => {
                self.steps.entry(step).or_default().started = at;
                self.line(step, "");
            }
            Event::StepChanged { step, parts } => {
                self.line(step, &format!("changed: {}", terminal::harmless(&listed(&parts))));
            }
            Event::StepCached { step } => self.last_line(step, "CACHED"),
            Event::StepDone { step, duration } => {
                self.last_line(step, &format!("DONE {:.1}s", duration.as_secs_f64()));
            }
            Event::StepFailed { step, message } => {
                self.last_line(step, &format!("ERROR: {}", terminal::harmless(&message)));
            }
            Event::StepCanceled { step } => self.last_line(step, "CANCELED"),
            Event::Log { step, data, .. } => {
                let lines = self.steps.entry(step).or_default().output.push(at, &data);
                self.output(step, lines);
            }
            Event::Transfer { step, item, current, total, done } => {
                let text = measure::transfer(current, total);
                self.transfer(step, at, &terminal::harmless(&item), &text, done);
            }
            Event::Warning { message } => {
                let _ = writeln!(self.text, "warning: {}", terminal::harmless(&message));
            }
            // Findings in the Dockerfile are drawn with their lines when the build is over.
            _ => {}
        }
    }

    fn draw(&mut self, _at: Duration, out: &mut Vec<u8>) {
        out.extend_from_slice(self.text.as_bytes());
        self.text.clear();
    }

    fn finish(&mut self, at: Duration, out: &mut Vec<u8>) {
        self.draw(at, out);
    }
}

fn listed(parts: &[String]) -> String {
    match parts.split_at_checked(PARTS) {
        Some((shown, rest)) if !rest.is_empty() => {
            format!("{} and {} more", shown.join(", "), rest.len())
        }
        _ => parts.join(", "),
    }
}
