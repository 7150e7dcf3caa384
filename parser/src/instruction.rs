//! Instructions in their typed form.
//!
//! Everything here is what was written: variables are not expanded, names not resolved.
//! [`Text`] carries a word with its place, so that a later stage can point at it.

use crate::span::{Lines, Span, Text};

/// A whole Dockerfile.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Dockerfile {
    /// Parser directives at the head of the file, in order.
    pub directives: Vec<Directive>,
    /// `ARG` before the first `FROM`.
    pub global_args: Vec<Instruction>,
    /// Stages, in order.
    pub stages: Vec<Stage>,
}

/// `# name=value` at the head of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// Name in lower case: `syntax`, `escape` or `check`.
    pub name: String,
    /// Value as written.
    pub value: Text,
    /// Its line, 1-based.
    pub line: u32,
}

/// `FROM base AS name` and the instructions up to the next `FROM`.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Base image, stage name or `scratch`, not expanded.
    pub base: Text,
    /// `--platform`, not expanded.
    pub platform: Option<Text>,
    /// Name after `AS`, in lower case; span of the name as written.
    pub name: Option<Text>,
    /// The name as written, before lowering its case.
    pub name_as_written: Option<String>,
    /// The instruction word `FROM` and the keyword `AS` as written, for casing checks.
    pub keyword: String,
    /// The `AS` keyword as written, if any.
    pub as_keyword: Option<String>,
    /// Span of the FROM line.
    pub span: Span,
    /// Lines of the FROM line.
    pub lines: Lines,
    /// The FROM line with continuations joined.
    pub original: String,
    /// Description comment above the stage.
    pub doc: String,
    /// Names of checks that a `# check=skip=…` comment above turned off; `all` for every one.
    pub skip_checks: Vec<String>,
    /// The comment lines directly above, without `#`.
    pub comments: Vec<String>,
    /// The stage's instructions.
    pub instructions: Vec<Instruction>,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq)]
pub struct Instruction {
    /// What it says.
    pub kind: Kind,
    /// The instruction word as written (`RUN`, `run`).
    pub keyword: String,
    /// Where it stands, heredoc bodies included.
    pub span: Span,
    /// Lines it covers.
    pub lines: Lines,
    /// The instruction with continuations joined, heredoc bodies not included.
    pub original: String,
    /// Names of checks that a `# check=skip=…` comment above turned off; `all` for every one.
    pub skip_checks: Vec<String>,
    /// The comment lines directly above, without `#`.
    pub comments: Vec<String>,
}

/// The kinds of instruction other than `FROM`.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// `ADD`
    Add(Add),
    /// `ARG a=b c`
    Arg(Vec<Arg>),
    /// `CMD`
    Cmd(CommandLine),
    /// `COPY`
    Copy(Copy),
    /// `ENTRYPOINT`
    Entrypoint(CommandLine),
    /// `ENV`
    Env(Vec<KeyValue>),
    /// `EXPOSE`: ports, not expanded, in the order of their text.
    Expose(Vec<Text>),
    /// `HEALTHCHECK`
    Healthcheck(Healthcheck),
    /// `LABEL`
    Label(Vec<KeyValue>),
    /// `MAINTAINER`
    Maintainer(Text),
    /// `ONBUILD`: the inner instruction's text, parsed when a child image uses it. The inner
    /// instruction has been checked to parse.
    Onbuild(Onbuild),
    /// `RUN`
    Run(Run),
    /// `SHELL`
    Shell(Vec<String>),
    /// `STOPSIGNAL`
    Stopsignal(Text),
    /// `USER`
    User(Text),
    /// `VOLUME`
    Volume(Vec<Text>),
    /// `WORKDIR`
    Workdir(Text),
}

/// `NAME`, `NAME=default`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    /// Name as written (may hold variables in odd files).
    pub name: Text,
    /// Default, not expanded.
    pub value: Option<Text>,
    /// Description comment above.
    pub doc: String,
}

/// `key=value`, or the old form `key value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// Key, quotes and variables still in it.
    pub key: Text,
    /// Value, quotes and variables still in it.
    pub value: Text,
    /// Written in the old form, with a blank instead of `=`.
    pub legacy: bool,
}

/// Shell form or exec form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// A JSON array.
    Exec(Vec<String>),
    /// Everything else: given whole to the shell in force.
    Shell(String),
}

/// A here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// Delimiter name without quotes.
    pub name: String,
    /// File descriptor written before `<<`, 0 if none.
    pub fd: u32,
    /// Body; leading tabs already removed when `chomp`.
    pub content: String,
    /// Body as written: what a shell is given that reads the here-document itself.
    pub raw: String,
    /// Variables expand in the body (the delimiter was not quoted).
    pub expand: bool,
    /// Written `<<-`.
    pub chomp: bool,
    /// Where the body stands.
    pub span: Span,
}

/// `ADD [flags] sources… dest`
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Add {
    /// Sources: paths, URLs, git references.
    pub sources: Vec<Text>,
    /// Inline files, in the order they stand after `sources`.
    pub heredocs: Vec<Heredoc>,
    /// Destination.
    pub dest: Text,
    /// `--chown`
    pub chown: Option<Text>,
    /// `--chmod`
    pub chmod: Option<Text>,
    /// `--link`
    pub link: bool,
    /// `--keep-git-dir`
    pub keep_git_dir: Option<bool>,
    /// `--checksum`
    pub checksum: Option<Text>,
    /// `--unpack`
    pub unpack: Option<bool>,
    /// `--exclude`, repeatable.
    pub exclude: Vec<Text>,
}

/// `COPY [flags] sources… dest`
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Copy {
    /// Source paths.
    pub sources: Vec<Text>,
    /// Inline files.
    pub heredocs: Vec<Heredoc>,
    /// Destination.
    pub dest: Text,
    /// `--from`: stage name or index, named context, or image.
    pub from: Option<Text>,
    /// `--chown`
    pub chown: Option<Text>,
    /// `--chmod`
    pub chmod: Option<Text>,
    /// `--link`
    pub link: bool,
    /// `--parents`
    pub parents: bool,
    /// `--exclude`, repeatable.
    pub exclude: Vec<Text>,
}

/// `RUN [flags] command`
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The command; for a heredoc form the first line as written.
    pub command: CommandLine,
    /// Here-documents.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`, repeatable.
    pub mounts: Vec<Mount>,
    /// `--network`
    pub network: Network,
    /// `--security`
    pub security: Security,
    /// `--device`, repeatable: the values as written, for [`crate::device::parse`].
    pub devices: Vec<Text>,
    /// Names of the flags written, for diagnostics.
    pub flags_used: Vec<String>,
}

/// `--network` of a RUN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// The build's own setting.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The host's network.
    Host,
}

/// `--security` of a RUN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Security {
    /// The usual sandbox.
    #[default]
    Sandbox,
    /// All capabilities, no filters.
    Insecure,
}

/// One `--mount` of a RUN.
///
/// Any value may hold variables, numbers and keywords too (`uid=$UID`,
/// `sharing=${MODE}`). So [`crate::parse`] only splits [`Mount::written`] and checks `from`; the
/// other fields mean something once [`Mount::resolve`] has evaluated it with the variables known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount {
    /// The flag's whole value as written.
    pub written: String,
    /// `type=`
    pub kind: MountKind,
    /// `from=`
    pub from: Option<String>,
    /// `source=`, `src=`
    pub source: Option<String>,
    /// `target=`, `dst=`, `destination=`
    pub target: Option<String>,
    /// Read only (`ro`, `rw` and defaults resolved: bind is read-only unless `rw`).
    pub readonly: bool,
    /// `id=`
    pub id: Option<String>,
    /// `sharing=`
    pub sharing: Sharing,
    /// `size=` in bytes (tmpfs).
    pub size: Option<u64>,
    /// `required=`
    pub required: bool,
    /// `env=` (secret): name of the variable that holds the secret.
    pub env: Option<String>,
    /// `mode=`
    pub mode: Option<u32>,
    /// `uid=`
    pub uid: Option<u32>,
    /// `gid=`
    pub gid: Option<u32>,
    /// Where the flag's value stands.
    pub span: Span,
}

/// Kinds of mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    #[default]
    Bind,
    /// A folder that outlives the build.
    Cache,
    /// Memory.
    Tmpfs,
    /// A secret file or variable.
    Secret,
    /// An SSH agent's socket.
    Ssh,
}

/// `sharing=` of a cache mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// Used by several steps at once.
    #[default]
    Shared,
    /// Each concurrent user gets its own.
    Private,
    /// One at a time.
    Locked,
}

/// `HEALTHCHECK`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// `HEALTHCHECK NONE`
    None,
    /// `HEALTHCHECK [flags] CMD …`. Durations are nanoseconds, 0 where not given.
    Cmd {
        /// The probe.
        command: CommandLine,
        /// `--interval`
        interval: i64,
        /// `--timeout`
        timeout: i64,
        /// `--start-period`
        start_period: i64,
        /// `--start-interval`
        start_interval: i64,
        /// `--retries`
        retries: i64,
    },
}

/// `ONBUILD inner`
#[derive(Debug, Clone, PartialEq)]
pub struct Onbuild {
    /// The inner instruction's text as it goes into the image config, heredoc bodies included.
    pub expression: String,
}
