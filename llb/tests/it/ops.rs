//! Ops to test with: one of each kind, every field set to something of its own.

use std::collections::BTreeMap;

use llb::{
    CacheSharing, CopyOp, Definition, Device, ExecOp, FileAction, FileActionKind, FileInput,
    FileOp, GitSource, GitTimes, HttpSource, ImageSource, Input, LocalSource, Metadata, MkdirOp,
    MkfileOp, Mount, MountKind, NetworkMode, Op, Owner, OwnerId, Rlimit, RmOp, SecretEnv,
    SecurityMode, SourceOp, SymlinkOp, Timestamp, VertexId,
};
use oci::Platform;

pub(crate) fn named(name: &str) -> Metadata {
    Metadata { name: name.to_owned(), ..Metadata::default() }
}

pub(crate) fn platform() -> Platform {
    Platform::new("linux", "amd64", "")
}

pub(crate) fn image(reference: &str) -> Op {
    let reference = reference.parse().expect("a reference");
    Op::Source(SourceOp::Image(ImageSource { reference, platform: platform() }))
}

pub(crate) fn local(name: &str) -> Op {
    let exclude_patterns = vec!["*.o".to_owned(), "!keep.o".to_owned()];
    Op::Source(SourceOp::Local(LocalSource { exclude_patterns, ..LocalSource::new(name) }))
}

/// A part of a directory. Whose it is does not count.
fn part(name: &str) -> Op {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Op::Source(SourceOp::Local(LocalSource {
        include_patterns: words(&["*.c"]),
        follow_paths: words(&["a", "b"]),
        session: "session".to_owned(),
        shared_key: "key".to_owned(),
        ..LocalSource::new(name)
    }))
}

pub(crate) fn mount(dest: &str, input: Option<usize>, output: Option<usize>) -> Mount {
    Mount {
        input,
        selector: String::new(),
        dest: dest.to_owned(),
        written_dest: String::new(),
        readonly: output.is_none(),
        output,
        kind: MountKind::Bind,
    }
}

/// A process on input 0.
pub(crate) fn exec(command: &str) -> ExecOp {
    ExecOp {
        args: ["/bin/sh", "-c", command].map(str::to_owned).to_vec(),
        env: vec!["PATH=/bin".to_owned()],
        proxy_env: BTreeMap::new(),
        cwd: "/".to_owned(),
        user: String::new(),
        hostname: String::new(),
        mounts: vec![mount("/", Some(0), Some(0))],
        network: NetworkMode::Default,
        security: SecurityMode::Sandbox,
        extra_hosts: Vec::new(),
        secret_env: Vec::new(),
        ulimits: Vec::new(),
        cgroup_parent: String::new(),
        valid_exit_codes: Vec::new(),
        devices: Vec::new(),
    }
}

/// A process with everything a process can have.
pub(crate) fn full_exec() -> ExecOp {
    let strings = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let id = || "id".to_owned();
    let kinds = [
        MountKind::Bind,
        MountKind::Cache { id: id(), sharing: CacheSharing::Locked },
        MountKind::Tmpfs { size: 7 },
        MountKind::Secret { id: id(), uid: 1, gid: 2, mode: 0o400, optional: true },
        MountKind::Ssh { id: id(), uid: 1, gid: 2, mode: 0o600, optional: false },
    ];
    let more = kinds.into_iter().enumerate().map(|(at, kind)| Mount {
        input: (at == 0).then_some(1),
        selector: "/part".to_owned(),
        kind,
        ..mount(&format!("/m{at}"), None, None)
    });
    ExecOp {
        args: strings(&["make", "all"]),
        env: strings(&["A=1", "B=2"]),
        proxy_env: BTreeMap::from([("HTTP_PROXY".to_owned(), "p".to_owned())]),
        cwd: "/src".to_owned(),
        user: "me:us".to_owned(),
        hostname: "host".to_owned(),
        mounts: std::iter::once(mount("/", Some(0), Some(0))).chain(more).collect(),
        network: NetworkMode::None,
        security: SecurityMode::Insecure,
        extra_hosts: vec![("name".to_owned(), "10.0.0.1".to_owned())],
        secret_env: vec![SecretEnv { id: id(), name: "S".to_owned(), optional: false }],
        ulimits: vec![Rlimit { name: "nofile".to_owned(), soft: 1, hard: -1 }],
        cgroup_parent: "parent".to_owned(),
        valid_exit_codes: vec![0, 3],
        devices: vec![Device { name: "v.com/c=d".to_owned(), optional: true }],
    }
}

pub(crate) fn action(kind: FileActionKind) -> FileAction {
    let secondary = matches!(kind, FileActionKind::Copy(_)).then_some(FileInput::Input(1));
    FileAction { input: FileInput::Input(0), secondary, output: Some(0), kind }
}

pub(crate) fn full_copy() -> CopyOp {
    CopyOp {
        src: "/a*".to_owned(),
        dest: "/b/".to_owned(),
        dest_has_dot: false,
        owner: Some(Owner {
            user: Some(OwnerId::Name { name: "me".to_owned(), input: Some(0) }),
            group: Some(OwnerId::Id(7)),
        }),
        mode: Some(0o644),
        mode_symbolic: Some("u=rwX".to_owned()),
        follow_symlink: true,
        dir_copy_contents: true,
        attempt_unpack: true,
        create_dest_path: true,
        allow_wildcard: true,
        allow_empty_wildcard: true,
        timestamp: Some(Timestamp { seconds: -1, nanoseconds: 5 }),
        include_patterns: vec!["in".to_owned()],
        exclude_patterns: vec!["ex".to_owned()],
        always_replace_existing: true,
        parents: true,
        display_src: "a*".to_owned(),
    }
}

/// One op of each kind that there is.
pub(crate) fn one_of_each() -> Vec<(&'static str, Op)> {
    let owner = Some(Owner { user: Some(OwnerId::Id(1)), group: None });
    let timestamp = Some(Timestamp { seconds: 9, nanoseconds: 0 });
    let path = || "/p".to_owned();
    let file = |kind| Op::File(FileOp { actions: vec![action(kind)] });
    let (mode, data) = (0o640, b"data".to_vec());
    vec![
        ("image", image("docker.io/library/busybox:latest")),
        ("local", local("context")),
        ("part", part("context")),
        (
            "layout",
            Op::Source(SourceOp::OciLayout {
                name: "l".to_owned(),
                reference: "r".to_owned(),
                platform: platform(),
            }),
        ),
        (
            "git",
            Op::Source(SourceOp::Git(GitSource {
                reference: "main".to_owned(),
                subdirectory: "d".to_owned(),
                checksum: Some("abc".to_owned()),
                keep_git_dir: true,
                times: GitTimes::Commit,
                ..GitSource::new("https://example.org/a.git")
            })),
        ),
        (
            "http",
            Op::Source(SourceOp::Http(HttpSource {
                url: "https://example.org/a".to_owned(),
                checksum: Some(oci::Digest::of(b"a")),
                filename: "a".to_owned(),
                mode: 0o600,
                uid: 1,
                gid: 2,
            })),
        ),
        ("exec", Op::Exec(exec("make"))),
        ("full exec", Op::Exec(ExecOp { devices: Vec::new(), ..full_exec() })),
        ("devices", Op::Exec(full_exec())),
        ("copy", file(FileActionKind::Copy(full_copy()))),
        (
            "mkfile",
            file(FileActionKind::Mkfile(MkfileOp {
                path: path(),
                mode,
                data,
                owner: owner.clone(),
                timestamp,
            })),
        ),
        (
            "mkdir",
            file(FileActionKind::Mkdir(MkdirOp {
                path: path(),
                mode,
                make_parents: true,
                owner: owner.clone(),
                timestamp,
            })),
        ),
        (
            "rm",
            file(FileActionKind::Rm(RmOp {
                path: path(),
                allow_not_found: true,
                allow_wildcard: false,
            })),
        ),
        (
            "symlink",
            file(FileActionKind::Symlink(SymlinkOp {
                target: "/t".to_owned(),
                path: path(),
                owner,
                timestamp,
            })),
        ),
        ("merge", Op::Merge),
        ("diff", Op::Diff),
    ]
}

/// `image → make`, and `image, context → copy`, laid over each other.
pub(crate) fn small() -> (Definition, VertexId) {
    let mut definition = Definition::default();
    let input = |vertex| Input { vertex, output: 0 };
    let mut add = |op, inputs: &[Input], name: &str| {
        definition.add(op, inputs, named(name)).expect("a vertex that fits")
    };
    let base = input(add(image("docker.io/library/busybox:latest"), &[], "FROM busybox"));
    let made = input(add(Op::Exec(exec("make")), &[base], "RUN make"));
    let context = input(add(local("context"), &[], "load context"));
    let copy = Op::File(FileOp { actions: vec![action(FileActionKind::Copy(full_copy()))] });
    let copied = input(add(copy, &[base, context], "COPY a* /b/"));
    let merged = add(Op::Merge, &[made, copied], "LINK");
    (definition, merged)
}
