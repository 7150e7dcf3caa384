//! Definitions over the socket: built, read, built on, and known beside Dockerfiles.

use std::io::Read as _;

use daemon::wire::control::SolveRequest;
use daemon::wire::control::control_client::ControlClient;
use daemon::wire::gateway::llb_bridge_client::LlbBridgeClient;
use daemon::wire::gateway::{
    self, EvaluateRequest, PingRequest, ReadDirRequest, ReadFileRequest, ResolveImageConfigRequest,
    ReturnRequest, StatFileRequest, result,
};
use daemon::wire::pb;
use oci::Digest;
use prost::Message as _;

use super::builds::exporter;
use super::client::{Asked, Client, channel, of_build};
use super::daemon::Daemon;
use crate::e2e::builder::Builder;

/// Ops, each in the bytes that others call it by.
#[derive(Default)]
struct Ops(Vec<Vec<u8>>);

impl Ops {
    /// Adds an op on outputs 0 of others; gives back what they call it.
    fn add(&mut self, inputs: &[usize], op: pb::op::Op) -> usize {
        let inputs = inputs.iter().map(|&place| self.output(place)).collect();
        let op = pb::Op { inputs, op: Some(op), ..Default::default() };
        self.0.push(op.encode_to_vec());
        self.0.len() - 1
    }

    fn output(&self, place: usize) -> pb::Input {
        pb::Input { digest: Digest::of(&self.0[place]).to_string(), index: 0 }
    }

    fn source(&mut self, identifier: &str, attributes: &[(&str, &str)]) -> usize {
        let attrs =
            attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let identifier = identifier.to_owned();
        let source = pb::SourceOp { identifier, attrs: attrs.collect() };
        self.add(&[], pb::op::Op::Source(source))
    }

    /// A file in `tree`.
    fn file(&mut self, tree: Option<usize>, path: &str, text: &str) -> usize {
        let file = pb::FileActionMkFile {
            path: path.to_owned(),
            mode: 0o640,
            data: text.into(),
            timestamp: 1_000_000_000_000_000_000,
            ..Default::default()
        };
        let action = pb::file_action::Action::Mkfile(file);
        let input = if tree.is_some() { 0 } else { -1 };
        let action = pb::FileAction { input, secondary_input: -1, output: 0, action: Some(action) };
        let inputs: Vec<usize> = tree.into_iter().collect();
        self.add(&inputs, pb::op::Op::File(pb::FileOp { actions: vec![action] }))
    }

    /// A copy into `base` as a Dockerfile's is.
    fn copy(&mut self, base: usize, from: usize, src: &str, dest: &str) -> usize {
        let copy = pb::FileActionCopy {
            src: src.to_owned(),
            dest: dest.to_owned(),
            mode: -1,
            timestamp: -1,
            follow_symlink: true,
            dir_copy_contents: true,
            create_dest_path: true,
            allow_wildcard: true,
            allow_empty_wildcard: true,
            ..Default::default()
        };
        let action = pb::file_action::Action::Copy(copy);
        let action =
            pb::FileAction { input: 0, secondary_input: 1, output: 0, action: Some(action) };
        self.add(&[base, from], pb::op::Op::File(pb::FileOp { actions: vec![action] }))
    }

    /// A shell in `root`, as a Dockerfile's is.
    fn run(&mut self, root: usize, command: &str) -> usize {
        let args = ["/bin/sh", "-c", command].map(str::to_owned).to_vec();
        let env = vec![PATH.to_owned()];
        let meta = pb::Meta { args, env, cwd: "/".to_owned(), ..Default::default() };
        let mounts = vec![pb::Mount { dest: "/".to_owned(), ..Default::default() }];
        let exec = pb::ExecOp { meta: Some(meta), mounts, ..Default::default() };
        self.add(&[root], pb::op::Op::Exec(exec))
    }

    /// The definition whose result is `place`.
    fn result(mut self, place: usize) -> pb::Definition {
        let last = pb::Op { inputs: vec![self.output(place)], ..Default::default() };
        self.0.push(last.encode_to_vec());
        pb::Definition { def: self.0, ..Default::default() }
    }
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What `FROM busybox`, `COPY a.txt /` and a `RUN` come to.
fn as_dockerfile(command: &str) -> pb::Definition {
    let mut ops = Ops::default();
    let base = ops.source("docker-image://docker.io/library/busybox:latest", &[]);
    let context = ops.source("local://context", &[("local.followpaths", "[\"a.txt\"]")]);
    let copied = ops.copy(base, context, "/a.txt", "/");
    let ran = ops.run(copied, command);
    ops.result(ran)
}

/// The text of a file in a tar.
fn text_in(archive: &[u8], name: &str) -> String {
    let mut archive = tar::Archive::new(archive);
    let mut text = String::new();
    let found = archive.entries().expect("a tar").map(|entry| entry.expect("whole"));
    let mut found = found.filter(|entry| entry.path().is_ok_and(|path| path.ends_with(name)));
    found.next().expect("it is there").read_to_string(&mut text).expect("text");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn privileged_a_step_of_a_dockerfile_is_known_in_a_definition_and_the_other_way_around() {
    let Some(builder) = Builder::new() else { return };
    builder.write("files/a.txt", "first\n");
    let daemon = Daemon::start(&builder, &[]);
    let root = builder.path("files");
    let client = Client::with(&[("context", &root), ("dockerfile", &root)]);
    let built = async |command: &str, definition: bool| {
        let text = format!("FROM busybox\nCOPY a.txt /\nRUN {command}\n");
        builder.write("files/Dockerfile", &text);
        let definition = definition.then(|| as_dockerfile(command));
        let exporters = vec![exporter("tar", &[])];
        let asked = Asked { definition, exporters, ..Asked::default() };
        let done = client.build(&daemon.socket, asked).await;
        done.response.as_ref().expect("it builds");
        let ran = done.log();
        let archive = client.archives.0.lock().expect("no panic")["0"].clone();
        (text_in(&archive, "b.txt"), ran)
    };
    for (number, is_definition) in [false, true].into_iter().enumerate() {
        let command = format!("cat /a.txt >/b.txt; echo {number} ran");
        let (text, log) = built(&command, is_definition).await;
        assert_eq!((text.as_str(), log.as_str()), ("first\n", &*format!("{number} ran\n")));
        let (text, log) = built(&command, !is_definition).await;
        assert_eq!((text.as_str(), log.as_str()), ("first\n", ""), "{number}");
    }
    daemon.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn privileged_a_definition_may_stand_in_the_request_itself() {
    let Some(builder) = Builder::new() else { return };
    let daemon = Daemon::start(&builder, &[]);
    let client = Client::default();
    let channel = channel(&daemon.socket).await;
    let session = client.open(&channel).await;
    let mut ops = Ops::default();
    let file = ops.file(None, "/hello", "hello");
    let config = r#"{"architecture":"amd64","os":"linux","config":{"Env":["A=1"]},
        "rootfs":{"type":"layers","diff_ids":[]}}"#;
    let request = SolveRequest {
        r#ref: "alone".to_owned(),
        session: session.id.clone(),
        definition: Some(ops.result(file)),
        exporters: vec![exporter("docker", &[("containerimage.config", config), ("name", "a:1")])],
        ..SolveRequest::default()
    };
    let solved = ControlClient::new(channel.clone()).solve(request).await.expect("it builds");
    let response = solved.into_inner().exporter_response;
    assert!(response["containerimage.digest"].starts_with("sha256:"), "{response:?}");
    let archive = client.archives.0.lock().expect("no panic")["0"].clone();
    let config = response["containerimage.config.digest"].replace("sha256:", "");
    assert!(text_in(&archive, &config).contains(r#""Env":["A=1"]"#));
    session.frames.close();
    daemon.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn privileged_trees_can_be_read_and_built_on_while_a_build_goes_on() {
    let Some(builder) = Builder::new() else { return };
    let daemon = Daemon::start(&builder, &[]);
    let client = Client::default();
    let channel = channel(&daemon.socket).await;
    let session = client.open(&channel).await;
    let request = SolveRequest {
        r#ref: "reading".to_owned(),
        session: session.id.clone(),
        exporters: vec![exporter("tar", &[])],
        ..SolveRequest::default()
    };
    let mut control = ControlClient::new(channel.clone());
    let solving = tokio::spawn(async move { control.solve(request).await });
    let mut bridge = LlbBridgeClient::new(channel.clone());
    let ask = |definition| gateway::SolveRequest {
        definition: Some(definition),
        allow_result_array_ref: true,
        ..gateway::SolveRequest::default()
    };
    let one = |answer: gateway::SolveResponse| match answer.result.and_then(|r| r.result) {
        Some(result::Result::Ref(one)) => one,
        other => panic!("one tree: {other:?}"),
    };
    let mut ops = Ops::default();
    let file = ops.file(None, "/first", "some text");
    let asked = of_build("reading", ask(ops.result(file)));
    bridge.ping(of_build("reading", PingRequest {})).await.expect("the build is known");
    let first = one(bridge.solve(asked).await.expect("it is read").into_inner());
    let path = "/first".to_owned();
    let read = |range| ReadFileRequest {
        r#ref: first.id.clone(),
        file_path: path.clone(),
        range,
        ..Default::default()
    };
    let range = Some(gateway::FileRange { offset: 5, length: 2 });
    for (range, expected) in [(None, "some text"), (range, "te")] {
        let data = bridge.read_file(of_build("reading", read(range))).await.expect("it is there");
        assert_eq!(String::from_utf8(data.into_inner().data).expect("text"), expected);
    }
    let r#ref = first.id.clone();
    let stat = StatFileRequest { r#ref: r#ref.clone(), path: path.clone(), ..Default::default() };
    let stat = bridge.stat_file(of_build("reading", stat)).await.expect("it is there");
    let stat = stat.into_inner().stat.expect("what it is");
    assert_eq!((stat.path.as_str(), stat.mode, stat.size), ("first", 0o640, 9));
    assert_eq!(stat.mod_time, 1_000_000_000_000_000_000);
    let missing = StatFileRequest { r#ref, path: "/gone".to_owned(), ..Default::default() };
    let missing = bridge.stat_file(of_build("reading", missing)).await.expect_err("it is not");
    assert_eq!(missing.message(), "lstat /gone: no such file or directory");

    // Not in another build, where a local directory of the same name may be another.
    let def = first.def.expect("clients can build on it");
    let request = SolveRequest {
        r#ref: "other".to_owned(),
        session: session.id.clone(),
        ..SolveRequest::default()
    };
    let mut control = ControlClient::new(channel.clone());
    let other = tokio::spawn(async move { control.solve(request).await });
    bridge.ping(of_build("other", PingRequest {})).await.expect("the build is known");
    let refused = bridge.solve(of_build("other", ask(def.clone()))).await.expect_err("unknown");
    assert!(refused.message().contains(&first.id), "{}", refused.message());
    bridge.r#return(of_build("other", ReturnRequest::default())).await.expect("taken");
    other.await.expect("no panic").expect("it builds nothing");

    // Another one on top of it, by its name alone.
    let mut ops = Ops(def.def);
    ops.0.pop();
    let second = ops.file(Some(0), "/second", "more");
    let asked = of_build("reading", ask(ops.result(second)));
    let second = one(bridge.solve(asked).await.expect("it is read").into_inner());
    let evaluate = EvaluateRequest { r#ref: second.id.clone() };
    bridge.evaluate(of_build("reading", evaluate)).await.expect("it runs");
    let list = |include_pattern: &str| ReadDirRequest {
        r#ref: second.id.clone(),
        dir_path: "/".to_owned(),
        include_pattern: include_pattern.to_owned(),
        ..Default::default()
    };
    for (pattern, expected) in [("", &["first", "second"][..]), ("s*", &["second"])] {
        let listed =
            bridge.read_dir(of_build("reading", list(pattern))).await.expect("a directory");
        let entries = listed.into_inner().entries;
        let names: Vec<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(names, expected);
    }
    let config = ResolveImageConfigRequest { r#ref: "busybox".to_owned(), ..Default::default() };
    let config = bridge.resolve_image_config(of_build("reading", config)).await;
    let config = config.expect("the store has it").into_inner();
    assert!(String::from_utf8_lossy(&config.config).contains("\"rootfs\""));
    let result = gateway::Result {
        result: Some(result::Result::Ref(gateway::Ref { id: second.id, def: None })),
        ..Default::default()
    };
    let returned = ReturnRequest { result: Some(result), error: None };
    bridge.r#return(of_build("reading", returned)).await.expect("taken");
    solving.await.expect("no panic").expect("it builds");
    let archive = client.archives.0.lock().expect("no panic")["0"].clone();
    assert_eq!(text_in(&archive, "second"), "more");
    session.frames.close();
    daemon.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn privileged_a_definition_that_is_not_understood_is_refused_by_name() {
    let Some(builder) = Builder::new() else { return };
    let daemon = Daemon::start(&builder, &[]);
    let mut ops = Ops::default();
    let passthrough = pb::PassthroughOp { id: "a".to_owned(), outputs: vec![0] };
    let op = ops.add(&[], pb::op::Op::Passthrough(passthrough));
    let asked = Asked { definition: Some(ops.result(op)), ..Asked::default() };
    let done = Client::default().build(&daemon.socket, asked).await;
    assert_eq!(
        done.result.expect_err("it is refused").message(),
        "failed to read the step `passthrough a`: passthrough ops are not supported by this builder"
    );
    daemon.stop();
}
