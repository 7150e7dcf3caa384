//! Instructions that change only the image's config.

use oci::{Empty, HealthConfig};

use super::Lowering;
use super::fault::{Fallible, Fault};
use super::signal;
use super::stage::{StageId, StageState};
use crate::check::Place;
use crate::instruction::{CommandLine, Healthcheck, Instruction, KeyValue};
use crate::quote::quote;
use crate::span::Text;

/// Which of the instructions that should stand once in a stage.
type Once = for<'a, 'd> fn(&'a mut StageState<'d>) -> &'a mut Option<Place<'static>>;

/// How to go on where a list is taken for a command line.
const SINGLE_QUOTES: &str = "strings of JSON have double quotes: `[\"program\", \"argument\"]`";

impl Lowering<'_> {
    pub(super) fn env(
        &mut self,
        id: StageId,
        instruction: &Instruction,
        pairs: &[KeyValue],
    ) -> Fallible {
        let pairs = self.expand_pairs(id, instruction, pairs)?;
        for (name, value) in &pairs {
            self.check_secret("ENV", name, Place::instruction(instruction));
            let state = &mut self.stages[id].state;
            state.set_variable(name, value);
            set_entry(&mut state.config().env, name, value);
        }
        self.record(id, format!("ENV{}", shown_pairs(&pairs)), false);
        Ok(())
    }

    pub(super) fn label(
        &mut self,
        id: StageId,
        instruction: &Instruction,
        pairs: &[KeyValue],
    ) -> Fallible {
        let pairs = self.expand_pairs(id, instruction, pairs)?;
        let shown = format!("LABEL{}", shown_pairs(&pairs));
        self.stages[id].state.config().labels.extend(pairs);
        self.record(id, shown, false);
        Ok(())
    }

    /// Every pair is expanded before the first takes effect.
    fn expand_pairs(
        &mut self,
        id: StageId,
        instruction: &Instruction,
        pairs: &[KeyValue],
    ) -> Fallible<Vec<(String, String)>> {
        let place = Place::instruction(instruction);
        let mut expanded = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let key = self.expand(id, place, &pair.key.value)?;
            let value = self.expand(id, place, &pair.value.value)?;
            expanded.push((key, value));
            if pair.legacy {
                let keyword = &instruction.keyword;
                let message = format!(
                    "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key \
                     value\" format"
                );
                self.reporter.report("LegacyKeyValueFormat", place, message);
            }
        }
        Ok(expanded)
    }

    pub(super) fn maintainer(&mut self, id: StageId, author: &str) {
        self.stages[id].state.image_mut().author = author.to_owned();
        self.record(id, format!("MAINTAINER {author}"), false);
    }

    pub(super) fn cmd(
        &mut self,
        id: StageId,
        instruction: &Instruction,
        line: &CommandLine,
    ) -> Fallible {
        self.check_used_once(id, instruction, |stage| &mut stage.last_cmd);
        let arguments = self.started_command(id, instruction, line);
        let shown = format!("CMD {}", quoted_list(&arguments));
        let config = self.stages[id].state.config();
        config.cmd = Some(arguments).filter(|arguments| !arguments.is_empty());
        config.args_escaped = true;
        self.record(id, shown, false);
        Ok(())
    }

    pub(super) fn entrypoint(
        &mut self,
        id: StageId,
        instruction: &Instruction,
        line: &CommandLine,
    ) -> Fallible {
        self.check_used_once(id, instruction, |stage| &mut stage.last_entrypoint);
        let arguments = self.started_command(id, instruction, line);
        let shown = format!("ENTRYPOINT {}", quoted_list(&arguments));
        let keeps_cmd = self.stages[id].last_cmd.is_some();
        let config = self.stages[id].state.config();
        config.entrypoint = Some(arguments).filter(|arguments| !arguments.is_empty());
        // A CMD of the base was meant for the base's ENTRYPOINT.
        if !keeps_cmd {
            config.cmd = None;
        }
        self.record(id, shown, false);
        Ok(())
    }

    fn started_command(
        &mut self,
        id: StageId,
        instruction: &Instruction,
        line: &CommandLine,
    ) -> Vec<String> {
        match line {
            CommandLine::Exec(arguments) => arguments.clone(),
            CommandLine::Shell(line) => {
                if self.stages[id].state.image.config.shell.is_empty() {
                    let message = format!(
                        "JSON arguments recommended for {} to prevent unintended behavior \
                         related to OS signals",
                        instruction.keyword
                    );
                    let place = Place::instruction(instruction);
                    let hint = line.trim_start().starts_with("['").then_some(SINGLE_QUOTES);
                    self.reporter.report_with_hint("JSONArgsRecommended", place, message, hint);
                }
                self.in_shell(id, line)
            }
        }
    }

    /// A command line of the shell form, for the shell in force.
    pub(super) fn in_shell(&self, id: StageId, line: &str) -> Vec<String> {
        let image = &self.stages[id].state.image;
        let mut arguments = image.config.shell.clone();
        if arguments.is_empty() {
            let default: &[&str] =
                if image.os == "windows" { &["cmd", "/S", "/C"] } else { &["/bin/sh", "-c"] };
            arguments.extend(default.iter().map(|word| (*word).to_owned()));
        }
        arguments.push(line.to_owned());
        arguments
    }

    pub(super) fn healthcheck(
        &mut self,
        id: StageId,
        instruction: &Instruction,
        healthcheck: &Healthcheck,
    ) -> Fallible {
        self.check_used_once(id, instruction, |stage| &mut stage.last_healthcheck);
        let health = health_config(healthcheck);
        let shown = format!(
            "HEALTHCHECK {{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} \
             Retries:{}}}",
            health.test.join(" "),
            shown_duration(health.interval),
            shown_duration(health.timeout),
            shown_duration(health.start_period),
            shown_duration(health.start_interval),
            health.retries
        );
        self.stages[id].state.config().healthcheck = Some(health);
        self.record(id, shown, false);
        Ok(())
    }

    fn check_used_once(&mut self, id: StageId, instruction: &Instruction, which: Once) {
        let place = Place::instruction(instruction);
        let unfiltered = Place { span: place.span, lines: place.lines, skipped: &[] };
        if let Some(earlier) = which(&mut self.stages[id]).replace(unfiltered) {
            let message = format!(
                "Multiple {} instructions should not be used in the same stage because only the \
                 last one will be used",
                instruction.keyword
            );
            // The earlier one is without effect, the later one says what is turned off.
            let earlier = Place { skipped: place.skipped, ..earlier };
            self.reporter.report("MultipleInstructionsDisallowed", earlier, message);
        }
    }

    pub(super) fn shell(&mut self, id: StageId, shell: &[String]) {
        self.stages[id].state.config().shell = shell.to_vec();
        self.record(id, format!("SHELL [{}]", shell.join(" ")), false);
    }

    pub(super) fn stop_signal(&mut self, id: StageId, place: Place<'_>, written: &str) -> Fallible {
        let name = self.expand(id, place, written)?;
        if !signal::is_known(&name) {
            return Err(Fault::new(format!("invalid signal: {name}")));
        }
        self.record(id, format!("STOPSIGNAL {name}"), false);
        self.stages[id].state.config().stop_signal = name;
        Ok(())
    }

    pub(super) fn user(&mut self, id: StageId, place: Place<'_>, written: &str) -> Fallible {
        let user = self.expand(id, place, written)?;
        self.record(id, format!("USER {user}"), false);
        self.stages[id].state.config().user = user;
        Ok(())
    }

    pub(super) fn volume(&mut self, id: StageId, place: Place<'_>, volumes: &[Text]) -> Fallible {
        let mut paths = Vec::with_capacity(volumes.len());
        for volume in volumes {
            paths.push(self.expand(id, place, &volume.value)?);
        }
        if paths.iter().any(String::is_empty) {
            return Err(Fault::new("VOLUME specified can not be an empty string"));
        }
        self.record(id, format!("VOLUME [{}]", paths.join(" ")), false);
        let volumes = paths.into_iter().map(|path| (path, Empty {}));
        self.stages[id].state.config().volumes.extend(volumes);
        Ok(())
    }
}

/// Replaces the first `name=…`, or adds one at the end.
fn set_entry(entries: &mut Vec<String>, name: &str, value: &str) {
    let is_same = |entry: &String| entry.split('=').next() == Some(name);
    let entry = format!("{name}={value}");
    match entries.iter_mut().find(|entry| is_same(entry)) {
        Some(existing) => *existing = entry,
        None => entries.push(entry),
    }
}

fn shown_pairs(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(key, value)| format!(" {key}={value}")).collect()
}

/// `["a" "b"]`, as Go prints a list of quoted strings.
fn quoted_list(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
    format!("[{}]", quoted.join(" "))
}

fn health_config(healthcheck: &Healthcheck) -> HealthConfig {
    match healthcheck {
        Healthcheck::None => {
            HealthConfig { test: vec!["NONE".to_owned()], ..HealthConfig::default() }
        }
        Healthcheck::Cmd { command, interval, timeout, start_period, start_interval, retries } => {
            let test = match command {
                CommandLine::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
                CommandLine::Exec(arguments) => {
                    std::iter::once("CMD".to_owned()).chain(arguments.iter().cloned()).collect()
                }
            };
            HealthConfig {
                test,
                interval: *interval,
                timeout: *timeout,
                start_period: *start_period,
                start_interval: *start_interval,
                retries: *retries,
            }
        }
    }
}

/// A duration in nanoseconds as Go prints it: `1m30s`, `1.5s`, `250ms`, `0s`.
fn shown_duration(nanoseconds: i64) -> String {
    const SECOND: u64 = 1_000_000_000;
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let total = nanoseconds.unsigned_abs();
    if total == 0 {
        return "0s".to_owned();
    }
    if total < SECOND {
        let (unit, size) = match total {
            0..1_000 => ("ns", 1),
            1_000..1_000_000 => ("µs", 1_000),
            _ => ("ms", 1_000_000),
        };
        return format!("{sign}{}{unit}", shown_fraction(total, size));
    }
    let (minutes, rest) = (total / (60 * SECOND), total % (60 * SECOND));
    let seconds = shown_fraction(rest, SECOND);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// `value` in units of `size`, a power of ten, with as many decimals as it has.
fn shown_fraction(value: u64, size: u64) -> String {
    let (whole, rest) = (value / size, value % size);
    if rest == 0 {
        return whole.to_string();
    }
    let digits = size.ilog10() as usize;
    let decimals = format!("{rest:0digits$}");
    format!("{whole}.{}", decimals.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::{quoted_list, set_entry, shown_duration};

    #[test]
    fn durations_read_as_go_prints_them() {
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (2_000_000, "2ms"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (5_400_250_000_000, "1h30m0.25s"),
            (-30_000_000_000, "-30s"),
        ];
        for (nanoseconds, want) in cases {
            assert_eq!(shown_duration(nanoseconds), want);
        }
    }

    #[test]
    fn an_entry_is_replaced_where_it_stands() {
        let mut entries = vec!["A=1".to_owned(), "AB=2".to_owned()];
        set_entry(&mut entries, "A", "3");
        set_entry(&mut entries, "B", "=");
        assert_eq!(entries, ["A=3", "AB=2", "B=="]);
    }

    #[test]
    fn lists_are_quoted_word_by_word() {
        assert_eq!(quoted_list(&["a b".to_owned(), "\"".to_owned()]), r#"["a b" "\""]"#);
        assert_eq!(quoted_list(&[]), "[]");
    }
}
