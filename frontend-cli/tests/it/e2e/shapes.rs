//! Shapes of Dockerfiles that people write: `testdata/shapes`.
//!
//! Those that take long are run by `scripts/shapes`, and so is everything else, with a line for each.

use std::path::Path;

use super::builder::Builder;
use super::example::Example;
use super::git_origin::Origin;
use super::skip;
use super::ssh::{SSHD, agent, make_key, server_with};

/// Set by `scripts/shapes`: everything, however long it takes.
const EVERYTHING: &str = "MYBUILD_SHAPES";

/// Starts the server, and asks it for a page.
const PHP: &str = "php-fpm --daemonize && SCRIPT_FILENAME=/app/public/index.php \
                   REQUEST_METHOD=GET cgi-fcgi -bind -connect 127.0.0.1:9000 | tail -n 1";

const PLAIN: Example<'static> = Example { inside: "shapes", ..Example::PLAIN };

const SHAPES: [Example<'static>; 21] = [
    Example {
        name: "python-pip",
        bases: &["python:3.11-slim"],
        edit: ("app/__main__.py", "section.name}.", "section.name}.NEW."),
        runs_again: &["stage-1 5/6", "stage-1 6/6"],
        changed: Some("server.NEW.name is lighthouse\nserver.NEW.port is 8080\n"),
        ..PLAIN
    },
    Example {
        name: "python-uv",
        bases: &["python:3.11-slim", "uv:latest"],
        edit: ("src/forecast/__init__.py", "print(line", "print(\"NEW\", line"),
        runs_again: &["build 5/6", "build 6/6", "stage-1 2/2"],
        changed: Some("NEW\n----------------\n晴れ, later rain\n----------------\n"),
        ..PLAIN
    },
    Example {
        name: "node-npm-ci",
        bases: &["node:24-slim"],
        edit: ("src/steps.js", "exports.steps", "console.log(\"NEW\");\nexports.steps"),
        runs_again: &["build 3/4", "build 4/4", "stage-3 4/4"],
        changed: Some("NEW\n2 minutes\n1 minute\n40 seconds\n"),
        ..PLAIN
    },
    Example {
        name: "pnpm-workspaces",
        bases: &["node:24-slim"],
        edit: ("packages/greeting/index.js", "evening", "NEW"),
        runs_again: &["build 3/4", "build 4/4", "stage-2 3/3"],
        changed: Some("Good NEW, whoever waits 2 minutes!\n"),
        ..PLAIN
    },
    Example {
        name: "go-vendored",
        bases: &["golang:1.27"],
        edit: ("cmd/hello/main.go", "\"world\"", "\"NEW\""),
        runs_again: &["build 5/6", "build 6/6", "stage-1 1/1"],
        changed: Some("Good morning, NEW!\n"),
        ..PLAIN
    },
    Example {
        name: "rust-planned",
        bases: &["rust:1-slim"],
        edit: ("greeting/src/lib.rs", "in order", "in NEW"),
        // The plan is made again and is the same.
        runs_again: &["build 3/4", "build 4/4", "plan 1/2", "plan 2/2", "stage-3 2/2"],
        changed: Some("3 numbers in NEW: 1 9 10\n"),
        ..PLAIN
    },
    Example {
        name: "php-fpm",
        bases: &["php:8.2-fpm"],
        run: &["sh", "-c", PHP],
        edit: ("src/Weather.php", "It rains", "It NEWs"),
        // The loader is made again and is the same.
        runs_again: &["loader 4/5", "loader 5/5", "stage-1 5/6", "stage-1 6/6"],
        changed: Some("It NEWs in Bergen.\n"),
        ..PLAIN
    },
    Example {
        name: "ruby-bundler",
        bases: &["ruby:3.1-slim"],
        edit: ("main.rb", "o'clock", "NEW"),
        runs_again: &["stage-2 3/3"],
        changed: Some("At 6 NEW the water is high.\n"),
        ..PLAIN
    },
    Example {
        name: "nginx-templates",
        bases: &["nginx:1.22"],
        run: &["sh", "-c", "nginx && curl --silent localhost:8080"],
        edit: ("site/index.txt", "nine", "NEW"),
        runs_again: &["site 3/4", "site 4/4", "stage-1 3/3"],
        changed: Some("<h1>index</h1>\nThe ferry leaves at NEW.\n"),
        ..PLAIN
    },
    Example {
        name: "distroless",
        bases: &["gcc:12"],
        edit: ("src/clock.c", "It was", "NEW was"),
        runs_again: &["build 3/4", "build 4/4", "stage-2 2/3", "stage-2 3/3"],
        changed: Some("NEW was 1970-01-01 00:00, says nonroot.\n"),
        ..PLAIN
    },
    Example {
        name: "apt-cache-mounts",
        edit: ("report.sh", "6 * 7 = ", "NEW = "),
        runs_again: &["stage-2 1/1"],
        changed: Some("NEW = 42\ntext/x-shellscript\n"),
        ..PLAIN
    },
    Example {
        name: "heredocs",
        edit: ("motto.txt", "Slow", "NEW"),
        runs_again: &["stage-2 3/3"],
        changed: Some(
            "It is winter.\nIt costs ${PRICE}, not \\$5.\nsum 6\n1 4 9 16\nNEW and steady.\n",
        ),
        ..PLAIN
    },
    Example {
        name: "onbuild",
        bases: &["python-onbuild:3"],
        flags: &["--build-arg", "MODULE=rhyme"],
        edit: ("rhyme/__main__.py", "hill", "NEW"),
        runs_again: &["5/7", "6/7"],
        changed: Some("Jack and Jill went up the NEW.\n"),
        ..PLAIN
    },
    Example {
        name: "cross-compile",
        bases: &["golang:1.27"],
        flags: &["--platform", "linux/amd64,linux/arm64"],
        edit: ("main.go", "\"compiled", "\"NEW"),
        runs_again: &[
            "linux/amd64 build 3/4",
            "linux/amd64 build 4/4",
            "linux/amd64 stage-1 1/1",
            "linux/amd64->arm64 build 4/4",
            "linux/arm64 stage-1 1/1",
        ],
        changed: Some("NEW for linux/amd64\n"),
        ..PLAIN
    },
    Example {
        name: "monorepo",
        bases: &["python:3.11-slim"],
        flags: &[
            "--file=monorepo/services/shop/Dockerfile",
            "--build-context=libraries=monorepo/libraries",
            "--build-context=assets=monorepo/assets",
            "--build-context=runtime=docker-image://python:3.11-slim",
        ],
        edit: ("assets/basket.txt", "Groceries", "NEW"),
        runs_again: &["stage-0 3/6", "stage-0 4/6", "stage-0 5/6"],
        changed: Some("NEW: 3 things for 13.00\n"),
        ..PLAIN
    },
    Example {
        name: "tested-stage",
        bases: &["gcc:12"],
        flags: &["--also=test"],
        edit: ("tests/negative.txt", "-5,0,5", "-5,0,5 NEW"),
        runs_again: &["test 1/2", "test 2/2"],
        ..PLAIN
    },
    Example {
        name: "private-git",
        bases: &["git:2"],
        edit: ("say.sh", "Today's", "NEW"),
        runs_again: &["stage-1 3/3"],
        changed: Some("NEW words: anchor buoy keel.\n"),
        ..PLAIN
    },
    Example {
        name: "postgres-entrypoint",
        bases: &["postgres:15"],
        run: &["query", "SELECT * FROM harbour WHERE depth > 10 ORDER BY name"],
        edit: ("initdb/2-rows.sql", "Bergen", "A NEW"),
        runs_again: &["3/4", "4/4"],
        changed: Some("A NEW|11.5\nTromsø|10.25\n"),
        ..PLAIN
    },
    Example {
        name: "maven",
        bases: &["maven:3", "jre:17"],
        edit: ("src/main/java/com/example/Lanterns.java", "is lit", "is NEW"),
        runs_again: &["build 5/6", "build 6/6", "stage-1 3/3"],
        changed: Some("Lantern 1 is NEW.\nLantern 2 is NEW.\nLantern 3 is NEW.\n"),
        ..PLAIN
    },
    Example {
        name: "gradle",
        bases: &["gradle:4", "jre:17"],
        edit: ("src/main/java/com/example/Bells.java", "ding", "NEW"),
        runs_again: &["build 5/6", "build 6/6", "stage-1 2/2"],
        changed: Some("NEW dong dong\n"),
        ..PLAIN
    },
    Example {
        name: "dotnet-like",
        bases: &["mono-sdk:6", "mono:6"],
        edit: ("src/Weather/Scale.cs", "frost", "NEW"),
        runs_again: &["build 5/6", "build 6/6", "publish 1/1", "stage-2 3/3"],
        changed: Some(" -3 NEW\n  0 cool\n 21 warm\n"),
        ..PLAIN
    },
];

/// What is too long for every run of the tests.
fn check_long(name: &str) {
    if std::env::var_os(EVERYTHING).is_some() {
        check(name);
    } else {
        skip(&format!("{name} takes long: `scripts/shapes` runs it"));
    }
}

fn check(name: &str) {
    let Some(builder) = Builder::debian() else { return };
    check_with(&builder, find(name));
}

fn find(name: &str) -> Example<'static> {
    SHAPES.into_iter().find(|shape| shape.name == name).expect("it is listed")
}

#[expect(clippy::print_stderr, reason = "`scripts/shapes` shows it")]
fn check_with(builder: &Builder, shape: Example<'_>) {
    let checked = shape.check(builder);
    let [first, again, changed] =
        [checked.first, checked.again, checked.changed].map(|time| time.as_secs_f64());
    let name = shape.name;
    eprintln!("{name}: built in {first:.1} s, again in {again:.1} s, changed in {changed:.1} s");
}

#[test]
fn privileged_python_pip() {
    check("python-pip");
}

#[test]
fn privileged_python_uv() {
    check("python-uv");
}

#[test]
fn privileged_node_npm_ci() {
    check("node-npm-ci");
}

#[test]
fn privileged_pnpm_workspaces() {
    check("pnpm-workspaces");
}

#[test]
fn privileged_go_vendored() {
    check("go-vendored");
}

#[test]
fn privileged_rust_planned() {
    check("rust-planned");
}

#[test]
fn privileged_ruby_bundler() {
    check("ruby-bundler");
}

#[test]
fn privileged_nginx_templates() {
    check("nginx-templates");
}

#[test]
fn privileged_distroless() {
    check("distroless");
}

#[test]
fn privileged_apt_cache_mounts() {
    check("apt-cache-mounts");
}

#[test]
fn privileged_heredocs() {
    check("heredocs");
}

#[test]
fn privileged_onbuild() {
    check("onbuild");
}

#[test]
fn privileged_cross_compile() {
    check("cross-compile");
}

#[test]
fn privileged_monorepo() {
    check("monorepo");
}

#[test]
fn privileged_php_fpm() {
    check_long("php-fpm");
}

#[test]
fn privileged_postgres_entrypoint() {
    check_long("postgres-entrypoint");
}

#[test]
fn privileged_maven() {
    check_long("maven");
}

#[test]
fn privileged_gradle() {
    check_long("gradle");
}

#[test]
fn privileged_dotnet_like() {
    check_long("dotnet-like");
}

#[test]
fn privileged_tested_stage() {
    check("tested-stage");
}

#[test]
fn privileged_private_git() {
    if !Path::new(SSHD).exists() {
        return skip("OpenSSH's client and server are not installed");
    }
    let Some(builder) = Builder::debian() else { return };
    let (_server, port) = server_with(&builder, "");
    make_key(&builder, "key", &["-t", "ed25519"]);
    let _agent = agent(&builder, "key");
    let origin = Origin::new(&builder.path("served"), "words");
    origin.write("words.txt", "keel\nanchor\nbuoy\n");
    origin.commit();
    let directory = builder.path("served/words.git");
    let flags = [
        format!("--ssh=default={}", builder.path("agent.sock").display()),
        "--add-host=git.example=host-gateway".to_owned(),
        format!("--build-arg=REPOSITORY=ssh://root@git.example:{port}{}", directory.display()),
        format!("--build-arg=HOST_KEY=[git.example]:{port} {}", builder.read("host.pub").trim()),
    ];
    let flags = flags.each_ref().map(String::as_str);
    check_with(&builder, Example { flags: &flags, ..find("private-git") });
}

/// Nothing in the directory is forgotten, and nothing of it is said twice.
#[test]
fn every_shape_is_listed_once() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/shapes");
    let entries = std::fs::read_dir(directory).expect("it is there").map(|entry| {
        entry.expect("it is there").file_name().into_string().expect("a name of letters")
    });
    let mut there: Vec<String> = entries.filter(|name| name != "bases").collect();
    there.sort();
    let mut listed = SHAPES.map(|shape| shape.name);
    listed.sort_unstable();
    assert_eq!(there, listed);
}
