//! A program while it runs: watched, bounded, and ended together with all that it has started.

use std::io;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process_group, prlimit};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, ChildStdin, Command};

use crate::call::Call;
use crate::confinement::Confinement;
use crate::error::GitError;
use crate::limits::Limits;

/// How often the disk and the time are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// As much of what it says last is kept.
const LAST_WORDS: usize = 8 << 10;
/// Lines of it that are shown.
const LINES_SHOWN: usize = 8;

/// A process and its group. Dropped, all of the group ends; when this process is killed, too: the group's
/// guard sees the end of a pipe then.
struct Running {
    child: Child,
    guard: Guard,
}

/// The first of a group, which ends all of it when its standard input ends.
struct Guard {
    group: Pid,
    _process: Child,
    _end: ChildStdin,
}

impl Guard {
    fn start() -> io::Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "read -r end; kill -KILL 0"]).env_clear().current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let mut process = command.spawn()?;
        let gone = || io::Error::other("it has ended at once");
        let group = process.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let end = process.stdin.take().ok_or_else(gone)?;
        Ok(Self { group: group.ok_or_else(gone)?, _process: process, _end: end })
    }

    fn kill(&self) {
        // The guard has not been waited for, so that the group is still its own.
        let _ = kill_process_group(self.group, Signal::KILL);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs `command` to its end and gives what it has written. When the future is dropped, everything that
/// was started is killed.
pub(crate) async fn run(
    mut command: Command,
    call: &Call<'_>,
    limits: &Limits,
) -> Result<Vec<u8>, GitError> {
    let failed = |source| GitError::io("run `git`", source);
    let stdin = match call.held {
        // A lock on it lasts as long as any process of the group.
        Some(held) => held.try_clone().map_err(failed)?.into(),
        None => Stdio::null(),
    };
    let guard = Guard::start().map_err(|source| GitError::io("run `/bin/sh`", source))?;
    command.process_group(guard.group.as_raw_nonzero().get());
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = Confinement::of(call, command.as_std().get_program())
        .spawn(command)
        .await
        .map_err(failed)?;
    let process = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    // Whatever it starts later has the same limit. One that has ended already needs none.
    let memory = Rlimit { current: Some(call.memory), maximum: Some(call.memory) };
    let _ = prlimit(process, Resource::Data, memory);
    let mut running = Running { child, guard };
    let mut out = Stream::new(running.child.stdout.take());
    let mut words = Stream::new(running.child.stderr.take());
    let mut heard = Instant::now();
    let mut status = None;
    while status.is_none() || !out.is_over || !words.is_over {
        tokio::select! {
            read = out.read() => read.map_err(failed)?,
            read = words.read() => {
                read.map_err(failed)?;
                words.keep_last(LAST_WORDS);
            }
            ended = running.child.wait(), if status.is_none() => {
                status = Some(ended.map_err(failed)?);
                // What it has left behind may still hold the pipes.
                running.guard.kill();
            }
            () = tokio::time::sleep(LOOK) => {
                check(call, limits, heard)?;
                continue;
            }
        }
        heard = Instant::now();
        if out.bytes.len() > limits.answer {
            return Err(GitError::TooMuch(limits.answer));
        }
    }
    if status.is_some_and(|status| status.success()) {
        return Ok(out.bytes);
    }
    Err(GitError::Failed { said: said(&words.bytes) })
}

/// Whether it may go on.
fn check(call: &Call<'_>, limits: &Limits, heard: Instant) -> Result<(), GitError> {
    if let Some(why) = (limits.watch)() {
        return Err(GitError::NoRoom(why));
    }
    match call.is_remote && heard.elapsed() > limits.idle {
        true => Err(GitError::Idle(limits.idle)),
        false => Ok(()),
    }
}

/// What comes out of a pipe.
struct Stream<R> {
    pipe: Option<R>,
    bytes: Vec<u8>,
    is_over: bool,
}

impl<R: AsyncRead + Unpin> Stream<R> {
    fn new(pipe: Option<R>) -> Self {
        Self { is_over: pipe.is_none(), pipe, bytes: Vec::new() }
    }

    /// Waits for more; for ever, once it is over.
    async fn read(&mut self) -> io::Result<()> {
        let Some(pipe) = self.pipe.as_mut().filter(|_| !self.is_over) else {
            return std::future::pending().await;
        };
        self.is_over = pipe.read_buf(&mut self.bytes).await? == 0;
        Ok(())
    }

    fn keep_last(&mut self, most: usize) {
        if self.bytes.len() > 2 * most {
            self.bytes.drain(..self.bytes.len() - most);
        }
    }
}

/// The last lines of what was said, without progress and advice, as one.
fn said(words: &[u8]) -> String {
    let text = String::from_utf8_lossy(words);
    let lines = text.lines().map(|line| line.rsplit('\r').next().unwrap_or_default().trim_end());
    let (warnings, lines): (Vec<&str>, Vec<&str>) =
        lines.filter(|line| is_news(line)).partition(|line| line.starts_with("warning: "));
    // Where something is wrong, what is only odd is of no use.
    let lines = if lines.is_empty() { warnings } else { lines };
    let shown = lines[lines.len().saturating_sub(LINES_SHOWN)..].iter().map(|line| {
        let plain = ["fatal: ", "error: "].iter().find_map(|prefix| line.strip_prefix(prefix));
        plain.unwrap_or(line)
    });
    let shown = shown.collect::<Vec<_>>().join("; ");
    let shown: String = shown.chars().filter(|c| !c.is_control()).collect();
    if shown.is_empty() { "`git` has failed without a word".to_owned() } else { shown }
}

/// Whether a line says what went wrong.
fn is_news(line: &str) -> bool {
    const ADVICE: [&str; 4] =
        ["hint: ", "From ", "Please make sure you have", "and the repository exists."];
    let is_total = line.trim_start_matches("remote: ").starts_with("Total ");
    let is_progress = line.contains("% (") || line.ends_with(", done.") || is_total;
    !line.is_empty() && !is_progress && !ADVICE.iter().any(|prefix| line.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::said;

    #[test]
    fn what_went_wrong_is_told() {
        for (words, want) in [
            ("", "`git` has failed without a word"),
            ("fatal: no\n", "no"),
            (
                "Receiving: 1% (1/9)\rReceiving: 2% (2/9)\nremote: hello\nfatal: no\nhint: try\n",
                "remote: hello; no",
            ),
            ("remote: Counting objects: 3, done.\nfatal: no\n", "no"),
            ("remote: Total 3 (delta 0), reused 0 (delta 0)\nwarning: odd\nfatal: no\n", "no"),
            ("warning: odd\n", "warning: odd"),
            ("error: a\nfatal: b\n", "a; b"),
            ("fatal: a\x1b[31m\n", "a[31m"),
        ] {
            assert_eq!(said(words.as_bytes()), want, "{words:?}");
        }
    }
}
