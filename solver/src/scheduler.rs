//! The state machine.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use llb::{Definition, Input, Op, VertexId};
use oci::Digest;

use crate::key::{CacheKey, ContentInput, content_inputs, content_key, definition_key};

/// What the scheduler wants done. Each is asked once; the answer is an [`Event`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Find out what a source is. Answer: [`Event::Identified`].
    Identify(VertexId),
    /// Look for a result under a key. Answer: [`Event::Hit`] or [`Event::Miss`].
    Lookup(VertexId, CacheKey),
    /// Digest what the vertex takes in from the inputs marked. Their results exist.
    /// Answer: [`Event::Content`].
    Content(VertexId, Vec<bool>),
    /// Run the vertex. All its inputs' results exist. Answer: [`Event::Executed`].
    Execute {
        /// Which.
        vertex: VertexId,
        /// Where its result is kept.
        key: CacheKey,
        /// The definition key, where it differs: an alias of `key`.
        alias: Option<CacheKey>,
        /// Kept with the result, see [`CacheKey::salted`].
        salt: String,
    },
}

/// What came of a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A source is what this key says; `None`: its content has no name, as that of a directory.
    /// `available`: its result exists already, nothing needs to be fetched.
    Identified {
        /// Which.
        vertex: VertexId,
        /// Its key.
        key: Option<CacheKey>,
        /// It need not be executed.
        available: bool,
    },
    /// A result was found.
    Hit {
        /// Which.
        vertex: VertexId,
        /// The key it is kept under.
        key: CacheKey,
        /// The salt kept with it.
        salt: String,
    },
    /// No result was found.
    Miss(VertexId),
    /// Digests of what was taken in, for the inputs that were asked for.
    Content(VertexId, Vec<Option<Digest>>),
    /// The vertex ran.
    Executed(VertexId),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Nobody asked.
    Idle,
    /// Waits for this many inputs' keys.
    WaitingForKeys(usize),
    /// Asked: `Identify`, or `Lookup` by definition or content.
    Identifying,
    LookingUpDefinition(CacheKey),
    /// Missed by definition; waits for this many results of inputs it reads from.
    WaitingForContent(usize, Option<CacheKey>),
    ReadingContent(Option<CacheKey>),
    LookingUpContent(CacheKey, Option<CacheKey>),
    /// The key is known, the result is not there, and nobody asked for it.
    Keyed,
    /// Waits for this many inputs' results.
    WaitingForInputs(usize),
    Executing,
    /// The result exists.
    Available,
}

#[derive(Debug)]
struct Node {
    state: State,
    inputs: Vec<Input>,
    reads: Vec<bool>,
    /// The key dependents see; `None` while unknown, `Some(None)` for what has no name.
    key: Option<Option<CacheKey>>,
    /// Key and alias under which a result is kept.
    kept_under: Option<(CacheKey, Option<CacheKey>)>,
    salt: String,
    /// Somebody needs the result.
    wanted: bool,
    key_waiters: Vec<VertexId>,
    result_waiters: Vec<VertexId>,
}

/// Decides what may be done now. Ask with [`Scheduler::poll`], answer with [`Scheduler::handle`].
#[derive(Debug)]
pub struct Scheduler {
    definition: Arc<Definition>,
    nodes: HashMap<VertexId, Node>,
    requests: VecDeque<Request>,
    /// Distinguishes results of vertices that run although a result is known.
    fresh_salt: String,
}

impl Scheduler {
    /// A scheduler that wants the results of `targets`. `fresh_salt` is unique to this build.
    pub fn new(definition: Arc<Definition>, targets: &[VertexId], fresh_salt: &str) -> Self {
        let mut scheduler = Self {
            nodes: HashMap::new(),
            requests: VecDeque::new(),
            fresh_salt: fresh_salt.to_owned(),
            definition,
        };
        for vertex in scheduler.definition.clone().reachable(targets) {
            let op = &scheduler.definition.vertex(vertex).op;
            let inputs = scheduler.definition.inputs(vertex);
            let node = Node {
                state: State::Idle,
                reads: content_inputs(op, inputs.len()),
                inputs,
                key: None,
                kept_under: None,
                salt: String::new(),
                wanted: false,
                key_waiters: Vec::new(),
                result_waiters: Vec::new(),
            };
            scheduler.nodes.insert(vertex, node);
        }
        for &target in targets {
            scheduler.want_result(target, None);
        }
        scheduler
    }

    /// The next thing to start, if anything can start now.
    pub fn poll(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    /// Takes in what came of a request.
    pub fn handle(&mut self, event: Event) {
        match event {
            Event::Identified { vertex, key, available } => self.identified(vertex, key, available),
            Event::Hit { vertex, key, salt } => {
                let node = self.node(vertex);
                node.salt = salt;
                let seen = key.salted(&node.salt);
                node.kept_under = Some((key, None));
                node.state = State::Available;
                self.keyed(vertex, Some(seen));
                self.available(vertex);
            }
            Event::Miss(vertex) => self.missed(vertex),
            Event::Content(vertex, digests) => self.content_read(vertex, digests),
            Event::Executed(vertex) => {
                self.node(vertex).state = State::Available;
                self.available(vertex);
            }
        }
    }

    /// Is the vertex's result there?
    pub fn is_available(&self, vertex: VertexId) -> bool {
        self.nodes.get(&vertex).is_some_and(|n| n.state == State::Available)
    }

    fn node(&mut self, vertex: VertexId) -> &mut Node {
        self.nodes.get_mut(&vertex).expect("every reachable vertex has a node")
    }

    /// Asks for a vertex's key on behalf of `waiter`. Iterative: chains may be thousands deep.
    fn want_key(&mut self, vertex: VertexId, waiter: Option<VertexId>) {
        let mut stack = vec![(vertex, waiter)];
        while let Some((vertex, waiter)) = stack.pop() {
            let node = self.node(vertex);
            if node.key.is_some() {
                continue;
            }
            node.key_waiters.extend(waiter);
            if node.state != State::Idle {
                continue;
            }
            let inputs = unique(node.inputs.iter().map(|i| i.vertex));
            if matches!(self.definition.vertex(vertex).op, Op::Source(_)) {
                self.node(vertex).state = State::Identifying;
                self.requests.push_back(Request::Identify(vertex));
                continue;
            }
            let missing: Vec<VertexId> = inputs.into_iter().filter(|i| self.nodes[i].key.is_none()).collect();
            self.node(vertex).state = State::WaitingForKeys(missing.len());
            if missing.is_empty() {
                self.inputs_keyed(vertex);
            }
            stack.extend(missing.into_iter().rev().map(|input| (input, Some(vertex))));
        }
    }

    /// Asks for a vertex's result on behalf of `waiter`.
    fn want_result(&mut self, vertex: VertexId, waiter: Option<VertexId>) {
        let mut stack = vec![(vertex, waiter)];
        while let Some((vertex, waiter)) = stack.pop() {
            let node = self.node(vertex);
            if node.state == State::Available {
                continue;
            }
            node.result_waiters.extend(waiter);
            let first = !std::mem::replace(&mut node.wanted, true);
            match node.state {
                State::Idle => self.want_key(vertex, None),
                State::Keyed if first => stack.extend(self.gather_inputs(vertex)),
                _ => {}
            }
        }
    }

    /// A keyed vertex is to run: which inputs' results must come first?
    fn gather_inputs(&mut self, vertex: VertexId) -> Vec<(VertexId, Option<VertexId>)> {
        let inputs = unique(self.nodes[&vertex].inputs.iter().map(|i| i.vertex));
        let missing: Vec<_> = inputs.into_iter().filter(|i| !self.is_available(*i)).collect();
        self.node(vertex).state = State::WaitingForInputs(missing.len());
        if missing.is_empty() {
            self.execute(vertex);
        }
        missing.into_iter().map(|input| (input, Some(vertex))).collect()
    }

    fn execute(&mut self, vertex: VertexId) {
        let node = self.node(vertex);
        node.state = State::Executing;
        let (key, alias) = node.kept_under.clone().expect("a vertex runs only when its key is known");
        let salt = node.salt.clone();
        self.requests.push_back(Request::Execute { vertex, key, alias, salt });
    }

    fn identified(&mut self, vertex: VertexId, key: Option<CacheKey>, available: bool) {
        let node = self.node(vertex);
        node.kept_under = key.clone().map(|key| (key, None));
        node.state = if available { State::Available } else { State::Keyed };
        self.keyed(vertex, key);
        if available {
            self.available(vertex);
        } else {
            self.run_if_wanted(vertex);
        }
    }

    /// All inputs' keys are known: look up by definition, if they all have names.
    fn inputs_keyed(&mut self, vertex: VertexId) {
        match self.definition_key(vertex) {
            Some(key) if self.definition.vertex(vertex).metadata.ignore_cache => {
                self.node(vertex).state = State::LookingUpDefinition(key);
                self.missed(vertex);
            }
            Some(key) => {
                self.node(vertex).state = State::LookingUpDefinition(key.clone());
                self.requests.push_back(Request::Lookup(vertex, key));
            }
            None => self.want_content(vertex, None),
        }
    }

    fn definition_key(&self, vertex: VertexId) -> Option<CacheKey> {
        let inputs: Option<Vec<(CacheKey, usize)>> = self.nodes[&vertex]
            .inputs
            .iter()
            .map(|i| {
                let key = self.nodes[&i.vertex].key.as_ref().expect("asked only when inputs are keyed");
                key.clone().map(|key| (key, i.output))
            })
            .collect();
        Some(definition_key(&self.definition.vertex(vertex).op, &inputs?))
    }

    fn missed(&mut self, vertex: VertexId) {
        let node = self.node(vertex);
        match node.state.clone() {
            State::LookingUpDefinition(key) if node.reads.contains(&true) => {
                self.want_content(vertex, Some(key));
            }
            State::LookingUpDefinition(key) => self.settle(vertex, key, None),
            State::LookingUpContent(key, alias) => self.settle(vertex, key, alias),
            other => unreachable!("a miss in state {other:?}"),
        }
    }

    /// The vertex's key is certain and there is no result under it.
    fn settle(&mut self, vertex: VertexId, key: CacheKey, alias: Option<CacheKey>) {
        let ignore = self.definition.vertex(vertex).metadata.ignore_cache;
        let salt = if ignore { self.fresh_salt.clone() } else { String::new() };
        let node = self.node(vertex);
        node.state = State::Keyed;
        let seen = key.salted(&salt);
        node.salt = salt;
        node.kept_under = Some((key, alias));
        self.keyed(vertex, Some(seen));
        self.run_if_wanted(vertex);
    }

    fn run_if_wanted(&mut self, vertex: VertexId) {
        if self.nodes[&vertex].wanted && self.nodes[&vertex].state == State::Keyed {
            for (input, waiter) in self.gather_inputs(vertex) {
                self.want_result(input, waiter);
            }
        }
    }

    /// Content decides: the results of the inputs that are read from must exist first. An input
    /// without a name that is not read from (a directory that a step changes) is read as a whole.
    fn want_content(&mut self, vertex: VertexId, alias: Option<CacheKey>) {
        for input in 0..self.nodes[&vertex].inputs.len() {
            let from = self.nodes[&vertex].inputs[input].vertex;
            if self.nodes[&from].key == Some(None) {
                self.node(vertex).reads[input] = true;
            }
        }
        let node = &self.nodes[&vertex];
        let read = unique(node.inputs.iter().zip(&node.reads).filter(|(_, r)| **r).map(|(i, _)| i.vertex));
        let missing: Vec<_> = read.into_iter().filter(|i| !self.is_available(*i)).collect();
        self.node(vertex).state = State::WaitingForContent(missing.len(), alias);
        if missing.is_empty() {
            self.read_content(vertex);
        }
        for input in missing {
            self.want_result(input, Some(vertex));
        }
    }

    fn read_content(&mut self, vertex: VertexId) {
        let node = self.node(vertex);
        let State::WaitingForContent(_, alias) = node.state.clone() else {
            unreachable!("content is read only after waiting for it")
        };
        node.state = State::ReadingContent(alias);
        let reads = node.reads.clone();
        self.requests.push_back(Request::Content(vertex, reads));
    }

    fn content_read(&mut self, vertex: VertexId, digests: Vec<Option<Digest>>) {
        let node = &self.nodes[&vertex];
        let State::ReadingContent(alias) = node.state.clone() else {
            unreachable!("content arrives only after it was asked for")
        };
        let inputs: Vec<ContentInput> = node
            .inputs
            .iter()
            .zip(digests)
            .map(|(input, digest)| match digest {
                Some(digest) => ContentInput::Content(digest),
                None => {
                    let key = self.nodes[&input.vertex].key.clone().flatten();
                    ContentInput::Key(key.expect("inputs without a name are read"), input.output)
                }
            })
            .collect();
        let key = content_key(&self.definition.vertex(vertex).op, &inputs);
        let ignore = self.definition.vertex(vertex).metadata.ignore_cache;
        self.node(vertex).state = State::LookingUpContent(key.clone(), alias);
        if ignore {
            self.missed(vertex);
        } else {
            self.requests.push_back(Request::Lookup(vertex, key));
        }
    }

    /// Dependents may now look themselves up.
    fn keyed(&mut self, vertex: VertexId, key: Option<CacheKey>) {
        let node = self.node(vertex);
        node.key = Some(key);
        for waiter in std::mem::take(&mut node.key_waiters) {
            if let State::WaitingForKeys(missing) = &mut self.node(waiter).state {
                *missing -= 1;
                if *missing == 0 {
                    self.inputs_keyed(waiter);
                }
            }
        }
    }

    /// Dependents may now take the result in.
    fn available(&mut self, vertex: VertexId) {
        for waiter in std::mem::take(&mut self.node(vertex).result_waiters) {
            match &mut self.node(waiter).state {
                State::WaitingForContent(missing, _) => {
                    *missing -= 1;
                    if *missing == 0 {
                        self.read_content(waiter);
                    }
                }
                State::WaitingForInputs(missing) => {
                    *missing -= 1;
                    if *missing == 0 {
                        self.execute(waiter);
                    }
                }
                _ => {}
            }
        }
    }
}

fn unique(vertices: impl Iterator<Item = VertexId>) -> Vec<VertexId> {
    let mut vertices: Vec<VertexId> = vertices.collect();
    vertices.sort_unstable();
    vertices.dedup();
    vertices
}
