//! Build arguments: those that are always there, and those before the first `FROM`.

use std::collections::{BTreeMap, BTreeSet};

use super::environment::Environment;
use super::fault::Fault;
use super::options::Options;
use super::outline::GlobalArguments;
use crate::check::Place;
use crate::diagnostic::Diagnostic;
use crate::expand::Expander;
use crate::instruction::{Arg, Dockerfile, Instruction, Kind};

/// The argument for the time of what is made.
pub(super) const EPOCH: &str = "SOURCE_DATE_EPOCH";
/// Names of proxies; each counts in upper case, too.
const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];

/// Whether a build argument does something without an `ARG` of its name.
pub(super) fn has_meaning_alone(name: &str) -> bool {
    const PREDEFINED: [&str; 2] = ["BUILD", "TARGET"];
    const OF_PLATFORM: [&str; 6] = ["PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT", "STAGE"];
    let mut below = PREDEFINED.iter().filter_map(|start| name.strip_prefix(start));
    name == EPOCH
        || name.starts_with("BUILDKIT_")
        || PROXIES.contains(&name.to_ascii_lowercase().as_str())
        || below.any(|rest| OF_PLATFORM.contains(&rest))
}

/// The arguments about platforms and the target; build arguments of the same name win.
pub(super) fn predefined(options: &Options, target: &str) -> Environment {
    let (build, wanted) = (&options.build_platform, &options.target_platform);
    let (build_name, wanted_name) = (build.to_string(), wanted.to_string());
    let values = [
        ("BUILDPLATFORM", build_name.as_str()),
        ("BUILDOS", &build.os),
        ("BUILDOSVERSION", &build.os_version),
        ("BUILDARCH", &build.architecture),
        ("BUILDVARIANT", &build.variant),
        ("TARGETPLATFORM", &wanted_name),
        ("TARGETOS", &wanted.os),
        ("TARGETOSVERSION", &wanted.os_version),
        ("TARGETARCH", &wanted.architecture),
        ("TARGETVARIANT", &wanted.variant),
        ("TARGETSTAGE", if target.is_empty() { "default" } else { target }),
    ];
    let mut environment = Environment::default();
    for (name, value) in values {
        let given = options.build_args.get(name).map(String::as_str);
        environment.set(name, given.unwrap_or(value));
    }
    environment
}

/// The variables that there are before the first `FROM`.
pub(super) struct Globals {
    pub(super) environment: Environment,
    /// The `ARG`s among them.
    pub(super) declared: GlobalArguments,
}

/// Adds the `ARG`s before the first `FROM`, with the values given for them.
pub(super) fn add_global(
    mut environment: Environment,
    dockerfile: &Dockerfile,
    given: &BTreeMap<String, String>,
    expander: &Expander,
) -> Result<Globals, Diagnostic> {
    let mut declared = GlobalArguments::default();
    for instruction in &dockerfile.global_args {
        for arg in arguments(instruction) {
            let name = &arg.name.value;
            let (value, parts) = match (given.get(name), &arg.value) {
                (Some(value), _) => (Some(value.clone()), BTreeSet::new()),
                (None, None) => (None, BTreeSet::new()),
                (None, Some(default)) => {
                    let expanded = expander.word(&default.value, &environment);
                    let place = Place::instruction(instruction);
                    let expanded = expanded.map_err(|error| Fault::from(error).at(place))?;
                    (Some(expanded.text), expanded.matched)
                }
            };
            declared.note(arg, value.as_deref(), instruction.lines, parts);
            if let Some(value) = value {
                environment.set(name, &value);
            }
        }
    }
    Ok(Globals { environment, declared })
}

/// Names of the `ARG`s before the first `FROM`, whether they have a value or not.
pub(super) fn declared_globals(dockerfile: &Dockerfile) -> BTreeSet<&str> {
    dockerfile.global_args.iter().flat_map(arguments).map(|arg| arg.name.value.as_str()).collect()
}

/// What an `ARG` declares.
pub(super) fn arguments(instruction: &Instruction) -> &[Arg] {
    match &instruction.kind {
        Kind::Arg(arguments) => arguments,
        _ => &[],
    }
}

/// The proxies among the build arguments, in both cases of letters: a process gets them, but
/// they are no part of the key or the history unless an `ARG` names them.
pub(super) fn proxies(given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut proxies = BTreeMap::new();
    for (name, value) in given {
        let lower = name.to_ascii_lowercase();
        if PROXIES.contains(&lower.as_str()) && !value.is_empty() {
            proxies.insert(lower.to_ascii_uppercase(), value.clone());
            proxies.insert(lower, value.clone());
        }
    }
    proxies
}
