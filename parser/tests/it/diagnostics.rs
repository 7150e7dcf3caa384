//! What users are told, and where.

use expect_test::{Expect, expect};
use parser::{Diagnostic, Severity, parse, parse_bytes, parse_onbuild};

/// Parses and compares all problems: severity, lines, the text under the caret, message, hint.
fn check(dockerfile: &str, expected: Expect) {
    expected.assert_eq(&render(dockerfile, &parse(dockerfile).diagnostics));
}

fn render(source: &str, diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|problem| render_one(source, problem)).collect()
}

fn render_one(source: &str, problem: &Diagnostic) -> String {
    let severity = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let rule = problem.rule.map_or_else(String::new, |rule| format!("[{rule}]"));
    let (start, end) = (problem.lines.start, problem.lines.end);
    let excerpt = &source[problem.span.range()];
    let message = &problem.message;
    let hint = problem.hint.as_ref().map_or_else(String::new, |hint| format!("  hint: {hint}\n"));
    format!("{severity}{rule} {start}-{end} {excerpt:?}\n  {message}\n{hint}")
}

#[test]
fn every_problem_is_told_not_only_the_first() {
    check(
        "FROM alpine AS 1st
FORM scratch
COPY a
COPY --form=x --lnk a b
RUN --device=a,b true
FROM --after=x alpine
WORKDIR
FROM alpine
HEALTHCHECK --interval=5 CMD true
RUN --network=hots true
RUN --security=x true
ENV a
ENV a=b c
",
        expect![[r#"
            error 1-1 "1st"
              invalid name for build stage: "1st", name can't start with a number or contain symbols
            error 2-2 "FORM"
              unknown instruction: FORM (did you mean FROM?)
            error 3-3 "COPY a"
              COPY requires at least two arguments, but only one was provided. Destination could not be determined
              hint: usage: COPY [--flag…] source… destination
            error 4-4 "--form=x"
              unknown flag: --form (did you mean from?)
              hint: COPY takes --chmod, --chown, --exclude, --from, --link, --parents
            error 4-4 "--lnk"
              unknown flag: --lnk (did you mean link?)
              hint: COPY takes --chmod, --chown, --exclude, --from, --link, --parents
            error 5-5 "a,b"
              invalid field 'b' must be a key=value pair
            error 6-6 "--after=x"
              unknown flag: --after
              hint: stages are only ordered by what they take from each other: let a step take something, with `COPY --from=STAGE` or `RUN --mount=from=STAGE`
            error 7-7 "WORKDIR"
              WORKDIR requires exactly one argument
              hint: usage: WORKDIR path
            error 9-9 "5"
              time: missing unit in duration "5"
              hint: a duration is written like `30s` or `1m30s`
            error 10-10 "hots"
              invalid network mode "hots"
              hint: the modes are `default`, `none` and `host`
            error 11-11 "x"
              security "x" is not valid
              hint: it is `sandbox` or `insecure`
            error 12-12 "a"
              ENV must have two arguments
              hint: usage: ENV name=value…
            error 13-13 "c"
              Syntax error - can't find = in "c". Must be of the form: name=value
              hint: usage: ENV name=value…
        "#]],
    );
}

#[test]
fn carets_find_words_behind_continuations() {
    check(
        "FROM alpine
COPY --link \\
    # a comment in between

    --chwon=1:2 \\
    a b
",
        expect![[r#"
            error 2-6 "--chwon=1:2"
              unknown flag: --chwon (did you mean chown?)
              hint: COPY takes --chmod, --chown, --exclude, --from, --link, --parents
            warning[NoEmptyContinuation] 6-6 ""
              Empty continuation line
        "#]],
    );
}

#[test]
fn instructions_before_the_first_from_are_told_once() {
    check(
        "ARG A\nRUN a\nRUN b\nFROM alpine\n",
        expect![[r#"
        error 2-2 "RUN a"
          no build stage in current context
          hint: only ARG may stand before the first FROM
    "#]],
    );
    check(
        "FFOM alpine\nRUN a\n",
        expect![[r#"
        error 1-1 "FFOM"
          unknown instruction: FFOM (did you mean FROM?)
    "#]],
    );
}

#[test]
fn a_file_needs_an_instruction() {
    check(
        "",
        expect![[r#"
        error 1-1 ""
          file with no instructions
    "#]],
    );
    check(
        "# only\n# comments\n",
        expect![[r#"
        error 1-1 ""
          file with no instructions
    "#]],
    );
}

#[test]
fn directives_are_checked() {
    check(
        "# escape=x\n# escape=`\nFROM a\n",
        expect![[r##"
        error 1-1 "x"
          invalid escape token 'x' does not match ` or \
        error 2-2 "# escape=`"
          only one escape parser directive can be used
    "##]],
    );
    check(
        "#!/bin/sh\n# escape=`\nFROM a\n",
        expect![[r#"
        warning 2-2 "`"
          the escape directive has no effect below a #! line
    "#]],
    );
}

#[test]
fn heredocs_must_end() {
    check(
        "FROM a\nRUN cat <<-'EOF' && true\n\tx\n EOF\nRUN y\n",
        expect![[r#"
        error 2-5 "<<-'EOF"
          unterminated heredoc
          hint: end it with a line of `EOF` and nothing else
    "#]],
    );
    check(
        "FROM a\nCOPY x <<EOF\nEOF\n",
        expect![[r#"
        error 2-3 "<<EOF"
          COPY cannot accept a heredoc as a destination
          hint: name the file or folder to write to after it
    "#]],
    );
}

#[test]
fn json_forms_hold_strings_only() {
    check(
        "FROM a\nCMD [\"a\", 1]\nSHELL /bin/sh\nVOLUME [\"\"]\n",
        expect![[r#"
        error 2-2 "[\"a\", 1]"
          when using JSON array syntax, arrays must be comprised of strings only
          hint: usage: CMD ["program", "argument"…]
        error 3-3 "SHELL /bin/sh"
          SHELL requires the arguments to be in JSON form
          hint: usage: SHELL ["program", "argument"…]
        error 4-4 "\"\""
          VOLUME specified can not be an empty string
    "#]],
    );
}

#[test]
fn triggers_are_checked_when_they_are_written() {
    check(
        "FROM a
ONBUILD
ONBUILD FROM b
ONBUILD ONBUILD RUN x
ONBUILD COPY a
ONBUILD RUNN x
",
        expect![[r#"
            error 2-2 "ONBUILD"
              ONBUILD requires at least one argument
              hint: usage: ONBUILD instruction
            error 3-3 "ONBUILD FROM b"
              FROM isn't allowed as an ONBUILD trigger
              hint: usage: ONBUILD instruction
            error 4-4 "ONBUILD ONBUILD RUN x"
              Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed
              hint: usage: ONBUILD instruction
            warning 5-5 "COPY a"
              builds on this image will fail: COPY requires at least two arguments, but only one was provided. Destination could not be determined
              hint: usage: COPY [--flag…] source… destination
            warning 6-6 "RUNN"
              builds on this image will fail: unknown instruction: RUNN (did you mean RUN?)
        "#]],
    );
}

#[test]
fn flags_without_effect_are_told() {
    check(
        "FROM a\nARG --x A\nSTOPSIGNAL --y 9\nHEALTHCHECK --interval=1s NONE\nUSER --z u\n",
        expect![[r#"
            warning 2-2 "--x"
              flag --x of ARG has no effect
            warning 3-3 "--y"
              flag --y of STOPSIGNAL has no effect
            warning 4-4 "--interval=1s"
              flag --interval=1s of HEALTHCHECK has no effect
            error 5-5 "--z"
              unknown flag: --z
              hint: USER takes no flags
        "#]],
    );
}

#[test]
fn flags_are_given_once_and_with_values() {
    check(
        "FROM a\nCOPY --from=x --from=y --link=maybe --chown a b\nCOPY --link= a b\n",
        expect![[r#"
            error 2-2 "--from=y"
              duplicate flag specified: --from
            error 2-2 "--link=maybe"
              expecting boolean value for flag --link, not: maybe
            error 2-2 "--chown"
              missing a value on flag: --chown
            error 3-3 "--link="
              missing a value on flag: --link
        "#]],
    );
}

#[test]
fn healthchecks_have_sane_numbers() {
    check(
        "FROM a
HEALTHCHECK --retries=-1 CMD x
HEALTHCHECK --retries=many CMD x
HEALTHCHECK --timeout=10us CMD x
HEALTHCHECK FOO x
HEALTHCHECK CMD
HEALTHCHECK NONE x
",
        expect![[r#"
            error 2-2 "-1"
              --retries cannot be negative (-1)
              hint: the number of retries is a whole number
            error 3-3 "many"
              strconv.ParseInt: parsing "many": invalid syntax
              hint: the number of retries is a whole number
            error 4-4 "10us"
              Interval "timeout" cannot be less than 1ms
              hint: a duration is written like `30s` or `1m30s`
            error 5-5 "FOO"
              Unknown type "FOO" in HEALTHCHECK (try CMD)
            error 6-6 "HEALTHCHECK CMD"
              Missing command after HEALTHCHECK CMD
              hint: usage: HEALTHCHECK [--flag…] CMD command
            error 7-7 "HEALTHCHECK NONE x"
              HEALTHCHECK NONE takes no arguments
              hint: usage: HEALTHCHECK [--flag…] CMD command
        "#]],
    );
}

#[test]
fn a_forgotten_continuation_is_guessed() {
    check(
        "FROM a\nRUN make\n    && make install\n",
        expect![[r#"
        error 3-3 "&&"
          unknown instruction: &&
          hint: does the line above lack its continuation character at the end?
    "#]],
    );
}

#[test]
fn bytes_that_are_no_text_are_found() {
    let bytes = b"# caf\xe9\nFROM a\nRUN echo caf\xe9 caf\xe9\nRUN <<E\n# \xff\nE\n";
    let shown = String::from_utf8_lossy(bytes).replace('\u{fffd}', "?");
    expect![[r#"
        error 3-3 "?"
          invalid UTF-8
          hint: save the file with the encoding UTF-8
        error 5-5 "?"
          invalid UTF-8
          hint: save the file with the encoding UTF-8
    "#]]
    .assert_eq(&render(&shown, &parse_bytes(bytes).diagnostics));
}

#[test]
fn a_stored_trigger_is_one_instruction() {
    let check = |expression: &str, expected: Expect| match parse_onbuild(expression) {
        Ok(instructions) => {
            let keywords: Vec<_> = instructions.iter().map(|i| i.keyword.as_str()).collect();
            expected.assert_eq(&keywords.join(" "));
        }
        Err(errors) => expected.assert_eq(&render(expression, &errors)),
    };
    check("COPY <<E /f\nbody\nE", expect!["COPY"]);
    check(
        "RUN a\nRUN b",
        expect![[r#"
        error 2-2 "RUN b"
          onbuild trigger should be a single expression
    "#]],
    );
    check(
        "FROM a",
        expect![[r#"
        error 1-1 "FROM a"
          FROM isn't allowed as an ONBUILD trigger
    "#]],
    );
    check(
        "RUNN a",
        expect![[r#"
        error 1-1 "RUNN"
          unknown instruction: RUNN (did you mean RUN?)
    "#]],
    );
    check(
        "",
        expect![[r#"
        error 1-1 ""
          file with no instructions
    "#]],
    );
}
