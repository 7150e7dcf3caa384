//! Errors and warnings as the user sees them, without colour.

use engine::{BuildError, Fault, StepFailure};
use expect_test::{Expect, expect};
use frontend_cli::diagnostics;
use parser::{Diagnostic, Lines, Span};

const DOCKERFILE: &str = "\
# a comment
FROM alpine AS base

FROM base AS Build
COPY --form=base /a /b
RUN make \\
      all
CMD [\"app\"]
";

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

fn check(error: &BuildError, expected: Expect) {
    expected.assert_eq(&plain(&diagnostics::build_error(error, 80)));
}

/// The place of `what` in `text`.
fn place(text: &str, what: &str) -> (Span, Lines) {
    let at = text.find(what).expect("the text is there");
    let line = |at: usize| 1 + text[..at].matches('\n').count() as u32;
    (Span::new(at..at + what.len()), Lines { start: line(at), end: line(at + what.len() - 1) })
}

fn dockerfile_error(text: &str, diagnostics: Vec<Diagnostic>) -> BuildError {
    BuildError::Dockerfile { name: "web.Dockerfile".to_owned(), text: text.to_owned(), diagnostics }
}

const PROCESS: &str = "process \"/bin/sh -c make all\" did not complete successfully: exit code: 2";

fn failure() -> StepFailure {
    StepFailure {
        name: "[build 2/3] RUN make all".to_owned(),
        fault: Fault::new(PROCESS).with_hint("see the step's full log with `--progress=plain`"),
        exit_code: Some(2),
        span: None,
        lines: Some((6, 7)),
        dockerfile: Some(("Dockerfile".to_owned(), DOCKERFILE.to_owned())),
        log_tail: vec![
            "10%\r100%\r".to_owned(),
            "cc -c main.c".to_owned(),
            "\x1b[31mmain.c:3: error\x1b[0m:\tmissing ;".to_owned(),
        ],
        log_path: Some("/var/lib/mybuild/logs/abc".into()),
    }
}

#[test]
fn a_wrong_dockerfile_is_shown_with_the_place_underlined() {
    let (span, lines) = place(DOCKERFILE, "--form=base");
    let (stage, stage_lines) = place(DOCKERFILE, "Build");
    let error = dockerfile_error(
        DOCKERFILE,
        vec![
            Diagnostic::warning(
                "StageNameCasing",
                "stage name 'Build' should be lowercase",
                stage,
                stage_lines,
            ),
            Diagnostic::error("unknown flag: --form", span, lines)
                .with_hint("did you mean `--from`?"),
        ],
    );
    check(
        &error,
        expect![[r#"
        warning[StageNameCasing]: stage name 'Build' should be lowercase
         --> web.Dockerfile:4:14
          |
        4 | FROM base AS Build
          |              ^^^^^

        error: unknown flag: --form
         --> web.Dockerfile:5:6
          |
        5 | COPY --form=base /a /b
          |      ^^^^^^^^^^^

        hint: did you mean `--from`?
    "#]],
    );
}

#[test]
fn an_underline_is_no_wider_than_the_terminal() {
    let long = format!("RUN echo {}", "word ".repeat(100));
    let text = format!("FROM alpine\n{long}\nRUN a \\\n{long}end\nRUN short\n");
    for (what, whole) in [
        (long.trim_end(), "RUN echo"),
        (&long[300..], "word"),
        (
            &text["FROM alpine\n".len() + long.len() + 1..text.len() - "\nRUN short\n".len()],
            "RUN a",
        ),
        ("RUN short", "RUN short"),
    ] {
        let (span, lines) = place(&text, what);
        let error = dockerfile_error(&text, vec![Diagnostic::error("wrong", span, lines)]);
        for columns in [20, 80, 200] {
            let shown = plain(&diagnostics::build_error(&error, columns));
            let widest = shown.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(columns.max(40)), "{columns}: {shown}");
            assert!(shown.contains(whole) && shown.contains('^'), "{shown}");
        }
    }
}

#[test]
fn several_lines_and_several_errors_are_all_shown() {
    let (span, lines) = place(DOCKERFILE, "RUN make \\\n      all");
    let (cmd, cmd_lines) = place(DOCKERFILE, "CMD");
    let error = dockerfile_error(
        DOCKERFILE,
        vec![Diagnostic::error("first", span, lines), Diagnostic::error("second", cmd, cmd_lines)],
    );
    check(
        &error,
        expect![[r#"
        error: first
         --> web.Dockerfile:6:1
          |
        6 | / RUN make \
        7 | |       all
          | |_________^

        error: second
         --> web.Dockerfile:8:1
          |
        8 | CMD ["app"]
          | ^^^
    "#]],
    );
}

#[test]
fn places_that_do_not_exist_are_drawn_all_the_same() {
    // Offsets inside a character, past the end, an empty file, no span at all, CRLF.
    for (text, span, lines) in [
        ("FROM ä\n", 6..7, (1, 1)),
        ("FROM x", 100..200, (9, 9)),
        ("", 0..0, (1, 1)),
        ("FROM x\r\nRUN y\r\n", 0..0, (2, 2)),
        ("FROM x\n\n\n", 7..9, (2, 3)),
    ] {
        let lines = Lines { start: lines.0, end: lines.1 };
        let diagnostic = Diagnostic::error("something", Span::new(span), lines);
        let drawn = plain(&diagnostics::dockerfile(&diagnostic, "Dockerfile", text, 80));
        assert!(drawn.starts_with("error: something\n"), "{drawn}");
    }
}

#[test]
fn control_bytes_of_a_dockerfile_stay_in_it() {
    let text = "FROM \x1b[31mevil\x07 \u{202e}\n";
    let (span, lines) = place(text, "FROM");
    let diagnostic = Diagnostic::error("bad \x1b[2Jname", span, lines);
    let drawn = plain(&diagnostics::dockerfile(&diagnostic, "Docker\x1bfile", text, 80));
    assert!(!drawn.contains(['\x1b', '\x07', '\u{202e}']), "{drawn:?}");
}

#[test]
fn a_failed_step_is_shown_with_its_log_its_lines_and_a_hint() {
    check(
        &BuildError::Step { failure: Box::new(failure()) },
        expect![[r#"
        [build 2/3] RUN make all:
          | 100%
          | cc -c main.c
          | main.c:3: error:        missing ;

        Dockerfile:6
        --------------------
           4 |     FROM base AS Build
           5 |     COPY --form=base /a /b
           6 | >>> RUN make \
           7 | >>>       all
           8 |     CMD ["app"]
        --------------------
        error: process "/bin/sh -c make all" did not complete successfully: exit code: 2

        log: /var/lib/mybuild/logs/abc

        hint: see the step's full log with `--progress=plain`
    "#]],
    );
}

#[test]
fn a_failed_step_without_a_dockerfile_is_one_line() {
    let failure = StepFailure {
        lines: None,
        dockerfile: None,
        log_tail: Vec::new(),
        log_path: None,
        fault: Fault::new(PROCESS),
        ..failure()
    };
    check(
        &BuildError::Step { failure: Box::new(failure) },
        expect![[r#"
        error: process "/bin/sh -c make all" did not complete successfully: exit code: 2
    "#]],
    );
}

#[test]
fn a_long_instruction_is_shown_by_its_beginning() {
    let text = format!("FROM x\nRUN <<E\n{}E\nCMD y\n", "line\n".repeat(50));
    let failure = StepFailure {
        lines: Some((2, 53)),
        dockerfile: Some(("Dockerfile".to_owned(), text)),
        log_tail: Vec::new(),
        log_path: None,
        fault: Fault::new(PROCESS),
        ..failure()
    };
    let drawn =
        plain(&diagnostics::build_error(&BuildError::Step { failure: Box::new(failure) }, 80));
    assert!(drawn.contains("more lines"), "{drawn}");
    assert!(drawn.lines().count() < 30, "{drawn}");
}

#[test]
fn other_errors_are_a_line_and_a_hint() {
    check(
        &BuildError::Input(
            Fault::new("no Dockerfile in `.`").with_hint("name the file with `-f FILE`"),
        ),
        expect![[r#"
            error: no Dockerfile in `.`

            hint: name the file with `-f FILE`
        "#]],
    );
    check(
        &BuildError::Canceled,
        expect![[r#"
        error: canceled
    "#]],
    );
}
