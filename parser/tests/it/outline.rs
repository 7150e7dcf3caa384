//! What a target takes, as BuildKit's own tests have it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use expect_test::{Expect, expect};
use parser::lower::{MainContext, Options, Outcome, Outline, lower};

fn outline(dockerfile: &str, target: Option<&str>) -> Outline {
    let parse = parser::parse(dockerfile);
    let options = Options {
        target: target.map(str::to_owned),
        main_context: MainContext::Empty,
        build_args: BTreeMap::from([("BAR".to_owned(), "678".to_owned())]),
        ..Options::default()
    };
    match lower(&parse.dockerfile, &options, &BTreeMap::new()) {
        Ok(Outcome::Lowered(lowered)) => lowered.outline,
        other => panic!("{other:?}"),
    }
}

fn check(dockerfile: &str, target: Option<&str>, expected: &Expect) {
    let outline = outline(dockerfile, target);
    let mut out = format!("{}: {}\n", outline.name, outline.description);
    for argument in &outline.arguments {
        let line = argument.lines.start;
        let _ =
            writeln!(out, "{line} {}={} {}", argument.name, argument.value, argument.description);
    }
    for (kind, list) in
        [("secret", &outline.secrets), ("ssh", &outline.ssh), ("cache", &outline.caches)]
    {
        for mounted in list {
            let required = if mounted.required { " required" } else { "" };
            let _ = writeln!(out, "{} {kind} {}{required}", mounted.lines.start, mounted.id);
        }
    }
    expected.assert_eq(&out);
}

#[test]
fn arguments_are_those_of_the_stages_that_are_needed() {
    let file = "
ARG inherited=box
ARG inherited2=box2
ARG unused=abc${inherited2}
# sfx is a suffix
ARG sfx=\"usy${inherited}\"
ARG base=scratch

FROM ${base} AS first
# this is not assigned to anything
ARG FOO=123
# BAR is a number
ARG BAR=456
ARG sfx

FROM alpine${unused} AS second
ARG BAZ

FROM scratch AS third
ARG ABC=a
# check=skip=all
ARG password
# alternate_password will show up in the outline
# check=skip=all
ARG alternate_password

# target defines build target
FROM third AS target
COPY --from=first /etc/passwd /

FROM second
";
    let expected = expect![[r#"
        target: defines build target
        2 inherited=box 
        6 sfx=usybox is a suffix
        7 base=scratch 
        11 FOO=123 
        13 BAR=678 is a number
        20 ABC=a 
        22 password= 
        25 alternate_password= will show up in the outline
    "#]];
    check(file, Some("target"), &expected);
}

#[test]
fn arguments_made_of_themselves_have_their_last_value() {
    let file = "
ARG FOO=123
ARG ABC=abc
ARG DEF=def
ARG FOO=${FOO}${ABC}
ARG LATER=${FOO}456
ARG FOO=${FOO}456${LATER}
FROM scratch
ARG FOO
ARG INFOO=123
ARG INBAR=${INFOO}456
ARG INFOO=${INFOO}456${INBAR}
";
    let expected = expect![[r#"
        : 
        3 ABC=abc 
        6 LATER=123abc456 
        7 FOO=123abc456123abc456 
        11 INBAR=123456 
        12 INFOO=123456123456 
    "#]];
    check(file, None, &expected);
}

#[test]
fn mounts_are_those_of_the_steps_that_are_needed() {
    let file = "
FROM scratch AS first
RUN --mount=type=secret,target=/etc/passwd,required=true --mount=type=ssh true

FROM scratch AS second
RUN --mount=type=secret,id=unused --mount=type=ssh,id=ssh2 true

FROM scratch AS third
ARG BAR
RUN --mount=type=secret,id=second${BAR} --mount=type=cache,target=/c true
RUN --mount=type=secret,id=passwd,env=X --mount=type=cache,id=mine,target=/c true

FROM third AS target
COPY --from=first /foo /
RUN --mount=type=ssh,id=ssh3,required true

FROM second
";
    let expected = expect![[r#"
        target: 
        9 BAR=678 
        3 secret passwd required
        10 secret second678
        3 ssh default
        15 ssh ssh3 required
        10 cache /c
        11 cache mine
    "#]];
    check(file, Some("target"), &expected);
}

#[test]
fn arguments_that_name_a_source_count() {
    let file = "ARG SOURCE=first
ARG OTHER=x
FROM scratch AS first
ADD . /
FROM scratch
COPY --from=$SOURCE /a /
";
    let expected = expect![[r#"
        : 
        1 SOURCE=first 
    "#]];
    check(file, None, &expected);
}
