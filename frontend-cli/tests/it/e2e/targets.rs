//! Several stages of one build: one is the result, the others only have to succeed.

use super::builder::Builder;

const DOCKERFILE: &str = "FROM busybox AS app
RUN echo app >/app
FROM app AS test
RUN [ $(cat /app) = app ] && echo tested
FROM app AS lint
RUN echo linted; [ ! -e /app ]
FROM app AS last
RUN echo last >/last
";

#[test]
fn privileged_further_stages_are_built_and_not_exported() {
    let Some(builder) = Builder::new() else { return };
    let alone = builder.build(DOCKERFILE, &["--target", "app"]).success();
    assert_eq!(alone.ran(), ["app 2/2"]);
    for words in [&["--target", "app", "--also", "test"][..], &["--target", "app,test"]] {
        let built = builder.build(DOCKERFILE, &[words, &["-o", "out", "-t", "app"]].concat());
        let steps = built.success().steps();
        let test = steps.iter().find(|step| step.name.contains("[test 1/1]"));
        assert!(test.is_some_and(|test| test.end == "done" || test.end == "cached"), "{steps:?}");
        assert_eq!(builder.read("out/app"), "app\n");
        assert!(!builder.path("out/last").exists());
    }
    let known = builder.build(DOCKERFILE, &["--target", "app", "--also", "test"]).success();
    assert_eq!(known.ran(), Vec::<String>::new(), "what succeeded need not run again");
    let last = builder.build(DOCKERFILE, &["--also", "test", "-o", "of-last"]).success();
    assert_eq!(last.ran(), ["last 1/1"]);
    assert_eq!(builder.read("of-last/last"), "last\n");
}

#[test]
fn privileged_a_further_stage_that_fails_fails_the_build() {
    let Some(builder) = Builder::new() else { return };
    let words = ["--target", "app", "--also", "test,lint", "-o", "out", "-t", "never"];
    let failed = builder.build(DOCKERFILE, &words).fails_with(1);
    let told = failed.words();
    assert!(told.contains("RUN echo linted") && told.contains("exit code: 1"), "{told}");
    assert!(!builder.path("out").exists(), "nothing is exported");
    assert_eq!(builder.run(&["images", "-q", "never"]).success().text(), "");
    let unknown = builder.build(DOCKERFILE, &["--also", "tset"]).fails_with(1);
    let expected = "target stage \"tset\" could not be found (did you mean test?)";
    assert!(unknown.words().contains(expected), "{}", unknown.words());
}
