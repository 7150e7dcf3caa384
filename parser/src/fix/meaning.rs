//! What a Dockerfile would build, to compare with what another would.

use std::collections::BTreeMap;

use oci::{Digest, ImageConfig};

use super::edits::AUTHORS;
use crate::diagnostic::Diagnostic;
use crate::instruction::Dockerfile;
use crate::lower::{BaseImage, ImageRequest, Lowered, Options, Outcome, lower};

/// A Dockerfile, and what each of its stages builds.
pub(super) struct Meaning {
    pub(super) dockerfile: Dockerfile,
    /// What the checks say about all of it.
    pub(super) findings: Vec<Diagnostic>,
    pub(super) stages: Vec<Built>,
}

/// What a stage builds.
pub(super) struct Built {
    /// Digest of the step that gives its files, which is over all that leads there.
    files: Option<(Digest, usize)>,
    pub(super) config: ImageConfig,
}

impl Meaning {
    /// `None` where it does not lower.
    pub(super) fn of(
        text: &str,
        options: &Options,
        images: &BTreeMap<ImageRequest, BaseImage>,
    ) -> Option<Self> {
        let parse = crate::parse::parse(text);
        if parse.has_errors() {
            return None;
        }
        let lowered = |options: &Options| match lower(&parse.dockerfile, options, images) {
            Ok(Outcome::Lowered(lowered)) => Some(*lowered),
            Ok(Outcome::NeedImages(_)) | Err(_) => None,
        };
        let syntax_warnings = parse.diagnostics.clone();
        let all = Options { all_stages: true, syntax_warnings, ..options.clone() };
        let findings = lowered(&all)?.warnings;
        let stages = (0..parse.dockerfile.stages.len()).map(|number| {
            let target = Some(number.to_string());
            lowered(&Options { target, all_stages: false, ..options.clone() }).map(Built::of)
        });
        let stages = stages.collect::<Option<Vec<_>>>()?;
        Some(Self { dockerfile: parse.dockerfile, findings, stages })
    }

    /// How many findings of `rule` there are.
    pub(super) fn count(&self, rule: &str) -> usize {
        self.findings.iter().filter(|found| found.rule == Some(rule)).count()
    }

    /// Whether every stage builds what it does in `old`, but for what mending `rule` is to change.
    pub(super) fn builds_what(&self, old: &Self, rule: &str) -> bool {
        let mut pairs = self.stages.iter().zip(&old.stages);
        self.stages.len() == old.stages.len() && pairs.all(|(new, old)| new.is_as(old, rule))
    }
}

impl Built {
    fn of(lowered: Lowered) -> Self {
        let files = lowered
            .target
            .map(|target| (lowered.definition.vertex(target.vertex).digest.clone(), target.output));
        Self { files, config: lowered.config }
    }

    fn is_as(&self, old: &Self, rule: &str) -> bool {
        let (mut new, mut old_config) = (self.config.clone(), old.config.clone());
        // Its text tells how an instruction was written.
        let layers = |config: &mut ImageConfig| -> Vec<bool> {
            std::mem::take(&mut config.history).iter().map(|entry| entry.empty_layer).collect()
        };
        let same_layers = layers(&mut new) == layers(&mut old_config);
        match rule {
            "MaintainerDeprecated" => {
                let author = std::mem::take(&mut old_config.author);
                if !author.is_empty() && new.author.is_empty() {
                    old_config.config.labels.entry(AUTHORS.to_owned()).or_insert(author);
                }
            }
            "JSONArgsRecommended" => forget_started(&mut new, &mut old_config),
            _ => {}
        }
        same_layers && self.files == old.files && new == old_config
    }
}

/// What is started without a shell now is not compared: [`super::exec_form`] sees to that. Where one
/// of the two is the other's arguments nothing may change.
fn forget_started(new: &mut ImageConfig, old: &mut ImageConfig) {
    let (new, old) = (&mut new.config, &mut old.config);
    if old.entrypoint.is_none() && new.entrypoint.is_none() {
        new.cmd.clone_from(&old.cmd);
    } else if old.cmd.is_none() && new.cmd.is_none() {
        new.entrypoint.clone_from(&old.entrypoint);
    }
}
