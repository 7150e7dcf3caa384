//! Notes on what builds well and could be better.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use expect_test::{Expect, expect};
use parser::Severity;
use parser::lower::{MainContext, NamedContext, Options, Outcome, lower};

use crate::lint::image;

fn notes(text: &str, options: &Options) -> Vec<parser::Diagnostic> {
    let parse = parser::parse(text);
    assert!(!parse.has_errors(), "{:?}", parse.diagnostics);
    let mut images = BTreeMap::new();
    loop {
        match lower(&parse.dockerfile, options, &images) {
            Ok(Outcome::NeedImages(requests)) => {
                images.extend(requests.into_iter().map(|r| (r.clone(), image(&r))));
            }
            Ok(Outcome::Lowered(lowered)) => {
                let is_note = |found: &parser::Diagnostic| found.severity == Severity::Note;
                return lowered.warnings.into_iter().filter(is_note).collect();
            }
            Err(diagnostics) => panic!("{diagnostics:?}"),
        }
    }
}

fn advised() -> Options {
    Options {
        main_context: MainContext::Local { exclude_patterns: Vec::new() },
        advice: true,
        all_stages: true,
        ..Options::default()
    }
}

fn check(text: &str, expected: &Expect) {
    let mut out = String::new();
    for note in notes(text, &advised()) {
        let _ = writeln!(out, "{} {}: {}", note.lines.start, note.rule.unwrap(), note.message);
    }
    expected.assert_eq(&out);
    let unasked = Options { advice: false, ..advised() };
    assert_eq!(notes(text, &unasked), [], "a build tells nothing of it");
}

#[test]
fn base_images_name_a_version() {
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let text = format!(
        "ARG base=debian\nFROM alpine AS a\nFROM a\nFROM $base:latest\nFROM busybox:1.36\n\
         FROM scratch\nCOPY --from=golang /a /\nRUN --mount=from=x@{digest},target=/x a\n\
         # check=skip=UnpinnedBaseImage\nFROM ubuntu\n"
    );
    let expected = expect![[r#"
        2 UnpinnedBaseImage: Base image alpine has no tag: it is whatever `latest` is at the time
        4 UnpinnedBaseImage: Base image debian:latest is whatever `latest` is at the time
        7 UnpinnedBaseImage: Base image golang has no tag: it is whatever `latest` is at the time
    "#]];
    check(&text, &expected);
    let replaced = Options {
        named_contexts: BTreeMap::from([(
            "alpine".to_owned(),
            NamedContext::Image("docker-image:3".to_owned()),
        )]),
        ..advised()
    };
    assert_eq!(notes("FROM alpine\n", &replaced), []);
    let expected = expect![[r#"
        2 BaseImageWithoutDigest: Base image alpine:3 has no digest: its tag may be moved
    "#]];
    check("# check=experimental=BaseImageWithoutDigest\nFROM alpine:3\n", &expected);
}

#[test]
fn lists_of_packages_do_not_stay_in_the_image() {
    let text = "FROM x:1 AS tools
RUN apt-get update && apt-get install -y make
FROM x:1 AS base
RUN apt-get update && apt-get install -y a
FROM base
RUN apt-get update && apt-get install -y a && rm -rf /var/lib/apt/lists/*
RUN --mount=type=cache,target=/var/lib/apt apt-get update && apt-get install -y a
RUN --mount=type=cache,target=/var/cache/apt apt-get update
RUN apk add a
RUN apk add --no-cache a; apk upgrade --no-cache
RUN apk add -U a && rm -f /var/cache/apk/*
RUN <<E
set -e
sudo dnf -y install a
dnf clean packages
microdnf install b
E
RUN yum install -y a
RUN zypper in -y a && zypper cc --all
RUN pacman -Syu a
RUN pacman -S a && pacman -Scc
RUN [\"apt-get\", \"update\"]
RUN echo 'apt-get update' # apt-get update
";
    let expected = expect![[r#"
        4 PackageListsLeft: The package lists of `apt-get update` stay in the layer
        8 PackageListsLeft: The package lists of `apt-get update` stay in the layer
        9 PackageListsLeft: The package lists of `apk add a` stay in the layer
        18 PackageListsLeft: The package lists of `yum install -y a` stay in the layer
        20 PackageListsLeft: The package lists of `pacman -Syu a` stay in the layer
    "#]];
    check(text, &expected);
}

#[test]
fn dependencies_are_installed_before_all_else_is_copied() {
    let text = "FROM x:1 AS bad
WORKDIR /app
COPY . .
RUN cd /app && npm ci --omit=dev
RUN npm ci
FROM x:1 AS good
COPY package.json package-lock.json ./
RUN npm ci
COPY . .
RUN npm run build && npm ci
FROM x:1 AS cached
ADD . /app
RUN --mount=type=cache,target=/root/.cache pip install -r requirements.txt
FROM x:1
COPY --from=bad . /
RUN npm ci
COPY ./ /app
RUN pip install requests
RUN python3 -m pip install -r requirements.txt
";
    let expected = expect![[r#"
        3 CopyBeforeInstall: All files are copied before `npm ci --omit=dev` (line 4), which thus runs again whenever one of them changes
        17 CopyBeforeInstall: All files are copied before `python3 -m pip install` (line 19), which thus runs again whenever one of them changes
    "#]];
    check(text, &expected);
}

#[test]
fn checks_that_are_turned_off_are_ones_that_there_are() {
    let text = "# syntax=docker/dockerfile:1
# check=skip=StageNameCasin,UndefinedVar;experimental=Foo
FROM scratch
# check=skip=SecretInLiteral
ENV a=b
# check=skip=all
ENV c=d
# check=skip=Bar
ENV e=f
# check=skip=UnknownCheck, Baz
ENV g=h
";
    let expected = expect![[r#"
        2 UnknownCheck: There is no check "Foo"
        2 UnknownCheck: There is no check "StageNameCasin"
        9 UnknownCheck: There is no check "Bar"
    "#]];
    check(text, &expected);
}

#[test]
fn secrets_are_not_written_into_the_file() {
    let text = "ARG a=q7Rk2vXz9LmB4tYw8NcE5sJd1HgF3aPu
FROM scratch
ENV b=ghp_16C7e42F292c6912E7710c838347Ae178B4a c=plain
RUN curl -H 'Authorization: Bearer Vb3kQz8Xw2Lm9Rt5Yc7N' https://example.com
RUN <<E
-----BEGIN PRIVATE KEY-----
E
# check=skip=SecretInLiteral
ENV d=ghp_16C7e42F292c6912E7710c838347Ae178B4a
RUN sha256sum e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
";
    let expected = expect![[r#"
        1 SecretInLiteral: ARG a seems to hold a secret: random text
        3 SecretInLiteral: ENV b seems to hold a secret: a token for GitHub
        4 SecretInLiteral: RUN seems to hold a secret: random text
        5 SecretInLiteral: RUN seems to hold a secret: a private key
    "#]];
    check(text, &expected);
}

#[test]
fn notes_are_no_violations() {
    let text = "# check=error=true;experimental=all\nFROM alpine:3\nRUN apk add a\n";
    let found = notes(text, &advised());
    assert_eq!(found.len(), 2, "{found:?}");
}
