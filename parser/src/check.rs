//! Checks: what is worth a warning in a Dockerfile that builds.
//!
//! The rules, their names and texts are BuildKit's. [`Checks`] says which are on; it is read from
//! the `# check=` directive or from the build argument `BUILDKIT_DOCKERFILE_CHECK`.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Diagnostic, Severity};
use crate::instruction::{Dockerfile, Instruction, Kind, Stage};
use crate::quote::quote;
use crate::span::{Lines, Span};

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Name, as in `# check=skip=NAME`.
    pub name: &'static str,
    /// What it asks for.
    pub description: &'static str,
    /// Last part of the address of its documentation, empty where there is none.
    page: &'static str,
    /// Off unless asked for.
    pub experimental: bool,
}

impl Rule {
    /// Address of its documentation, empty where there is none.
    pub fn url(&self) -> String {
        match self.page {
            "" => String::new(),
            page => format!("https://docs.docker.com/go/dockerfile/rule/{page}/"),
        }
    }
}

const fn rule(name: &'static str, page: &'static str, description: &'static str) -> Rule {
    Rule { name, description, page, experimental: false }
}

/// Every rule, by name.
pub const RULES: &[Rule] = &[
    rule(
        "ConsistentInstructionCasing",
        "consistent-instruction-casing",
        "All commands within the Dockerfile should use the same casing (either upper or lower)",
    ),
    rule(
        "CopyIgnoredFile",
        "copy-ignored-file",
        "Attempting to Copy file that is excluded by .dockerignore",
    ),
    rule("DuplicateStageName", "duplicate-stage-name", "Stage names should be unique"),
    rule(
        "ExposeInvalidFormat",
        "expose-invalid-format",
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will \
         become an error in a future release",
    ),
    rule(
        "ExposeProtoCasing",
        "expose-proto-casing",
        "Protocol in EXPOSE instruction should be lowercase",
    ),
    rule(
        "FromAsCasing",
        "from-as-casing",
        "The 'as' keyword should match the case of the 'from' keyword",
    ),
    rule(
        "FromPlatformFlagConstDisallowed",
        "from-platform-flag-const-disallowed",
        "FROM --platform flag should not use a constant value",
    ),
    rule(
        "InvalidBaseImagePlatform",
        "",
        "Base image platform does not match expected target platform",
    ),
    rule(
        "InvalidDefaultArgInFrom",
        "invalid-default-arg-in-from",
        "Default value for global ARG results in an empty or invalid base image name",
    ),
    Rule {
        name: "InvalidDefinitionDescription",
        description: "Comment for build stage or argument should follow the format: `# <arg/stage \
                      name> <description>`. If this is not intended to be a description comment, \
                      add an empty line or comment between the instruction and the comment.",
        page: "invalid-definition-description",
        experimental: true,
    },
    rule(
        "JSONArgsRecommended",
        "json-args-recommended",
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to \
         OS signals",
    ),
    rule(
        "LegacyKeyValueFormat",
        "legacy-key-value-format",
        "Legacy key/value format with whitespace separator should not be used",
    ),
    rule(
        "MaintainerDeprecated",
        "maintainer-deprecated",
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    ),
    rule(
        "MultipleInstructionsDisallowed",
        "multiple-instructions-disallowed",
        "Multiple instructions of the same type should not be used in the same stage",
    ),
    rule(
        "NoEmptyContinuation",
        "no-empty-continuation",
        "Empty continuation lines will become errors in a future release",
    ),
    rule(
        "RedundantTargetPlatform",
        "redundant-target-platform",
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the \
         default behavior",
    ),
    rule(
        "ReservedStageName",
        "reserved-stage-name",
        "Reserved words should not be used as stage names",
    ),
    rule(
        "SecretsUsedInArgOrEnv",
        "secrets-used-in-arg-or-env",
        "Sensitive data should not be used in the ARG or ENV commands",
    ),
    rule("StageNameCasing", "stage-name-casing", "Stage names should be lowercase"),
    rule("UndefinedArgInFrom", "undefined-arg-in-from", "FROM command must use declared ARGs"),
    rule("UndefinedVar", "undefined-var", "Variables should be defined before their use"),
    rule(
        "WorkdirRelativePath",
        "workdir-relative-path",
        "Relative workdir without an absolute workdir declared within the build can have \
         unexpected results if the base image changes",
    ),
];

/// The rule called `name`.
pub fn find_rule(name: &str) -> Option<&'static Rule> {
    RULES.binary_search_by_key(&name, |rule| rule.name).ok().map(|at| &RULES[at])
}

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
        let rules: BTreeSet<&str> = self.warnings.iter().filter_map(|w| w.rule).collect();
        let first = self.warnings.iter().filter(|w| w.rule.is_some()).min_by_key(|w| w.lines.start);
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
    let mut reporter = Reporter::new(checks);
    of_parser.iter().for_each(|warning| reporter.adopt(warning));
    check_instructions(dockerfile, &mut reporter);
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
    let lower = keywords().filter(|(word, _)| is_lower(word)).count();
    let upper = keywords().filter(|(word, _)| !is_lower(word) && is_upper(word)).count();
    let (majority, fits): (_, fn(&str) -> bool) =
        if lower > upper { ("lowercase", is_lower) } else { ("uppercase", is_upper) };
    for (word, place) in keywords().filter(|(word, _)| !fits(word)) {
        let message =
            format!("Command '{word}' should match the case of the command majority ({majority})");
        reporter.report("ConsistentInstructionCasing", place, message);
    }
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
