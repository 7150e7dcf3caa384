//! A lowered Dockerfile that is looked at rather than built.

use std::collections::HashMap;
use std::sync::Arc;

use llb::{Definition, Op, VertexId, print};
use parser::lower::ImageRequest;
use solver::{CacheKey, definition_key};

use crate::source::image::{ResolvedImage, image_key, image_request};

/// What a build would do.
#[derive(Debug, Clone)]
pub struct Plan {
    definition: Definition,
    targets: Vec<VertexId>,
    /// Keys of the vertices that have one before anything is read or run.
    keys: HashMap<VertexId, CacheKey>,
    /// Warnings of the checks.
    pub warnings: Vec<parser::Diagnostic>,
}

/// How a [`Plan`]'s graph is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GraphFormat {
    /// A line a vertex.
    Text,
    /// For Graphviz.
    Dot,
    /// For programs.
    Json,
}

impl Plan {
    pub(crate) fn new(
        definition: Definition,
        targets: Vec<VertexId>,
        warnings: Vec<parser::Diagnostic>,
        images: &HashMap<ImageRequest, Arc<ResolvedImage>>,
    ) -> Self {
        let mut keys: HashMap<VertexId, CacheKey> = HashMap::new();
        for vertex in definition.reachable(&targets) {
            let op = &definition.vertex(vertex).op;
            let key = match op {
                Op::Source(source) if source.is_image() => {
                    images.get(&image_request(source)).map(|image| image_key(image))
                }
                Op::Source(_) => None,
                op => {
                    let inputs = definition.inputs(vertex);
                    let named =
                        inputs.iter().map(|i| Some((keys.get(&i.vertex)?.clone(), i.output)));
                    let named: Option<Vec<_>> = named.collect();
                    named.map(|inputs| definition_key(op, &inputs))
                }
            };
            keys.extend(key.map(|key| (vertex, key)));
        }
        Self { definition, targets, keys, warnings }
    }

    /// The graph of what the targets need, with the keys that are known without building: those
    /// of steps that take in a directory depend on its content.
    pub fn print(&self, format: GraphFormat) -> String {
        let key = |vertex: VertexId| Some(self.keys.get(&vertex)?.0.to_string());
        let text = match format {
            GraphFormat::Text => print::text(&self.definition, &self.targets, &key),
            GraphFormat::Dot => print::dot(&self.definition, &self.targets, &key),
            GraphFormat::Json => {
                format!("{:#}\n", print::json(&self.definition, &self.targets, &key))
            }
        };
        // A graph is shown to others.
        parser::credentials::without_credentials(&text)
    }
}
