//! Graphs as text, one vertex a line: `name: input input`. A name that starts with `local` is a
//! directory, one without inputs is an image, `copy…` copies from its last input into its first,
//! `bind…` runs with its last input mounted, everything else runs on its inputs. `name!` runs even
//! if its result is known.

use std::collections::BTreeMap;
use std::sync::Arc;

use llb::*;

pub(crate) struct Graph {
    pub(crate) definition: Arc<Definition>,
    pub(crate) ids: BTreeMap<String, VertexId>,
}

impl Graph {
    pub(crate) fn name(&self, id: VertexId) -> &str {
        &self.definition.vertex(id).metadata.name
    }
}

pub(crate) fn graph(text: &str) -> Graph {
    let mut definition = Definition::default();
    let mut ids = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let (name, inputs) = line.split_once(':').unwrap_or((line, ""));
        let ignore_cache = name.ends_with('!');
        let name = name.trim_end_matches('!');
        let inputs: Vec<Input> =
            inputs.split_whitespace().map(|i| Input { vertex: ids[i], output: 0 }).collect();
        let metadata = Metadata { name: name.to_owned(), ignore_cache, ..Metadata::default() };
        let id = definition.add(op(name, inputs.len()), &inputs, metadata).expect("a good graph");
        ids.insert(name.to_owned(), id);
    }
    Graph { definition: Arc::new(definition), ids }
}

fn op(name: &str, inputs: usize) -> Op {
    if name.starts_with("local") {
        return Op::Source(SourceOp::Local(LocalSource::new(name)));
    }
    if inputs == 0 {
        let platform = oci::Platform::new("linux", "amd64", "");
        let reference = name.parse().expect("a reference");
        return Op::Source(SourceOp::Image(ImageSource { reference, platform }));
    }
    if name.starts_with("copy") {
        let kind = FileActionKind::Copy(copy(name));
        let input = if inputs == 1 { FileInput::Scratch } else { FileInput::Input(0) };
        let secondary = Some(FileInput::Input(inputs - 1));
        return Op::File(FileOp {
            actions: vec![FileAction { input, secondary, output: Some(0), kind }],
        });
    }
    let mount = |input: usize, dest: String, output| Mount {
        input: Some(input),
        selector: String::new(),
        dest,
        written_dest: String::new(),
        readonly: false,
        output,
        kind: MountKind::Bind,
    };
    let mut mounts = vec![mount(0, "/".to_owned(), Some(0))];
    let writable = !name.starts_with("bind");
    mounts.extend((1..inputs).map(|i| mount(i, format!("/in{i}"), writable.then_some(i))));
    Op::Exec(ExecOp {
        args: vec![name.to_owned()],
        env: vec![],
        proxy_env: BTreeMap::new(),
        cwd: "/".to_owned(),
        user: String::new(),
        hostname: String::new(),
        mounts,
        network: NetworkMode::Default,
        security: SecurityMode::Sandbox,
        extra_hosts: vec![],
        secret_env: vec![],
        ulimits: vec![],
        cgroup_parent: String::new(),
        valid_exit_codes: vec![],
        devices: vec![],
    })
}

fn copy(name: &str) -> CopyOp {
    CopyOp {
        src: format!("/{name}"),
        dest: "/".to_owned(),
        dest_has_dot: false,
        owner: None,
        mode: None,
        mode_symbolic: None,
        follow_symlink: true,
        dir_copy_contents: true,
        attempt_unpack: false,
        create_dest_path: true,
        allow_wildcard: true,
        allow_empty_wildcard: false,
        timestamp: None,
        include_patterns: vec![],
        exclude_patterns: vec![],
        always_replace_existing: false,
        parents: false,
        display_src: name.to_owned(),
    }
}
