//! A recorded build, as each kind of progress shows it.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use engine::{Event, StepId, Stream};
use expect_test::expect;
use frontend_cli::progress::json::Json;
use frontend_cli::progress::plain::Plain;
use frontend_cli::progress::raw_json::RawJson;
use frontend_cli::progress::tree::Tree;
use frontend_cli::progress::{Findings, Renderer};
use frontend_cli::terminal::{Size, width};
use tokio_util::sync::CancellationToken;

use crate::screen::Screen;

/// A build in which everything happens, as milliseconds and events.
fn recorded() -> Vec<(u64, Event)> {
    let added = |step, name: &str, stage: &str, lines| Event::StepAdded {
        step: StepId(step),
        name: name.to_owned(),
        stage: stage.to_owned(),
        lines,
    };
    let log = |step, data: &str| Event::Log {
        step: StepId(step),
        stream: if data.contains("warning") { Stream::Stderr } else { Stream::Stdout },
        data: data.as_bytes().to_vec(),
    };
    let transfer = |step, item: &str, current, total, done| Event::Transfer {
        step: StepId(step),
        item: item.to_owned(),
        current,
        total,
        done,
    };
    let done = |step, millis| Event::StepDone {
        step: StepId(step),
        duration: Duration::from_millis(millis),
    };
    vec![
        (0, added(1, "[internal] load metadata for docker.io/library/alpine:latest", "", None)),
        (5, Event::StepStarted { step: StepId(1) }),
        (120, done(1, 115)),
        (
            121,
            added(
                2,
                "[base 1/2] FROM docker.io/library/alpine:latest@sha256:52d9d562425b8d4d8027e8bfd18a5522f78ce82824d74ba181a8db81887bd5ec",
                "base",
                Some((1, 1)),
            ),
        ),
        (121, added(3, "[base 2/2] RUN apk add make", "base", Some((2, 2)))),
        (121, added(4, "[build 1/3] COPY src /src", "build", Some((5, 5)))),
        (
            121,
            added(
                5,
                "[build 2/3] RUN make -C /src all CFLAGS='-O2 -Wall -Wextra' && make -C /src install",
                "build",
                Some((6, 7)),
            ),
        ),
        (121, added(6, "[build 3/3] RUN make test", "build", Some((8, 8)))),
        (122, Event::StepStarted { step: StepId(2) }),
        (400, transfer(2, "sha256:1234abcd", 1_200_000, Some(3_400_000), false)),
        (900, transfer(2, "sha256:1234abcd", 3_400_000, Some(3_400_000), true)),
        (1_000, done(2, 878)),
        (1_001, Event::StepCached { step: StepId(3) }),
        (1_002, Event::StepStarted { step: StepId(4) }),
        (1_050, done(4, 48)),
        (
            1_051,
            Event::Warning { message: "the host's network is used: no `pasta` here".to_owned() },
        ),
        (1_052, Event::StepStarted { step: StepId(5) }),
        (1_500, log(5, "cc -c main.c\ncc -c ")),
        (1_700, log(5, "util.c\n\x1b[31mmain.c:3: warning: unused\x1b[0m\n")),
        (2_000, log(5, "10%\r50%\r90%\r")),
        (2_100, log(5, "100%\n\x07\x1b[2Jtab\there\n")),
        (7_500, transfer(5, "saving", 1_000, None, false)),
        (14_000, transfer(5, "saving", 2_000, None, false)),
        (14_500, log(5, "error: last words")),
        (
            15_000,
            Event::StepFailed {
                step: StepId(5),
                message: "process \"/bin/sh -c make\" did not complete successfully: exit code: 2"
                    .to_owned(),
            },
        ),
        (15_001, Event::StepCanceled { step: StepId(6) }),
    ]
}

fn feed(renderer: &mut dyn Renderer, until: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, event) in recorded().into_iter().take_while(|(at, _)| *at <= until) {
        let at = Duration::from_millis(at);
        renderer.event(at, event);
        renderer.draw(at, &mut out);
    }
    out
}

fn all(mut renderer: impl Renderer) -> String {
    let mut out = feed(&mut renderer, u64::MAX);
    renderer.finish(Duration::from_millis(15_010), &mut out);
    String::from_utf8(out).expect("progress is UTF-8")
}

fn tree(columns: usize, rows: usize) -> Tree {
    Tree::new(6, false, move || Size { columns, rows })
}

/// What stands on the terminal at `at` milliseconds.
fn screen(columns: usize, rows: usize, at: u64) -> String {
    let mut tree = tree(columns, rows);
    let mut screen = Screen::default();
    screen.write(&feed(&mut tree, at));
    let mut frame = Vec::new();
    tree.draw(Duration::from_millis(at), &mut frame);
    screen.write(&frame);
    let text = screen.text();
    for line in text.lines().filter(|line| !line.starts_with("warning")) {
        assert!(width(line) < columns, "{line:?} does not fit");
    }
    text
}

#[test]
fn plain_lines_say_which_step_they_belong_to() {
    expect![[r##"
        #1 [internal] load metadata for docker.io/library/alpine:latest
        #1 DONE 0.1s

        #2 [base 1/2] FROM docker.io/library/alpine:latest@sha256:52d9d562425b8d4d8027e8bfd18a5522f78ce82824d74ba181a8db81887bd5ec
        #2 sha256:1234abcd 3.40MB / 3.40MB done
        #2 DONE 0.9s

        #3 [base 2/2] RUN apk add make
        #3 CACHED

        #4 [build 1/3] COPY src /src
        #4 DONE 0.0s

        warning: the host's network is used: no `pasta` here
        #5 [build 2/3] RUN make -C /src all CFLAGS='-O2 -Wall -Wextra' && make -C /src install
        #5 0.448 cc -c main.c
        #5 0.448 cc -c util.c
        #5 0.648 main.c:3: warning: unused
        #5 1.048 100%
        #5 1.048 �tab	here
        #5 saving 2.00kB
        #5 13.448 error: last words
        #5 ERROR: process "/bin/sh -c make" did not complete successfully: exit code: 2

        #6 [build 3/3] RUN make test
        #6 CANCELED

    "##]].assert_eq(&all(Plain::new()));
}

#[test]
fn a_tree_shows_what_runs_at_80_columns() {
    expect![[r#"
        building 0.5s, 1 of 6 steps
        + [internal] load metadata for docker.io/library/alpine:latest             0.1s
        base
          > 1/2 FROM docker.io/library/alpine:latest@sha256:52d9d562425b8d4d8027e… 0.4s
              sha256:1234abcd                                           1.20MB / 3.40MB
    "#]]
    .assert_eq(&screen(80, 24, 500));
    expect![[r#"
        warning: the host's network is used: no `pasta` here
        building 14.7s, 4 of 6 steps, 1 cached
        + [internal] load metadata for docker.io/library/alpine:latest             0.1s
        base
          + 1/2 FROM docker.io/library/alpine:latest@sha256:52d9d562425b8d4d8027e… 0.9s
          = 2/2 RUN apk add make                                                 CACHED
        build
          + 1/3 COPY src /src                                                      0.0s
          > 2/3 RUN make -C /src all CFLAGS='-O2 -Wall -Wextra' && make -C /src … 13.6s
              saving                                                             2.00kB
              cc -c main.c
              cc -c util.c
              main.c:3: warning: unused
              100%
              �tab    here
              error: last words
    "#]]
    .assert_eq(&screen(80, 24, 14_700));
}

#[test]
fn a_tree_fits_into_40_columns() {
    expect![[r#"
        building 0.5s, 1 of 6 steps
        + [internal] load metadata for do… 0.1s
        base
          > 1/2 FROM docker.io/library/al… 0.4s
              sha256:1234abcd   1.20MB / 3.40MB
    "#]]
    .assert_eq(&screen(40, 24, 500));
    expect![[r#"
        warning: the host's network is used: no `pasta` here
        building 14.7s, 4 of 6 steps, 1 cached
        + [internal] load metadata for do… 0.1s
        base
          + 1/2 FROM docker.io/library/al… 0.9s
          = 2/2 RUN apk add make         CACHED
        build
          + 1/3 COPY src /src              0.0s
          > 2/3 RUN make -C /src all CFL… 13.6s
              saving                     2.00kB
              cc -c main.c
              cc -c util.c
              main.c:3: warning: unused
              100%
              �tab    here
              error: last words
    "#]]
    .assert_eq(&screen(40, 24, 14_700));
}

#[test]
fn a_low_window_shows_less() {
    expect![[r#"
        warning: the host's network is used: no `pasta` here
        building 14.7s, 4 of 6 steps, 1 cached
        + 1 finished
        base
          + 2 finished
        build
          + 1 finished
          > 2/3 RUN make -C /src all CFLAGS='-O2 -Wall -Wext… 13.6s
              saving                                         2.00kB
    "#]]
    .assert_eq(&screen(60, 9, 14_700));
    expect![[r#"
        warning: the host's network is used: no `pasta` here
        building 14.7s, 4 of 6 steps, 1 cached
        > [build 2/3] RUN make -C /src all CFLAGS='-O2 -Wall… 13.6s
    "#]]
    .assert_eq(&screen(60, 4, 14_700));
}

#[test]
fn the_last_state_stays() {
    let mut screen = Screen::default();
    screen.write(all(tree(80, 6)).as_bytes());
    expect![[r#"
        warning: the host's network is used: no `pasta` here
        took 15.0s, 6 of 6 steps, 1 cached
        + [internal] load metadata for docker.io/library/alpine:latest             0.1s
        base
          + 1/2 FROM docker.io/library/alpine:latest@sha256:52d9d562425b8d4d8027e… 0.9s
          = 2/2 RUN apk add make                                                 CACHED
        build
          + 1/3 COPY src /src                                                      0.0s
          ! 2/3 RUN make -C /src all CFLAGS='-O2 -Wall -Wextra' && make -C /src… FAILED
          - 3/3 RUN make test                                                  CANCELED
    "#]]
    .assert_eq(&screen.text());
}

#[test]
fn the_tree_survives_a_changing_window() {
    let columns = Arc::new(AtomicUsize::new(80));
    let seen = Arc::clone(&columns);
    let mut tree =
        Tree::new(6, false, move || Size { columns: seen.load(Ordering::Relaxed), rows: 24 });
    let mut screen = Screen::default();
    screen.write(&feed(&mut tree, 2_050));
    columns.store(100, Ordering::Relaxed);
    let mut frame = Vec::new();
    tree.draw(Duration::from_millis(3_000), &mut frame);
    screen.write(&frame);
    let wide = screen.text();
    assert!(wide.contains("building 3.0s"), "{wide}");
    assert_eq!(wide.matches("building").count(), 1, "{wide}");
    // Narrower: the old lines have wrapped, and the tree goes up far enough to take them away.
    columns.store(50, Ordering::Relaxed);
    let mut frame = Vec::new();
    tree.draw(Duration::from_millis(4_000), &mut frame);
    let up: String = String::from_utf8(frame).expect("UTF-8");
    let rows: usize = up
        .split("\r\x1b[")
        .nth(1)
        .and_then(|rest| rest.split('A').next())
        .and_then(|n| n.parse().ok())
        .expect("a cursor movement");
    assert!(rows > wide.lines().filter(|line| !line.starts_with("warning")).count());
}

#[test]
fn a_frame_is_drawn_only_when_it_differs() {
    let mut tree = tree(80, 24);
    feed(&mut tree, 500);
    let frames = Cell::new(0);
    let mut draw = |at| {
        let mut out = Vec::new();
        tree.draw(Duration::from_millis(at), &mut out);
        frames.set(frames.get() + usize::from(!out.is_empty()));
        // A frame hides the cursor only for itself.
        assert_eq!(out.is_empty(), !out.ends_with(b"\x1b[?25h\x1b[?2026l"));
    };
    draw(500);
    assert_eq!(frames.get(), 1);
    draw(510);
    draw(520);
    assert_eq!(frames.get(), 1, "nothing that is shown has changed");
    draw(700);
    assert_eq!(frames.get(), 2);
}

#[test]
fn json_is_one_object_a_line() {
    let start = jiff::Timestamp::UNIX_EPOCH;
    let text = all(Json::new(start));
    for line in text.lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("a JSON object");
    }
    expect![[r#"
        {"time":"1970-01-01T00:00:00.000Z","type":"step-added","step":1,"name":"[internal] load metadata for docker.io/library/alpine:latest","stage":"","lines":null}
        {"time":"1970-01-01T00:00:00.005Z","type":"step-started","step":1}
        {"time":"1970-01-01T00:00:00.120Z","type":"step-done","step":1,"seconds":0.115}
        {"time":"1970-01-01T00:00:00.121Z","type":"step-added","step":2,"name":"[base 1/2] FROM docker.io/library/alpine:latest@sha256:52d9d562425b8d4d8027e8bfd18a5522f78ce82824d74ba181a8db81887bd5ec","stage":"base","lines":[1,1]}
        {"time":"1970-01-01T00:00:00.121Z","type":"step-added","step":3,"name":"[base 2/2] RUN apk add make","stage":"base","lines":[2,2]}
        {"time":"1970-01-01T00:00:00.121Z","type":"step-added","step":4,"name":"[build 1/3] COPY src /src","stage":"build","lines":[5,5]}
        {"time":"1970-01-01T00:00:00.121Z","type":"step-added","step":5,"name":"[build 2/3] RUN make -C /src all CFLAGS='-O2 -Wall -Wextra' && make -C /src install","stage":"build","lines":[6,7]}
        {"time":"1970-01-01T00:00:00.121Z","type":"step-added","step":6,"name":"[build 3/3] RUN make test","stage":"build","lines":[8,8]}
        {"time":"1970-01-01T00:00:00.122Z","type":"step-started","step":2}
        {"time":"1970-01-01T00:00:00.400Z","type":"transfer","step":2,"item":"sha256:1234abcd","current":1200000,"total":3400000,"done":false}
        {"time":"1970-01-01T00:00:00.900Z","type":"transfer","step":2,"item":"sha256:1234abcd","current":3400000,"total":3400000,"done":true}
        {"time":"1970-01-01T00:00:01.000Z","type":"step-done","step":2,"seconds":0.878}
        {"time":"1970-01-01T00:00:01.001Z","type":"step-cached","step":3}
        {"time":"1970-01-01T00:00:01.002Z","type":"step-started","step":4}
        {"time":"1970-01-01T00:00:01.050Z","type":"step-done","step":4,"seconds":0.048}
        {"time":"1970-01-01T00:00:01.051Z","type":"warning","message":"the host's network is used: no `pasta` here"}
        {"time":"1970-01-01T00:00:01.052Z","type":"step-started","step":5}
        {"time":"1970-01-01T00:00:01.500Z","type":"log","step":5,"stream":"stdout","text":"cc -c main.c\ncc -c "}
        {"time":"1970-01-01T00:00:01.700Z","type":"log","step":5,"stream":"stderr","text":"util.c\n\u001b[31mmain.c:3: warning: unused\u001b[0m\n"}
        {"time":"1970-01-01T00:00:02.000Z","type":"log","step":5,"stream":"stdout","text":"10%\r50%\r90%\r"}
        {"time":"1970-01-01T00:00:02.100Z","type":"log","step":5,"stream":"stdout","text":"100%\n\u0007\u001b[2Jtab\there\n"}
        {"time":"1970-01-01T00:00:07.500Z","type":"transfer","step":5,"item":"saving","current":1000,"total":null,"done":false}
        {"time":"1970-01-01T00:00:14.000Z","type":"transfer","step":5,"item":"saving","current":2000,"total":null,"done":false}
        {"time":"1970-01-01T00:00:14.500Z","type":"log","step":5,"stream":"stdout","text":"error: last words"}
        {"time":"1970-01-01T00:00:15.000Z","type":"step-failed","step":5,"message":"process \"/bin/sh -c make\" did not complete successfully: exit code: 2"}
        {"time":"1970-01-01T00:00:15.001Z","type":"step-canceled","step":6}
    "#]].assert_eq(&text);
}

#[test]
fn raw_json_is_what_buildkit_clients_read() {
    let text = all(RawJson::new(jiff::Timestamp::UNIX_EPOCH));
    let first: Vec<&str> = text.lines().take(6).collect();
    expect![[r#"
        {"vertexes":[{"digest":"sha256:938c5545b281cdd83512e0f1c1232c3ba70fadad97a38b8a0d9040c34fcf0781","name":"[internal] load metadata for docker.io/library/alpine:latest"}]}
        {"vertexes":[{"digest":"sha256:938c5545b281cdd83512e0f1c1232c3ba70fadad97a38b8a0d9040c34fcf0781","name":"[internal] load metadata for docker.io/library/alpine:latest","started":"1970-01-01T00:00:00.005Z"}]}
        {"vertexes":[{"completed":"1970-01-01T00:00:00.120Z","digest":"sha256:938c5545b281cdd83512e0f1c1232c3ba70fadad97a38b8a0d9040c34fcf0781","name":"[internal] load metadata for docker.io/library/alpine:latest","started":"1970-01-01T00:00:00.005Z"}]}
        {"vertexes":[{"digest":"sha256:a70cdf5b3d5a21972e0cd81123b65bcf4c7e2d26b20c9942f917a52325d90313","name":"[base 1/2] FROM docker.io/library/alpine:latest@sha256:52d9d562425b8d4d8027e8bfd18a5522f78ce82824d74ba181a8db81887bd5ec"}]}
        {"vertexes":[{"digest":"sha256:c13e0d7290261a1ea1d469cae1bbbd74c79c48007830435bfc14235e3528f0da","name":"[base 2/2] RUN apk add make"}]}
        {"vertexes":[{"digest":"sha256:f41c0e8ce0c7cb6c3c2088b8661bffb6e6ee35a6d305dc70430ed678bf3ea90c","name":"[build 1/3] COPY src /src"}]}"#]].assert_eq(&first.join("\n"));
    let keys: std::collections::BTreeSet<String> = text
        .lines()
        .flat_map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).expect("a JSON object");
            message.as_object().expect("an object").keys().cloned().collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(keys.into_iter().collect::<Vec<_>>(), ["logs", "statuses", "vertexes", "warnings"]);
}

#[test]
fn a_display_gives_back_what_was_found_in_the_dockerfile() {
    use frontend_cli::progress::{Display, Mode};
    let display = Display::start(Mode::None, &CancellationToken::new());
    let progress = display.progress();
    progress.event(Event::Dockerfile { name: "Dockerfile".to_owned(), text: "from x\n".into() });
    let span = parser::Span::new(0..4);
    let lines = parser::Lines { start: 1, end: 1 };
    progress.event(Event::Lint(parser::Diagnostic::warning("Rule", "text", span, lines)));
    let Findings { dockerfile, diagnostics, .. } = display.finish();
    assert_eq!(dockerfile.map(|(name, _)| name).as_deref(), Some("Dockerfile"));
    assert_eq!(diagnostics.len(), 1);
}
