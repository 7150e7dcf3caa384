//! Why a step runs again is said with its lines.

use std::fs;

use super::builder::Builder;

const DOCKERFILE: &str = "FROM busybox
ARG VERSION=1
COPY src/a src/b /src/
RUN --mount=type=bind,source=seen,target=/mnt cat /mnt/file > /out
ENV LATE=1
RUN true
";

/// Copies a directory with directories in it.
const WHOLE: &str = "FROM busybox\nCOPY . /all\n";

/// The changes that a build tells of, each with the instruction it is told for, by its first words.
fn changes(builder: &Builder, dockerfile: &str, words: &[&str]) -> Vec<String> {
    let outcome = builder.build(dockerfile, &[&["--progress", "plain"], words].concat());
    let text = outcome.success().stderr;
    let mut step = "";
    let mut changes = Vec::new();
    for line in text.lines() {
        let line = line.split_once(' ').map_or("", |(_, rest)| rest);
        if let Some((_, name)) = line.strip_prefix('[').and_then(|line| line.split_once("] ")) {
            step = name.get(..6).unwrap_or(name);
        } else if let Some(parts) = line.strip_prefix("changed: ") {
            changes.push(format!("{step}: {parts}"));
        }
    }
    changes
}

#[test]
fn privileged_a_step_that_runs_again_says_what_changed() {
    let Some(builder) = Builder::new() else { return };
    for file in ["src/a", "src/b", "seen/file"] {
        builder.write(&format!("context/{file}"), "content");
    }
    let none: [&str; 0] = [];
    assert_eq!(changes(&builder, DOCKERFILE, &[]), none, "the first time");
    assert_eq!(changes(&builder, DOCKERFILE, &[]), none, "nothing runs");
    assert_eq!(changes(&builder, DOCKERFILE, &["--no-cache"]), none, "as asked for");
    let change = |file: &str| fs::write(builder.path(file), "edited").unwrap();
    change("context/src/b");
    let told = changes(&builder, DOCKERFILE, &[]);
    assert_eq!(told, ["COPY s: files src/b", "RUN --: base layers", "RUN tr: base layers"]);
    change("context/seen/file");
    let told = changes(&builder, DOCKERFILE, &[]);
    assert_eq!(told, ["RUN --: files at /mnt", "RUN tr: base layers"]);
    let version = ["--build-arg", "VERSION=2"];
    let told = changes(&builder, DOCKERFILE, &version);
    assert_eq!(told, ["RUN --: variable VERSION", "RUN tr: base layers, variable VERSION"]);
    let told = changes(&builder, &DOCKERFILE.replace("LATE=1", "LATE=2"), &version);
    assert_eq!(told, ["RUN tr: variable LATE"]);
    assert_eq!(changes(&builder, WHOLE, &[]), none, "another Dockerfile");
    change("context/src/a");
    assert_eq!(changes(&builder, WHOLE, &[]), ["COPY .: files src"]);
}
