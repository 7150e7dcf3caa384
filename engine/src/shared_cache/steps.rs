//! The steps of this build as BuildKit's caches know them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use buildkit_cache::source::{self, Identity};
use buildkit_cache::{Cache, Export, Input, Made, Records, Selector, Step, vertex};
use llb::{Definition, Op, VertexId};
use oci::{Digest, Platform};

/// What BuildKit's caches are asked about this build, and what is written for them.
#[derive(Default)]
pub(crate) struct ForeignSteps {
    /// Each with the number of the source that it is from.
    caches: Vec<(usize, Cache)>,
    /// A cache is written for BuildKit.
    is_written: bool,
    known: Mutex<Known>,
}

/// What is known so far.
#[derive(Default)]
struct Known {
    platforms: HashMap<VertexId, Platform>,
    steps: HashMap<VertexId, Arc<Step>>,
    /// Digests of what steps take of their inputs, by the number of the input.
    contents: HashMap<(VertexId, usize), Digest>,
    /// The records of each output in each cache.
    records: HashMap<(VertexId, usize), Vec<Records>>,
}

impl ForeignSteps {
    pub(super) fn new(caches: Vec<(usize, Cache)>, is_written: bool) -> Self {
        Self { caches, is_written, known: Mutex::default() }
    }

    /// Nobody asks for anything here.
    fn is_idle(&self) -> bool {
        self.caches.is_empty() && !self.is_written
    }

    /// A source is this.
    pub(crate) fn identified(&self, id: VertexId, identity: &Identity<'_>) {
        if !self.is_idle() {
            let mut known = self.known.lock().expect("no panic while held");
            known.steps.insert(id, Arc::new(source::step(identity)));
        }
    }

    /// What has to be digested of input `number` of a step.
    pub(crate) fn wanted(
        &self,
        definition: &Definition,
        id: VertexId,
        number: usize,
    ) -> Option<Vec<Selector>> {
        if self.is_idle() {
            return None;
        }
        let mut known = self.known.lock().expect("no panic while held");
        let step = known.step(definition, id)?;
        step.inputs.iter().find(|input| input.number == number)?.content.clone()
    }

    /// The digest of that.
    pub(crate) fn digested(&self, id: VertexId, number: usize, digest: Digest) {
        let mut known = self.known.lock().expect("no panic while held");
        if known.contents.insert((id, number), digest.clone()) != Some(digest) {
            // Vertices are numbered as they are added, inputs before those who take them.
            known.records.retain(|(known, _), _| *known < id);
        }
    }

    /// What a step has given, by output, and the number of the source that says so.
    pub(super) fn find(&self, definition: &Definition, id: VertexId) -> Option<(usize, Vec<Made>)> {
        if self.caches.is_empty() {
            return None;
        }
        let mut known = self.known.lock().expect("no panic while held");
        known.find(definition, &self.caches, id);
        let outputs = definition.vertex(id).op.outputs();
        self.caches.iter().enumerate().find_map(|(place, (source, cache))| {
            let made = |output| {
                let records = &known.records[&(id, output)][place];
                cache.made(records).into_iter().next()
            };
            Some((*source, (0..outputs).map(made).collect::<Option<Vec<_>>>()?))
        })
    }

    /// All steps that `targets` are made of as one cache, with what `made` says of them.
    pub(super) fn write(
        &self,
        definition: &Definition,
        targets: &[VertexId],
        made: impl Fn(VertexId, usize) -> Option<Made>,
    ) -> Export {
        let mut known = self.known.lock().expect("no panic while held");
        let mut written: HashMap<(VertexId, usize), Records> = HashMap::new();
        let mut export = Export::default();
        for id in definition.reachable(targets) {
            let Some(step) = known.step(definition, id) else { continue };
            let inputs = known
                .inputs(definition, id, |input| written.get(input).cloned().unwrap_or_default());
            for output in 0..definition.vertex(id).op.outputs() {
                let made = made(id, output);
                let records = export.add(&step, output, &inputs, made.as_ref());
                written.insert((id, output), records);
            }
        }
        export
    }
}

impl Known {
    /// The step of a vertex; `None` for a source that nobody has looked at.
    fn step(&mut self, definition: &Definition, id: VertexId) -> Option<Arc<Step>> {
        if let Some(step) = self.steps.get(&id) {
            return Some(step.clone());
        }
        if self.platforms.is_empty() {
            self.platforms = vertex::platforms(definition, &Platform::host());
        }
        let op = &definition.vertex(id).op;
        let step = vertex::step(op, definition.inputs(id).len(), &self.platforms[&id])?;
        let step = Arc::new(step);
        self.steps.insert(id, step.clone());
        Some(step)
    }

    fn inputs(
        &self,
        definition: &Definition,
        id: VertexId,
        records: impl Fn(&(VertexId, usize)) -> Records,
    ) -> Vec<Input> {
        let inputs = definition.inputs(id).into_iter().enumerate();
        let input = |(number, input): (usize, llb::Input)| Input {
            records: records(&(input.vertex, input.output)),
            content: self.contents.get(&(id, number)).cloned(),
        };
        inputs.map(input).collect()
    }

    /// Finds the records of a step in all caches, and before that those of its inputs.
    fn find(&mut self, definition: &Definition, caches: &[(usize, Cache)], id: VertexId) {
        let is_known = |known: &Self, input: &llb::Input| {
            known.records.contains_key(&(input.vertex, input.output))
        };
        if !definition.inputs(id).iter().all(|input| is_known(self, input)) {
            for below in definition.reachable(&[id]) {
                if !self.records.contains_key(&(below, 0)) {
                    self.find_one(definition, caches, below);
                }
            }
        }
        self.find_one(definition, caches, id);
    }

    fn find_one(&mut self, definition: &Definition, caches: &[(usize, Cache)], id: VertexId) {
        let step = self.step(definition, id);
        let vertex = definition.vertex(id);
        // What has to be made again may become something else than a cache has.
        let is_made_again = vertex.metadata.ignore_cache || vertex.metadata.max_age.is_some();
        let step = step.filter(|_| !is_made_again || matches!(vertex.op, Op::Source(_)));
        for output in 0..vertex.op.outputs() {
            let find = |(place, (_, cache)): (usize, &(usize, Cache))| {
                let Some(step) = &step else { return Records::default() };
                let inputs = self.inputs(definition, id, |input| {
                    self.records.get(input).map(|all| all[place].clone()).unwrap_or_default()
                });
                cache.find(step, output, &inputs)
            };
            let found = caches.iter().enumerate().map(find).collect();
            self.records.insert((id, output), found);
        }
    }
}
