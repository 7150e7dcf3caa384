//! The live view on a terminal: running steps by stage, with the last lines they wrote and what
//! they transfer; a line for each step that is over. A frame is one write.
//!
//! ```text
//! building 12.3s, 3 of 7 steps, 1 cached
//! = [internal] load metadata for docker.io/library/alpine   CACHED
//! build
//!   + 1/3 WORKDIR /src                                        0.1s
//!   > 2/3 RUN make                                            8.2s
//!       cc -c main.c
//! ```

use std::fmt::Write as _;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use engine::Event;

use super::measure;
use super::steps::{State, Step, Steps};
use super::{FRAME, Renderer};
use crate::diagnostics;
use crate::terminal::{self, Size};

/// The renderer.
pub struct Tree {
    steps: Steps,
    log_lines: usize,
    color: bool,
    size: Box<dyn Fn() -> Size + Send>,
    /// Warnings not yet shown: they go above the tree, and stay.
    notices: String,
    shown: Frame,
}

/// What is on the terminal now.
#[derive(Debug, Default, PartialEq, Eq)]
struct Frame {
    lines: Vec<String>,
    columns: usize,
}

impl Tree {
    /// A tree with `log_lines` lines of output under each running step. `size` is asked for each
    /// frame, so that a window may change.
    pub fn new(log_lines: usize, color: bool, size: impl Fn() -> Size + Send + 'static) -> Self {
        Self {
            steps: Steps::default(),
            log_lines,
            color,
            size: Box::new(size),
            notices: String::new(),
            shown: Frame::default(),
        }
    }

    /// The lines to show now, each at most `size.columns - 1` wide and no more than fit.
    fn frame(&self, at: Duration, size: Size) -> Vec<String> {
        let rows = size.rows.saturating_sub(1).max(1);
        let mut lines = Vec::new();
        for detail in Detail::levels(self.log_lines) {
            lines = self.lines(at, size.columns, &detail);
            if lines.len() <= rows {
                return lines;
            }
        }
        let hidden = lines.len() + 1 - rows;
        lines.truncate(rows - 1);
        lines.push(format!("… {hidden} more lines"));
        lines
    }

    fn lines(&self, at: Duration, columns: usize, detail: &Detail) -> Vec<String> {
        let width = columns.saturating_sub(1);
        let mut lines = vec![self.headline("building", at, width)];
        for (stage, steps) in self.stages() {
            self.stage(stage, &steps, at, width, detail, &mut lines);
        }
        lines
    }

    fn stage(
        &self,
        stage: &str,
        steps: &[&Step],
        at: Duration,
        width: usize,
        detail: &Detail,
        lines: &mut Vec<String>,
    ) {
        let shown: Vec<&Step> = steps.iter().copied().filter(|step| detail.shows(step)).collect();
        let count = |steps: &[&Step]| steps.iter().filter(|step| step.is_over()).count();
        let counted = match detail.finished {
            Finished::Counted => count(steps) - count(&shown),
            Finished::Lines | Finished::Hidden => 0,
        };
        if shown.is_empty() && counted == 0 {
            return;
        }
        let has_title = !stage.is_empty() && detail.finished != Finished::Hidden;
        let indent = if has_title { 2 } else { 0 };
        if has_title {
            lines.push(self.paint(BOLD, &terminal::fit(stage, width)));
        }
        if counted > 0 {
            let text = format!("{:indent$}+ {counted} finished", "");
            lines.push(self.paint(DIM, &terminal::fit(&text, width)));
        }
        let title = if has_title { stage } else { "" };
        for step in shown {
            lines.push(self.step(step, title, indent, at, width));
            if step.is_running() && detail.finished != Finished::Hidden {
                self.activity(step, indent + 4, width, detail.log_lines, lines);
            }
        }
    }

    fn headline(&self, verb: &str, at: Duration, width: usize) -> String {
        let all = self.steps.iter().count();
        let over = self.steps.iter().filter(|(_, step)| step.is_over()).count();
        let cached = self.steps.iter().filter(|(_, step)| step.state == State::Cached).count();
        let mut text = format!("{verb} {}, {over} of {all} steps", measure::duration(at));
        if cached > 0 {
            let _ = write!(text, ", {cached} cached");
        }
        self.paint(BOLD, &terminal::fit(&text, width))
    }

    /// Stages in the order of their first steps; internal steps have none and come first.
    fn stages(&self) -> Vec<(&str, Vec<&Step>)> {
        let mut stages: Vec<(&str, Vec<&Step>)> = vec![("", Vec::new())];
        for (_, step) in self.steps.iter() {
            match stages.iter_mut().find(|(stage, _)| *stage == step.stage) {
                Some((_, steps)) => steps.push(step),
                None => stages.push((&step.stage, vec![step])),
            }
        }
        stages
    }

    fn step(&self, step: &Step, title: &str, indent: usize, at: Duration, width: usize) -> String {
        let (mark, style, status) = match &step.state {
            State::Pending => ('.', DIM, String::new()),
            State::Running(since) => ('>', BOLD, measure::duration(at.saturating_sub(*since))),
            State::Cached => ('=', CYAN, "CACHED".to_owned()),
            State::Done(duration) => ('+', GREEN, measure::duration(*duration)),
            State::Failed(_) => ('!', RED, "FAILED".to_owned()),
            State::Canceled => ('-', DIM, "CANCELED".to_owned()),
        };
        let left = format!("{:indent$}{mark} {}", "", short_name(&step.name, title));
        self.paint(style, &columns(&left, &status, width))
    }

    /// What a running step transfers, and the last lines that it wrote.
    fn activity(
        &self,
        step: &Step,
        indent: usize,
        width: usize,
        log_lines: usize,
        lines: &mut Vec<String>,
    ) {
        for transfer in step.transfers.iter().filter(|transfer| !transfer.done) {
            let left = format!("{:indent$}{}", "", transfer.item);
            let right = measure::transfer(transfer.current, transfer.total);
            lines.push(self.paint(DIM, &columns(&left, &right, width)));
        }
        for line in step.last_lines(log_lines) {
            let text = format!("{:indent$}{line}", "");
            lines.push(self.paint(DIM, &terminal::fit(&text, width)));
        }
    }

    fn paint(&self, style: Style, text: &str) -> String {
        if self.color { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    /// Puts `lines` where the frame on the terminal stands, warnings above them.
    ///
    /// What stands there is written over and only its rest is cleared: clearing first flickers, and
    /// some terminals keep what is cleared from the first row on in their scrollback. When the
    /// width has changed it is cleared first all the same, or lines that the terminal has wrapped
    /// stay joined for it.
    fn replace(&mut self, lines: &[String], out: &mut Vec<u8>) {
        let columns = (self.size)().columns.max(1);
        let up = self.rows_shown(columns);
        if up > 0 {
            out.extend_from_slice(format!("\r\x1b[{up}A").as_bytes());
            if columns != self.shown.columns {
                out.extend_from_slice(b"\x1b[J");
            }
        }
        let notices = std::mem::take(&mut self.notices);
        for line in notices.lines().chain(lines.iter().map(String::as_str)) {
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(b"\x1b[K\r\n");
        }
        if up > 0 {
            out.extend_from_slice(b"\x1b[J");
        }
    }

    /// Rows that the frame on the terminal takes.
    fn rows_shown(&self, columns: usize) -> usize {
        if columns >= self.shown.columns {
            return self.shown.lines.len();
        }
        // A window that became narrower has wrapped the lines that no longer fit.
        self.shown.lines.iter().map(|line| visible_width(line).div_ceil(columns).max(1)).sum()
    }
}

impl Renderer for Tree {
    fn event(&mut self, at: Duration, event: Event) {
        match event {
            Event::Warning { message } => {
                let line = diagnostics::warning(&terminal::harmless(&message));
                self.notices.push_str(&if self.color { line } else { strip(&line) });
            }
            event => self.steps.event(at, event, self.log_lines),
        }
    }

    fn draw(&mut self, at: Duration, out: &mut Vec<u8>) {
        let size = (self.size)();
        let frame = Frame { lines: self.frame(at, size), columns: size.columns };
        if frame == self.shown && self.notices.is_empty() {
            return;
        }
        // The cursor is hidden only within this one write, so that nothing can leave it so.
        // Terminals that know synchronized updates show the frame at once.
        out.extend_from_slice(b"\x1b[?2026h\x1b[?25l");
        self.replace(&frame.lines, out);
        out.extend_from_slice(b"\x1b[?25h\x1b[?2026l");
        self.shown = frame;
    }

    fn finish(&mut self, at: Duration, out: &mut Vec<u8>) {
        // The last state stays in the scrollback: all of it, however high the window is.
        let columns = (self.size)().columns;
        let last = Detail { finished: Finished::Lines, log_lines: 0 };
        let mut lines = self.lines(at, columns, &last);
        lines[0] = self.headline("took", at, columns.saturating_sub(1));
        if self.steps.iter().next().is_none() {
            lines.clear();
        }
        self.replace(&lines, out);
        self.shown = Frame::default();
    }

    fn interval(&self) -> Option<Duration> {
        Some(FRAME)
    }
}

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const CYAN: Style = AnsiColor::Cyan.on_default();
const GREEN: Style = AnsiColor::Green.on_default();
const RED: Style = AnsiColor::Red.on_default().bold();

/// How much a frame shows. Little windows get less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Detail {
    finished: Finished,
    /// Lines of output under each running step.
    log_lines: usize,
}

/// What is seen of steps that are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finished {
    /// A line each.
    Lines,
    /// Their number in each stage.
    Counted,
    /// Nothing, and of running steps only a line each.
    Hidden,
}

impl Detail {
    /// From the most to the least.
    fn levels(log_lines: usize) -> impl Iterator<Item = Self> {
        let tails = [log_lines, log_lines / 2, 1, 0];
        let counted = tails.map(|log_lines| Self { finished: Finished::Counted, log_lines });
        [Self { finished: Finished::Lines, log_lines }]
            .into_iter()
            .chain(counted)
            .chain([Self { finished: Finished::Hidden, log_lines: 0 }])
    }

    fn shows(&self, step: &Step) -> bool {
        match step.state {
            State::Pending => false,
            State::Running(_) | State::Failed(_) => true,
            _ => self.finished == Finished::Lines,
        }
    }
}

/// The name without the stage that stands above it: `[build 2/5] RUN make` in `build` is
/// `2/5 RUN make`.
fn short_name<'a>(name: &'a str, stage: &str) -> std::borrow::Cow<'a, str> {
    let inner = name.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    match inner
        .and_then(|(place, rest)| Some((place.strip_prefix(stage)?.strip_prefix(' ')?, rest)))
    {
        Some((number, rest)) if !stage.is_empty() => format!("{number} {rest}").into(),
        _ => name.into(),
    }
}

/// `left` and, at the right edge, `right`; `left` gives way.
fn columns(left: &str, right: &str, width: usize) -> String {
    let right_width = terminal::width(right);
    if right.is_empty() || width < right_width + 12 {
        return terminal::fit(left, width);
    }
    let room = width - right_width - 1;
    let left = terminal::fit(left, room);
    let padding = room - terminal::width(&left) + 1;
    format!("{left}{:padding$}{right}", "")
}

fn strip(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

fn visible_width(line: &str) -> usize {
    terminal::width(&strip(line))
}
