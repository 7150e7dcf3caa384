//! Which program is to read a build file: `# syntax=` and `BUILDKIT_SYNTAX`.
//!
//! BuildKit runs the image that is named there. This crate is one such program, the one that
//! `docker/dockerfile:1` names; a file for another one is refused rather than read as if it were a
//! Dockerfile.

use std::collections::BTreeMap;

use oci::Reference;

use crate::diagnostic::Diagnostic;
use crate::directive;
use crate::quote::quote;
use crate::span::{Lines, Span};

/// The build argument that wins over the directive.
pub const ARGUMENT: &str = "BUILDKIT_SYNTAX";

/// BuildKit's name for the program it has built in.
const BUILT_IN: &str = "dockerfile.v0";
/// The repository of that program on Docker Hub, beside which there are others of its kind
/// (`docker/dockerfile-upstream`); mirrors keep the last two names.
const REPOSITORY: &str = "docker/dockerfile";
/// The newest syntax there is. Versions of it only add to it.
const NEWEST: u32 = 1;

/// Fails where `text`, or the build argument [`ARGUMENT`], names a program other than this one.
pub fn check(text: &str, build_args: &BTreeMap<String, String>) -> Result<(), Diagnostic> {
    if let Some(value) = build_args.get(ARGUMENT).map(|value| value.trim()) {
        let name = value.split(' ').next().unwrap_or_default();
        return check_name(name).map_err(|why| {
            Diagnostic::error(
                format!("build argument {ARGUMENT}: {why}"),
                Span::default(),
                Lines::default(),
            )
            .with_hint("without it, the file's own `# syntax=` line counts")
        });
    }
    let Some(found) = directive::detect_syntax(text) else { return Ok(()) };
    check_name(&found.value).map_err(|why| {
        let lines = Lines { start: found.line, end: found.line };
        Diagnostic::error(why, found.span, lines).with_hint(format!(
            "if it is a Dockerfile all the same, build with \
             `--build-arg {ARGUMENT}=docker/dockerfile:1`"
        ))
    })
}

/// Why `name` is not this program.
fn check_name(name: &str) -> Result<(), String> {
    if name == BUILT_IN {
        return Ok(());
    }
    let reference = Reference::parse_normalized(name)
        .map_err(|error| format!("failed to parse frontend name {}: {error}", quote(name)))?;
    if !is_ours(reference.path()) {
        return Err(format!(
            "frontend {} is not supported: only Dockerfiles (docker/dockerfile:1) can be built",
            quote(name)
        ));
    }
    match reference.tag().and_then(major) {
        Some(version) if version > NEWEST => Err(format!(
            "frontend {} is not supported: the newest known syntax is docker/dockerfile:{NEWEST}",
            quote(name)
        )),
        _ => Ok(()),
    }
}

fn is_ours(path: &str) -> bool {
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    let owner = above.rsplit('/').next().unwrap_or_default();
    let named = format!("{owner}/{name}");
    named.strip_prefix(REPOSITORY).is_some_and(|kind| kind.is_empty() || kind.starts_with('-'))
}

/// The first number of a version: 1 for `1.7-labs`, nothing for `labs`.
fn major(tag: &str) -> Option<u32> {
    let digits = tag.bytes().take_while(u8::is_ascii_digit).count();
    tag[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{ARGUMENT, check};

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn what_names_this_frontend_is_built_and_anything_else_is_refused() {
        let ours = [
            "docker/dockerfile",
            "docker/dockerfile:1",
            "docker/dockerfile:1.7.0-labs",
            "docker/dockerfile:labs",
            "docker/dockerfile:experimental",
            "docker/dockerfile:1.0-experimental",
            "docker/dockerfile-upstream:master",
            "docker/dockerfile-labs",
            &format!("registry.example.com/hub/docker/dockerfile-upstream:1-labs@{DIGEST}"),
            "docker.io/docker/dockerfile:1",
            "index.docker.io/docker/dockerfile:1",
            "mirror.gcr.io/docker/dockerfile:1.9-labs",
            "registry.example.com:5000/hub/docker/dockerfile:1",
            "dockerfile.v0",
            &format!("docker/dockerfile:1.4@{DIGEST}"),
            &format!("docker/dockerfile@{DIGEST}"),
        ];
        let foreign = [
            ("ghcr.io/org/frontend:1", "is not supported: only Dockerfiles"),
            ("dockerfile", "is not supported: only Dockerfiles"),
            ("docker/dockerfiles", "is not supported: only Dockerfiles"),
            ("docker/dockerfile/x", "is not supported: only Dockerfiles"),
            ("evil/mydocker/dockerfile", "is not supported: only Dockerfiles"),
            ("docker/dockerfile:2", "is not supported: the newest known syntax"),
            ("docker/dockerfile:20-labs", "is not supported: the newest known syntax"),
            ("Not//a name", "failed to parse frontend name \"Not//a\""),
        ];
        let verdict = |name: &str| {
            let text = format!("# check=skip=all\n# syntax = {name} with options\nFROM scratch\n");
            let by_file = check(&text, &BTreeMap::new());
            let arguments = BTreeMap::from([(ARGUMENT.to_owned(), format!(" {name} x"))]);
            let by_argument = check("# syntax=foreign/x\nFROM scratch\n", &arguments);
            assert_eq!(by_file.is_ok(), by_argument.is_ok(), "{name}");
            by_file.map_err(|diagnostic| (diagnostic.message, diagnostic.lines.start))
        };
        for name in ours {
            assert_eq!(verdict(name), Ok(()), "{name}");
        }
        for (name, words) in foreign {
            let (message, line) = verdict(name).expect_err(name);
            assert!(message.contains(words), "{name}: {message}");
            assert_eq!(line, 2, "{name}");
        }
    }

    #[test]
    fn other_languages_are_told_by_their_own_comments() {
        for text in ["// syntax=org/other\n", "#!/usr/bin/x\n{\"syntax\": \"org/other\"}\n"] {
            assert!(check(text, &BTreeMap::new()).is_err(), "{text}");
        }
        for text in ["FROM scratch\n", "# a note\n# syntax=org/other\nFROM scratch\n", ""] {
            assert_eq!(check(text, &BTreeMap::new()), Ok(()), "{text}");
        }
    }
}
