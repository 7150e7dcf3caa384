//! What of a local context a build reads.

use llb::{Definition, FileActionKind, FileInput, Op, VertexId};

/// What stands for other characters in a path that is copied.
const WILDCARDS: [char; 4] = ['*', '?', '[', '\\'];

/// The paths that are read of the files that `vertex` is; `None` for all of them. The last name of one may have
/// wildcards.
pub(crate) fn paths_wanted(definition: &Definition, vertex: VertexId) -> Option<Vec<String>> {
    let mut paths = Vec::new();
    let dependents = definition.dependents(vertex);
    if dependents.is_empty() {
        return None;
    }
    for dependent in dependents {
        let inputs = definition.inputs(dependent).into_iter().enumerate();
        for (index, _) in inputs.filter(|(_, input)| input.vertex == vertex) {
            paths.extend(wanted_by(&definition.vertex(dependent).op, index)?);
        }
    }
    paths.sort();
    paths.dedup();
    Some(paths)
}

/// What an op reads of its input number `index`.
fn wanted_by(op: &Op, index: usize) -> Option<Vec<String>> {
    match op {
        Op::File(file) => {
            let mut paths = Vec::new();
            for action in &file.actions {
                if action.input == FileInput::Input(index) {
                    return None;
                }
                match &action.kind {
                    FileActionKind::Copy(copy)
                        if action.secondary == Some(FileInput::Input(index)) =>
                    {
                        paths.push(path(&copy.src, copy.allow_wildcard)?);
                    }
                    _ => {}
                }
            }
            // It names an owner, perhaps.
            if paths.is_empty() { None } else { Some(paths) }
        }
        Op::Exec(exec) => {
            let mounts = exec.mounts.iter().filter(|mount| mount.input == Some(index));
            mounts.map(|mount| path(&mount.selector, false)).collect()
        }
        Op::Merge | Op::Diff | Op::Source(_) => None,
    }
}

/// A path as it is asked for; `None` for the whole tree. Wildcards before the last name ask for all of the folder
/// they are in.
fn path(written: &str, allows_wildcards: bool) -> Option<String> {
    let mut names: Vec<&str> = Vec::new();
    for name in written.split('/').filter(|name| !matches!(*name, "" | ".")) {
        match name {
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    let last = names.len().checked_sub(1)?;
    let wild = names.iter().position(|name| name.contains(WILDCARDS));
    match wild {
        Some(0) if last > 0 || !allows_wildcards => return None,
        Some(first) if first < last || !allows_wildcards => names.truncate(first),
        _ => {}
    }
    Some(names.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_clean_and_wild_at_their_end_alone() {
        for (written, wild, expected) in [
            ("/a/b", true, Some("a/b")),
            ("/a/./b/", true, Some("a/b")),
            ("/a/../b", true, Some("b")),
            ("/", true, None),
            ("", true, None),
            ("/../..", true, None),
            ("/*.txt", true, Some("*.txt")),
            ("/a/*.txt", true, Some("a/*.txt")),
            ("/a/*/b", true, Some("a")),
            ("/*/b", true, None),
            ("/a/*.txt", false, Some("a")),
            ("/*.txt", false, None),
            ("/a/b[1]/c", false, Some("a")),
        ] {
            assert_eq!(path(written, wild).as_deref(), expected, "{written}");
        }
    }
}
