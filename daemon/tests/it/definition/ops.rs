//! Ops as clients write them, and what becomes of some.

use std::collections::BTreeSet;

use daemon::definition::{self, Definition, Kept, Reading};
use daemon::wire::pb;
use oci::{Digest, Platform};
use prost::Message as _;

/// The definition whose result is output 0 of the last of `ops`.
pub(crate) fn definition(ops: &[pb::Op]) -> pb::Definition {
    let mut def: Vec<Vec<u8>> = ops.iter().map(prost::Message::encode_to_vec).collect();
    let result = pb::Op { inputs: vec![input(def.last().unwrap())], ..Default::default() };
    def.push(result.encode_to_vec());
    pb::Definition { def, ..Default::default() }
}

/// Output 0 of the op with these bytes.
pub(crate) fn input(op: &[u8]) -> pb::Input {
    pb::Input { digest: Digest::of(op).to_string(), index: 0 }
}

pub(crate) fn op(inputs: &[&[u8]], op: pb::op::Op) -> pb::Op {
    let inputs = inputs.iter().map(|bytes| input(bytes)).collect();
    pb::Op { inputs, op: Some(op), ..Default::default() }
}

pub(crate) fn source(identifier: &str, attributes: &[(&str, &str)]) -> pb::Op {
    let attrs = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let source = pb::SourceOp { identifier: identifier.to_owned(), attrs: attrs.collect() };
    op(&[], pb::op::Op::Source(source))
}

/// An empty root that is output 0.
pub(crate) fn root() -> pb::Mount {
    pb::Mount { input: -1, dest: "/".to_owned(), ..Default::default() }
}

pub(crate) fn exec(args: &[&str]) -> pb::ExecOp {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    let meta = pb::Meta { args, remove_mount_stubs_recursive: true, ..Default::default() };
    pb::ExecOp { meta: Some(meta), mounts: vec![root()], ..Default::default() }
}

/// Files in trees, the last one output 0.
pub(crate) fn files(files: &[(i64, &str)]) -> pb::op::Op {
    let mut actions: Vec<pb::FileAction> =
        files.iter().map(|(input, path)| made(*input, path)).collect();
    actions.iter_mut().rev().skip(1).for_each(|action| action.output = -1);
    pb::op::Op::File(pb::FileOp { actions })
}

/// A file in the tree `input`.
pub(crate) fn made(input: i64, path: &str) -> pb::FileAction {
    let file = pb::FileActionMkFile {
        path: path.to_owned(),
        mode: 0o644,
        timestamp: -1,
        ..Default::default()
    };
    let action = Some(pb::file_action::Action::Mkfile(file));
    pb::FileAction { input, secondary_input: -1, output: 0, action }
}

/// A copy from the result of action `earlier` of an op without inputs.
pub(crate) fn copied(earlier: i64) -> pb::FileAction {
    let copy = pb::FileActionCopy {
        src: "/".to_owned(),
        dest: "/".to_owned(),
        mode: -1,
        timestamp: -1,
        ..Default::default()
    };
    let action = Some(pb::file_action::Action::Copy(copy));
    pb::FileAction { input: -1, secondary_input: earlier, output: -1, action }
}

fn read(definition: &pb::Definition, results: &dyn Fn(&str) -> Option<Kept>) -> Definition {
    let reading = Reading {
        platform: Platform::new("linux", "arm64", ""),
        entitlements: &BTreeSet::from(["network.host".to_owned()]),
        results,
    };
    definition::read(definition, &reading).unwrap()
}

fn target(read: &Definition) -> &llb::Vertex {
    read.steps.vertex(read.target.unwrap().vertex)
}

#[test]
fn a_process_gets_a_path_and_what_it_may_have() {
    let mut process = exec(&["make", "all"]);
    process.network = pb::NetMode::Host as i32;
    let read = read(&definition(&[op(&[], pb::op::Op::Exec(process))]), &|_| None);
    let llb::Op::Exec(exec) = &target(&read).op else { panic!("a process") };
    assert_eq!(exec.env, ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]);
    assert_eq!((exec.network, exec.cwd.as_str()), (llb::NetworkMode::Host, "/"));
    let metadata = &target(&read).metadata;
    assert_eq!((metadata.name.as_str(), metadata.command.as_str()), ("make all", "make all"));
    assert_eq!(metadata.architectures, BTreeSet::from(["arm64".to_owned()]));
}

#[test]
fn outputs_are_numbered_without_gaps_and_what_is_only_read_is_passed_on() {
    let image = source("docker-image://a", &[]).encode_to_vec();
    let mount = |dest: &str, output, readonly| pb::Mount {
        dest: dest.to_owned(),
        output,
        readonly,
        ..Default::default()
    };
    let mut process = exec(&["true"]);
    process.mounts = vec![mount("/z", 9, false), mount("/", 3, true), mount("/a", 5, false)];
    let process = op(&[&image], pb::op::Op::Exec(process)).encode_to_vec();
    for (output, expected) in [(9, Some(1)), (5, Some(0)), (3, None)] {
        let result = pb::Input { index: output, ..input(&process) };
        let result = pb::Op { inputs: vec![result], ..Default::default() }.encode_to_vec();
        let def = vec![image.clone(), process.clone(), result];
        let read = read(&pb::Definition { def, ..Default::default() }, &|_| None);
        let is_process = matches!(target(&read).op, llb::Op::Exec(_));
        assert_eq!(is_process, expected.is_some(), "output {output}");
        assert_eq!(read.target.unwrap().output, expected.unwrap_or(0), "output {output}");
    }
}

#[test]
fn trees_without_anything_are_left_out_of_merges_and_differences() {
    let a = op(&[], files(&[(-1, "/a")])).encode_to_vec();
    let b = op(&[], files(&[(-1, "/b")])).encode_to_vec();
    let merge = |inputs: &[i64]| {
        let inputs = inputs.iter().map(|&input| pb::MergeInput { input }).collect();
        pb::op::Op::Merge(pb::MergeOp { inputs })
    };
    let diff = |lower, upper| {
        let (lower, upper) =
            (Some(pb::LowerDiffInput { input: lower }), Some(pb::UpperDiffInput { input: upper }));
        pb::op::Op::Diff(pb::DiffOp { lower, upper })
    };
    let cases = [
        (merge(&[0, -1, 1]), "merge (mkfile /a, mkfile /b)"),
        (merge(&[-1, 1]), "mkfile /b"),
        (merge(&[-1, -1]), "-"),
        (diff(-1, 1), "mkfile /b"),
        (diff(-1, -1), "-"),
        (diff(0, 1), "diff (mkfile /a) -> (mkfile /b)"),
        (diff(0, -1), "diff (mkfile /a) -> scratch"),
    ];
    for (last, expected) in cases {
        let last = op(&[&a, &b], last).encode_to_vec();
        let result = pb::Op { inputs: vec![input(&last)], ..Default::default() };
        let def = vec![a.clone(), b.clone(), last, result.encode_to_vec()];
        let read = read(&pb::Definition { def, ..Default::default() }, &|_| None);
        let name =
            read.target.map(|target| read.steps.vertex(target.vertex).metadata.name.as_str());
        assert_eq!(name.unwrap_or("-"), expected);
    }
}

#[test]
fn a_definition_may_start_from_a_result() {
    let first = read(&definition(&[op(&[], files(&[(-1, "/a")]))]), &|_| None);
    let kept = Kept { definition: first.steps.into(), target: first.target };
    let results = |id: &str| (id == "one").then(|| kept.clone());
    let result = source("mybuild-result://one", &[]).encode_to_vec();
    let more = op(&[&result], files(&[(0, "/b")])).encode_to_vec();
    let last = pb::Op { inputs: vec![input(&more)], ..Default::default() };
    let def = vec![result, more, last.encode_to_vec()];
    let from_result = read(&pb::Definition { def, ..Default::default() }, &results);
    // The same steps written in one definition.
    let a = op(&[], files(&[(-1, "/a")]));
    let whole = definition(&[a.clone(), op(&[&a.encode_to_vec()], files(&[(0, "/b")]))]);
    let whole = read(&whole, &|_| None);
    assert_eq!(target(&from_result).digest, target(&whole).digest);
}

#[test]
fn sources_say_what_they_are_asked_for() {
    let known = ("git.knownsshhosts", "example.org ssh-ed25519 AAAA");
    let git = [("git.fullurl", "ssh://git@example.org/a"), known, ("git.skipsubmodules", "true")];
    let git = read(&definition(&[source("git://example.org/a#v1:d/../e", &git)]), &|_| None);
    assert_eq!(git.known_hosts, format!("{}\n", known.1));
    let llb::Op::Source(llb::SourceOp::Git(source_op)) = &target(&git).op else { panic!("git") };
    assert_eq!(
        (&*source_op.remote, &*source_op.reference, &*source_op.subdirectory),
        ("ssh://git@example.org/a", "v1", "e")
    );
    assert!(!source_op.submodules);
    let local = [
        ("local.includepattern", r#"["*.c"]"#),
        ("local.followpaths", r#"["a","b"]"#),
        ("local.excludepatterns", r#"["*.o"]"#),
        ("local.session", "me"),
        ("local.unique", "1"),
        ("local.sharedkeyhint", "key"),
    ];
    let local = read(&definition(&[source("local://src", &local)]), &|_| None);
    let llb::Op::Source(llb::SourceOp::Local(local)) = &target(&local).op else { panic!("local") };
    let expected = llb::LocalSource {
        name: "src".to_owned(),
        exclude_patterns: vec!["*.o".to_owned()],
        include_patterns: vec!["*.c".to_owned()],
        follow_paths: vec!["a".to_owned(), "b".to_owned()],
        session: "me".to_owned(),
        shared_key: "key".to_owned(),
    };
    assert_eq!(*local, expected);
    let pulled = [("image.resolvemode", "pull")];
    assert!(read(&definition(&[source("docker-image://a", &pulled)]), &|_| None).pulls);
}
