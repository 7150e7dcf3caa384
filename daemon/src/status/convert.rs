//! Events of the engine as BuildKit's messages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use engine::{Event, StepId, Stream};
use oci::Digest;
use parser::Diagnostic;
use parser::check::find_rule;
use prost_types::Timestamp;

use super::PERIOD;
use crate::wire::control::{StatusResponse, Vertex, VertexLog, VertexStatus, VertexWarning};
use crate::wire::pb;

/// The steps that clients were told about.
#[derive(Debug, Default)]
pub(super) struct Vertexes {
    steps: BTreeMap<StepId, Vertex>,
    transfers: BTreeMap<(StepId, String), Transfer>,
    dockerfile: Option<pb::SourceInfo>,
    warnings: u32,
}

#[derive(Debug)]
struct Transfer {
    started: Timestamp,
    told: Instant,
}

impl Vertexes {
    /// The message that an event is, if it is one.
    pub(super) fn message(
        &mut self,
        event: Event,
        now: SystemTime,
        instant: Instant,
    ) -> Option<StatusResponse> {
        let time = timestamp(now);
        match event {
            Event::StepAdded { step, name, .. } => {
                let digest = vertex_digest(&format!("{} {name}", step.0));
                self.steps.insert(step, Vertex { digest, name, ..Vertex::default() });
                self.told(step)
            }
            Event::StepStarted { step } => {
                self.change(step, |vertex| vertex.started = Some(time));
                self.told(step)
            }
            Event::StepCached { step } => self.ended(step, time, |vertex| vertex.cached = true),
            Event::StepDone { step, .. } => self.ended(step, time, |_| {}),
            Event::StepFailed { step, message } => {
                self.ended(step, time, |vertex| vertex.error = message)
            }
            Event::StepCanceled { step } => {
                self.ended(step, time, |vertex| "context canceled".clone_into(&mut vertex.error))
            }
            Event::Log { step, stream, data } => {
                let stream = match stream {
                    Stream::Stdout => 1,
                    Stream::Stderr => 2,
                };
                let vertex = self.steps.get(&step)?.digest.clone();
                let log = VertexLog { vertex, timestamp: Some(time), stream, msg: data };
                Some(StatusResponse { logs: vec![log], ..StatusResponse::default() })
            }
            Event::Transfer { step, item, current, total, done } => {
                let status = self.transfer(step, item, (time, instant), done)?;
                let total = total.map_or(0, |total| total as i64);
                let status = VertexStatus { current: current as i64, total, ..status };
                Some(StatusResponse { statuses: vec![status], ..StatusResponse::default() })
            }
            Event::Dockerfile { name, text } => {
                self.dockerfile = Some(source_info(&name, &text));
                None
            }
            Event::Warning { message } => {
                let short = message.into_bytes();
                self.warning(VertexWarning { short, ..VertexWarning::default() })
            }
            Event::Lint(found) => {
                let warning = self.lint(&found);
                self.warning(warning)
            }
            // There is no message for them.
            Event::StepChanged { .. } | Event::StepStopped(_) => None,
        }
    }

    fn change(&mut self, step: StepId, how: impl FnOnce(&mut Vertex)) {
        if let Some(vertex) = self.steps.get_mut(&step) {
            how(vertex);
        }
    }

    fn told(&self, step: StepId) -> Option<StatusResponse> {
        let vertex = self.steps.get(&step)?.clone();
        Some(StatusResponse { vertexes: vec![vertex], ..StatusResponse::default() })
    }

    fn ended(
        &mut self,
        step: StepId,
        time: Timestamp,
        how: impl FnOnce(&mut Vertex),
    ) -> Option<StatusResponse> {
        self.change(step, |vertex| {
            vertex.started.get_or_insert(time);
            vertex.completed = Some(time);
            how(vertex);
        });
        self.told(step)
    }

    /// The status of a transfer; none if the last is so young that this one may be left out.
    fn transfer(
        &mut self,
        step: StepId,
        item: String,
        (time, instant): (Timestamp, Instant),
        is_done: bool,
    ) -> Option<VertexStatus> {
        let vertex = self.steps.get(&step)?.digest.clone();
        let mut is_new = false;
        let transfer = self.transfers.entry((step, item.clone())).or_insert_with(|| {
            is_new = true;
            Transfer { started: time, told: instant }
        });
        if !is_new && !is_done && instant.duration_since(transfer.told) < PERIOD {
            return None;
        }
        transfer.told = instant;
        Some(VertexStatus {
            id: item,
            vertex,
            timestamp: Some(time),
            started: Some(transfer.started),
            completed: is_done.then_some(time),
            ..VertexStatus::default()
        })
    }

    /// A warning. It belongs to a vertex: clients show none of a vertex that they do not know.
    fn warning(&mut self, warning: VertexWarning) -> Option<StatusResponse> {
        let vertex = match self.steps.values().next() {
            Some(vertex) => vertex.digest.clone(),
            None => vertex_digest("warnings"),
        };
        self.warnings += 1;
        let warning = VertexWarning { vertex, level: 1, ..warning };
        Some(StatusResponse { warnings: vec![warning], ..StatusResponse::default() })
    }

    fn lint(&self, found: &Diagnostic) -> VertexWarning {
        let rule = found.rule.map(|rule| format!("{rule}: ")).unwrap_or_default();
        let short = format!("{rule}{} (line {})", found.message, found.lines.start);
        let known = found.rule.and_then(find_rule);
        VertexWarning {
            short: short.into_bytes(),
            detail: known.map(|rule| rule.description.as_bytes().to_vec()).into_iter().collect(),
            url: known.map(|rule| rule.url()).unwrap_or_default(),
            info: self.dockerfile.clone(),
            ranges: vec![range(found.lines.start, found.lines.end)],
            ..VertexWarning::default()
        }
    }
}

/// A Dockerfile as clients draw it.
pub(crate) fn source_info(name: &str, text: &Arc<str>) -> pb::SourceInfo {
    pb::SourceInfo {
        filename: name.to_owned(),
        data: text.as_bytes().to_vec(),
        definition: None,
        language: "Dockerfile".to_owned(),
    }
}

fn range(start: u32, end: u32) -> pb::Range {
    let position = |line: u32| Some(pb::Position { line: line as i32, character: 0 });
    pb::Range { start: position(start), end: position(end) }
}

/// What tells vertices apart.
pub(crate) fn vertex_digest(text: &str) -> String {
    Digest::of(text.as_bytes()).to_string()
}

pub(crate) fn timestamp(time: SystemTime) -> Timestamp {
    time.into()
}

pub(super) fn own_vertex(
    digest: &str,
    name: &str,
    started: SystemTime,
    completed: Option<SystemTime>,
    error: &str,
) -> Vertex {
    Vertex {
        digest: digest.to_owned(),
        name: name.to_owned(),
        started: Some(timestamp(started)),
        completed: completed.map(timestamp),
        error: error.to_owned(),
        ..Vertex::default()
    }
}

pub(super) fn transfer(
    vertex: &str,
    item: &str,
    started: SystemTime,
    bytes: u64,
    is_done: bool,
) -> VertexStatus {
    let now = timestamp(SystemTime::now());
    VertexStatus {
        id: item.to_owned(),
        vertex: vertex.to_owned(),
        current: bytes as i64,
        timestamp: Some(now),
        started: Some(timestamp(started)),
        completed: is_done.then_some(now),
        ..VertexStatus::default()
    }
}
