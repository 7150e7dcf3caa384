//! `--progress=rawjson`: BuildKit's status messages, one a line, for tools made for its client.
//!
//! A message has `vertexes` (`digest`, `name`, `started`, `completed`, `cached`, `error`),
//! `statuses` (`id`, `vertex`, `current`, `total`, `timestamp`, `started`, `completed`), `logs`
//! (`vertex`, `stream`, `data` in base64, `timestamp`) or `warnings` (`vertex`, `level`, `short` in
//! base64, `range`). A vertex's digest only tells vertices of one build apart: it is that of the
//! step's number and name.

use std::collections::BTreeMap;
use std::time::Duration;

use data_encoding::BASE64;
use engine::{Event, StepId, Stream};
use oci::Digest;
use serde_json::{Value, json};

use super::Renderer;
use super::json::timestamp;

/// The renderer.
#[derive(Debug)]
pub struct RawJson {
    start: jiff::Timestamp,
    vertexes: BTreeMap<StepId, Vertex>,
    transfers: BTreeMap<(StepId, String), String>,
    out: Vec<u8>,
}

#[derive(Debug)]
struct Vertex {
    digest: Digest,
    name: String,
    started: Option<String>,
}

impl RawJson {
    /// A renderer for a build that began at `start`.
    pub fn new(start: jiff::Timestamp) -> Self {
        Self { start, vertexes: BTreeMap::new(), transfers: BTreeMap::new(), out: Vec::new() }
    }

    fn write(&mut self, key: &str, entry: Value) {
        let message = json!({ key: [entry] });
        serde_json::to_writer(&mut self.out, &message).expect("strings and numbers serialize");
        self.out.push(b'\n');
    }

    fn digest(&self, step: StepId) -> String {
        self.vertexes.get(&step).map(|vertex| vertex.digest.to_string()).unwrap_or_default()
    }

    /// What is known of a vertex, with `more`.
    fn vertex(&mut self, step: StepId, more: Value) {
        let Some(vertex) = self.vertexes.get(&step) else { return };
        let mut entry = json!({ "digest": vertex.digest.as_str(), "name": vertex.name });
        if let Some(started) = &vertex.started {
            entry["started"] = json!(started);
        }
        if let Value::Object(more) = more {
            for (key, value) in more {
                entry[key] = value;
            }
        }
        self.write("vertexes", entry);
    }

    fn start(&mut self, step: StepId, now: &str) {
        if let Some(vertex) = self.vertexes.get_mut(&step) {
            vertex.started.get_or_insert_with(|| now.to_owned());
        }
    }
}

impl Renderer for RawJson {
    fn event(&mut self, at: Duration, event: Event) {
        let now = timestamp(self.start, at);
        match event {
            Event::StepAdded { step, name, .. } => {
                let digest = Digest::of(format!("{} {name}", step.0).as_bytes());
                self.vertexes.insert(step, Vertex { digest, name, started: None });
                self.vertex(step, Value::Null);
            }
            Event::StepStarted { step } => {
                self.start(step, &now);
                self.vertex(step, Value::Null);
            }
            Event::StepCached { step } => {
                self.start(step, &now);
                self.vertex(step, json!({ "completed": now, "cached": true }));
            }
            Event::StepDone { step, .. } => self.vertex(step, json!({ "completed": now })),
            Event::StepFailed { step, message } => {
                self.vertex(step, json!({ "completed": now, "error": message }));
            }
            Event::StepCanceled { step } => {
                self.vertex(step, json!({ "completed": now, "error": "context canceled" }));
            }
            Event::Log { step, stream, data } => {
                let stream = match stream {
                    Stream::Stdout => 1,
                    Stream::Stderr => 2,
                };
                let entry = json!({
                    "vertex": self.digest(step), "stream": stream, "data": BASE64.encode(&data),
                    "timestamp": now,
                });
                self.write("logs", entry);
            }
            Event::Transfer { step, item, current, total, done } => {
                let key = (step, item.clone());
                let started = self.transfers.entry(key).or_insert_with(|| now.clone()).clone();
                let mut entry = json!({
                    "id": item, "vertex": self.digest(step), "current": current,
                    "timestamp": now, "started": started,
                });
                if let Some(total) = total {
                    entry["total"] = json!(total);
                }
                if done {
                    entry["completed"] = json!(now);
                }
                self.write("statuses", entry);
            }
            Event::Warning { message } => {
                let entry = json!({ "level": 1, "short": BASE64.encode(message.as_bytes()) });
                self.write("warnings", entry);
            }
            Event::Lint(diagnostic) => {
                let rule = diagnostic.rule.map(|rule| format!("{rule}: ")).unwrap_or_default();
                let short =
                    format!("{rule}{} (line {})", diagnostic.message, diagnostic.lines.start);
                let entry = json!({
                    "level": 1,
                    "short": BASE64.encode(short.as_bytes()),
                    "range": [{
                        "start": { "line": diagnostic.lines.start, "character": 0 },
                        "end": { "line": diagnostic.lines.end, "character": 0 },
                    }],
                });
                self.write("warnings", entry);
            }
            // BuildKit has no message for them.
            Event::StepChanged { .. } | Event::StepStopped(_) | Event::Dockerfile { .. } => {}
        }
    }

    fn draw(&mut self, _at: Duration, out: &mut Vec<u8>) {
        out.append(&mut self.out);
    }

    fn finish(&mut self, at: Duration, out: &mut Vec<u8>) {
        self.draw(at, out);
    }
}
