//! The state of a build's steps, as far as its events tell.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use engine::{Event, StepId};

use super::lines::Lines;
use crate::terminal;

/// All steps that are known, in the order in which they became known.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    steps: BTreeMap<StepId, Step>,
}

/// One step.
#[derive(Debug)]
pub(crate) struct Step {
    /// What the user sees, one harmless line.
    pub(crate) name: String,
    /// Its stage; empty for internal steps.
    pub(crate) stage: String,
    /// How far it is.
    pub(crate) state: State,
    /// The last lines it wrote.
    pub(crate) tail: VecDeque<String>,
    /// Transfers, in the order in which they began.
    pub(crate) transfers: Vec<Transfer>,
    output: Lines,
}

/// How far a step is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// It has not begun.
    Pending,
    /// It began then.
    Running(Duration),
    /// Its result was known.
    Cached,
    /// It took so long.
    Done(Duration),
    /// It failed after so long.
    Failed(Duration),
    /// It was stopped.
    Canceled,
}

/// A transfer of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transfer {
    /// What is transferred.
    pub(crate) item: String,
    /// Bytes done.
    pub(crate) current: u64,
    /// Bytes in all.
    pub(crate) total: Option<u64>,
    /// No more to come.
    pub(crate) done: bool,
}

impl Steps {
    /// Takes an event in, keeping the last `tail` lines of each step.
    pub(crate) fn event(&mut self, at: Duration, event: Event, tail: usize) {
        match event {
            Event::StepAdded { step, name, stage, .. } => {
                let new = Step {
                    name: terminal::expand_tabs(&terminal::harmless(&name)),
                    stage: terminal::harmless(&stage),
                    state: State::Pending,
                    tail: VecDeque::new(),
                    transfers: Vec::new(),
                    output: Lines::default(),
                };
                self.steps.insert(step, new);
            }
            Event::StepStarted { step } => self.set(step, |_| State::Running(at)),
            Event::StepCached { step } => self.set(step, |_| State::Cached),
            Event::StepDone { step, duration } => self.set(step, |_| State::Done(duration)),
            Event::StepFailed { step, .. } => self.set(step, |state| match state {
                State::Running(since) => State::Failed(at.saturating_sub(*since)),
                _ => State::Failed(Duration::ZERO),
            }),
            Event::StepCanceled { step } => self.set(step, |_| State::Canceled),
            Event::Log { step, data, .. } => self.log(step, at, &data, tail),
            Event::Transfer { step, item, current, total, done } => {
                let item = terminal::harmless(&item);
                self.transfer(step, Transfer { item, current, total, done });
            }
            _ => {}
        }
    }

    /// The steps with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (StepId, &Step)> {
        self.steps.iter().map(|(id, step)| (*id, step))
    }

    fn set(&mut self, id: StepId, state: impl FnOnce(&State) -> State) {
        if let Some(step) = self.steps.get_mut(&id) {
            step.state = state(&step.state);
        }
    }

    fn log(&mut self, id: StepId, at: Duration, data: &[u8], tail: usize) {
        let Some(step) = self.steps.get_mut(&id) else { return };
        for line in step.output.push(at, data) {
            step.tail.push_back(terminal::expand_tabs(&line.text));
            if step.tail.len() > tail {
                step.tail.pop_front();
            }
        }
    }

    fn transfer(&mut self, id: StepId, transfer: Transfer) {
        let Some(step) = self.steps.get_mut(&id) else { return };
        match step.transfers.iter_mut().find(|known| known.item == transfer.item) {
            Some(known) => *known = transfer,
            None => step.transfers.push(transfer),
        }
    }
}

impl Step {
    /// Whether it runs now.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state, State::Running(_))
    }

    /// Whether it has ended, however.
    pub(crate) fn is_over(&self) -> bool {
        !matches!(self.state, State::Pending | State::Running(_))
    }

    /// At most `count` last lines of its output, the unfinished one among them.
    pub(crate) fn last_lines(&self, count: usize) -> Vec<String> {
        let unfinished = self.output.unfinished().map(|line| terminal::expand_tabs(&line));
        let mut lines: Vec<String> = self.tail.iter().cloned().chain(unfinished).collect();
        lines.drain(..lines.len().saturating_sub(count));
        lines
    }
}
