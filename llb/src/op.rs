//! What a vertex does. The same operations as BuildKit's LLB, so that a client's definition
//! converts without loss.

use std::collections::BTreeMap;

/// The operation of a vertex. Its inputs are numbered; numbers in an op (`input: Some(0)`) index the
/// vertex's inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Files from outside the graph. No inputs, one output.
    Source(SourceOp),
    /// A process. Outputs are its writable mounts that name one; output 0 is the root.
    Exec(ExecOp),
    /// Changes to a file tree without a process.
    File(FileOp),
    /// All inputs laid over each other, the last on top. One output.
    Merge,
    /// What input 1 has more than input 0. One output.
    Diff,
}

impl Op {
    /// Whether it was asked for files with certain modification times: other files with the same content
    /// are something else then.
    pub fn has_times_of_its_own(&self) -> bool {
        matches!(self, Self::Source(SourceOp::Git(git)) if git.times == GitTimes::Commit)
    }
}

/// Files from outside the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceOp {
    /// A registry image or one in the local store.
    Image(ImageSource),
    /// An image in an OCI layout that the client names.
    OciLayout {
        /// Name of the layout among the request's named contexts.
        name: String,
        /// Reference inside the layout: a tag or `sha256:…`; empty for the only one.
        reference: String,
        /// The platform wanted.
        platform: oci::Platform,
    },
    /// A directory of the client.
    Local(LocalSource),
    /// A git checkout.
    Git(GitSource),
    /// A file fetched over HTTP.
    Http(HttpSource),
}

impl SourceOp {
    /// Whether it gives the layers of an image.
    pub fn is_image(&self) -> bool {
        matches!(self, Self::Image(_) | Self::OciLayout { .. })
    }
}

/// An image from a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSource {
    /// Its name, with tag or digest, and with the digest once it is resolved.
    pub reference: oci::Reference,
    /// The platform wanted.
    pub platform: oci::Platform,
}

/// A directory of the client, read in place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalSource {
    /// Name among the request's contexts (`context`, or a named context).
    pub name: String,
    /// Ignore patterns in `.dockerignore` syntax, in order.
    pub exclude_patterns: Vec<String>,
    /// Only what matches, in the same syntax; everything where there are none.
    pub include_patterns: Vec<String>,
    /// Only these paths, and what the links among them lead to; everything where there are none. The last
    /// name of each may hold wildcards.
    pub follow_paths: Vec<String>,
    /// Which of the client's sessions has it; empty for any. Never part of a key.
    pub session: String,
    /// What tells directories of this name apart that one client has. Never part of a key.
    pub shared_key: String,
}

impl LocalSource {
    /// All that is in the directory called `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

/// The files of a commit in a git repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitSource {
    /// The repository, as `git` takes it: an address without query and fragment.
    pub remote: String,
    /// Branch, tag, full name (`refs/…`) or commit; empty for the default branch.
    pub reference: String,
    /// Directory in the repository, clean and without a slash in front; empty for all of it.
    pub subdirectory: String,
    /// The commit that the reference must be at, or its first digits.
    pub checksum: Option<String>,
    /// Fetch the commit `checksum`, wherever the reference is by now.
    pub fetch_by_commit: bool,
    /// Keep the `.git` directory.
    pub keep_git_dir: bool,
    /// Check out submodules, too.
    pub submodules: bool,
    /// Fetch the content of files that Git LFS keeps elsewhere.
    pub lfs: bool,
    /// Modification times of the files.
    pub times: GitTimes,
}

/// What modification times a git checkout gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GitTimes {
    /// When they were written.
    #[default]
    Checkout,
    /// When the commit was made.
    Commit,
}

impl GitSource {
    /// All of the default branch, with BuildKit's defaults.
    pub fn new(remote: impl Into<String>) -> Self {
        Self {
            remote: remote.into(),
            reference: String::new(),
            subdirectory: String::new(),
            checksum: None,
            fetch_by_commit: false,
            keep_git_dir: false,
            submodules: true,
            lfs: false,
            times: GitTimes::Checkout,
        }
    }
}

/// A file fetched over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSource {
    /// URL, perhaps with a user and a password.
    pub url: String,
    /// Expected digest.
    pub checksum: Option<oci::Digest>,
    /// File name to give it; empty for the one that the server or the URL gives it.
    pub filename: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A process in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOp {
    /// Program and arguments.
    pub args: Vec<String>,
    /// Environment, `NAME=value`, in order.
    pub env: Vec<String>,
    /// Proxy variables: given to the process, never part of a key.
    pub proxy_env: BTreeMap<String, String>,
    /// Working directory.
    pub cwd: String,
    /// `user`, `user:group`, empty for root.
    pub user: String,
    /// Host name, empty for the default.
    pub hostname: String,
    /// Mounts; the one at `/` is the root.
    pub mounts: Vec<Mount>,
    /// Network.
    pub network: NetworkMode,
    /// Security.
    pub security: SecurityMode,
    /// Additional lines of `/etc/hosts`: name, address.
    pub extra_hosts: Vec<(String, String)>,
    /// Secrets as environment variables.
    pub secret_env: Vec<SecretEnv>,
    /// Resource limits.
    pub ulimits: Vec<Rlimit>,
    /// Parent cgroup, empty for the default. Never part of a key.
    pub cgroup_parent: String,
    /// Exit codes that count as success (0 when empty).
    pub valid_exit_codes: Vec<i32>,
    /// Devices of the machine, by their names in CDI.
    pub devices: Vec<Device>,
}

/// A device that a process asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// `vendor.com/class=name`; without a name the first of the class, with `*` all of it.
    pub name: String,
    /// The process runs without it where there is none.
    pub optional: bool,
}

/// A mount of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Index of the input, `None` for an empty tree.
    pub input: Option<usize>,
    /// Path within the input.
    pub selector: String,
    /// Absolute path in the sandbox.
    pub dest: String,
    /// How `dest` was written if other than it is (`/cache/`): BuildKit's cache keys hold that. Never part
    /// of a key here.
    pub written_dest: String,
    /// The process cannot write. A writable bind without `output` loses what is written.
    pub readonly: bool,
    /// Number of the output that carries what the process wrote, if any.
    pub output: Option<usize>,
    /// Kind.
    pub kind: MountKind,
}

/// Kinds of mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A file tree.
    Bind,
    /// A folder that outlives the build; its content is never part of a key. Seeded from the input.
    Cache {
        /// Which folder.
        id: String,
        /// Who else may use it at the same time.
        sharing: CacheSharing,
    },
    /// Memory.
    Tmpfs {
        /// Size limit in bytes, 0 for the default.
        size: u64,
    },
    /// A secret file, held in memory.
    Secret {
        /// Which secret.
        id: String,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Permission bits.
        mode: u32,
        /// Absent is no error.
        optional: bool,
    },
    /// An SSH agent's socket.
    Ssh {
        /// Which agent.
        id: String,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Permission bits.
        mode: u32,
        /// Absent is no error.
        optional: bool,
    },
}

/// Who may use a cache mount at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheSharing {
    /// Everybody.
    Shared,
    /// Each concurrent user gets its own folder.
    Private,
    /// One at a time.
    Locked,
}

/// Network of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkMode {
    /// Its own, connected.
    Default,
    /// The host's.
    Host,
    /// Loopback only.
    None,
}

/// Security of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecurityMode {
    /// The usual sandbox.
    Sandbox,
    /// All capabilities and no filters.
    Insecure,
}

/// A secret given as an environment variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretEnv {
    /// Which secret.
    pub id: String,
    /// Name of the variable.
    pub name: String,
    /// Absent is no error.
    pub optional: bool,
}

/// A resource limit, as `--ulimit name=soft:hard`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rlimit {
    /// `nofile`, `nproc`, ….
    pub name: String,
    /// Soft limit, -1 for unlimited.
    pub soft: i64,
    /// Hard limit, -1 for unlimited.
    pub hard: i64,
}

/// File operations, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileOp {
    /// The actions in order. Those with `output` make the vertex's outputs.
    pub actions: Vec<FileAction>,
}

/// One file operation on a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileAction {
    /// The tree that is changed.
    pub input: FileInput,
    /// The tree that is copied from (copy only).
    pub secondary: Option<FileInput>,
    /// Number of the output that carries the result, if any.
    pub output: Option<usize>,
    /// What is done.
    pub kind: FileActionKind,
}

/// Where a file action's tree comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileInput {
    /// An empty tree.
    Scratch,
    /// An input of the vertex.
    Input(usize),
    /// The result of an earlier action, by its place in the list.
    Action(usize),
}

/// What a file action does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileActionKind {
    /// Copy.
    Copy(CopyOp),
    /// Write a file.
    Mkfile(MkfileOp),
    /// Make a directory.
    Mkdir(MkdirOp),
    /// Remove.
    Rm(RmOp),
    /// Make a symbolic link.
    Symlink(SymlinkOp),
}

/// Owner given to what is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owner {
    /// User; `None` leaves 0.
    pub user: Option<OwnerId>,
    /// Group; `None` means the user's number when the user is a number, else the user's own group.
    pub group: Option<OwnerId>,
}

/// A user or group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnerId {
    /// By name, looked up in the `passwd` or `group` file of input `input` of the vertex (the tree that is changed).
    Name {
        /// The name.
        name: String,
        /// Index of the vertex's input whose files are read.
        input: Option<usize>,
    },
    /// By number.
    Id(u32),
}

/// Modification time given to what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp {
    /// Seconds since the epoch.
    pub seconds: i64,
    /// Nanoseconds.
    pub nanoseconds: u32,
}

/// Copy `src` of the secondary tree to `dest`. Semantics of BuildKit's `FileActionCopy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOp {
    /// Absolute source path, with wildcards when `allow_wildcard`.
    pub src: String,
    /// Absolute destination; a trailing slash says that it is a directory.
    pub dest: String,
    /// `dest` was written with a dot at its end (`/app/.`), which is the same: BuildKit's cache keys hold the
    /// dot. Never part of a key here.
    pub dest_has_dot: bool,
    /// Owner, `None` keeps the source's.
    pub owner: Option<Owner>,
    /// Permission bits, `None` keeps the source's.
    pub mode: Option<u32>,
    /// Permissions as a symbolic string (`u=rwX,go=rX`), in place of `mode`.
    pub mode_symbolic: Option<String>,
    /// A symbolic link named by `src` itself is followed.
    pub follow_symlink: bool,
    /// A directory's content is copied, not the directory.
    pub dir_copy_contents: bool,
    /// An archive is extracted (tar, plain or gzip, bzip2, xz, zstd).
    pub attempt_unpack: bool,
    /// Missing parents of `dest` are made.
    pub create_dest_path: bool,
    /// `src` holds wildcards.
    pub allow_wildcard: bool,
    /// No match is no error.
    pub allow_empty_wildcard: bool,
    /// Time given to everything written.
    pub timestamp: Option<Timestamp>,
    /// Only what matches (ignore-file syntax, relative to the source).
    pub include_patterns: Vec<String>,
    /// All but what matches.
    pub exclude_patterns: Vec<String>,
    /// The existing target of another type is replaced, never merged or an error (`ADD`'s unpack).
    pub always_replace_existing: bool,
    /// Source directories are kept below `dest` (`--parents`): `/a/b*` becomes `dest/a/b1`. A pivot
    /// in `src` cuts off what is before it: `/a/./b/c` becomes `dest/b/c`. Both parts of `src` are
    /// clean, and either may hold wildcards (`**` too behind the pivot).
    pub parents: bool,
    /// How `src` reads in the Dockerfile, for messages. Never part of a key.
    pub display_src: String,
}

/// Write a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MkfileOp {
    /// Absolute path.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Content.
    pub data: Vec<u8>,
    /// Owner.
    pub owner: Option<Owner>,
    /// Modification time.
    pub timestamp: Option<Timestamp>,
}

/// Make a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MkdirOp {
    /// Absolute path.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Missing parents are made, and an existing directory is no error.
    pub make_parents: bool,
    /// Owner.
    pub owner: Option<Owner>,
    /// Modification time.
    pub timestamp: Option<Timestamp>,
}

/// Remove a file or tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RmOp {
    /// Absolute path.
    pub path: String,
    /// Absent is no error.
    pub allow_not_found: bool,
    /// `path` holds wildcards.
    pub allow_wildcard: bool,
}

/// Make a symbolic link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SymlinkOp {
    /// What the link says.
    pub target: String,
    /// Absolute path of the link.
    pub path: String,
    /// Owner.
    pub owner: Option<Owner>,
    /// Modification time.
    pub timestamp: Option<Timestamp>,
}
