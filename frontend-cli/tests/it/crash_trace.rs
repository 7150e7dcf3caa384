//! What `strace` tells of a build, read.

use std::path::Path;
use std::process::Command;

use crate::crash_world::must_succeed;

/// The system calls of a program and its children, in the order in which they began.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) calls: Vec<Call>,
}

/// One system call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) thread: u32,
    pub(crate) name: String,
    /// The arguments as written, with the paths of descriptors (`3</path>`).
    pub(crate) text: String,
    /// What it gave: negative for an error; `None` if it never returned.
    pub(crate) result: Option<i64>,
    /// Lines of the trace at which it began and ended.
    pub(crate) began: usize,
    pub(crate) ended: usize,
}

impl Trace {
    /// Runs the command to its end and tells of these calls of it.
    pub(crate) fn record(command: &Command, calls: &str, file: &Path) -> Self {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-y", "--seccomp-bpf", "--signal=none", "-s", "256", "-e"]);
        strace.arg(format!("trace={calls}")).arg("-o").arg(file);
        strace.arg(command.get_program()).args(command.get_args());
        strace.env_clear().current_dir(command.get_current_dir().unwrap());
        for (name, value) in command.get_envs() {
            strace.env(name, value.unwrap_or_default());
        }
        must_succeed(&mut strace);
        Self::parse(&String::from_utf8_lossy(&std::fs::read(file).unwrap()))
    }

    /// Reads the text of a trace.
    pub(crate) fn parse(text: &str) -> Self {
        let mut trace = Self::default();
        for (number, line) in text.lines().enumerate() {
            let (thread, rest) = line.split_once(' ').expect("a thread and what it did");
            let (thread, rest) = (thread.parse().expect("a thread"), rest.trim_start());
            if let Some(rest) = rest.strip_prefix("<... ") {
                trace.resume(thread, rest, number);
            } else if let Some((name, rest)) = rest.split_once('(') {
                let call = Call {
                    thread,
                    name: name.to_owned(),
                    text: rest.to_owned(),
                    result: None,
                    began: number,
                    ended: usize::MAX,
                };
                trace.calls.push(call);
                match rest.strip_suffix(" <unfinished ...>") {
                    Some(text) => trace.last(thread).text = text.to_owned(),
                    None => trace.last(thread).end(number),
                }
            }
        }
        trace
    }

    fn resume(&mut self, thread: u32, rest: &str, number: usize) {
        let (_, rest) = rest.split_once(" resumed>").expect("what goes on");
        let call = self.last(thread);
        call.text.push_str(rest);
        call.end(number);
    }

    fn last(&mut self, thread: u32) -> &mut Call {
        let mut of_thread = self.calls.iter_mut().rev().filter(|call| call.thread == thread);
        of_thread.next().expect("a call that began")
    }

    /// Calls of one of these names.
    pub(crate) fn of<'a>(&'a self, names: &'a [&str]) -> impl Iterator<Item = &'a Call> {
        self.calls.iter().filter(move |call| names.contains(&call.name.as_str()))
    }
}

impl Call {
    fn end(&mut self, number: usize) {
        self.ended = number;
        let Some((arguments, result)) = self.text.rsplit_once(") ") else { return };
        let result = result.trim_start().strip_prefix("= ").unwrap_or_default();
        let number = result.split(|c: char| !c.is_ascii_digit() && c != '-').next();
        self.result = number.and_then(|number| number.parse().ok());
        self.text = arguments.to_owned();
    }

    /// Whether it did what it was asked for.
    pub(crate) fn succeeded(&self) -> bool {
        self.result.is_some_and(|result| result >= 0)
    }

    /// The path of the descriptor that is the first argument.
    pub(crate) fn descriptor(&self) -> Option<&str> {
        let (_, rest) = self.text.split_once('<').filter(|(number, _)| !number.contains(','))?;
        Some(rest.split_once('>')?.0)
    }

    /// The paths of all descriptors among the arguments.
    pub(crate) fn descriptors(&self) -> Vec<&str> {
        let arguments = self.text.split('<').skip(1);
        arguments.filter_map(|rest| Some(rest.split_once('>')?.0)).collect()
    }

    /// The paths among the arguments: strings, put below the directory before them if relative.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        let mut directory = "";
        let mut rest = self.text.as_str();
        while let Some(at) = rest.find(['<', '"']) {
            let close = if rest.as_bytes()[at] == b'<' { '>' } else { '"' };
            let Some((inside, after)) = rest[at + 1..].split_once(close) else { break };
            match (close, inside.starts_with('/')) {
                ('>', _) => directory = inside,
                (_, true) => paths.push(inside.to_owned()),
                (_, false) if inside.is_empty() => paths.push(directory.to_owned()),
                (_, false) => paths.push(format!("{directory}/{inside}")),
            }
            rest = after;
        }
        paths
    }
}

#[test]
fn a_trace_is_read() {
    let trace = Trace::parse(
        "7 renameat2(AT_FDCWD</w>, \"/w/a\", AT_FDCWD</w>, \"b\", RENAME_NOREPLACE) = 0\n\
         7 pwrite64(4</w/c>, \"\\1\\0\"..., 4096, 0 <unfinished ...>\n\
         8 fsync(5</w>)      = -1 EIO (Input/output error)\n\
         7 <... pwrite64 resumed>) = 4096\n\
         9 execve(\"/x\", [\"x\"], 0x1 /* 2 vars */ <unfinished ...>\n\
         9 +++ killed by SIGKILL +++\n",
    );
    let told: Vec<_> = trace
        .calls
        .iter()
        .map(|call| (call.thread, call.name.as_str(), call.result, call.began, call.ended))
        .collect();
    let expected = [
        (7, "renameat2", Some(0), 0, 0),
        (7, "pwrite64", Some(4096), 1, 3),
        (8, "fsync", Some(-1), 2, 2),
        (9, "execve", None, 4, usize::MAX),
    ];
    assert_eq!(told, expected);
    assert_eq!(trace.calls[0].paths(), ["/w/a", "/w/b"]);
    assert_eq!(trace.calls[1].descriptor(), Some("/w/c"));
    assert_eq!(trace.calls[2].descriptor(), Some("/w"));
    assert!(!trace.calls[2].succeeded());
}
