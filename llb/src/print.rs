//! A definition as text for people, as a graph for Graphviz, and as JSON for programs.

use std::fmt;

use petgraph::dot::{Config, Dot};
use petgraph::graph::DiGraph;
use serde_json::{Value, json};

use crate::definition::{Definition, VertexId};
use crate::op::{
    CopyOp, ExecOp, FileAction, FileActionKind, FileInput, FileOp, GitSource, GitTimes, HttpSource,
    LocalSource, Mount, MountKind, NetworkMode, Op, Owner, OwnerId, SecurityMode, SourceOp,
};

/// What is known of a vertex beside the definition: its cache key, for instance.
pub type Label<'a> = &'a dyn Fn(VertexId) -> Option<String>;

/// A label for nothing.
pub fn no_label(_: VertexId) -> Option<String> {
    None
}

/// One line a vertex, inputs first: number, digest, name, inputs, and the label if there is one.
pub fn text(definition: &Definition, targets: &[VertexId], label: Label<'_>) -> String {
    let order = definition.reachable(targets);
    let number = numbering(&order);
    let mut text = String::new();
    for (line, &id) in order.iter().enumerate() {
        let vertex = definition.vertex(id);
        let inputs: Vec<String> = definition
            .inputs(id)
            .iter()
            .map(|input| match input.output {
                0 => format!("#{}", number(input.vertex)),
                output => format!("#{}.{output}", number(input.vertex)),
            })
            .collect();
        let digest = short(vertex.digest.as_str());
        let from =
            if inputs.is_empty() { String::new() } else { format!(" <- {}", inputs.join(" ")) };
        let label = label(id).map(|label| format!(" key={label}")).unwrap_or_default();
        let again = match (vertex.metadata.ignore_cache, vertex.metadata.max_age) {
            (true, _) => " no-cache".to_owned(),
            (false, Some(seconds)) => format!(" ttl={seconds}s"),
            (false, None) => String::new(),
        };
        text.push_str(&format!(
            "#{line} {digest} {} {}{from}{again}{label}\n",
            kind(&vertex.op),
            one_line(&vertex.metadata.name),
        ));
    }
    text
}

/// A graph in the language of Graphviz; edges run from an input to what takes it.
pub fn dot(definition: &Definition, targets: &[VertexId], label: Label<'_>) -> String {
    let order = definition.reachable(targets);
    let mut graph = DiGraph::<Shown, usize>::new();
    let mut nodes = std::collections::HashMap::new();
    for &id in &order {
        let vertex = definition.vertex(id);
        let lines = [
            one_line(&vertex.metadata.name),
            format!("{} {}", kind(&vertex.op), short(vertex.digest.as_str())),
            label(id).map(|label| format!("key {label}")).unwrap_or_default(),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).filter(|l| !l.is_empty()).collect();
        nodes.insert(id, graph.add_node(Shown(lines.join("\n"))));
        for input in definition.inputs(id) {
            graph.add_edge(nodes[&input.vertex], nodes[&id], input.output);
        }
    }
    let edge =
        |_: &DiGraph<Shown, usize>, edge: petgraph::graph::EdgeReference<'_, usize>| match edge
            .weight()
        {
            0 => String::new(),
            output => format!("label=\"output {output}\""),
        };
    let node =
        |_: &DiGraph<Shown, usize>, _: (petgraph::graph::NodeIndex, &Shown)| "shape=box".to_owned();
    let config = [Config::EdgeNoLabel];
    format!("{:?}", Dot::with_attr_getters(&graph, &config, &edge, &node))
}

/// A node's text, quoted by [`Dot`].
struct Shown(String);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An object for each vertex, inputs first. Fields are stable; values of secrets and proxies are
/// not among them.
pub fn json(definition: &Definition, targets: &[VertexId], label: Label<'_>) -> Value {
    let order = definition.reachable(targets);
    let number = numbering(&order);
    let vertices: Vec<Value> = order
        .iter()
        .map(|&id| {
            let vertex = definition.vertex(id);
            let inputs: Vec<Value> = definition
                .inputs(id)
                .iter()
                .map(|input| json!({ "vertex": number(input.vertex), "output": input.output }))
                .collect();
            let metadata = &vertex.metadata;
            let mut object = json!({
                "id": number(id),
                "digest": vertex.digest.as_str(),
                "name": metadata.name,
                "inputs": inputs,
                "op": op(&vertex.op),
            });
            if !metadata.stage.is_empty() {
                object["stage"] = json!(metadata.stage);
            }
            if let Some((start, end)) = metadata.lines {
                object["lines"] = json!([start, end]);
            }
            if metadata.ignore_cache {
                object["ignore_cache"] = json!(true);
            }
            if let Some(seconds) = metadata.max_age {
                object["max_age"] = json!(seconds);
            }
            if let Some(label) = label(id) {
                object["key"] = json!(label);
            }
            object
        })
        .collect();
    let targets: Vec<usize> = targets.iter().map(|&target| number(target)).collect();
    json!({ "vertices": vertices, "targets": targets })
}

/// Places in the order of printing: numbers in the definition may have gaps.
fn numbering(order: &[VertexId]) -> impl Fn(VertexId) -> usize {
    let places: std::collections::HashMap<VertexId, usize> =
        order.iter().enumerate().map(|(place, &id)| (id, place)).collect();
    move |id| places[&id]
}

/// The first digits of a digest, as many as tell vertices of one build apart.
fn short(digest: &str) -> &str {
    let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
    hex.get(..12).unwrap_or(hex)
}

fn one_line(name: &str) -> String {
    name.replace('\n', " ")
}

fn kind(op: &Op) -> &'static str {
    match op {
        Op::Source(_) => "source",
        Op::Exec(_) => "exec",
        Op::File(_) => "file",
        Op::Merge => "merge",
        Op::Diff => "diff",
    }
}

fn op(op: &Op) -> Value {
    match op {
        Op::Source(source) => json!({ "source": self::source(source) }),
        Op::Exec(exec) => json!({ "exec": self::exec(exec) }),
        Op::File(file) => json!({ "file": self::file(file) }),
        Op::Merge => json!({ "merge": {} }),
        Op::Diff => json!({ "diff": {} }),
    }
}

fn source(source: &SourceOp) -> Value {
    match source {
        SourceOp::Image(image) => {
            json!({ "image": image.reference.to_string(), "platform": image.platform.to_string() })
        }
        SourceOp::OciLayout { name, reference, platform } => {
            json!({ "layout": name, "reference": reference, "platform": platform.to_string() })
        }
        SourceOp::Local(local) => self::local(local),
        SourceOp::Git(git) => self::git(git),
        SourceOp::Http(HttpSource { url, checksum, filename, mode, uid, gid }) => json!({
            "http": url,
            "checksum": checksum.as_ref().map(|digest| digest.as_str()),
            "filename": filename,
            "mode": format!("{mode:o}"),
            "owner": [uid, gid],
        }),
    }
}

fn local(local: &LocalSource) -> Value {
    let mut object = json!({ "local": local.name, "exclude": local.exclude_patterns });
    for (name, patterns) in [("include", &local.include_patterns), ("follow", &local.follow_paths)]
    {
        if !patterns.is_empty() {
            object[name] = json!(patterns);
        }
    }
    object
}

fn git(git: &GitSource) -> Value {
    json!({
        "git": git.remote,
        "reference": git.reference,
        "subdirectory": git.subdirectory,
        "checksum": git.checksum,
        "fetch_by_commit": git.fetch_by_commit,
        "keep_git_dir": git.keep_git_dir,
        "submodules": git.submodules,
        "lfs": git.lfs,
        "times": match git.times {
            GitTimes::Checkout => "checkout",
            GitTimes::Commit => "commit",
        },
    })
}

fn exec(exec: &ExecOp) -> Value {
    let mut object = json!({
        "args": exec.args,
        "env": exec.env,
        "cwd": exec.cwd,
        "user": exec.user,
        "mounts": exec.mounts.iter().map(mount).collect::<Vec<_>>(),
    });
    match exec.network {
        NetworkMode::Default => {}
        NetworkMode::Host => object["network"] = json!("host"),
        NetworkMode::None => object["network"] = json!("none"),
    }
    if exec.security == SecurityMode::Insecure {
        object["security"] = json!("insecure");
    }
    if !exec.hostname.is_empty() {
        object["hostname"] = json!(exec.hostname);
    }
    if !exec.extra_hosts.is_empty() {
        object["extra_hosts"] = json!(exec.extra_hosts);
    }
    if !exec.secret_env.is_empty() {
        let secrets = exec.secret_env.iter();
        let secrets = secrets.map(|s| json!({ "id": s.id, "env": s.name, "optional": s.optional }));
        object["secrets"] = secrets.collect();
    }
    if !exec.ulimits.is_empty() {
        let limits = exec.ulimits.iter();
        object["ulimits"] = limits.map(|l| json!([l.name, l.soft, l.hard])).collect();
    }
    if !exec.devices.is_empty() {
        let devices = exec.devices.iter();
        object["devices"] =
            devices.map(|d| json!({ "name": d.name, "optional": d.optional })).collect();
    }
    object
}

fn mount(mount: &Mount) -> Value {
    let mut object = json!({ "dest": mount.dest, "readonly": mount.readonly });
    if let Some(input) = mount.input {
        object["input"] = json!(input);
    }
    if let Some(output) = mount.output {
        object["output"] = json!(output);
    }
    if !matches!(mount.selector.as_str(), "" | "/") {
        object["selector"] = json!(mount.selector);
    }
    let (kind, details) = match &mount.kind {
        MountKind::Bind => ("bind", Value::Null),
        MountKind::Cache { id, sharing } => {
            ("cache", json!({ "id": id, "sharing": format!("{sharing:?}").to_lowercase() }))
        }
        MountKind::Tmpfs { size } => ("tmpfs", json!({ "size": size })),
        MountKind::Secret { id, uid, gid, mode, optional }
        | MountKind::Ssh { id, uid, gid, mode, optional } => {
            let kind = if matches!(mount.kind, MountKind::Ssh { .. }) { "ssh" } else { "secret" };
            let mode = format!("{mode:o}");
            (kind, json!({ "id": id, "owner": [uid, gid], "mode": mode, "optional": optional }))
        }
    };
    object["type"] = json!(kind);
    if let (Value::Object(object), Value::Object(details)) = (&mut object, details) {
        object.extend(details);
    }
    object
}

fn file(file: &FileOp) -> Value {
    file.actions.iter().map(action).collect()
}

fn action(action: &FileAction) -> Value {
    let mut object = match &action.kind {
        FileActionKind::Copy(copy) => json!({ "copy": self::copy(copy) }),
        FileActionKind::Mkfile(file) => json!({ "mkfile": {
            "path": file.path,
            "mode": format!("{:o}", file.mode),
            "size": file.data.len(),
            "owner": file.owner.as_ref().map(owner),
        } }),
        FileActionKind::Mkdir(dir) => json!({ "mkdir": {
            "path": dir.path,
            "mode": format!("{:o}", dir.mode),
            "parents": dir.make_parents,
            "owner": dir.owner.as_ref().map(owner),
        } }),
        FileActionKind::Rm(rm) => json!({ "rm": { "path": rm.path } }),
        FileActionKind::Symlink(link) => {
            json!({ "symlink": { "path": link.path, "target": link.target } })
        }
    };
    object["on"] = file_input(&action.input);
    if let Some(secondary) = &action.secondary {
        object["from"] = file_input(secondary);
    }
    if let Some(output) = action.output {
        object["output"] = json!(output);
    }
    object
}

fn copy(copy: &CopyOp) -> Value {
    let mut object = json!({ "src": copy.src, "dest": copy.dest });
    let flags = [
        ("follow_symlink", copy.follow_symlink),
        ("contents", copy.dir_copy_contents),
        ("unpack", copy.attempt_unpack),
        ("wildcard", copy.allow_wildcard),
        ("replace", copy.always_replace_existing),
        ("parents", copy.parents),
    ];
    for (name, _) in flags.iter().filter(|(_, is_set)| *is_set) {
        object[*name] = json!(true);
    }
    if let Some(owner) = &copy.owner {
        object["owner"] = self::owner(owner);
    }
    if let Some(mode) = copy.mode {
        object["mode"] = json!(format!("{mode:o}"));
    }
    if let Some(mode) = &copy.mode_symbolic {
        object["mode"] = json!(mode);
    }
    for (name, patterns) in
        [("include", &copy.include_patterns), ("exclude", &copy.exclude_patterns)]
    {
        if !patterns.is_empty() {
            object[name] = json!(patterns);
        }
    }
    object
}

fn owner(owner: &Owner) -> Value {
    let id = |id: &OwnerId| match id {
        OwnerId::Name { name, .. } => name.clone(),
        OwnerId::Id(number) => number.to_string(),
    };
    let part = |part: &Option<OwnerId>| part.as_ref().map(id);
    json!({ "user": part(&owner.user), "group": part(&owner.group) })
}

fn file_input(input: &FileInput) -> Value {
    match input {
        FileInput::Scratch => json!("scratch"),
        FileInput::Input(number) => json!({ "input": number }),
        FileInput::Action(number) => json!({ "action": number }),
    }
}
