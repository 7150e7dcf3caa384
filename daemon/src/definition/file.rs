//! File operations.

use std::collections::BTreeMap;

use llb::{
    CopyOp, FileAction, FileActionKind, FileInput, FileOp, MkdirOp, MkfileOp, Owner, OwnerId, RmOp,
    SymlinkOp, Timestamp,
};
use parser::glob;

use super::op_error::OpError;
use super::path::{absolute, destination};
use super::step::{Made, Output, Outputs, Step, Taken, Tree, number_outputs};
use crate::wire::pb;

/// Actions of one op.
const ACTIONS_MAX: usize = 10_000;
/// How often what one action made may be copied from by another whose result is copied from in turn.
const NESTED_MAX: usize = 32;

/// The step of file operations on the trees that their op was given.
pub(super) fn step(op: &pb::FileOp, given: &[Tree]) -> Result<Made, OpError> {
    if op.actions.is_empty() {
        return Err(OpError::Lacks { what: "action" });
    }
    if op.actions.len() > ACTIONS_MAX {
        return Err(OpError::not_supported(format!("more than {ACTIONS_MAX} actions are")));
    }
    let numbers = number_outputs(op.actions.iter().map(|action| action.output));
    let mut reader = Reader {
        taken: Taken::of(given),
        numbers,
        outputs: Outputs::default(),
        depths: Vec::new(),
    };
    let mut actions = Vec::with_capacity(op.actions.len());
    for action in &op.actions {
        actions.push(reader.action(action)?);
    }
    let Reader { taken, outputs, .. } = reader;
    let op = llb::Op::File(FileOp { actions });
    Ok(Step { op, inputs: taken.finish(), outputs }.into())
}

/// The empty tree as a step, for ops that take nothing else.
pub(super) fn empty() -> Step {
    let root = MkdirOp {
        path: "/".to_owned(),
        mode: 0o755,
        make_parents: true,
        owner: None,
        timestamp: None,
    };
    let action = FileAction {
        input: FileInput::Scratch,
        secondary: None,
        output: Some(0),
        kind: FileActionKind::Mkdir(root),
    };
    Step::simple(llb::Op::File(FileOp { actions: vec![action] }), Vec::new())
}

struct Reader<'t> {
    taken: Taken<'t>,
    /// Our numbers of outputs by the client's.
    numbers: BTreeMap<i64, usize>,
    outputs: Outputs,
    /// How deep the copies from results of actions nest, one an action so far.
    depths: Vec<usize>,
}

impl Reader<'_> {
    fn action(&mut self, action: &pb::FileAction) -> Result<FileAction, OpError> {
        use pb::file_action::Action;
        let input = self.tree(action.input)?;
        let kind = action.action.as_ref().ok_or(OpError::Lacks { what: "action" })?;
        let secondary = match kind {
            Action::Copy(_) => Some(self.tree(action.secondary_input)?),
            _ => None,
        };
        self.note_depth(input, secondary)?;
        let kind = match kind {
            Action::Copy(copy) => FileActionKind::Copy(self.copy(copy)?),
            Action::Mkfile(file) => FileActionKind::Mkfile(MkfileOp {
                path: absolute("/", &file.path),
                mode: mode(file.mode)?,
                data: file.data.clone(),
                owner: self.owner(file.owner.as_ref())?,
                timestamp: timestamp(file.timestamp),
            }),
            Action::Mkdir(directory) => FileActionKind::Mkdir(MkdirOp {
                path: absolute("/", &directory.path),
                mode: mode(directory.mode)?,
                make_parents: directory.make_parents,
                owner: self.owner(directory.owner.as_ref())?,
                timestamp: timestamp(directory.timestamp),
            }),
            Action::Rm(rm) => FileActionKind::Rm(RmOp {
                path: absolute("/", &rm.path),
                allow_not_found: rm.allow_not_found,
                allow_wildcard: rm.allow_wildcard,
            }),
            Action::Symlink(link) => FileActionKind::Symlink(SymlinkOp {
                target: link.oldpath.clone(),
                path: absolute("/", &link.newpath),
                owner: self.owner(link.owner.as_ref())?,
                timestamp: timestamp(link.timestamp),
            }),
        };
        let output = self.numbers.get(&action.output).copied();
        if let Some(number) = output {
            self.outputs.add(action.output, Output::Own(number))?;
        }
        Ok(FileAction { input, secondary, output, kind })
    }

    /// What the client calls `index`: an input of the op, or behind those the result of an action.
    fn tree(&mut self, index: i64) -> Result<FileInput, OpError> {
        if let Some(action) = self.earlier(index)? {
            return Ok(FileInput::Action(action));
        }
        Ok(self.taken.number(index)?.map_or(FileInput::Scratch, FileInput::Input))
    }

    /// The action whose result the client calls `index`; nothing if it is an input.
    fn earlier(&self, index: i64) -> Result<Option<usize>, OpError> {
        let inputs = self.taken.given();
        let behind = usize::try_from(index).ok().and_then(|index| index.checked_sub(inputs));
        match behind {
            None => Ok(None),
            Some(action) if action < self.depths.len() => Ok(Some(action)),
            Some(_) => Err(OpError::NoSuchInput { index, inputs: inputs + self.depths.len() }),
        }
    }

    fn note_depth(
        &mut self,
        input: FileInput,
        secondary: Option<FileInput>,
    ) -> Result<(), OpError> {
        let of = |tree: Option<FileInput>| match tree {
            Some(FileInput::Action(action)) => Some(self.depths[action]),
            _ => None,
        };
        let depth = of(Some(input)).max(of(secondary).map(|depth| depth + 1)).unwrap_or(0);
        if depth > NESTED_MAX {
            let what = format!("copies between the actions of an op over {NESTED_MAX} levels are");
            return Err(OpError::not_supported(what));
        }
        self.depths.push(depth);
        Ok(())
    }

    fn copy(&mut self, copy: &pb::FileActionCopy) -> Result<CopyOp, OpError> {
        let (dest, dest_has_dot) = destination(&copy.dest);
        let (src, include_patterns, parents) = source(copy)?;
        let symbolic = Some(copy.mode_str.clone()).filter(|text| !text.is_empty());
        let bits = (symbolic.is_none() && copy.mode != -1).then(|| mode(copy.mode)).transpose()?;
        Ok(CopyOp {
            display_src: copy.src.clone(),
            // Of a root only what is in it can be copied: a Dockerfile's copies say so.
            dir_copy_contents: copy.dir_copy_contents || src == "/",
            src,
            dest,
            dest_has_dot,
            owner: self.owner(copy.owner.as_ref())?,
            mode: bits,
            mode_symbolic: symbolic,
            follow_symlink: copy.follow_symlink,
            attempt_unpack: copy.attempt_unpack_docker_compatibility,
            create_dest_path: copy.create_dest_path,
            allow_wildcard: copy.allow_wildcard,
            allow_empty_wildcard: copy.allow_empty_wildcard,
            timestamp: timestamp(copy.timestamp),
            include_patterns,
            exclude_patterns: copy.exclude_patterns.clone(),
            always_replace_existing: copy.always_replace_existing_dest_paths,
            parents,
        })
    }

    fn owner(&mut self, owner: Option<&pb::ChownOpt>) -> Result<Option<Owner>, OpError> {
        let Some(owner) = owner else { return Ok(None) };
        let (user, group) = (self.id(owner.user.as_ref())?, self.id(owner.group.as_ref())?);
        Ok(Some(Owner { user, group }))
    }

    fn id(&mut self, id: Option<&pb::UserOpt>) -> Result<Option<OwnerId>, OpError> {
        use pb::user_opt::User;
        match id.and_then(|id| id.user.as_ref()) {
            None => Ok(None),
            Some(User::ById(id)) => Ok(Some(OwnerId::Id(*id))),
            Some(User::ByName(pb::NamedUserOpt { name, input })) => {
                if self.earlier(*input)?.is_some() {
                    let what = "an owner whose name is looked up in the result of an action is";
                    return Err(OpError::not_supported(what));
                }
                Ok(Some(OwnerId::Name { name: name.clone(), input: self.taken.number(*input)? }))
            }
        }
    }
}

/// Where a copy takes its files from, the patterns that choose among them, and whether it keeps the
/// directories above them: what a Dockerfile calls `--parents` comes as one pattern.
fn source(copy: &pb::FileActionCopy) -> Result<(String, Vec<String>, bool), OpError> {
    let src = absolute("/", &copy.src);
    let plain = || Ok((src.clone(), copy.include_patterns.clone(), false));
    let [pattern] = &copy.include_patterns[..] else {
        return match copy.required_paths.is_empty() {
            true => plain(),
            false => Err(OpError::not_supported("a copy that requires some of its files is")),
        };
    };
    let is_wild = [src.as_bytes(), pattern.as_bytes()].into_iter().any(glob::has_wildcard);
    let is_clean = absolute("/", pattern).strip_prefix('/') == Some(pattern.as_str());
    match &copy.required_paths[..] {
        [] if !is_wild || !is_clean => plain(),
        [] => Ok((kept_below(&src, pattern), Vec::new(), true)),
        [required] if !is_wild && is_clean && *required == absolute(&src, pattern) => {
            Ok((kept_below(&src, pattern), Vec::new(), true))
        }
        _ => Err(OpError::not_supported("a copy that requires some of its files is")),
    }
}

/// `pattern` below `src`, with the pivot between them that says where the names that are kept begin.
fn kept_below(src: &str, pattern: &str) -> String {
    match src {
        "/" => format!("/{pattern}"),
        src => format!("{src}/./{pattern}"),
    }
}

fn mode(bits: i32) -> Result<u32, OpError> {
    let mode = u32::try_from(bits).map_err(|_| OpError::invalid("mode", bits))?;
    match mode <= 0o7777 {
        true => Ok(mode),
        false => Err(OpError::invalid("mode", format!("{mode:o}"))),
    }
}

/// From nanoseconds since 1970; -1 is no time.
fn timestamp(nanoseconds: i64) -> Option<Timestamp> {
    const SECOND: i64 = 1_000_000_000;
    let nanosecond = u32::try_from(nanoseconds.rem_euclid(SECOND)).expect("less than a second");
    let seconds = nanoseconds.div_euclid(SECOND);
    (nanoseconds != -1).then_some(Timestamp { seconds, nanoseconds: nanosecond })
}
