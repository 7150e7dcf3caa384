//! What steps are called.

use crate::wire::pb;

/// Names are no longer than this: those of merges hold those of their inputs.
const NAME_MAX: usize = 300;

/// What the user sees of an op: the name that the client gives it, or what it does. `inputs` are the names of
/// the ops that it takes outputs of.
pub(super) fn name(op: &pb::Op, metadata: Option<&pb::OpMetadata>, inputs: &[&str]) -> String {
    let given = metadata.and_then(|metadata| metadata.description.get("llb.customname"));
    match given {
        Some(name) if !name.is_empty() => cut(name),
        _ => cut(&what_it_does(op, inputs)),
    }
}

fn cut(name: &str) -> String {
    match name.char_indices().nth(NAME_MAX) {
        None => name.to_owned(),
        Some((end, _)) => format!("{}…", &name[..end]),
    }
}

fn what_it_does(op: &pb::Op, inputs: &[&str]) -> String {
    use pb::op::Op;
    match &op.op {
        None => "result".to_owned(),
        Some(Op::Source(source)) => source.identifier.clone(),
        Some(Op::Exec(exec)) => exec.meta.as_ref().map_or(String::new(), |m| m.args.join(" ")),
        Some(Op::File(file)) => {
            let actions = file.actions.iter().take(NAME_MAX).map(action);
            actions.collect::<Vec<_>>().join(", ")
        }
        Some(Op::Build(_)) => "build".to_owned(),
        Some(Op::Merge(_)) => {
            format!("merge ({})", inputs[..inputs.len().min(NAME_MAX)].join(", "))
        }
        Some(Op::Diff(diff)) => {
            let of = |index: Option<i64>| {
                let index = index.and_then(|index| usize::try_from(index).ok());
                index
                    .and_then(|index| inputs.get(index))
                    .map_or("scratch".to_owned(), |name| format!("({name})"))
            };
            let lower = of(diff.lower.as_ref().map(|lower| lower.input));
            format!("diff {lower} -> {}", of(diff.upper.as_ref().map(|upper| upper.input)))
        }
        Some(Op::Passthrough(passthrough)) => format!("passthrough {}", passthrough.id),
    }
}

fn action(action: &pb::FileAction) -> String {
    use pb::file_action::Action;
    match &action.action {
        None => String::new(),
        Some(Action::Copy(copy)) => format!("copy {} {}", copy.src, copy.dest),
        Some(Action::Mkfile(file)) => format!("mkfile {}", file.path),
        Some(Action::Mkdir(directory)) => format!("mkdir {}", directory.path),
        Some(Action::Rm(rm)) => format!("rm {}", rm.path),
        Some(Action::Symlink(link)) => format!("symlink {} -> {}", link.newpath, link.oldpath),
    }
}
