//! Checks: what is worth a warning in a Dockerfile that builds.
//!
//! The rules, their names and texts are BuildKit's; those of [`advice`] are ours and give notes.
//! [`Checks`] says which are on; it is read from the `# check=` directive or from the build
//! argument `BUILDKIT_DOCKERFILE_CHECK`.

pub(crate) mod advice;
mod package_lists;
mod rules;
mod script;
mod secret;

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Diagnostic, Severity};
use crate::instruction::{Dockerfile, Instruction, Kind, Stage};
use crate::quote::quote;
use crate::span::{Lines, Span};

pub use rules::{RULES, Rule, find_rule};

/// Which rules are on, and whether a violation is an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checks {
    skip_all: bool,
    skip: BTreeSet<String>,
    experimental_all: bool,
    experimental: BTreeSet<String>,
    error: bool,
}

/// Why text is no setting for checks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChecks {
    /// A part is not `name=value`, or the name is not known.
    #[error("invalid check option {}", quote(.0))]
    Option(String),
    /// `error=` wants a truth value.
    #[error("failed to parse check option {}: invalid boolean value {}", quote(.option), quote(.value))]
    Bool {
        /// The part.
        option: String,
        /// Its value.
        value: String,
    },
}

impl Checks {
    /// The setting of a file: the build argument if it is given, else the directive.
    pub fn of(
        dockerfile: &Dockerfile,
        build_args: &BTreeMap<String, String>,
    ) -> Result<Self, InvalidChecks> {
        if let Some(text) = build_args.get("BUILDKIT_DOCKERFILE_CHECK") {
            return Self::parse(text);
        }
        let directive = dockerfile.directives.iter().find(|d| d.name == "check");
        directive.map_or(Ok(Self::default()), |directive| Self::parse(&directive.value.value))
    }

    /// Reads `skip=A,B;error=true;experimental=all`.
    pub fn parse(text: &str) -> Result<Self, InvalidChecks> {
        let mut checks = Self::default();
        if text.trim().is_empty() {
            return Ok(checks);
        }
        for part in text.trim().splitn(3, ';') {
            let Some((name, value)) = part.split_once('=') else {
                return Err(InvalidChecks::Option(part.to_owned()));
            };
            let value = value.trim();
            match name.trim() {
                "skip" => set_names(value, &mut checks.skip_all, &mut checks.skip),
                "experimental" => {
                    set_names(value, &mut checks.experimental_all, &mut checks.experimental);
                }
                "error" => {
                    checks.error = parse_bool(value).ok_or_else(|| InvalidChecks::Bool {
                        option: part.to_owned(),
                        value: value.to_owned(),
                    })?;
                }
                other => return Err(InvalidChecks::Option(other.to_owned())),
            }
        }
        Ok(checks)
    }

    /// Whether `rule` is on, given the names that a comment above the instruction turns off.
    pub fn is_on(&self, rule: &str, skipped_here: &[String]) -> bool {
        if find_rule(rule).is_some_and(|r| r.experimental) {
            return self.experimental_all || self.experimental.contains(rule);
        }
        let skipped_here = skipped_here.iter().any(|name| name == "all" || name == rule);
        !(self.skip_all || skipped_here || self.skip.contains(rule))
    }

    /// The names of checks that it turns on or off.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.skip.iter().chain(&self.experimental).map(String::as_str)
    }

    /// Whether a violation makes the build fail.
    pub fn violations_are_errors(&self) -> bool {
        self.error
    }
}

/// The later `skip=` of one text replaces the earlier.
fn set_names(value: &str, all: &mut bool, names: &mut BTreeSet<String>) {
    if value == "all" {
        *all = true;
    } else {
        *names = value.split(',').map(|name| name.trim().to_owned()).collect();
    }
}

/// Truth values as Go's `strconv.ParseBool` reads them.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Where a warning belongs, and what is turned off there.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place<'a> {
    pub(crate) span: Span,
    pub(crate) lines: Lines,
    pub(crate) skipped: &'a [String],
}

impl<'a> Place<'a> {
    pub(crate) fn stage(stage: &'a Stage) -> Self {
        Self { span: stage.span, lines: stage.lines, skipped: &stage.skip_checks }
    }

    pub(crate) fn instruction(instruction: &'a Instruction) -> Self {
        Self { span: instruction.span, lines: instruction.lines, skipped: &instruction.skip_checks }
    }

    /// The same place where only the file's own setting counts.
    pub(crate) fn unfiltered(self) -> Self {
        Self { skipped: &[], ..self }
    }
}

/// Collects the warnings of the rules that are on.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    checks: Checks,
    warnings: Vec<Diagnostic>,
}

impl Reporter {
    pub(crate) fn new(checks: Checks) -> Self {
        Self { checks, warnings: Vec::new() }
    }

    /// A violation of `rule` at `place`.
    pub(crate) fn report(&mut self, rule: &'static str, place: Place<'_>, message: String) {
        self.report_with_hint(rule, place, message, None);
    }

    /// The same, with how to go on, if that is known.
    pub(crate) fn report_with_hint(
        &mut self,
        rule: &'static str,
        place: Place<'_>,
        message: String,
        hint: Option<&str>,
    ) {
        if self.checks.is_on(rule, place.skipped) {
            let warning = Diagnostic::warning(rule, message, place.span, place.lines);
            self.warnings.push(Diagnostic { hint: hint.map(str::to_owned), ..warning });
        }
    }

    /// Advice, and how to follow it.
    pub(crate) fn advise(
        &mut self,
        rule: &'static str,
        place: Place<'_>,
        message: String,
        hint: &str,
    ) {
        if self.checks.is_on(rule, place.skipped) {
            let note = Diagnostic::warning(rule, message, place.span, place.lines);
            let note = Diagnostic { severity: Severity::Note, ..note };
            self.warnings.push(note.with_hint(hint));
        }
    }

    /// A warning of the parser, which knows nothing of what is turned off in the file.
    pub(crate) fn adopt(&mut self, warning: &Diagnostic) {
        if warning.severity == Severity::Warning
            && warning.rule.is_none_or(|rule| self.checks.is_on(rule, &[]))
        {
            self.warnings.push(warning.clone());
        }
    }

    /// The error that stands for all violations, where the file asks for that.
    pub(crate) fn violation(&self) -> Option<Diagnostic> {
        let of_rules = |w: &&Diagnostic| w.severity == Severity::Warning && w.rule.is_some();
        let warnings = || self.warnings.iter().filter(of_rules);
        let rules: BTreeSet<&str> = warnings().filter_map(|w| w.rule).collect();
        let first = warnings().min_by_key(|w| w.lines.start);
        let first = first.filter(|_| self.checks.error)?;
        let rules: Vec<&str> = rules.into_iter().collect();
        let message = format!("lint violation found for rules: {}", rules.join(", "));
        Some(Diagnostic::error(message, first.span, first.lines))
    }

    /// All warnings, in the order of the file.
    pub(crate) fn into_warnings(mut self) -> Vec<Diagnostic> {
        self.warnings.sort_by(|a, b| {
            (a.lines.start, &a.message, a.rule).cmp(&(b.lines.start, &b.message, b.rule))
        });
        self.warnings
    }
}

/// The warnings about a file that the parser could not read to its end: those of the parser, and
/// those about the instructions before the first error.
pub fn warnings_of_broken(
    dockerfile: &Dockerfile,
    checks: Checks,
    of_parser: &[Diagnostic],
) -> Vec<Diagnostic> {
    warnings_of(checks, of_parser, |reporter| check_instructions(dockerfile, reporter))
}

/// The warnings about a file whose images are not known: those of the parser, and those that need neither
/// variables nor images.
pub fn warnings_without_images(
    dockerfile: &Dockerfile,
    checks: Checks,
    of_parser: &[Diagnostic],
) -> Vec<Diagnostic> {
    warnings_of(checks, of_parser, |reporter| check_file(dockerfile, reporter))
}

/// The parser's warnings and those of `check`, as far as `checks` has them on.
fn warnings_of(
    checks: Checks,
    of_parser: &[Diagnostic],
    check: impl FnOnce(&mut Reporter),
) -> Vec<Diagnostic> {
    let mut reporter = Reporter::new(checks);
    of_parser.iter().for_each(|warning| reporter.adopt(warning));
    check(&mut reporter);
    reporter.into_warnings()
}

/// The checks of the whole file that need neither variables nor images.
pub(crate) fn check_file(dockerfile: &Dockerfile, reporter: &mut Reporter) {
    check_instructions(dockerfile, reporter);
    check_stage_names(dockerfile, reporter);
    check_keyword_casing(dockerfile, reporter);
}

/// The checks that look at one instruction alone.
fn check_instructions(dockerfile: &Dockerfile, reporter: &mut Reporter) {
    for instruction in &dockerfile.global_args {
        check_instruction(instruction, reporter);
    }
    for stage in &dockerfile.stages {
        check_from(stage, reporter);
        stage.instructions.iter().for_each(|instruction| check_instruction(instruction, reporter));
    }
}

fn check_from(stage: &Stage, reporter: &mut Reporter) {
    let place = Place::stage(stage);
    if let Some(name) = stage.name_as_written.as_ref().filter(|name| !is_lower(name)) {
        let message = format!("Stage name '{name}' should be lowercase");
        reporter.report("StageNameCasing", place, message);
    }
    if let Some(keyword) = &stage.as_keyword {
        let from = &stage.keyword;
        let differs =
            (is_lower(from) && !is_lower(keyword)) || (is_upper(from) && !is_upper(keyword));
        if differs {
            let message = format!("'{keyword}' and '{from}' keywords' casing do not match");
            reporter.report("FromAsCasing", place, message);
        }
    }
    if let Some(name) = &stage.name {
        check_description("FROM", &[&name.value], &stage.comments, place, reporter);
    }
}

fn check_instruction(instruction: &Instruction, reporter: &mut Reporter) {
    let place = Place::instruction(instruction);
    match &instruction.kind {
        Kind::Maintainer(_) => {
            let message = "Maintainer instruction is deprecated in favor of using label";
            reporter.report("MaintainerDeprecated", place, message.to_owned());
        }
        Kind::Arg(arguments) => {
            let names: Vec<&str> = arguments.iter().map(|arg| arg.name.value.as_str()).collect();
            check_description("ARG", &names, &instruction.comments, place, reporter);
        }
        _ => {}
    }
}

/// A comment right above a definition should begin with a name that it defines.
fn check_description(
    keyword: &str,
    names: &[&str],
    comments: &[String],
    place: Place<'_>,
    reporter: &mut Reporter,
) {
    let Some(comment) = comments.last() else { return };
    let first_word = comment.split(' ').next().unwrap_or_default();
    if !names.contains(&first_word) {
        let name = if let [name] = names { name } else { "<arg_key>" };
        let message =
            format!("Comment for {keyword} should follow the format: `# {name} <description>`");
        reporter.report("InvalidDefinitionDescription", place, message);
    }
}

fn is_lower(word: &str) -> bool {
    word.to_lowercase() == word
}

fn is_upper(word: &str) -> bool {
    word.to_uppercase() == word
}

fn check_stage_names(dockerfile: &Dockerfile, reporter: &mut Reporter) {
    let mut seen = BTreeSet::new();
    for stage in &dockerfile.stages {
        let Some(name) = stage.name.as_ref().map(|name| name.value.as_str()) else { continue };
        let place = Place::stage(stage).unfiltered();
        if matches!(name, "context" | "scratch") {
            let message = format!(
                "Stage name should not use the same name as reserved stage {}",
                quote(name)
            );
            reporter.report("ReservedStageName", place, message);
        }
        if !seen.insert(name) {
            let message =
                format!("Duplicate stage name {}, stage names should be unique", quote(name));
            reporter.report("DuplicateStageName", place, message);
        }
    }
}

fn check_keyword_casing(dockerfile: &Dockerfile, reporter: &mut Reporter) {
    let keywords = || {
        dockerfile.stages.iter().flat_map(|stage| {
            let from = (stage.keyword.as_str(), Place::stage(stage).unfiltered());
            let rest = stage.instructions.iter();
            std::iter::once(from)
                .chain(rest.map(|i| (i.keyword.as_str(), Place::instruction(i).unfiltered())))
        })
    };
    let casing = keyword_casing(dockerfile);
    for (word, place) in keywords().filter(|(word, _)| casing.of(word) != *word) {
        let majority = match casing {
            Casing::Lower => "lowercase",
            Casing::Upper => "uppercase",
        };
        let message =
            format!("Command '{word}' should match the case of the command majority ({majority})");
        reporter.report("ConsistentInstructionCasing", place, message);
    }
}

/// How words are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Casing {
    /// In small letters.
    Lower,
    /// In capitals.
    Upper,
}

impl Casing {
    /// How `word` is written; capitals where it is mixed.
    pub(crate) fn like(word: &str) -> Self {
        if is_lower(word) { Self::Lower } else { Self::Upper }
    }

    /// `word`, written so.
    pub(crate) fn of(self, word: &str) -> String {
        match self {
            Self::Lower => word.to_lowercase(),
            Self::Upper => word.to_uppercase(),
        }
    }
}

/// How most instructions are written; those that mix both count for neither.
pub(crate) fn keyword_casing(dockerfile: &Dockerfile) -> Casing {
    let stages = dockerfile.stages.iter();
    let words = stages.flat_map(|stage| {
        let rest = stage.instructions.iter().map(|instruction| instruction.keyword.as_str());
        std::iter::once(stage.keyword.as_str()).chain(rest)
    });
    let (mut lower, mut upper) = (0, 0);
    for word in words {
        lower += usize::from(is_lower(word));
        upper += usize::from(!is_lower(word) && is_upper(word));
    }
    if lower > upper { Casing::Lower } else { Casing::Upper }
}

/// Whether a variable called `name` seems to hold a secret.
pub(crate) fn names_a_secret(name: &str) -> bool {
    const SECRETS: &[&str] = &[
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    const HARMLESS: &[&str] = &["public", "file", "version"];
    let lower = name.to_ascii_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
    has(SECRETS) && !has(HARMLESS)
}
