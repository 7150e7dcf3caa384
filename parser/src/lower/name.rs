//! Names of steps, as the user sees them.

use oci::Platform;

use super::Lowering;
use super::environment::Environment;
use super::stage::StageId;

impl Lowering<'_> {
    /// `[build 2/5] RUN make`: counts the step.
    pub(super) fn step_name(
        &mut self,
        id: StageId,
        text: &str,
        platform: Option<&Platform>,
        environment: &Environment,
    ) -> String {
        let stage = &mut self.stages[id];
        if stage.steps_total == 0 {
            return text.to_owned();
        }
        stage.steps_named += 1;
        self.same_step_name(id, text, platform, environment)
    }

    /// The name of another vertex of the step that was counted last.
    pub(super) fn same_step_name(
        &self,
        id: StageId,
        text: &str,
        platform: Option<&Platform>,
        environment: &Environment,
    ) -> String {
        let stage = &self.stages[id];
        let platform = match platform.filter(|_| self.options.multi_platform) {
            Some(platform) => {
                format!("{}{} ", platform, cross_target(platform, environment))
            }
            None => String::new(),
        };
        let space = if stage.label.is_empty() { "" } else { " " };
        let (label, total) = (&stage.label, stage.steps_total);
        let width = total.to_string().len();
        let onbuild = if stage.in_trigger { "ONBUILD " } else { "" };
        let number = stage.steps_named;
        format!("[{platform}{label}{space}{number:width$}/{total}] {onbuild}{text}")
    }
}

/// `->arm64` in a stage that runs on one platform and makes files for another.
fn cross_target(base: &Platform, environment: &Environment) -> String {
    let Some(target) = target_of(environment) else { return String::new() };
    let os = if target.os.is_empty() { &base.os } else { &target.os };
    let architecture =
        if target.architecture.is_empty() { &base.architecture } else { &target.architecture };
    let target = Platform::new(os, architecture, &target.variant);
    if target.os != base.os {
        return format!("->{}", target);
    }
    if target.architecture == base.architecture {
        return String::new();
    }
    let slash = if target.variant.is_empty() { "" } else { "/" };
    format!("->{}{slash}{}", target.architecture, target.variant)
}

/// The target's platform, as far as the stage's variables tell.
fn target_of(environment: &Environment) -> Option<Platform> {
    let named = environment.value("TARGETPLATFORM").and_then(|value| value.parse().ok());
    if named.is_some() {
        return named;
    }
    let [os, architecture, variant] =
        ["TARGETOS", "TARGETARCH", "TARGETVARIANT"].map(|name| environment.value(name));
    if [os, architecture, variant].iter().all(Option::is_none) {
        return None;
    }
    Some(Platform {
        os: os.unwrap_or_default().to_owned(),
        architecture: architecture.unwrap_or_default().to_owned(),
        variant: variant.unwrap_or_default().to_owned(),
        os_version: String::new(),
        os_features: Vec::new(),
    })
}

/// The first word in upper case.
pub(super) fn upper_keyword(text: &str) -> String {
    match text.split_once(' ') {
        Some((keyword, rest)) => format!("{} {rest}", keyword.to_uppercase()),
        None => text.to_uppercase(),
    }
}
