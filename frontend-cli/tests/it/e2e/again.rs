//! Steps that run although their result is known: by flags, and by comments that are for us.

use super::builder::Builder;

const CACHES: &str = "FROM busybox AS one
RUN --mount=type=cache,id=a,target=/c ls /c; date >/c/one
FROM busybox AS two
RUN --mount=type=cache,id=b,target=/c,uid=5 ls /c; date >/c/two
FROM busybox
COPY --from=one /bin/busybox /1
COPY --from=two /bin/busybox /2
";

/// What the steps with cache mounts found in them, and left in the log.
fn found(outcome: &super::outcome::Outcome) -> Vec<String> {
    let mut steps = outcome.steps();
    steps.retain(|step| step.name.contains("--mount=type=cache"));
    steps.sort_by(|a, b| a.name.cmp(&b.name));
    steps.iter().map(|step| step.log.trim().to_owned()).collect()
}

#[test]
fn privileged_no_cache_empties_the_cache_mounts_of_the_steps() {
    let Some(builder) = Builder::new() else { return };
    assert_eq!(found(&builder.build(CACHES, &[]).success()), ["", ""]);
    for (words, expected) in [
        (&["--no-cache", "--keep-cache-mounts"][..], ["one", "two"]),
        (&["--no-cache"], ["", ""]),
        (&["--no-cache-filter", "two"], ["", ""]),
        (&["--no-cache-filter", "TWO", "--keep-cache-mounts"], ["", "two"]),
        (&["--opt", "no-cache="], ["", ""]),
    ] {
        let built = builder.build(CACHES, words).success();
        assert_eq!(found(&built), expected, "{words:?}");
    }
    // Others keep theirs: `one` did not run.
    let one = CACHES.replace("date >/c/one", "true");
    assert_eq!(found(&builder.build(&one, &["--target", "one"]).success()), ["one"]);
}

const PRAGMAS: &str = "FROM busybox
# Fetches what is newest.
# mybuild: always
RUN cat /proc/sys/kernel/random/uuid >/always
# mybuild: ttl=6h
RUN cat /proc/sys/kernel/random/uuid >/day
RUN cat /always >/after
# mybuild: ttl=1ns

COPY file /file
RUN true
";

#[test]
fn privileged_a_comment_makes_one_step_run_again() {
    let Some(builder) = Builder::new() else { return };
    builder.write("context/file", "1");
    builder.build(PRAGMAS, &["-o", "first"]).success();
    let again = builder.build(PRAGMAS, &["-o", "second"]).success();
    assert_eq!(again.ran(), ["2/6", "3/6", "4/6", "5/6", "6/6"], "and what stands on it");
    assert_ne!(builder.read("first/always"), builder.read("second/always"));
    assert_eq!(builder.read("second/after"), builder.read("second/always"));
    let young = PRAGMAS.replace("# mybuild: always\n", "");
    builder.build(&young, &["-o", "third"]).success();
    let again = builder.build(&young, &["-o", "fourth"]).success();
    assert_eq!(again.ran(), ["5/6", "6/6"], "what is younger than its time is used");
    assert_eq!(builder.read("third/day"), builder.read("fourth/day"));
    let plain = young.replace("# mybuild: ttl=1ns\n", "");
    builder.build(&plain, &[]).success();
    assert_eq!(builder.build(&plain, &[]).success().ran(), Vec::<String>::new());
    // The flag for whole builds says nothing of cache mounts of such steps.
    let mount = "FROM busybox\n# mybuild: always\n\
                 RUN --mount=type=cache,target=/c ls /c; date >/c/kept\n";
    assert_eq!(found(&builder.build(mount, &[]).success()), [""]);
    assert_eq!(found(&builder.build(mount, &[]).success()), ["kept"]);
}

#[test]
fn privileged_a_comment_for_us_that_is_not_understood_is_an_error() {
    let Some(builder) = Builder::new() else { return };
    for (above, line, expected) in [
        ("RUN true", "alwys", "want `always` or `ttl=DURATION` (did you mean always?)"),
        (
            "RUN true",
            "ttl=soon",
            "`# mybuild: ttl=soon`: time: invalid duration \"soon\"; want a duration as in `ttl=6h`",
        ),
        ("ENV A=b", "always", "a `# mybuild:` comment above `ENV` does nothing"),
        ("FROM busybox AS two", "always", "a `# mybuild:` comment above `FROM` does nothing"),
    ] {
        let dockerfile = format!("FROM busybox\n# mybuild: {line}\n{above}\n");
        let failed = builder.build(&dockerfile, &[]).fails_with(1);
        assert!(failed.words().contains(expected), "{}", failed.words());
        assert!(failed.words().contains("Dockerfile:3") || failed.words().contains(":3\n"));
    }
}
