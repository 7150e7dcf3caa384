//! Platforms as they are typed.

use oci::Platform;
use parser::suggest::{Case, did_you_mean};

use crate::error::UsageError;

/// Operating systems and architectures that programs are built for (`go tool dist list`).
const SYSTEMS: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "illumos",
    "ios",
    "js",
    "linux",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "wasi",
    "wasip1",
    "windows",
];
const ARCHITECTURES: &[&str] = &[
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64",
    "ppc64le", "riscv64", "s390x", "wasm",
];

/// Reads `OS/ARCH[/VARIANT]`, given for `what`. One that nothing is built for is a mistake.
pub(crate) fn parse(what: &str, text: &str) -> Result<Platform, UsageError> {
    let invalid = |why: String, known: &[&str]| {
        UsageError::new(format!("{what}: {why}"))
            .with_hint(format!("there are {}", known.join(", ")))
    };
    let platform: Platform = text.parse().map_err(|error: oci::platform::InvalidPlatform| {
        UsageError::new(format!("{what}: {error}")).with_hint("write `linux/amd64`, or `local`")
    })?;
    let unknown = |kind: &str, word: &str, known: &[&str]| {
        let meant = did_you_mean(word, known.iter().copied(), Case::Sensitive);
        invalid(format!("`{text}` has an unknown {kind} `{word}`{meant}"), known)
    };
    if !SYSTEMS.contains(&platform.os.as_str()) {
        return Err(unknown("system", &platform.os, SYSTEMS));
    }
    if !ARCHITECTURES.contains(&platform.architecture.as_str()) {
        return Err(unknown("architecture", &platform.architecture, ARCHITECTURES));
    }
    Ok(platform)
}
