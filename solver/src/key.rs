//! Cache keys.

use std::borrow::Cow;

use llb::encode::{Encoder, encode_op};
use llb::{FileActionKind, FileInput, MountKind, Op};
use oci::Digest;

/// Names a step's result. Equal keys mean equal inputs and an equal op.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheKey(pub Digest);

impl CacheKey {
    /// The key that dependents see. A step that was made to run again although its inputs were the
    /// same may have another result; `salt`, kept with that result, makes its dependents miss.
    #[must_use]
    pub fn salted(&self, salt: &str) -> Self {
        if salt.is_empty() {
            return self.clone();
        }
        let mut encoder = Encoder::new("salted");
        encoder.text(self.0.as_str()).text(salt);
        Self(encoder.finish())
    }
}

/// Key over an op and its inputs' keys and output numbers.
pub fn definition_key(op: &Op, inputs: &[(CacheKey, usize)]) -> CacheKey {
    let mut encoder = Encoder::new("definition");
    encode_op(&mut encoder, op);
    encoder.list(inputs, |e, (key, output)| {
        e.text(key.0.as_str()).number(*output as u64);
    });
    CacheKey(encoder.finish())
}

/// What a content key says of one input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentInput {
    /// Digest of the files that are taken in.
    Content(Digest),
    /// Key and output number of the input as a whole.
    Key(CacheKey, usize),
}

/// Key over an op and, for each input, what is taken in.
pub fn content_key(op: &Op, inputs: &[ContentInput]) -> CacheKey {
    let mut encoder = Encoder::new("content");
    encode_op(&mut encoder, &without_sources(op, inputs));
    encoder.list(inputs, |e, input| match input {
        ContentInput::Content(digest) => {
            e.tag(1).text(digest.as_str());
        }
        ContentInput::Key(key, output) => {
            e.tag(2).text(key.0.as_str()).number(*output as u64);
        }
    });
    CacheKey(encoder.finish())
}

/// The op as it is in a content key: without the paths and patterns that choose what it copies or mounts from inputs whose content is
/// known: that says all of it, names at the destination too.
pub fn without_sources<'a>(op: &'a Op, inputs: &[ContentInput]) -> Cow<'a, Op> {
    let is_known = |input: usize| matches!(inputs.get(input), Some(ContentInput::Content(_)));
    match op {
        Op::File(file) => {
            let mut file = file.clone();
            for action in &mut file.actions {
                if let (FileActionKind::Copy(copy), Some(FileInput::Input(input))) =
                    (&mut action.kind, action.secondary)
                    && is_known(input)
                {
                    copy.src.clear();
                    copy.include_patterns.clear();
                    copy.exclude_patterns.clear();
                    (copy.allow_wildcard, copy.follow_symlink) = (false, false);
                }
            }
            Cow::Owned(Op::File(file))
        }
        Op::Exec(exec) if exec.mounts.iter().any(|mount| mount.input.is_some_and(is_known)) => {
            let mut exec = exec.clone();
            for mount in &mut exec.mounts {
                if mount.input.is_some_and(is_known) {
                    mount.selector.clear();
                }
            }
            Cow::Owned(Op::Exec(exec))
        }
        _ => Cow::Borrowed(op),
    }
}

/// For each of an op's inputs: does the op only read files from it, so that their content says all?
/// Trees that a step changes (the root of a process, the target of a copy) count as a whole.
pub fn content_inputs(op: &Op, inputs: usize) -> Vec<bool> {
    let mut read = vec![false; inputs];
    let mut changed = vec![false; inputs];
    match op {
        Op::Exec(exec) => {
            for mount in &exec.mounts {
                let Some(input) = mount.input else { continue };
                let only_read =
                    mount.kind == MountKind::Bind && mount.dest != "/" && mount.output.is_none();
                let uses = if only_read { &mut read } else { &mut changed };
                uses[input] = true;
            }
        }
        Op::File(file) => {
            for action in &file.actions {
                if let FileInput::Input(input) = action.input {
                    changed[input] = true;
                }
                if let Some(FileInput::Input(input)) = action.secondary {
                    read[input] = true;
                }
            }
        }
        Op::Source(_) | Op::Merge | Op::Diff => {}
    }
    read.iter().zip(&changed).map(|(read, changed)| *read && !changed).collect()
}
