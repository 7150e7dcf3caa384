//! Flags that Docker's tools have and this one has not: named, with a way out.

use std::path::Path;

use super::csv;
use crate::cli::BuildArgs;
use crate::error::UsageError;
use crate::spelling::boolean;

/// Fails for the first flag that cannot be honoured.
pub(super) fn check(args: &BuildArgs) -> Result<(), UsageError> {
    let refused = &args.refused;
    let given: &[(&str, bool, &str)] = &[
        (
            "--builder",
            refused.builder.is_some(),
            "there are no builder instances: mybuild builds by itself",
        ),
        ("--policy", !refused.policy.is_empty(), "pin images by digest in the Dockerfile"),
        ("--security-opt", !refused.security_opt.is_empty(), "see `--allow security.insecure`"),
    ];
    for (flag, is_given, hint) in given {
        if *is_given {
            return Err(not_supported(flag).with_hint(*hint));
        }
    }
    refuse_template(args)?;
    only_off("--provenance", args.provenance.as_deref())?;
    only_off("--sbom", args.sbom.as_deref())?;
    args.attests.iter().try_for_each(|attest| only_disabled(attest))?;
    match args.isolation.as_deref() {
        None | Some("default" | "") => Ok(()),
        Some(other) => Err(not_supported(&format!("--isolation={other}"))),
    }
}

/// `Containerfile.in` is text for the C preprocessor, which only buildah runs: read as it is, its
/// `#include` and `#define` are comments, and what they stand for is missing.
fn refuse_template(args: &BuildArgs) -> Result<(), UsageError> {
    let file = args.file.as_deref().map(Path::new);
    let Some(file) = file.filter(|file| file.extension().is_some_and(|end| end == "in")) else {
        return Ok(());
    };
    let file = file.display();
    let what = format!("`--file {file}`: `.in` is for the C preprocessor, which is not run here");
    Err(UsageError::new(what)
        .with_hint(format!("run it: `cpp -E -P {file} | mybuild -f - CONTEXT`")))
}

/// Warnings for flags that change nothing by nature.
pub(super) fn without_effect(args: &BuildArgs) -> Vec<String> {
    [
        ("--rm", args.rm.is_some(), "steps leave no containers behind"),
        ("--force-rm", args.force_rm.is_some(), "steps leave no containers behind"),
        ("--compress", args.compress.is_some(), "the context is read in place"),
    ]
    .into_iter()
    .filter(|(_, given, _)| *given)
    .map(|(flag, _, why)| format!("`{flag}` has no effect: {why}"))
    .collect()
}

fn only_off(flag: &str, value: Option<&str>) -> Result<(), UsageError> {
    let is_off = |value: &str| boolean(value) == Some(false) || value == "disabled=true";
    match value {
        None => Ok(()),
        Some(value) if is_off(value) => Ok(()),
        Some(value) => {
            Err(not_supported(&format!("{flag}={value}")).with_hint("attestations are not made"))
        }
    }
}

fn only_disabled(attest: &str) -> Result<(), UsageError> {
    let pairs = csv::pairs(attest)?;
    let is = |key: &str, value: &str| pairs.iter().any(|(k, v)| k == key && v == value);
    let known = is("type", "provenance") || is("type", "sbom");
    if known && is("disabled", "true") && pairs.len() == 2 {
        return Ok(());
    }
    Err(not_supported(&format!("--attest {attest}")).with_hint("attestations are not made"))
}

fn not_supported(what: &str) -> UsageError {
    UsageError::new(format!("`{what}` is not supported"))
}
