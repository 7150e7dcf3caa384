//! What a step's key was made from, by name: its record keeps it, to say later why it ran again.

use std::collections::{BTreeMap, HashMap};

use llb::{FileActionKind, FileInput, Op};
use oci::Digest;
use solver::{ContentInput, without_sources};

use crate::file_op::TakenIn;

/// Name of the part for what a step builds on: an image, or the step before.
pub(super) const BASE: &str = "base layers";

/// Digits of a digest that are kept. To tell two values of one part apart, 64 bits are plenty.
const DIGITS: usize = 16;

/// Each part's name, and some digits of its digest: no value is in them. Steps with the same key have the
/// same parts, and the other way around, but for the names of files: these are as the Dockerfile has
/// them, and no part of a key. `copied` has details of inputs that are copied from.
pub(super) fn parts(
    op: &Op,
    inputs: &[ContentInput],
    copied: &HashMap<usize, Vec<TakenIn>>,
) -> BTreeMap<String, String> {
    let mut parts = llb::parts::parts(&without_sources(op, inputs));
    for (number, input) in inputs.iter().enumerate() {
        match (input, copied.get(&number)) {
            (ContentInput::Content(_), Some(copied)) => {
                copied.iter().for_each(|part| add_copied(&mut parts, part));
            }
            (ContentInput::Content(digest), None) => {
                add(&mut parts, use_of(op, number), digest.as_str());
            }
            (ContentInput::Key(key, output), _) => {
                add(&mut parts, use_of(op, number), &format!("{} {output}", key.0));
            }
        }
    }
    let short = |digest: Digest| digest.hex().chars().take(DIGITS).collect();
    parts.into_iter().map(|(name, digest)| (name, short(digest))).collect()
}

fn add_copied(parts: &mut BTreeMap<String, Digest>, part: &TakenIn) {
    match part {
        TakenIn::Files { name, copied } => {
            for (directory, digest) in copied.parts() {
                add(parts, files(&below(name, &directory)), digest.as_str());
            }
        }
        TakenIn::Owner(name, id) => add(parts, format!("owner {name}"), &id.to_string()),
    }
}

/// `src` in `.`, or in the directory that is copied.
fn below(name: &str, directory: &[u8]) -> String {
    let directory = String::from_utf8_lossy(directory);
    match (name.trim_end_matches('/'), &*directory) {
        (_, "") => name.to_owned(),
        ("." | "", directory) => directory.to_owned(),
        (name, directory) => format!("{name}/{directory}"),
    }
}

/// Adds to what the part has already.
fn add(parts: &mut BTreeMap<String, Digest>, name: String, value: &str) {
    let known = parts.get(&name).map_or("", |digest| digest.as_str());
    let digest = Digest::of(format!("{known} {value}").as_bytes());
    parts.insert(name, digest);
}

/// What an op needs an input for.
fn use_of(op: &Op, input: usize) -> String {
    match op {
        Op::Exec(exec) => {
            let mounts = exec.mounts.iter().filter(|mount| mount.input == Some(input));
            let places: Vec<&str> = mounts.map(|mount| mount.dest.as_str()).collect();
            if places.contains(&"/") {
                BASE.to_owned()
            } else {
                format!("files at {}", places.join(", "))
            }
        }
        Op::File(file) if file.actions.iter().any(|a| a.input == FileInput::Input(input)) => {
            BASE.to_owned()
        }
        Op::File(file) => {
            let copies = file.actions.iter().filter_map(|action| match &action.kind {
                FileActionKind::Copy(copy) => {
                    (action.secondary == Some(FileInput::Input(input))).then_some(copy)
                }
                _ => None,
            });
            let names: Vec<&str> = copies.map(|copy| copy.display_src.as_str()).collect();
            files(&names.join(" "))
        }
        // What `--link` copies lies on what is below it.
        Op::Merge | Op::Diff if input == 0 => BASE.to_owned(),
        Op::Merge | Op::Diff => "copied files".to_owned(),
        Op::Source(_) => format!("input {input}"),
    }
}

/// Files by their names in the Dockerfile; what comes from a URL or a repository has none.
fn files(names: &str) -> String {
    match names {
        "" => "added content".to_owned(),
        names => format!("files {names}"),
    }
}

#[cfg(test)]
mod tests {
    use llb::{ExecOp, FileOp, Mount, MountKind, NetworkMode, SecurityMode};
    use solver::{CacheKey, content_key};

    use super::*;
    use crate::file_op::{copy_directory, digest_of_taken_in};
    use crate::tree::Copied;

    /// A process on input 0 that sees input 1 at `/src`.
    fn exec(command: &str, env: &str) -> Op {
        let mount = |dest: &str, input, output: Option<usize>| Mount {
            input: Some(input),
            selector: String::new(),
            dest: dest.to_owned(),
            written_dest: String::new(),
            readonly: output.is_none(),
            output,
            kind: MountKind::Bind,
        };
        Op::Exec(ExecOp {
            args: vec![command.to_owned()],
            env: env.split_whitespace().map(str::to_owned).collect(),
            proxy_env: BTreeMap::from([("HTTP_PROXY".to_owned(), command.to_owned())]),
            cwd: "/".to_owned(),
            user: String::new(),
            hostname: String::new(),
            mounts: vec![mount("/", 0, Some(0)), mount("/src", 1, None)],
            network: NetworkMode::Default,
            security: SecurityMode::Sandbox,
            extra_hosts: Vec::new(),
            secret_env: Vec::new(),
            ulimits: Vec::new(),
            cgroup_parent: String::new(),
            valid_exit_codes: Vec::new(),
            devices: Vec::new(),
        })
    }

    /// Copies `sources` from input 1 over input 0.
    fn copy(sources: &str) -> Op {
        let actions = sources.split_whitespace().flat_map(|source| {
            let mut file = copy_directory(source, None, None);
            file.actions[0].input = FileInput::Input(0);
            file.actions[0].secondary = Some(FileInput::Input(1));
            file.actions
        });
        Op::File(FileOp { actions: actions.collect() })
    }

    fn key(text: &str) -> ContentInput {
        ContentInput::Key(CacheKey(Digest::of(text.as_bytes())), 0)
    }

    /// A copy of files with this content each: its op, its inputs, and what is copied.
    fn copied(below: &str, files: &str) -> Step {
        let files = files.split_whitespace().filter_map(|file| file.split_once('='));
        let files: Vec<(&str, &str)> = files.collect();
        let sources: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        let taken_in = files.iter().map(|(name, content)| TakenIn::Files {
            name: (*name).to_owned(),
            copied: Copied::whole(Digest::of(content.as_bytes())),
        });
        let taken_in: Vec<TakenIn> = taken_in.collect();
        let inputs = vec![key(below), ContentInput::Content(digest_of_taken_in(&taken_in))];
        (copy(&sources.join(" ")), inputs, HashMap::from([(1, taken_in)]))
    }

    fn run(command: &str, env: &str, below: &str, files: &str) -> Step {
        let files = ContentInput::Content(Digest::of(files.as_bytes()));
        (exec(command, env), vec![key(below), files], HashMap::new())
    }

    type Step = (Op, Vec<ContentInput>, HashMap<usize, Vec<TakenIn>>);

    /// Names of the parts that differ, without the order.
    fn differ((op, inputs, files): &Step, (other_op, other_inputs, other_files): &Step) -> String {
        let (one, other) = (parts(op, inputs, files), parts(other_op, other_inputs, other_files));
        let is_same = content_key(op, inputs) == content_key(other_op, other_inputs);
        assert_eq!(one == other, is_same, "{one:?} {other:?}");
        let names =
            one.keys().chain(other.keys()).filter(|name| one.get(*name) != other.get(*name));
        let mut names: Vec<&str> = names.map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names.retain(|name| *name != llb::parts::ORDER);
        names.join(", ")
    }

    #[test]
    fn what_a_key_was_made_from_has_a_name() {
        let ran = run("make", "A=1 B=2", "base", "files");
        for (other, expected) in [
            (run("make", "A=1 B=2", "base", "files"), ""),
            (run("make all", "A=1 B=2", "base", "files"), "command"),
            (run("make", "A=1 B=3", "base", "files"), "variable B"),
            (run("make", "A=1", "base", "files"), "variable B"),
            (run("make", "A=1 B=2", "other", "files"), "base layers"),
            (run("make", "A=1 B=2", "base", "others"), "files at /src"),
            (run("make", "A=2 B=2", "other", "others"), "base layers, files at /src, variable A"),
        ] {
            assert_eq!(differ(&ran, &other), expected);
        }
        let ran = copied("base", "a=1 b=2");
        for (other, expected) in [
            (copied("base", "a=1 b=2"), ""),
            (copied("base", "a=1 b=3"), "files b"),
            (copied("base", "a=2 b=2"), "files a"),
            (copied("other", "a=1 b=2"), "base layers"),
            (copied("base", "a=1"), "copy to /, files b"),
        ] {
            assert_eq!(differ(&ran, &other), expected);
        }
    }

    #[test]
    fn inputs_without_a_name_are_told_in_words() {
        let fetched = |content: &str| {
            let (name, copied) = (String::new(), Copied::whole(Digest::of(content.as_bytes())));
            let taken_in = vec![TakenIn::Files { name, copied }];
            let inputs = vec![key("base"), ContentInput::Content(digest_of_taken_in(&taken_in))];
            (copy("a"), inputs, HashMap::from([(1, taken_in)]))
        };
        assert_eq!(differ(&fetched("one"), &fetched("two")), "added content");
        let linked = |below, copied| (Op::Merge, vec![key(below), key(copied)], HashMap::new());
        let ran = linked("base", "copied");
        assert_eq!(differ(&ran, &linked("other", "copied")), "base layers");
        assert_eq!(differ(&ran, &linked("base", "other")), "copied files");
    }

    #[test]
    fn owners_by_name_are_parts() {
        let of = |id| {
            let taken_in = vec![TakenIn::Owner("app".to_owned(), id)];
            let inputs = vec![key("base"), ContentInput::Content(digest_of_taken_in(&taken_in))];
            (copy("a"), inputs, HashMap::from([(1, taken_in)]))
        };
        assert_eq!(differ(&of(1000), &of(1001)), "owner app");
    }

    #[test]
    fn no_value_is_in_a_part() {
        let (op, inputs, files) = run("make --token hunter2", "TOKEN=hunter2", "hunter2", "files");
        let text = format!("{:?}", parts(&op, &inputs, &files));
        assert!(text.contains("variable TOKEN") && !text.contains("hunter2"), "{text}");
    }
}
