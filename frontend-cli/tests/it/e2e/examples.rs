//! The examples of `testdata`.

use std::process::Stdio;

use super::builder::Builder;
use super::example::Example;
use super::outcome::Outcome;

pub(crate) const EXAMPLES: [Example<'static>; 4] = [
    Example {
        name: "c-program",
        edit: ("greeting/greeting.c", "Hello, %s!", "Hello from NEW, %s!"),
        runs_again: &["library 2/3", "library 3/3", "program 3/4", "program 4/4", "stage-3 1/1"],
        changed: Some("Hello from NEW, world!\n"),
        ..Example::PLAIN
    },
    Example {
        name: "python-web",
        edit: ("words.txt", "Good words", "Words of NEW"),
        runs_again: &["stage-2 4/4"],
        changed: Some("Words of NEW from a file.\n"),
        ..Example::PLAIN
    },
    Example {
        name: "rust-app",
        edit: ("src/order.rs", "Ok(versions", "eprintln!(\"NEW\");\n    Ok(versions"),
        runs_again: &["build 3/4", "build 4/4", "stage-2 2/2"],
        changed: None,
        ..Example::PLAIN
    },
    Example {
        name: "twelve-stages",
        edit: ("chapters/9.txt", "Chapter", "Moss NEW chapter"),
        runs_again: &["book 10/10", "book 9/10", "chapter-9 1/2", "chapter-9 2/2"],
        changed: None,
        ..Example::PLAIN
    },
];

/// Checks it with this builder, and what came of it with another engine.
pub(crate) fn check_with(builder: &Builder, example: &Example<'_>) {
    let checked = example.check(builder);
    example.check_other_engine(builder, &checked.says);
}

fn check(name: &str) {
    let Some(builder) = Builder::debian() else { return };
    let example = EXAMPLES.iter().find(|example| example.name == name);
    check_with(&builder, example.expect("it is listed"));
}

#[test]
fn privileged_a_c_program_is_built_and_runs() {
    check("c-program");
}

#[test]
fn privileged_a_python_web_application_is_built_and_answers() {
    check("python-web");
}

#[test]
fn privileged_a_rust_program_is_built_and_runs() {
    check("rust-app");
}

#[test]
fn privileged_twelve_stages_are_built_at_once() {
    check("twelve-stages");
    let Some(builder) = Builder::debian() else { return };
    builder.copy_testdata("twelve-stages");
    let words = ["--no-cache-filter", "chapter-1,chapter-2,chapter-3,chapter-4"];
    let outcome = builder.build_directory("twelve-stages", &words).success();
    assert!(most_at_once(&outcome) >= 2, "{}", outcome.stderr);
    let alone = builder.build_directory("twelve-stages", &[&words[..], &["-j", "1"]].concat());
    assert_eq!(most_at_once(&alone.success()), 1);
}

/// How many `RUN`s of chapters ran at the same time.
fn most_at_once(outcome: &Outcome) -> usize {
    let runs: Vec<_> = (outcome.steps().into_iter())
        .filter(|step| step.end == "done" && step.name.contains("] RUN ./index.sh"))
        .collect();
    assert_eq!(runs.len(), 4, "{}", outcome.stderr);
    let at = |time: &String| {
        runs.iter().filter(|step| step.times.0 <= *time && *time < step.times.1).count()
    };
    runs.iter().map(|step| at(&step.times.0)).max().expect("four steps")
}

#[test]
fn privileged_the_configuration_of_the_web_application_is_kept() {
    let Some(builder) = Builder::debian() else { return };
    builder.copy_testdata("python-web");
    builder.build_directory("python-web", &["-t", "web-config"]).success();
    let mut inspect = builder.command(&["inspect", "web-config"]);
    let outcome = builder.run_command(inspect.stdin(Stdio::null())).success();
    let inspected: serde_json::Value = serde_json::from_str(&outcome.text()).expect("JSON");
    let config = &inspected[0]["Config"];
    assert_eq!(config["User"], "web", "{inspected:#}");
    assert_eq!(config["ExposedPorts"], serde_json::json!({ "8080/tcp": {} }));
    assert_eq!(config["Healthcheck"]["Test"][0], "CMD", "{config:#}");
    assert_eq!(config["Healthcheck"]["Interval"], 5_000_000_000_u64);
}
