//! A step names a file that is not in the tree it reads: where it was looked for, why it is not
//! there, and what may be meant.

use llb::{FileActionKind, Op, SourceOp, Vertex};
use rustix::io::Errno;

use crate::error::BuildError;
use crate::file_op::FileOpError;
use crate::tree::{Missing, TreeError, View, path};

/// The error of `step`, which could not read what it names from the tree `view` that `from` gives.
pub(crate) fn read_error(error: FileOpError, step: &Op, from: &Vertex, view: &View) -> BuildError {
    let FileOpError::Tree(tree_error) = &error else { return BuildError::from(error) };
    let path = match tree_error {
        TreeError::NotFound { path } => path,
        TreeError::File { path, reason, .. } if reason.0 == Errno::NOENT => path,
        _ => return BuildError::from(error),
    };
    let written = written(step, path);
    BuildError::input(format!("{error} in {}", place(from)))
        .with_hint_if(hint(&view.missing(path.as_bytes()), written.filter(|_| view.is_context())))
}

fn place(from: &Vertex) -> String {
    match &from.op {
        Op::Source(SourceOp::Local(local)) => match local.name.as_str() {
            parser::lower::MAIN_CONTEXT => "the build context".to_owned(),
            name => format!("the build context `{name}`"),
        },
        _ if !from.metadata.stage.is_empty() => format!("stage `{}`", from.metadata.stage),
        Op::Source(_) => "the image".to_owned(),
        _ => "what it is copied from".to_owned(),
    }
}

fn hint(missing: &Missing, written: Option<&str>) -> Option<String> {
    let leaves = written.filter(|source| source.split('/').next() == Some(".."));
    Some(match (missing, leaves) {
        (Missing::Ignored { pattern }, _) => {
            format!("it is there, but the pattern `{pattern}` of the ignore file excludes it")
        }
        (_, Some(source)) => format!(
            "`{source}` cannot leave the context: build from the directory above, or give the \
             other one a name with `--build-context NAME=DIR` and write `--from=NAME`"
        ),
        (Missing::DeadLink { link, target }, None) => {
            format!("`{link}` is a link to `{target}`, which is not in there")
        }
        (Missing::Near(near), None) => format!("did you mean `{near}`?"),
        (Missing::Unknown, None) if written.is_some() => {
            "sources are relative to the context, the directory at the end of the command"
                .to_owned()
        }
        (Missing::Unknown, None) => return None,
    })
}

/// The source as the Dockerfile has it, of the copy that looks for `path`.
fn written<'s>(step: &'s Op, path: &str) -> Option<&'s str> {
    let Op::File(op) = step else { return None };
    let wanted = path::clean(path.as_bytes());
    op.actions.iter().find_map(|action| match &action.kind {
        FileActionKind::Copy(copy) if path::clean(copy.src.as_bytes()).starts_with(&wanted) => {
            Some(copy.display_src.as_str()).filter(|source| !source.is_empty())
        }
        _ => None,
    })
}
