//! What an operation takes in from its inputs by content.

use llb::encode::Encoder;
use llb::{FileActionKind, FileInput, FileOp};
use oci::Digest;

use super::{FileOpError, owner};
use crate::tree::{self, Copied, View};

/// One thing that an operation takes in from an input.
#[derive(Clone)]
pub(crate) enum TakenIn {
    /// Files that are copied.
    Files {
        /// Where they are, as the Dockerfile has it.
        name: String,
        /// Their digest, whole and in parts.
        copied: Copied,
    },
    /// An owner by name, and what it stands for.
    Owner(String, u32),
}

/// Digest of what [`taken_in`] found.
pub(crate) fn digest_of_taken_in(taken_in: &[TakenIn]) -> Digest {
    let mut encoder = Encoder::new("file-op-input-1");
    for part in taken_in {
        match part {
            TakenIn::Files { copied, .. } => encoder.tag(1).text(copied.digest.as_str()),
            TakenIn::Owner(name, id) => encoder.tag(2).text(name).number((*id).into()),
        };
    }
    encoder.finish()
}

/// All that `op` takes in from input `input` by its content: copied files, and the owners that its names
/// stand for. `None` when the input is changed by the operation, so that all of it counts.
pub(crate) fn taken_in(
    op: &FileOp,
    input: usize,
    view: &View,
) -> Result<Option<Vec<TakenIn>>, FileOpError> {
    if op.actions.iter().any(|action| action.input == FileInput::Input(input)) {
        return Ok(None);
    }
    let mut parts = Vec::new();
    for action in &op.actions {
        if let (FileActionKind::Copy(copy), Some(FileInput::Input(from))) =
            (&action.kind, action.secondary)
            && from == input
        {
            let copied = tree::content_digest(view, copy)?;
            parts.push(TakenIn::Files { name: copy.display_src.clone(), copied });
        }
        let owners = owner::names_in(&action.kind, input, view)?;
        parts.extend(owners.into_iter().map(|(name, id)| TakenIn::Owner(name, id)));
    }
    Ok(Some(parts))
}

/// Digest of what [`taken_in`] finds.
pub fn input_digest(op: &FileOp, input: usize, view: &View) -> Result<Option<Digest>, FileOpError> {
    Ok(taken_in(op, input, view)?.as_deref().map(digest_of_taken_in))
}
