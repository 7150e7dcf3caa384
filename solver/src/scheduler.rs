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
    Lookup {
        /// Which.
        vertex: VertexId,
        /// Where a result may be kept.
        key: CacheKey,
        /// The definition key, which led to nothing: after a hit it is an alias of `key`.
        alias: Option<CacheKey>,
    },
    /// Digest what the vertex takes in from the inputs marked. Their results exist.
    /// Answer: [`Event::Content`].
    Content(VertexId, Vec<bool>),
    /// Run the vertex. All its inputs' results exist. Answer: [`Event::Executed`].
    Execute {
        /// Which.
        vertex: VertexId,
        /// Where its result is kept.
        key: CacheKey,
        /// The definition key, where there is one and it differs: an alias of `key`.
        alias: Option<CacheKey>,
        /// Kept with the result, see [`CacheKey::salted`].
        salt: String,
        /// What of each input is in `key`; nothing of a source's.
        inputs: Vec<ContentInput>,
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

/// What a vertex waits for. It moves on when [`Scheduler::advance`] finds that it can.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Nobody asked.
    Idle,
    /// A source: what it is.
    Identifying,
    /// The definition keys of its inputs.
    WaitingForDefinitions,
    /// A look-up by definition.
    LookingUpDefinition(CacheKey),
    /// The results of the inputs it reads from, the keys of the others. Nothing is kept under
    /// `missed`.
    WaitingForKeys { missed: Option<CacheKey> },
    /// Digests of what it reads.
    ReadingContent,
    /// A look-up under the key it is kept under.
    LookingUp(CacheKey),
    /// Somebody who wants its result: the key is known, and there is no result under it.
    Keyed,
    /// The results of its inputs.
    WaitingForInputs,
    /// Its run.
    Executing,
    /// Nothing: the result exists.
    Available,
}

#[derive(Debug)]
struct Node {
    state: State,
    inputs: Vec<Input>,
    /// Which inputs it only reads from.
    reads: Vec<bool>,
    /// Who takes it in.
    dependents: Vec<VertexId>,
    /// What dependents make their definition keys from: the key over the ops alone, from the sources
    /// up, salted as the result is. `None` until its look-up is answered; `Some(None)` while nothing
    /// is known of the result, and for good if something without a name is taken in.
    definition: Option<Option<CacheKey>>,
    /// The key that dependents see. `None` while unknown, `Some(None)` for what has no name.
    key: Option<Option<CacheKey>>,
    /// The key its result is kept under.
    kept_under: Option<CacheKey>,
    /// What of each input is in that key.
    taken_in: Vec<ContentInput>,
    /// The definition key, where it differs: another key that leads there.
    alias: Option<CacheKey>,
    salt: String,
    /// Somebody needs the result.
    wanted: bool,
}

/// Decides what may be done now. Ask with [`Scheduler::poll`], answer with [`Scheduler::handle`].
#[derive(Debug)]
pub struct Scheduler {
    definition: Arc<Definition>,
    nodes: HashMap<VertexId, Node>,
    requests: VecDeque<Request>,
    /// Vertices that may be able to move on.
    ready: Vec<VertexId>,
    /// Distinguishes results of vertices that run although a result is known.
    fresh_salt: String,
}

impl Scheduler {
    /// A scheduler that wants the results of `targets`. `fresh_salt` is unique to this build.
    pub fn new(definition: Arc<Definition>, targets: &[VertexId], fresh_salt: &str) -> Self {
        let reachable = definition.reachable(targets);
        let mut nodes: HashMap<VertexId, Node> = HashMap::with_capacity(reachable.len());
        for vertex in reachable {
            let inputs = definition.inputs(vertex);
            for input in &inputs {
                let from = nodes.get_mut(&input.vertex).expect("inputs come first");
                if from.dependents.last() != Some(&vertex) {
                    from.dependents.push(vertex);
                }
            }
            let mut read = content_inputs(&definition.vertex(vertex).op, inputs.len());
            for (read, input) in read.iter_mut().zip(&inputs) {
                // Times are not in a digest of content.
                *read &= !definition.vertex(input.vertex).op.has_times_of_its_own();
            }
            nodes.insert(vertex, Node::new(read, inputs));
        }
        let mut scheduler = Self {
            definition,
            nodes,
            requests: VecDeque::new(),
            ready: Vec::new(),
            fresh_salt: fresh_salt.to_owned(),
        };
        for &target in targets {
            scheduler.want_result(target);
        }
        scheduler.settle_down();
        scheduler
    }

    /// The next thing to start, if anything can start now.
    pub fn poll(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    /// Takes in what came of a request.
    pub fn handle(&mut self, event: Event) {
        match event {
            Event::Identified { vertex, key, available } => {
                let node = self.node(vertex);
                node.definition = Some(key.clone());
                node.kept_under = key.clone();
                node.key = Some(key);
                node.state = if available { State::Available } else { State::Keyed };
                self.stir(vertex);
            }
            Event::Hit { vertex, key, salt } => {
                let definition = match &self.nodes[&vertex].state {
                    State::LookingUpDefinition(asked) => Some(asked.clone()),
                    _ => self.definition_key_of(vertex),
                };
                self.node(vertex).state = State::Available;
                self.settle(vertex, key, definition, salt);
            }
            Event::Miss(vertex) => self.missed(vertex),
            Event::Content(vertex, digests) => self.content_read(vertex, digests),
            Event::Executed(vertex) => {
                self.node(vertex).state = State::Available;
                self.stir(vertex);
            }
        }
        self.settle_down();
    }

    /// Is the vertex's result there?
    pub fn is_available(&self, vertex: VertexId) -> bool {
        self.nodes.get(&vertex).is_some_and(|n| n.state == State::Available)
    }

    fn node(&mut self, vertex: VertexId) -> &mut Node {
        self.nodes.get_mut(&vertex).expect("every reachable vertex has a node")
    }

    fn op(&self, vertex: VertexId) -> &Op {
        &self.definition.vertex(vertex).op
    }

    fn is_forced(&self, vertex: VertexId) -> bool {
        self.definition.vertex(vertex).metadata.ignore_cache
    }

    /// Something about `vertex` is new: it and those who take it in may be able to move on.
    fn stir(&mut self, vertex: VertexId) {
        // The stack gives them back in the order in which they were added.
        let dependents = self.nodes[&vertex].dependents.iter().rev().copied();
        self.ready.extend(dependents);
        self.ready.push(vertex);
    }

    /// Moves on whatever can move on. Iterative: chains may be thousands of vertices long.
    fn settle_down(&mut self) {
        while let Some(vertex) = self.ready.pop() {
            self.advance(vertex);
        }
    }

    /// Asks for the keys of `vertex` and of all it is made from.
    fn want_key(&mut self, vertex: VertexId) {
        let mut stack = vec![vertex];
        while let Some(vertex) = stack.pop() {
            if self.nodes[&vertex].state != State::Idle {
                continue;
            }
            if matches!(self.op(vertex), Op::Source(_)) {
                self.node(vertex).state = State::Identifying;
                self.requests.push_back(Request::Identify(vertex));
                continue;
            }
            let node = self.node(vertex);
            node.state = State::WaitingForDefinitions;
            stack.extend(node.inputs.iter().rev().map(|i| i.vertex));
            self.ready.push(vertex);
        }
    }

    fn want_result(&mut self, vertex: VertexId) {
        let node = self.node(vertex);
        if !std::mem::replace(&mut node.wanted, true) {
            self.want_key(vertex);
            self.ready.push(vertex);
        }
    }

    fn advance(&mut self, vertex: VertexId) {
        let node = &self.nodes[&vertex];
        let mut inputs = node.inputs.iter().map(|i| &self.nodes[&i.vertex]);
        match node.state {
            State::WaitingForDefinitions if inputs.all(|i| i.definition.is_some()) => {
                self.look_up_definition(vertex);
            }
            State::WaitingForKeys { .. }
                if inputs.clone().zip(&node.reads).all(|(input, reads)| match reads {
                    true => input.state == State::Available,
                    false => input.key.is_some(),
                }) =>
            {
                self.look_up_content(vertex);
            }
            State::Keyed if node.wanted => {
                let inputs: Vec<VertexId> = node.inputs.iter().map(|i| i.vertex).collect();
                self.node(vertex).state = State::WaitingForInputs;
                inputs.into_iter().for_each(|input| self.want_result(input));
                self.ready.push(vertex);
            }
            State::WaitingForInputs if inputs.all(|i| i.state == State::Available) => {
                self.execute(vertex);
            }
            _ => {}
        }
    }

    /// What was found out of the inputs by definition is known: the vertex can be looked up so if
    /// all of them were found, and its own key is not to be used.
    fn look_up_definition(&mut self, vertex: VertexId) {
        match self.definition_key_of(vertex).filter(|_| !self.is_forced(vertex)) {
            Some(key) => {
                self.node(vertex).state = State::LookingUpDefinition(key.clone());
                self.requests.push_back(Request::Lookup { vertex, key, alias: None });
            }
            None => self.not_known_by_definition(vertex, None),
        }
    }

    /// Key over the op and what the inputs are known by. It carries the salts of the inputs' results:
    /// what was made from older ones is not found by it.
    fn definition_key_of(&self, vertex: VertexId) -> Option<CacheKey> {
        let inputs = self.nodes[&vertex].inputs.iter();
        let named = inputs.map(|i| Some((self.nodes[&i.vertex].definition.clone()??, i.output)));
        let named: Option<Vec<(CacheKey, usize)>> = named.collect();
        Some(definition_key(self.op(vertex), &named?))
    }

    /// Dependents look themselves up at once: one that is known by definition spares what it is made from,
    /// and what the others read from is made at the same time. What is to be made again after a while has
    /// no name for them until it is.
    fn not_known_by_definition(&mut self, vertex: VertexId, missed: Option<CacheKey>) {
        let may_differ = self.definition.vertex(vertex).metadata.max_age.is_some();
        // A directory has no name, but will soon have been read; then the vertex is named after its content.
        if missed.is_some() || self.is_forced(vertex) || !self.lacks_only_directories(vertex) {
            self.node(vertex).definition = Some(missed.clone().filter(|_| !may_differ));
        }
        self.want_what_keys_need(vertex, missed);
        self.stir(vertex);
    }

    /// Whether all inputs have a name but for directories, and nothing has to be made to read them.
    fn lacks_only_directories(&self, vertex: VertexId) -> bool {
        let node = &self.nodes[&vertex];
        node.inputs.iter().zip(&node.reads).all(|(input, reads)| {
            let is_source = matches!(self.op(input.vertex), Op::Source(_));
            is_source || !reads && self.nodes[&input.vertex].definition != Some(None)
        })
    }

    fn missed(&mut self, vertex: VertexId) {
        match self.nodes[&vertex].state.clone() {
            State::LookingUpDefinition(key) => self.not_known_by_definition(vertex, Some(key)),
            State::LookingUp(key) => self.keep_under(vertex, key),
            other => unreachable!("a miss in state {other:?}"),
        }
    }

    /// Content decides: the results of the inputs that are read from must exist, all at once. An
    /// input without a name is read as a whole.
    fn want_what_keys_need(&mut self, vertex: VertexId, missed: Option<CacheKey>) {
        let node = self.node(vertex);
        node.state = State::WaitingForKeys { missed };
        let inputs = node.inputs.clone();
        for (number, input) in inputs.into_iter().enumerate() {
            if matches!(self.op(input.vertex), Op::Source(_))
                && self.nodes[&input.vertex].key == Some(None)
            {
                self.node(vertex).reads[number] = true;
            }
            if self.nodes[&vertex].reads[number] {
                self.want_result(input.vertex);
            }
        }
        self.ready.push(vertex);
    }

    fn look_up_content(&mut self, vertex: VertexId) {
        let node = &self.nodes[&vertex];
        if node.reads.contains(&true) {
            let reads = node.reads.clone();
            self.node(vertex).state = State::ReadingContent;
            self.requests.push_back(Request::Content(vertex, reads));
            return;
        }
        let inputs: Vec<(CacheKey, usize)> =
            node.inputs.iter().map(|i| (self.key_of(i.vertex), i.output)).collect();
        let key = definition_key(self.op(vertex), &inputs);
        let asked_already = node.state == State::WaitingForKeys { missed: Some(key.clone()) };
        let taken_in = inputs.into_iter().map(|(key, output)| ContentInput::Key(key, output));
        self.node(vertex).taken_in = taken_in.collect();
        self.look_up(vertex, key, asked_already);
    }

    fn content_read(&mut self, vertex: VertexId, digests: Vec<Option<Digest>>) {
        let inputs: Vec<ContentInput> = self.nodes[&vertex]
            .inputs
            .iter()
            .zip(digests)
            .map(|(input, digest)| match digest {
                Some(digest) => ContentInput::Content(digest),
                None => ContentInput::Key(self.key_of(input.vertex), input.output),
            })
            .collect();
        let key = content_key(self.op(vertex), &inputs);
        self.node(vertex).taken_in = inputs;
        self.look_up(vertex, key, false);
    }

    fn key_of(&self, input: VertexId) -> CacheKey {
        self.nodes[&input].key.clone().flatten().expect("inputs without a name are read")
    }

    fn look_up(&mut self, vertex: VertexId, key: CacheKey, missed_already: bool) {
        if missed_already || self.is_forced(vertex) {
            return self.keep_under(vertex, key);
        }
        self.node(vertex).state = State::LookingUp(key.clone());
        let alias = self.definition_key_of(vertex).filter(|alias| *alias != key);
        self.requests.push_back(Request::Lookup { vertex, key, alias });
    }

    /// The vertex's key is certain, and there is no result under it that may be used.
    fn keep_under(&mut self, vertex: VertexId, key: CacheKey) {
        // One that is made again once it is too old may come out otherwise, too.
        let may_differ = self.definition.vertex(vertex).metadata.max_age.is_some();
        let is_salted = self.is_forced(vertex) || may_differ;
        let salt = if is_salted { self.fresh_salt.clone() } else { String::new() };
        let definition = self.definition_key_of(vertex);
        self.node(vertex).state = State::Keyed;
        self.settle(vertex, key, definition, salt);
    }

    /// The vertex's keys are certain.
    fn settle(
        &mut self,
        vertex: VertexId,
        key: CacheKey,
        definition: Option<CacheKey>,
        salt: String,
    ) {
        let node = self.node(vertex);
        node.key = Some(Some(key.salted(&salt)));
        node.definition = Some(Some(definition.as_ref().unwrap_or(&key).salted(&salt)));
        node.alias = definition.filter(|definition| *definition != key);
        node.kept_under = Some(key);
        node.salt = salt;
        self.stir(vertex);
    }

    fn execute(&mut self, vertex: VertexId) {
        let node = self.node(vertex);
        node.state = State::Executing;
        let key = node.kept_under.clone().expect("a vertex runs only when its key is known");
        let (alias, salt) = (node.alias.clone(), node.salt.clone());
        let inputs = std::mem::take(&mut node.taken_in);
        self.requests.push_back(Request::Execute { vertex, key, alias, salt, inputs });
    }
}

impl Node {
    fn new(reads: Vec<bool>, inputs: Vec<Input>) -> Self {
        Self {
            state: State::Idle,
            inputs,
            reads,
            dependents: Vec::new(),
            definition: None,
            key: None,
            kept_under: None,
            taken_in: Vec::new(),
            alias: None,
            salt: String::new(),
            wanted: false,
        }
    }
}
