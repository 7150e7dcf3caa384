//! A step names a file that is not in the tree it reads: where it was looked for, why it is not
//! there, and what may be meant.

use llb::{Definition, FileActionKind, FileInput, Op, SourceOp, Vertex, VertexId};
use rustix::io::Errno;

use crate::error::BuildError;
use crate::file_op::FileOpError;
use crate::tree::{Missing, TreeError, View, glob, path};

/// The error of a step, which could not read what it names from the tree `view` that its input gives.
pub(crate) fn read_error(
    error: FileOpError,
    definition: &Definition,
    (vertex, input): (VertexId, VertexId),
    view: &View,
) -> BuildError {
    let (step, from) = (&definition.vertex(vertex).op, definition.vertex(input));
    let FileOpError::Tree(tree_error) = &error else { return BuildError::from(error) };
    let path = match tree_error {
        TreeError::NotFound { path } => path,
        TreeError::File { path, reason, .. } if reason.0 == Errno::NOENT => path,
        _ => return BuildError::from(error),
    };
    let written = written(step, path);
    let others = others(definition, (vertex, input), view);
    BuildError::input(format!("{error} in {}{others}", place(from)))
        .with_hint_if(hint(&view.missing(path.as_bytes()), written.filter(|_| view.is_context())))
}

/// What other steps name that is not in the same tree, either: all can be mended at once.
fn others(definition: &Definition, (vertex, input): (VertexId, VertexId), view: &View) -> String {
    const MOST: usize = 5;
    let others = definition.dependents(input).into_iter().filter(|other| *other != vertex);
    let missing = others.flat_map(|other| {
        let (line, _) = definition.vertex(other).metadata.lines.unwrap_or_default();
        let sources = sources(definition, other, input);
        let missing = sources.filter(|source| is_missing(view, source));
        missing.map(move |source| format!("; line {line}: {}: not found", quoted(&source.src)))
    });
    missing.take(MOST).collect()
}

/// What a step copies from `input`.
fn sources(
    definition: &Definition,
    vertex: VertexId,
    input: VertexId,
) -> impl Iterator<Item = &llb::CopyOp> {
    let inputs = definition.inputs(vertex);
    let actions = match &definition.vertex(vertex).op {
        Op::File(op) => op.actions.as_slice(),
        _ => &[],
    };
    actions.iter().filter_map(move |action| match (&action.kind, action.secondary) {
        (FileActionKind::Copy(copy), Some(FileInput::Input(number)))
            if inputs[number].vertex == input =>
        {
            Some(copy)
        }
        _ => None,
    })
}

/// Whether a source is a path alone, and nothing has it. Patterns are looked at when it is their turn.
fn is_missing(view: &View, copy: &llb::CopyOp) -> bool {
    let has_patterns = !copy.include_patterns.is_empty() || !copy.exclude_patterns.is_empty();
    let source = copy.src.as_bytes();
    let is_plain = !(has_patterns || copy.parents || glob::has_wildcard(source));
    is_plain && view.resolve(source, copy.follow_symlink).is_ok_and(|found| found.kind.is_none())
}

fn quoted(source: &str) -> String {
    parser::quote::quote(&path::show(&path::clean(source.as_bytes())))
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
    if let Some((protocol, _)) = written.and_then(|source| source.split_once("://")) {
        return Some(format!(
            "`{protocol}://` is not fetched, and so it is a path; `http://`, `https://`, `git://` and `ssh://` are"
        ));
    }
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
