//! Trees written down as text, and what a file operation makes of them.
//!
//! A tree is one name a line: `a/b=text` is a file, `a/` a directory, `a -> b` a link, `a|` a FIFO,
//! `a == b` a hard link to `b`. `!755` and `@1:2` behind a name set its mode and owner. Missing parents
//! are made.

use std::fs;
use std::io::{Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use cache::layer::{
    Content, DiffOptions, DirectoryOptions, Entry, EntryKind, Flavor, LayerError, LayerSink, Lower,
    TarSink, Time, write_tar,
};
use engine::file_op::{self, FileOpError, Job, Previous, Target, Written, input_digest};
use engine::tree::{View, view_of_context, view_of_layers};
use llb::{CopyOp, FileAction, FileActionKind, FileInput, FileOp, Owner, OwnerId};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps};

/// Time of every file of a test tree: not whole seconds, so that equal times mean equal files.
pub(crate) const TIME: i64 = 1_600_000_000;
/// Time of what an operation makes.
pub(crate) const MADE: Time = Time { seconds: 86_400, nanoseconds: 0 };

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says that a test was not run, or only in part.
#[expect(clippy::print_stdout, reason = "a test that is skipped says so aloud")]
pub(crate) fn skip(why: &str) {
    println!("skipped: {why}");
}

/// Writes the tree `text` to `root`.
pub(crate) fn plant(root: &Path, text: &str) {
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (line, owner) = take(line, " @");
        let (line, mode) = take(line, " !");
        let path = plant_name(root, line);
        let is_link = path.is_symlink();
        // Only root gives files away; who wants to see owners asks first.
        if let Some(owner) = owner.filter(|_| is_root()) {
            let (uid, gid) = owner.split_once(':').unwrap();
            let ids = (Some(uid.parse().unwrap()), Some(gid.parse().unwrap()));
            std::os::unix::fs::lchown(&path, ids.0, ids.1).unwrap();
        }
        if !is_link {
            let default = if path.is_dir() { "755" } else { "644" };
            let mode = u32::from_str_radix(mode.unwrap_or(default), 8).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
    settle(root);
}

fn take<'a>(line: &'a str, mark: &str) -> (&'a str, Option<&'a str>) {
    line.rsplit_once(mark).map_or((line, None), |(rest, value)| (rest, Some(value)))
}

fn plant_name(root: &Path, line: &str) -> PathBuf {
    let parents = |path: &Path| fs::create_dir_all(path.parent().unwrap()).unwrap();
    if let Some((name, target)) = line.split_once(" -> ") {
        let path = root.join(name);
        parents(&path);
        symlink(target, &path).unwrap();
        return path;
    }
    if let Some((name, target)) = line.split_once(" == ") {
        let path = root.join(name);
        parents(&path);
        fs::hard_link(root.join(target), &path).unwrap();
        return path;
    }
    if let Some((name, content)) = line.split_once('=') {
        let path = root.join(name);
        parents(&path);
        fs::write(&path, content).unwrap();
        return path;
    }
    if let Some(name) = line.strip_suffix('|') {
        let path = root.join(name);
        parents(&path);
        rustix::fs::mknodat(CWD, &path, rustix::fs::FileType::Fifo, Mode::from(0o644), 0).unwrap();
        return path;
    }
    let path = root.join(line.strip_suffix('/').expect("a line of a tree"));
    fs::create_dir_all(&path).unwrap();
    path
}

/// Gives everything below `root` the same time.
pub(crate) fn settle(root: &Path) {
    let time = Timespec { tv_sec: TIME, tv_nsec: 5 };
    let times = Timestamps { last_access: time, last_modification: time };
    let mut todo = vec![root.to_path_buf()];
    let mut all = Vec::new();
    while let Some(path) = todo.pop() {
        if path.is_dir() && !path.is_symlink() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        all.push(path);
    }
    for path in all.iter().rev() {
        rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// A `COPY` or `ADD` line as lowering would make it: flags, sources, destination.
pub(crate) fn copy_op(line: &str) -> FileOp {
    let mut words = line.split(' ').filter(|word| !word.is_empty()).peekable();
    let attempt_unpack = words.next() == Some("ADD");
    let mut op = plain_copy();
    op.attempt_unpack = attempt_unpack;
    while let Some(flag) = words.next_if(|word| word.starts_with("--")) {
        match flag.split_once('=') {
            Some(("--chown", owner)) => op.owner = Some(owner_of(owner)),
            Some(("--chmod", mode)) => match u32::from_str_radix(mode, 8) {
                Ok(mode) => op.mode = Some(mode),
                Err(_) => op.mode_symbolic = Some(mode.into()),
            },
            Some(("--exclude", pattern)) => op.exclude_patterns.push(pattern.into()),
            Some(("--time", time)) => {
                let seconds = time.parse().unwrap();
                op.timestamp = Some(llb::Timestamp { seconds, nanoseconds: 0 });
            }
            _ if flag == "--parents" => op.parents = true,
            _ if flag == "--replace" => op.always_replace_existing = true,
            _ if flag == "--directory" => op.dir_copy_contents = false,
            _ if flag == "--no-follow" => op.follow_symlink = false,
            _ if flag == "--strict" => op.allow_empty_wildcard = false,
            _ if flag == "--must-exist" => op.create_dest_path = false,
            _ => panic!("unknown flag {flag}"),
        }
    }
    let mut words: Vec<&str> = words.collect();
    let dest = words.pop().expect("a destination");
    let copies = words.iter().map(|source| CopyOp {
        src: (*source).into(),
        dest: dest.into(),
        display_src: (*source).into(),
        ..op.clone()
    });
    chain(copies.map(|copy| (Some(FileInput::Input(1)), FileActionKind::Copy(copy))))
}

fn owner_of(text: &str) -> Owner {
    let id = |text: &str| match text.parse() {
        Ok(id) => OwnerId::Id(id),
        Err(_) => OwnerId::Name { name: text.into(), input: Some(0) },
    };
    match text.split_once(':') {
        Some((user, group)) => Owner { user: Some(id(user)), group: Some(id(group)) },
        None => Owner { user: Some(id(text)), group: None },
    }
}

pub(crate) fn plain_copy() -> CopyOp {
    CopyOp {
        src: String::new(),
        dest: String::new(),
        dest_has_dot: false,
        owner: None,
        mode: None,
        mode_symbolic: None,
        follow_symlink: true,
        dir_copy_contents: true,
        attempt_unpack: false,
        create_dest_path: true,
        allow_wildcard: true,
        allow_empty_wildcard: true,
        timestamp: None,
        include_patterns: Vec::new(),
        exclude_patterns: Vec::new(),
        always_replace_existing: false,
        parents: false,
        display_src: String::new(),
    }
}

/// Actions one after the other on input 0, the last of which makes output 0.
pub(crate) fn chain(kinds: impl Iterator<Item = (Option<FileInput>, FileActionKind)>) -> FileOp {
    let mut actions: Vec<FileAction> = kinds
        .enumerate()
        .map(|(index, (secondary, kind))| FileAction {
            input: index.checked_sub(1).map_or(FileInput::Input(0), FileInput::Action),
            secondary,
            output: None,
            kind,
        })
        .collect();
    actions.last_mut().expect("an action").output = Some(0);
    FileOp { actions }
}

/// A context and a tree below the layer.
pub(crate) struct Trees {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) host: executor::Host,
    pub(crate) context: View,
    pub(crate) lower: View,
}

impl Trees {
    pub(crate) fn new(context: &str, lower: &str) -> Self {
        Self::with_patterns(context, &[], lower)
    }

    pub(crate) fn with_patterns(context: &str, patterns: &[&str], lower: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [("context", context), ("lower", lower), ("out", ""), ("scratch", "")] {
            fs::create_dir(directory.path().join(name)).unwrap();
            plant(&directory.path().join(name), text);
        }
        let host = executor::Host::probe();
        let patterns = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        let context = view_of_context(&directory.path().join("context"), patterns, None).unwrap();
        let lower_layers = [directory.path().join("lower")];
        let layers = if lower.is_empty() { &lower_layers[..0] } else { &lower_layers[..] };
        let lower = view_of_layers(&host, layers).unwrap();
        Self { directory, host, context, lower }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn job<'a>(
        &'a self,
        op: &'a FileOp,
        inputs: &'a [Option<&'a View>],
        scratch: &'a Path,
    ) -> Job<'a> {
        Job {
            op,
            output: 0,
            inputs,
            default_time: MADE,
            scratch,
            host: &self.host,
            is_stopped: &|| false,
        }
    }

    pub(crate) fn apply(
        &self,
        op: &FileOp,
        target: Target<'_>,
    ) -> Result<file_op::Applied, FileOpError> {
        let inputs = [Some(&self.lower), Some(&self.context)];
        let scratch = self.path("scratch");
        file_op::apply(&self.job(op, &inputs, &scratch), target)
    }

    pub(crate) fn to_directory(
        &self,
        op: &FileOp,
        out: &Path,
        previous: Option<Previous<'_>>,
    ) -> Result<file_op::Applied, FileOpError> {
        let target = Target::Directory { path: out, options: &directory_options, previous };
        self.apply(op, target)
    }

    /// The entries of the layer's tar, one a line.
    pub(crate) fn entries(&self, op: &FileOp) -> Result<String, FileOpError> {
        let mut recorder = Recorder::default();
        self.apply(op, Target::Sink(&mut recorder))?;
        Ok(recorder.lines)
    }

    /// The layer's tar, written straight.
    pub(crate) fn tar(&self, op: &FileOp) -> Vec<u8> {
        let mut sink = TarSink::new(Vec::new());
        self.apply(op, Target::Sink(&mut sink)).unwrap();
        sink.finish().unwrap().0
    }

    /// The layer's tar, written from what the directory `out` and the tar `before` have.
    pub(crate) fn tar_again(&self, op: &FileOp, out: &str, before: Option<&[u8]>) -> Vec<u8> {
        let before = before.map(|bytes| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            file.rewind().unwrap();
            engine::file_op::TarBefore::new(file)
        });
        input_digest(op, 1, &self.context).unwrap();
        let written = Written::new(vec![open(&self.path(out))], before);
        let mut sink = TarSink::new(Vec::new());
        self.apply(op, Target::Again { sink: &mut sink, written }).unwrap();
        sink.finish().unwrap().0
    }

    /// The tar of the directory `out` as a layer over the lower tree.
    pub(crate) fn tar_of(&self, out: &Path) -> Vec<u8> {
        let mut tar = Vec::new();
        let lowers = self.lower.layers().iter().map(|path| open(path).into()).collect();
        let flavor = flavor();
        let lower = Some(Lower::new(lowers, flavor));
        let options = DiffOptions { flavor, lower, all_xattrs: false };
        write_tar(open(out), &options, &mut tar).unwrap();
        tar
    }
}

pub(crate) fn flavor() -> Flavor {
    if is_root() { Flavor::Trusted } else { Flavor::User }
}

pub(crate) fn directory_options() -> DirectoryOptions {
    DirectoryOptions { ignore_owner: !is_root(), ..DirectoryOptions::new(flavor()) }
}

pub(crate) fn open(path: &Path) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).unwrap()
}

/// Writes entries down: what, mode unless usual, owner unless root, path, content.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) lines: String,
    pub(crate) entries: Vec<Entry>,
}

impl LayerSink for Recorder {
    fn entry(&mut self, entry: &Entry, content: Content<'_>) -> Result<(), LayerError> {
        let path = String::from_utf8_lossy(&entry.path);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (usual, line) = match &entry.kind {
            EntryKind::Directory => (0o755, format!("{path}/")),
            EntryKind::File { .. } => (0o644, format!("{path}={}", text(&read(content)))),
            EntryKind::Symlink { target } => (0o777, format!("{path} -> {}", text(target))),
            EntryKind::Hardlink { target } => (0o644, format!("{path} == {}", text(target))),
            EntryKind::Fifo => (0o644, format!("{path}|")),
            EntryKind::Whiteout => (0, format!("- {path}")),
            kind => (0o644, format!("{path} {kind:?}")),
        };
        self.lines.push_str(&line);
        if entry.mode != usual {
            self.lines.push_str(&format!(" !{:o}", entry.mode));
        }
        if (entry.uid, entry.gid) != (0, 0) {
            self.lines.push_str(&format!(" @{}:{}", entry.uid, entry.gid));
        }
        self.lines.push('\n');
        self.entries.push(entry.clone());
        Ok(())
    }
}

fn read(content: Content<'_>) -> Vec<u8> {
    match content {
        Content::None => Vec::new(),
        Content::Bytes(bytes) => bytes.to_vec(),
        Content::File(mut file) => {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
            bytes
        }
        Content::Reader(reader) => {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(reader, &mut bytes).unwrap();
            bytes
        }
        Content::Move { directory, path } => {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(directory, path, flags, Mode::empty()).unwrap();
            read(Content::File(&fs::File::from(fd)))
        }
    }
}

/// What an operation makes, or its error; written as a directory it must have the same tar.
pub(crate) fn outcome(trees: &Trees, op: &FileOp) -> String {
    let lines = match trees.entries(op) {
        Err(error) => return format!("error: {}\n", chain_of(&error)),
        Ok(lines) => lines,
    };
    if !is_root() {
        skip("not root: owners in directories are not what they should be");
        return lines;
    }
    let out = trees.path("out");
    trees.to_directory(op, &out, None).unwrap();
    assert!(trees.tar(op) == trees.tar_of(&out), "the directory's tar differs from:\n{lines}");
    lines
}

/// The whole chain of an error, as a user sees it.
pub(crate) fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Checks one row: a context, a tree below, a `COPY` or `ADD` line, and the layer that it makes.
pub(crate) fn check(context: &str, lower: &str, line: &str, want: &str) {
    if !lower.is_empty() && !is_root() {
        return skip(&format!("{line} (not root: the tree below cannot be root's)"));
    }
    let trees = Trees::new(&lines(context), &lines(lower));
    let got = outcome(&trees, &copy_op(line));
    let want: String =
        want.split("; ").filter(|l| !l.is_empty()).map(|l| format!("{l}\n")).collect();
    assert_eq!(got, want, "\n{line}\ncontext: {context}\nlower: {lower}");
}

/// Rows have their trees on one line.
pub(crate) fn lines(text: &str) -> String {
    text.replace("; ", "\n")
}
