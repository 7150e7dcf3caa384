//! `COPY` and `ADD`.

use llb::{
    CopyOp, FileAction, FileActionKind, FileInput, FileOp, Input, MkfileOp, Op, Owner, OwnerId,
    Timestamp,
};

use super::Lowering;
use super::fault::{Fallible, Fault};
use super::mode::{self, Mode};
use super::name::upper_keyword;
use super::remote::{self, Written};
use super::stage::StageId;
use crate::check::Place;
use crate::credentials::without_credentials;
use crate::instruction::{Add, Copy, Heredoc, Instruction};
use crate::path;
use crate::quote::quote;
use crate::span::Text;

/// An `ADD` or `COPY`, variables expanded.
pub(super) struct Request<'i> {
    instruction: &'i Instruction,
    pub(super) is_add: bool,
    pub(super) sources: Vec<String>,
    /// Names and contents of inline files.
    documents: Vec<(String, String)>,
    /// As written, for the history.
    dest: String,
    chown: String,
    chmod: String,
    link: bool,
    parents: bool,
    exclude: Vec<String>,
    pub(super) checksum: String,
    pub(super) keep_git_dir: Option<bool>,
    unpack: Option<bool>,
    from: From,
}

/// Where paths are looked up.
enum From {
    MainContext,
    Tree(Option<Input>),
}

impl<'i> Request<'i> {
    pub(super) fn place(&self) -> Place<'i> {
        Place::instruction(self.instruction)
    }

    fn keyword(&self) -> &'static str {
        if self.is_add { "ADD" } else { "COPY" }
    }

    /// The text for the history.
    fn created_by(&self) -> String {
        let mut text = self.keyword().to_owned();
        if self.parents {
            text.push_str(" --parents");
        }
        for (flag, value) in [("chown", &self.chown), ("chmod", &self.chmod)] {
            if !value.is_empty() {
                text.push_str(&format!(" --{flag}={value}"));
            }
        }
        for source in &self.sources {
            text.push_str(&format!(" {}", without_credentials(source)));
        }
        self.documents.iter().for_each(|(name, _)| text.push_str(&format!(" <<{name}")));
        format!("{text} {} # buildkit", self.dest)
    }
}

/// The actions of one vertex, and its inputs.
struct Actions {
    inputs: Vec<Input>,
    actions: Vec<FileAction>,
    /// What is the same for every copy.
    template: CopyOp,
}

impl Actions {
    fn new(base: Option<Input>, template: CopyOp) -> Self {
        Self { inputs: base.into_iter().collect(), actions: Vec::new(), template }
    }

    /// Copies from `tree`, on top of what the actions so far have made.
    fn copy(&mut self, tree: Option<Input>, change: impl FnOnce(&mut CopyOp)) {
        let mut copy = self.template.clone();
        change(&mut copy);
        let input = match self.actions.len() {
            0 if self.inputs.is_empty() => FileInput::Scratch,
            0 => FileInput::Input(0),
            count => FileInput::Action(count - 1),
        };
        let secondary = tree.map_or(FileInput::Scratch, |tree| FileInput::Input(self.number(tree)));
        self.actions.push(FileAction {
            input,
            secondary: Some(secondary),
            output: None,
            kind: FileActionKind::Copy(copy),
        });
    }

    /// The number of an input, added if it is new.
    fn number(&mut self, input: Input) -> usize {
        self.inputs.iter().position(|known| *known == input).unwrap_or_else(|| {
            self.inputs.push(input);
            self.inputs.len() - 1
        })
    }

    fn finish(mut self) -> (Op, Vec<Input>) {
        if let Some(last) = self.actions.last_mut() {
            last.output = Some(0);
        }
        (Op::File(FileOp { actions: self.actions }), self.inputs)
    }
}

impl Lowering<'_> {
    pub(super) fn add(&mut self, id: StageId, instruction: &Instruction, add: &Add) -> Fallible {
        let place = Place::instruction(instruction);
        let request = Request {
            instruction,
            is_add: true,
            chown: self.expand_flag(id, place, add.chown.as_ref())?,
            chmod: self.expand_flag(id, place, add.chmod.as_ref())?,
            checksum: self.expand_flag(id, place, add.checksum.as_ref())?,
            sources: self.expand_all(id, place, &add.sources)?,
            dest: self.expand(id, place, &add.dest.value)?,
            documents: self.expand_documents(id, place, &add.heredocs)?,
            link: add.link,
            parents: false,
            exclude: add.exclude.iter().map(|pattern| pattern.value.clone()).collect(),
            keep_git_dir: add.keep_git_dir,
            unpack: add.unpack,
            from: From::MainContext,
        };
        self.copy_step(id, &request)
    }

    pub(super) fn copy(
        &mut self,
        id: StageId,
        instruction: &Instruction,
        copy: &Copy,
        source: Option<&Option<StageId>>,
    ) -> Fallible {
        let place = Place::instruction(instruction);
        let mut request = Request {
            instruction,
            is_add: false,
            chown: self.expand_flag(id, place, copy.chown.as_ref())?,
            chmod: self.expand_flag(id, place, copy.chmod.as_ref())?,
            checksum: String::new(),
            sources: self.expand_all(id, place, &copy.sources)?,
            dest: self.expand(id, place, &copy.dest.value)?,
            documents: self.expand_documents(id, place, &copy.heredocs)?,
            link: copy.link,
            parents: copy.parents,
            exclude: copy.exclude.iter().map(|pattern| pattern.value.clone()).collect(),
            keep_git_dir: None,
            unpack: None,
            from: From::MainContext,
        };
        if let Some(&Some(source)) = source {
            if !self.is_dispatched(source) {
                let from = copy.from.as_ref().map_or("", |from| &from.value);
                return Err(Fault::new(format!(
                    "cannot copy from stage {}, it needs to be defined before current stage {}",
                    quote(from),
                    quote(&self.stages[id].label)
                ))
                .with_hint("move the stage above this one"));
            }
            request.from = From::Tree(self.stages[source].state.tree);
        }
        self.copy_step(id, &request)
    }

    fn expand_flag(
        &mut self,
        id: StageId,
        place: Place<'_>,
        value: Option<&Text>,
    ) -> Fallible<String> {
        value.map_or(Ok(String::new()), |value| self.expand(id, place, &value.value))
    }

    fn expand_all(
        &mut self,
        id: StageId,
        place: Place<'_>,
        words: &[Text],
    ) -> Fallible<Vec<String>> {
        words.iter().map(|word| self.expand(id, place, &word.value)).collect()
    }

    fn expand_documents(
        &mut self,
        id: StageId,
        place: Place<'_>,
        heredocs: &[Heredoc],
    ) -> Fallible<Vec<(String, String)>> {
        let mut documents = Vec::with_capacity(heredocs.len());
        for heredoc in heredocs {
            let mut content = heredoc.content.clone();
            if heredoc.expand {
                let expander = self.expander.for_heredoc();
                let word = expander.word(&content, &*self.stages[id].state.environment)?;
                self.report_undefined(id, place, word.unmatched.iter());
                content = word.text;
            }
            documents.push((heredoc.name.clone(), content));
        }
        Ok(documents)
    }

    fn copy_step(&mut self, id: StageId, request: &Request<'_>) -> Fallible {
        let (state, place) = (&self.stages[id].state, request.place());
        let base = state.tree;
        // With permissions to set, BuildKit does not link; nor does a link to nothing matter.
        let is_linked = request.link && request.chmod.is_empty();
        let under = base.filter(|_| !is_linked);
        let dest = path::join_destination(&state.directory(), &request.dest);
        let template = template(request, dest, under.is_some())?;
        remote::check_checksum(request)?;

        let text = without_credentials(&self.shown(id, &request.instruction.original));
        let environment = state_environment(self, id);
        let platform = self.stages[id].platform.clone();
        let name = self.step_name(id, &text, platform.as_ref(), &environment);

        let mut actions = Actions::new(under, template);
        for source in &request.sources {
            self.add_copy(id, request, source, &name, &mut actions)?;
        }
        for (file, content) in &request.documents {
            let document = self.add_document(file, content.as_bytes(), 0o644)?;
            let src = path::join("/", file);
            actions.copy(Some(document), |copy| copy.src = src);
        }
        let (op, inputs) = actions.finish();
        let metadata = self.metadata(id, name, place);
        let vertex = self.definition.add(op, &inputs, metadata)?;
        let mut tree = Input { vertex, output: 0 };
        if let (true, Some(base)) = (is_linked, base) {
            let text = format!("LINK {text}");
            let name = self.same_step_name(id, &text, platform.as_ref(), &environment);
            let metadata = self.metadata(id, name, place);
            let vertex = self.definition.add(Op::Merge, &[base, tree], metadata)?;
            tree = Input { vertex, output: 0 };
        }
        self.stages[id].state.tree = Some(tree);
        self.record(id, request.created_by(), true);
        Ok(())
    }

    fn add_copy(
        &mut self,
        id: StageId,
        request: &Request<'_>,
        source: &str,
        name: &str,
        actions: &mut Actions,
    ) -> Fallible {
        match remote::classify(source)? {
            Written::Git(git) => {
                let tree = self.add_git(id, request, git, name)?;
                actions.copy(Some(tree), |copy| copy.dir_copy_contents = true);
            }
            Written::Http => {
                let (tree, file) = self.add_http(id, request, source, name)?;
                let (src, unpack) = (path::join("/", &file), request.unpack.unwrap_or(false));
                actions.copy(Some(tree), |copy| {
                    (copy.src, copy.attempt_unpack) = (src, unpack);
                });
            }
            Written::Path => {
                if matches!(request.from, From::MainContext) {
                    self.check_ignored(request, source);
                }
                let tree = match request.from {
                    From::MainContext => self.main_tree()?,
                    From::Tree(tree) => tree,
                };
                let unpack = request.unpack.unwrap_or(request.is_add);
                actions.copy(tree, |copy| {
                    copy.src = source_path(source, request.parents);
                    copy.display_src = source.to_owned();
                    copy.follow_symlink = true;
                    copy.dir_copy_contents = true;
                    copy.attempt_unpack = unpack;
                    copy.allow_wildcard = true;
                    copy.allow_empty_wildcard = true;
                    copy.parents = request.parents;
                });
            }
        }
        Ok(())
    }

    /// A tree with one file in it.
    pub(super) fn add_document(&mut self, name: &str, data: &[u8], mode: u32) -> Fallible<Input> {
        let file = MkfileOp {
            path: path::join("/", name),
            mode,
            data: data.to_vec(),
            owner: None,
            timestamp: self.timestamp(),
        };
        let action = FileAction {
            input: FileInput::Scratch,
            secondary: None,
            output: Some(0),
            kind: FileActionKind::Mkfile(file),
        };
        let name = "[internal] preparing inline document".to_owned();
        let metadata = llb::Metadata { name, ..llb::Metadata::default() };
        let op = Op::File(FileOp { actions: vec![action] });
        let vertex = self.definition.add(op, &[], metadata)?;
        Ok(Input { vertex, output: 0 })
    }

    /// The time of what the build itself makes, if one was asked for.
    pub(super) fn timestamp(&self) -> Option<Timestamp> {
        self.epoch.map(|seconds| Timestamp { seconds, nanoseconds: 0 })
    }

    /// An instruction as it is shown: keyword in upper case, variables expanded where they can be.
    pub(super) fn shown(&self, id: StageId, original: &str) -> String {
        let original = original.trim();
        let environment = &*self.stages[id].state.environment;
        let expanded = self.name_expander.word(original, environment);
        upper_keyword(&expanded.map_or_else(|_| original.to_owned(), |word| word.text))
    }

    fn check_ignored(&mut self, request: &Request<'_>, source: &str) {
        let Some(ignored) = &self.ignored else { return };
        let source = path::clean(source);
        if matches!(source.as_str(), "." | "/") && !ignored.excludes_everything() {
            return;
        }
        // An exception may let in a part of a directory, and what a wildcard stands for.
        if ignored.matches(&source) && !ignored.may_let_in(&source) {
            let verb = if request.is_add { "Add" } else { "Copy" };
            let file = quote(&source);
            let message =
                format!("Attempting to {verb} file {file} that is excluded by .dockerignore");
            self.reporter.report("CopyIgnoredFile", request.place(), message);
        }
    }
}

pub(super) fn state_environment(
    lowering: &Lowering<'_>,
    id: StageId,
) -> std::rc::Rc<super::environment::Environment> {
    lowering.stages[id].state.environment.clone()
}

fn template(request: &Request<'_>, dest: String, has_base: bool) -> Fallible<CopyOp> {
    let (mode, mode_symbolic) = match request.chmod.as_str() {
        "" => (None, None),
        text => match mode::parse(text)? {
            Mode::Bits(bits) => (Some(bits), None),
            Mode::Symbolic(text) => (None, Some(text)),
        },
    };
    let owner = Some(request.chown.as_str()).filter(|chown| !chown.is_empty());
    Ok(CopyOp {
        owner: owner.map(|chown| parse_owner(chown, has_base.then_some(0))),
        mode,
        mode_symbolic,
        exclude_patterns: request.exclude.clone(),
        dest_has_dot: request.dest.ends_with("/."),
        ..plain_copy("/", &dest)
    })
}

fn plain_copy(src: &str, dest: &str) -> CopyOp {
    CopyOp {
        src: src.to_owned(),
        dest: dest.to_owned(),
        dest_has_dot: false,
        owner: None,
        mode: None,
        mode_symbolic: None,
        follow_symlink: false,
        dir_copy_contents: false,
        attempt_unpack: false,
        create_dest_path: true,
        allow_wildcard: false,
        allow_empty_wildcard: false,
        timestamp: None,
        include_patterns: Vec::new(),
        exclude_patterns: Vec::new(),
        always_replace_existing: false,
        parents: false,
        display_src: String::new(),
    }
}

/// A copy that unpacks the archive `src`.
pub(super) fn unpack_action(src: &str, dest: &str) -> CopyOp {
    CopyOp { attempt_unpack: true, ..plain_copy(src, dest) }
}

/// `user`, `user:group`, `:group`, each a name or a number. Names are looked up in input `lookup`; a
/// number that no id can be counts as one. Without a user it is root, without a group the user's own.
pub(super) fn parse_owner(text: &str, lookup: Option<usize>) -> Owner {
    let name = |text: &str| OwnerId::Name { name: text.to_owned(), input: lookup };
    let parse = |text: &str| match text.parse::<i32>().map(u32::try_from) {
        _ if matches!(text, "root" | "") => OwnerId::Id(0),
        Ok(Ok(number)) => OwnerId::Id(number),
        _ => name(text),
    };
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    let group = (!group.is_empty()).then(|| parse(group));
    Owner { user: Some(parse(user)), group }
}

/// The absolute path of a source. With `--parents`, a pivot (`/./`) stays in it.
fn source_path(source: &str, parents: bool) -> String {
    match source.split_once("/./").filter(|_| parents) {
        None => path::join("/", source),
        Some((above, below)) => {
            let above = path::join("/", above);
            format!("{}/.{}", above.trim_end_matches('/'), path::join("/", below))
        }
    }
}

#[cfg(test)]
mod tests {
    use llb::{Owner, OwnerId};

    use super::{parse_owner, source_path};

    #[test]
    fn the_pivot_stays_in_the_source() {
        let cases = [
            ("a/b", false, "/a/b"),
            ("../a/./b/", false, "/a/b"),
            ("a/./b/../c", true, "/a/./c"),
            ("/a/b", true, "/a/b"),
            ("././a", true, "/./a"),
        ];
        for (source, parents, want) in cases {
            assert_eq!(source_path(source, parents), want);
        }
    }

    #[test]
    fn owners_are_names_or_numbers() {
        let name = |name: &str| Some(OwnerId::Name { name: name.to_owned(), input: Some(0) });
        let id = |id| Some(OwnerId::Id(id));
        let cases = [
            ("1000", Owner { user: id(1000), group: None }),
            ("root:wheel", Owner { user: id(0), group: name("wheel") }),
            ("me:0", Owner { user: name("me"), group: id(0) }),
            ("-1", Owner { user: name("-1"), group: None }),
            (":7", Owner { user: id(0), group: id(7) }),
            (":wheel", Owner { user: id(0), group: name("wheel") }),
            ("7:", Owner { user: id(7), group: None }),
            ("2147483647", Owner { user: id(2_147_483_647), group: None }),
            // These are found to be no ids where names are looked up.
            ("2147483648", Owner { user: name("2147483648"), group: None }),
            ("0:4294967295", Owner { user: id(0), group: name("4294967295") }),
        ];
        for (text, want) in cases {
            assert_eq!(parse_owner(text, Some(0)), want, "{text}");
        }
    }
}
