//! Canonical bytes of ops, and digests over them.
//!
//! Format version 1. Every value starts with nothing but its own bytes: integers are 8 bytes
//! big-endian; byte strings are their length and their bytes; lists are their length and their
//! elements; options are 0, or 1 and the value; enums are a tag byte and their fields. What never
//! enters a key (proxy variables, secrets' values, names shown to the user, the parent cgroup) is
//! not encoded. A field that version 1 did not begin with is written behind its name, and only where it
//! says something, so that all other keys stay what they were. Changing anything here means a new version number, and new golden values in the tests.

use sha2::{Digest as _, Sha256};

use crate::op::*;

/// Version of the encoding, the first byte of every digest's input.
pub const VERSION: u8 = 1;

/// Writes canonical bytes into a running SHA-256.
#[derive(Clone)]
pub struct Encoder(Sha256);

impl Default for Encoder {
    fn default() -> Self {
        Self::new("")
    }
}

impl Encoder {
    /// An encoder for a digest of the kind `domain`: equal bytes of different kinds differ.
    pub fn new(domain: &str) -> Self {
        let mut encoder = Self(Sha256::new());
        encoder.0.update([VERSION]);
        encoder.bytes(domain.as_bytes());
        encoder
    }

    /// A byte string.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    /// A string.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// An unsigned integer.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.0.update(number.to_be_bytes());
        self
    }

    /// A signed integer.
    pub fn signed(&mut self, number: i64) -> &mut Self {
        self.0.update(number.to_be_bytes());
        self
    }

    /// A truth value.
    pub fn flag(&mut self, flag: bool) -> &mut Self {
        self.tag(u8::from(flag))
    }

    /// The tag of an enum's variant.
    pub fn tag(&mut self, tag: u8) -> &mut Self {
        self.0.update([tag]);
        self
    }

    /// A list.
    pub fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) -> &mut Self {
        self.number(items.len() as u64);
        for item in items {
            each(self, item);
        }
        self
    }

    /// An optional value.
    pub fn option<T>(&mut self, value: Option<&T>, each: impl FnOnce(&mut Self, &T)) -> &mut Self {
        self.flag(value.is_some());
        if let Some(value) = value {
            each(self, value);
        }
        self
    }

    /// The digest of all that was written.
    pub fn finish(self) -> oci::Digest {
        oci::Digest::from_sha256(self.0.finalize().into())
    }
}

/// Digest of a vertex: its op, and the digest and output number of each input.
pub fn vertex_digest(op: &Op, inputs: &[(&oci::Digest, usize)]) -> oci::Digest {
    let mut encoder = Encoder::new("vertex");
    encode_op(&mut encoder, op);
    encoder.list(inputs, |e, (digest, output)| {
        e.text(digest.as_str()).number(*output as u64);
    });
    encoder.finish()
}

/// Writes an op without its inputs.
pub fn encode_op(e: &mut Encoder, op: &Op) {
    match op {
        Op::Source(source) => encode_source(e.tag(1), source),
        Op::Exec(exec) => encode_exec(e.tag(2), exec),
        Op::File(file) => {
            e.tag(3).list(&file.actions, encode_action);
        }
        Op::Merge => {
            e.tag(4);
        }
        Op::Diff => {
            e.tag(5);
        }
    }
}

fn encode_source(e: &mut Encoder, source: &SourceOp) {
    match source {
        SourceOp::Image(image) => {
            e.tag(1).text(&image.reference.to_string()).text(&image.platform.to_string());
        }
        SourceOp::OciLayout { name, reference, platform } => {
            e.tag(2).text(name).text(reference).text(&platform.to_string());
        }
        SourceOp::Local(local) => encode_local(e.tag(3), local),
        SourceOp::Git(git) => encode_git(e.tag(4), git),
        SourceOp::Http(HttpSource { url, checksum, filename, mode, uid, gid }) => {
            e.tag(5).text(url).option(checksum.as_ref(), |e, c| {
                e.text(c.as_str());
            });
            e.text(filename).number((*mode).into()).number((*uid).into()).number((*gid).into());
        }
    }
}

fn encode_local(e: &mut Encoder, local: &LocalSource) {
    let patterns = |e: &mut Encoder, patterns: &[String]| {
        e.list(patterns, |e, p| {
            e.text(p);
        });
    };
    e.text(&local.name);
    patterns(e, &local.exclude_patterns);
    for (name, more) in [("include", &local.include_patterns), ("follow", &local.follow_paths)] {
        if !more.is_empty() {
            e.text(name);
            patterns(e, more);
        }
    }
}

fn encode_git(e: &mut Encoder, git: &GitSource) {
    e.text(&git.remote).text(&git.reference).text(&git.subdirectory);
    e.option(git.checksum.as_ref(), |e, c| {
        e.text(c);
    });
    for flag in [git.fetch_by_commit, git.keep_git_dir, git.submodules, git.lfs] {
        e.flag(flag);
    }
    e.tag(match git.times {
        GitTimes::Checkout => 0,
        GitTimes::Commit => 1,
    });
}

fn encode_exec(e: &mut Encoder, exec: &ExecOp) {
    e.list(&exec.args, |e, a| {
        e.text(a);
    });
    e.list(&exec.env, |e, v| {
        e.text(v);
    });
    e.text(&exec.cwd).text(&exec.user).text(&exec.hostname);
    e.list(&exec.mounts, encode_mount);
    encode_network(e, exec.network);
    encode_security(e, exec.security);
    e.list(&exec.extra_hosts, encode_host);
    e.list(&exec.secret_env, encode_secret_env);
    e.list(&exec.ulimits, encode_limit);
    e.list(&exec.valid_exit_codes, |e, c| {
        e.signed((*c).into());
    });
    if !exec.devices.is_empty() {
        e.text("devices").list(&exec.devices, encode_device);
    }
}

pub(crate) fn encode_device(e: &mut Encoder, device: &Device) {
    e.text(&device.name).flag(device.optional);
}

pub(crate) fn encode_network(e: &mut Encoder, network: NetworkMode) {
    e.tag(match network {
        NetworkMode::Default => 0,
        NetworkMode::Host => 1,
        NetworkMode::None => 2,
    });
}

pub(crate) fn encode_security(e: &mut Encoder, security: SecurityMode) {
    e.tag(match security {
        SecurityMode::Sandbox => 0,
        SecurityMode::Insecure => 1,
    });
}

pub(crate) fn encode_host(e: &mut Encoder, (name, address): &(String, String)) {
    e.text(name).text(address);
}

pub(crate) fn encode_secret_env(e: &mut Encoder, secret: &SecretEnv) {
    e.text(&secret.id).text(&secret.name).flag(secret.optional);
}

pub(crate) fn encode_limit(e: &mut Encoder, limit: &Rlimit) {
    e.text(&limit.name).signed(limit.soft).signed(limit.hard);
}

fn encode_mount(e: &mut Encoder, mount: &Mount) {
    e.option(mount.input.as_ref(), |e, i| {
        e.number(*i as u64);
    });
    encode_mounted(e, mount);
}

/// A mount without its input.
pub(crate) fn encode_mounted(e: &mut Encoder, mount: &Mount) {
    e.text(&mount.selector).text(&mount.dest).flag(mount.readonly);
    e.option(mount.output.as_ref(), |e, o| {
        e.number(*o as u64);
    });
    match &mount.kind {
        MountKind::Bind => {
            e.tag(1);
        }
        MountKind::Cache { id, sharing } => {
            e.tag(2).text(id).tag(match sharing {
                CacheSharing::Shared => 0,
                CacheSharing::Private => 1,
                CacheSharing::Locked => 2,
            });
        }
        MountKind::Tmpfs { size } => {
            e.tag(3).number(*size);
        }
        MountKind::Secret { id, uid, gid, mode, optional } => {
            e.tag(4).text(id).number((*uid).into()).number((*gid).into());
            e.number((*mode).into()).flag(*optional);
        }
        MountKind::Ssh { id, uid, gid, mode, optional } => {
            e.tag(5).text(id).number((*uid).into()).number((*gid).into());
            e.number((*mode).into()).flag(*optional);
        }
    }
}

fn encode_action(e: &mut Encoder, action: &FileAction) {
    encode_file_input(e, &action.input);
    e.option(action.secondary.as_ref(), encode_file_input);
    e.option(action.output.as_ref(), |e, o| {
        e.number(*o as u64);
    });
    encode_action_kind(e, &action.kind);
}

/// A file action without its inputs.
pub(crate) fn encode_action_kind(e: &mut Encoder, kind: &FileActionKind) {
    match kind {
        FileActionKind::Copy(copy) => encode_copy(e.tag(1), copy),
        FileActionKind::Mkfile(file) => {
            e.tag(2).text(&file.path).number(file.mode.into()).bytes(&file.data);
            encode_owner_and_time(e, file.owner.as_ref(), file.timestamp.as_ref());
        }
        FileActionKind::Mkdir(dir) => {
            e.tag(3).text(&dir.path).number(dir.mode.into()).flag(dir.make_parents);
            encode_owner_and_time(e, dir.owner.as_ref(), dir.timestamp.as_ref());
        }
        FileActionKind::Rm(rm) => {
            e.tag(4).text(&rm.path).flag(rm.allow_not_found).flag(rm.allow_wildcard);
        }
        FileActionKind::Symlink(link) => {
            e.tag(5).text(&link.target).text(&link.path);
            encode_owner_and_time(e, link.owner.as_ref(), link.timestamp.as_ref());
        }
    }
}

fn encode_copy(e: &mut Encoder, copy: &CopyOp) {
    e.text(&copy.src).text(&copy.dest);
    encode_owner_and_time(e, copy.owner.as_ref(), copy.timestamp.as_ref());
    e.option(copy.mode.as_ref(), |e, m| {
        e.number((*m).into());
    });
    e.option(copy.mode_symbolic.as_ref(), |e, m| {
        e.text(m);
    });
    for flag in [
        copy.follow_symlink,
        copy.dir_copy_contents,
        copy.attempt_unpack,
        copy.create_dest_path,
        copy.allow_wildcard,
        copy.allow_empty_wildcard,
        copy.always_replace_existing,
        copy.parents,
    ] {
        e.flag(flag);
    }
    for patterns in [&copy.include_patterns, &copy.exclude_patterns] {
        e.list(patterns, |e, p| {
            e.text(p);
        });
    }
}

fn encode_owner_and_time(e: &mut Encoder, owner: Option<&Owner>, time: Option<&Timestamp>) {
    let id = |e: &mut Encoder, id: &OwnerId| match id {
        OwnerId::Name { name, input } => {
            e.tag(1).text(name).option(input.as_ref(), |e, i| {
                e.number(*i as u64);
            });
        }
        OwnerId::Id(number) => {
            e.tag(2).number((*number).into());
        }
    };
    e.option(owner, |e, owner| {
        e.option(owner.user.as_ref(), id).option(owner.group.as_ref(), id);
    });
    e.option(time, |e, t| {
        e.signed(t.seconds).number(t.nanoseconds.into());
    });
}

pub(crate) fn encode_file_input(e: &mut Encoder, input: &FileInput) {
    match input {
        FileInput::Scratch => e.tag(0),
        FileInput::Input(number) => e.tag(1).number(*number as u64),
        FileInput::Action(number) => e.tag(2).number(*number as u64),
    };
}
