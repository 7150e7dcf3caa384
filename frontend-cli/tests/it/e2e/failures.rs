//! A step that fails, and steps that nobody needs.

use super::builder::Builder;

#[test]
fn privileged_a_failing_step_shows_its_output_its_line_and_its_log() {
    let Some(builder) = Builder::new() else { return };
    let dockerfile = "FROM busybox\nRUN echo to the output; echo to the error >&2; exit 3\n";
    builder.write("context/Dockerfile", dockerfile);
    let outcome = builder.run(&["--progress", "plain", "context"]).fails_with(1);
    for words in [
        "Dockerfile:2\n",
        "   2 | >>> RUN echo to the output; echo to the error >&2; exit 3\n",
        "exit code: 3\n",
    ] {
        assert!(outcome.stderr.contains(words), "{words}: {}", outcome.stderr);
    }
    let log = outcome.stderr.lines().find_map(|line| line.strip_prefix("log: "));
    let log = std::fs::read_to_string(log.expect("the log's path")).expect("the log");
    // They come by two pipes, so either may be first.
    assert_eq!((log.len(), log.contains("to the output\n")), (27, true), "{log}");
    assert!(log.contains("to the error\n"), "{log}");
    // It has failed, so it runs again.
    let again = builder.run(&["--progress", "json", "context"]).fails_with(1);
    assert_eq!(again.ran(), ["2/2"]);
    builder.assert_nothing_left();
}

#[test]
fn privileged_what_nobody_needs_is_not_touched() {
    let Some(builder) = Builder::new() else { return };
    let dockerfile = "FROM 127.0.0.1:1/never/pulled AS elsewhere\n\
                      FROM busybox AS broken\nRUN false\n\
                      FROM busybox AS also\nCOPY --from=broken /x /\nCOPY missing /\n\
                      FROM busybox AS wanted\nRUN echo wanted\n\
                      FROM broken\n";
    let outcome = builder.build(dockerfile, &["--target", "wanted"]).success();
    assert_eq!(outcome.ran(), ["wanted 2/2"]);
    assert_eq!(outcome.log(), "wanted\n");
}

#[test]
fn privileged_what_is_missing_is_told_at_once() {
    let Some(builder) = Builder::new() else { return };
    builder.write("context/file", "");
    let dockerfile = "FROM scratch AS other\nCOPY file /\nFROM scratch\nCOPY one /\nCOPY file two three /x/\n\
                      COPY t* /\nCOPY --from=other four /\n";
    let failed = builder.build(dockerfile, &[]).fails_with(1);
    let said = "\"/one\": not found in the build context; line 5: \"/two\": not found; \
                line 5: \"/three\": not found\n";
    assert!(failed.stderr.contains(said), "{}", failed.stderr);
}

#[test]
fn privileged_a_warning_is_told_as_often_as_the_file_has_it() {
    let Some(builder) = Builder::new() else { return };
    let words = ["--platform=linux/amd64,linux/arm64"];
    let built = builder.build("FROM scratch\nENV a=$c b=$c\n", &words).success();
    // Once for each variable, not once for each platform.
    let said = "Usage of undefined variable '$c'";
    assert_eq!(built.stderr.matches(said).count(), 2, "{}", built.stderr);
}

/// Nobody answers at port 1: what is shown is the step, its lines and why it failed.
#[test]
fn privileged_a_password_in_an_address_is_not_shown() {
    let Some(builder) = Builder::new() else { return };
    let here = "me:pa55word@127.0.0.1:1";
    for progress in ["plain", "json", "rawjson"] {
        for added in ["http://HERE/x", "http://HERE/x.git?foo=bar", "ssh://HERE/x.git"] {
            let dockerfile = format!("FROM scratch\nADD {} /\n", added.replace("HERE", here));
            let outcome = builder.build(&dockerfile, &["--progress", progress]).fails_with(1);
            assert!(!outcome.stderr.contains("pa55word"), "{added}: {}", outcome.stderr);
        }
        for context in ["git://HERE/x.git", "ssh://HERE/x.git", "http://HERE/x.tar"] {
            let context = context.replace("HERE", here);
            let outcome = builder.run(&["build", "--progress", progress, &context]).fails_with(1);
            assert!(!outcome.stderr.contains("pa55word"), "{context}: {}", outcome.stderr);
        }
    }
    builder.assert_nothing_left();
}
