//! The edits that mend a rule's findings.

use std::ops::Range;

use super::exec_form;
use super::meaning::Meaning;
use crate::check::{Casing, keyword_casing};
use crate::diagnostic::Diagnostic;
use crate::instruction::{CommandLine, Instruction, KeyValue, Kind, Stage};
use crate::span::{Lines, Span, Text};

/// What Docker's documentation names for authors instead of `MAINTAINER`.
pub(super) const AUTHORS: &str = "org.opencontainers.image.authors";

/// Text that takes another's place.
#[derive(Debug, Clone)]
pub(super) struct Edit {
    pub(super) range: Range<usize>,
    pub(super) text: String,
}

impl Edit {
    fn new(range: Range<usize>, text: impl Into<String>) -> Self {
        Self { range, text: text.into() }
    }
}

/// The edits for `rule`'s findings. What is written in a way that cannot be mended safely is left.
pub(super) fn of(rule: &str, text: &str, meaning: &Meaning) -> Vec<Edit> {
    let file = File { text, meaning, rule };
    match rule {
        "NoEmptyContinuation" => file.empty_continuations(),
        "ConsistentInstructionCasing" => file.keywords(),
        "FromAsCasing" => file.in_stages(|stage| file.as_keyword(stage)),
        "StageNameCasing" => file.in_stages(|stage| file.stage_name(stage)),
        "RedundantTargetPlatform" => file.in_stages(|stage| file.platform(stage)),
        "ExposeProtoCasing" => file.in_instructions(|instruction| file.protocols(instruction)),
        "LegacyKeyValueFormat" => file.in_instructions(|instruction| file.old_pairs(instruction)),
        "MaintainerDeprecated" => file.in_instructions(|instruction| file.maintainer(instruction)),
        "JSONArgsRecommended" => file.in_instructions(|instruction| file.shell_form(instruction)),
        _ => Vec::new(),
    }
}

struct File<'a> {
    text: &'a str,
    meaning: &'a Meaning,
    rule: &'a str,
}

impl File<'_> {
    fn is_found(&self, lines: Lines) -> bool {
        let found = |f: &Diagnostic| f.rule == Some(self.rule) && f.lines.start == lines.start;
        self.meaning.findings.iter().any(found)
    }

    fn in_stages(&self, edit: impl Fn(&Stage) -> Option<Edit>) -> Vec<Edit> {
        let found =
            self.meaning.dockerfile.stages.iter().filter(|stage| self.is_found(stage.lines));
        found.filter_map(edit).collect()
    }

    fn in_instructions(&self, edits: impl Fn(&Instruction) -> Vec<Edit>) -> Vec<Edit> {
        let all = self.meaning.dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
        let found = all.filter(|instruction| self.is_found(instruction.lines));
        found.flat_map(edits).collect()
    }

    fn slice(&self, span: Span) -> &str {
        self.text.get(span.range()).unwrap_or_default()
    }

    /// The instruction, where all of it is on one line.
    fn on_one_line(&self, instruction: &Instruction) -> Option<&str> {
        let whole = self.slice(instruction.span);
        (instruction.lines.start == instruction.lines.end && !whole.contains('\n')).then_some(whole)
    }

    /// Empty lines where an instruction goes on: its own, and never those of its here-documents.
    fn empty_continuations(&self) -> Vec<Edit> {
        let Ok(tree) = crate::parse::parse_tree(self.text) else { return Vec::new() };
        let mut edits = Vec::new();
        for empty in &tree.empty_continuations {
            let before = &self.text[..empty.span.range().start];
            let mut start = before.rfind('\n').map_or(0, |at| at + 1);
            let first = before.matches('\n').count() as u32 + 1;
            let lines = self.text[start..].split_inclusive('\n');
            for (_, line) in (first..=empty.line).zip(lines) {
                if line.trim().is_empty() {
                    edits.push(Edit::new(start..start + line.len(), ""));
                }
                start += line.len();
            }
        }
        edits
    }

    fn keywords(&self) -> Vec<Edit> {
        let stages = &self.meaning.dockerfile.stages;
        let casing = keyword_casing(&self.meaning.dockerfile);
        let words = stages.iter().flat_map(|stage| {
            let rest = stage.instructions.iter();
            let rest = rest.map(|i| (i.keyword.as_str(), i.span, i.lines));
            std::iter::once((stage.keyword.as_str(), stage.span, stage.lines)).chain(rest)
        });
        let found = words.filter(|(_, _, lines)| self.is_found(*lines));
        found.filter_map(|(word, span, _)| self.recased(word, span, casing)).collect()
    }

    fn recased(&self, word: &str, span: Span, casing: Casing) -> Option<Edit> {
        let start = span.range().start;
        let range = start..start + word.len();
        (self.text.get(range.clone()) == Some(word)).then(|| Edit::new(range, casing.of(word)))
    }

    fn as_keyword(&self, stage: &Stage) -> Option<Edit> {
        let (keyword, name) = (stage.as_keyword.as_ref()?, stage.name.as_ref()?);
        let before = self.text.get(..name.span.range().start)?.trim_end_matches([' ', '\t']);
        let start = before.len().checked_sub(keyword.len())?;
        let casing = Casing::like(&stage.keyword);
        before
            .ends_with(keyword.as_str())
            .then(|| Edit::new(start..before.len(), casing.of(keyword)))
    }

    fn stage_name(&self, stage: &Stage) -> Option<Edit> {
        let name = stage.name.as_ref()?;
        let written = self.slice(name.span);
        (stage.name_as_written.as_deref() == Some(written))
            .then(|| Edit::new(name.span.range(), written.to_lowercase()))
    }

    fn platform(&self, stage: &Stage) -> Option<Edit> {
        const FLAG: &str = "--platform=";
        let span = stage.platform.as_ref()?.span.range();
        // The span of a flag's value may begin with the flag.
        let start = match self.text.get(span.clone())?.starts_with(FLAG) {
            true => span.start,
            false => span.start.checked_sub(FLAG.len())?,
        };
        let behind = self.text.get(span.end..)?;
        let blanks = behind.len() - behind.trim_start_matches([' ', '\t']).len();
        let is_flag = self.text.get(start..)?.starts_with(FLAG) && blanks > 0;
        is_flag.then(|| Edit::new(start..span.end + blanks, ""))
    }

    fn protocols(&self, instruction: &Instruction) -> Vec<Edit> {
        let Kind::Expose(ports) = &instruction.kind else { return Vec::new() };
        let lower = |port: &Text| {
            let written = self.slice(port.span);
            let (_, protocol) = written.split_once('/').filter(|_| written == port.value)?;
            let is_word = protocol.chars().all(|c| c.is_ascii_alphabetic());
            let start = port.span.range().end - protocol.len();
            is_word.then(|| Edit::new(start..port.span.range().end, protocol.to_lowercase()))
        };
        ports.iter().filter_map(lower).collect()
    }

    fn old_pairs(&self, instruction: &Instruction) -> Vec<Edit> {
        let (Kind::Env(pairs) | Kind::Label(pairs)) = &instruction.kind else { return Vec::new() };
        let edit = || {
            let [pair] = pairs.as_slice() else { return None };
            self.on_one_line(instruction)?;
            let text = format!("{} {}", instruction.keyword, new_pair(pair)?);
            Some(Edit::new(instruction.span.range(), text))
        };
        edit().into_iter().collect()
    }

    fn maintainer(&self, instruction: &Instruction) -> Vec<Edit> {
        let (Kind::Maintainer(author), Some(_)) =
            (&instruction.kind, self.on_one_line(instruction))
        else {
            return Vec::new();
        };
        // A backslash may be the file's escape character or not: such a name is left as it is.
        if author.value.contains(['"', '\\', '`', '$']) {
            return Vec::new();
        }
        let keyword = Casing::like(&instruction.keyword).of("LABEL");
        let text = format!("{keyword} {AUTHORS}=\"{}\"", author.value);
        vec![Edit::new(instruction.span.range(), text)]
    }

    fn shell_form(&self, instruction: &Instruction) -> Vec<Edit> {
        let (Kind::Cmd(CommandLine::Shell(line)) | Kind::Entrypoint(CommandLine::Shell(line))) =
            &instruction.kind
        else {
            return Vec::new();
        };
        let edit = || {
            self.on_one_line(instruction)?;
            let words = exec_form::words(line)?;
            let quoted: Vec<String> = words.iter().map(|word| json_string(word)).collect();
            let text = format!("{} [{}]", instruction.keyword, quoted.join(", "));
            Some(Edit::new(instruction.span.range(), text))
        };
        edit().into_iter().collect()
    }
}

/// `key=value`, the value in quotes where it has blanks. One that has blanks and quotes of its own, or
/// escapes, is left.
fn new_pair(pair: &KeyValue) -> Option<String> {
    let (key, value) = (&pair.key.value, &pair.value.value);
    if !pair.legacy || value.is_empty() {
        return None;
    }
    let is_plain = !value.contains(['"', '\'', '\\', '`']);
    match value.contains([' ', '\t']) {
        false => Some(format!("{key}={value}")),
        true => is_plain.then(|| format!("{key}=\"{value}\"")),
    }
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
