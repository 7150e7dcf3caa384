//! The examples of `testdata`, built, built again, changed, and run.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};

use super::builder::{Builder, wait_for};
use super::outcome::Outcome;
use super::{runc, skip};

/// A directory of `testdata`, and what a change to one of its files does.
pub(crate) struct Example {
    pub(crate) name: &'static str,
    /// The file, what is replaced in it, and what replaces it; `NEW` is something new each time.
    edit: (&'static str, &'static str, &'static str),
    /// The steps that take the file in, or what came of it.
    runs_again: &'static [&'static str],
    /// What the image says after the change, if that differs.
    changed: Option<&'static str>,
}

pub(crate) const EXAMPLES: [Example; 4] = [
    Example {
        name: "c-program",
        edit: ("greeting/greeting.c", "Hello, %s!", "Hello from NEW, %s!"),
        runs_again: &["library 2/3", "library 3/3", "program 3/4", "program 4/4", "stage-3 1/1"],
        changed: Some("Hello from NEW, world!\n"),
    },
    Example {
        name: "python-web",
        edit: ("words.txt", "Good words", "Words of NEW"),
        runs_again: &["stage-2 4/4"],
        changed: Some("Words of NEW from a file.\n"),
    },
    Example {
        name: "rust-app",
        edit: ("src/order.rs", "Ok(versions", "eprintln!(\"NEW\");\n    Ok(versions"),
        runs_again: &["build 3/4", "build 4/4", "stage-2 2/2"],
        changed: None,
    },
    Example {
        name: "twelve-stages",
        edit: ("chapters/9.txt", "Chapter", "Moss NEW chapter"),
        runs_again: &["book 10/10", "book 9/10", "chapter-9 1/2", "chapter-9 2/2"],
        changed: None,
    },
];

impl Example {
    /// Builds it four times: from nothing or what is kept, as it is, touched, and changed.
    pub(crate) fn check(&self, builder: &Builder) {
        let name = self.name;
        builder.copy_testdata(name);
        let build = || builder.build_directory(name, &["-t", name]).success();
        let first = build();
        assert!(first.steps().len() > 5, "{name}: {:?}", first.steps());
        assert_eq!(build().ran(), [""; 0], "{name}: nothing has changed");
        self.touch_everything(builder);
        assert_eq!(build().ran(), [""; 0], "{name}: only times have changed");
        let expected = builder.read(&format!("{name}/expected.txt"));
        self.check_run(builder, &expected);

        let (file, from, to) = self.edit;
        let file = format!("{name}/{file}");
        let new = new_word();
        let text = builder.read(&file);
        assert!(text.contains(from), "{file}");
        builder.write(&file, text.replacen(from, &to.replace("NEW", &new), 1));
        assert_eq!(build().ran(), self.runs_again, "{name}: {file} has changed");
        let expected = self.changed.map_or(expected, |changed| changed.replace("NEW", &new));
        self.check_run(builder, &expected);
        self.check_other_engine(builder, &expected);
    }

    fn touch_everything(&self, builder: &Builder) {
        let mut ahead = vec![builder.path(self.name)];
        while let Some(path) = ahead.pop() {
            if path.is_dir() {
                let entries = std::fs::read_dir(&path).expect("a directory").flatten();
                ahead.extend(entries.map(|entry| entry.path()));
            }
            let file = File::open(&path).expect("an own file");
            file.set_modified(SystemTime::now()).expect("an own file");
        }
    }

    fn check_run(&self, builder: &Builder, expected: &str) {
        if self.name == "python-web" {
            let port = free_port();
            let (publish, own) = (format!("127.0.0.1:{port}:8080"), format!("PORT={port}"));
            // Python as process 1 would not hear the signal that ends it, nor with Docker.
            let mut words = vec!["run", "--init", "-p", &publish, self.name];
            if !builder.has_own_network() {
                skip("/dev/net/tun is not for everybody: no port is led into the container");
                words = vec!["run", "--init", "--network", "host", "--env", &own, self.name];
            }
            let mut command = builder.command(&words);
            let ask = |server: &Child| {
                kill_process(Pid::from_child(server), Signal::TERM).expect("an own child");
            };
            serve(builder.spawn(&mut command), port, expected, ask);
        } else {
            let outcome = builder.run(&["run", self.name]);
            assert_eq!(outcome.success().text(), expected, "{}", self.name);
        }
    }

    /// The image is the same to an engine that is not ours.
    fn check_other_engine(&self, builder: &Builder, expected: &str) {
        let Some(mut container) = runc::Container::new(builder, self.name) else { return };
        if self.name == "python-web" {
            let port = free_port();
            container.set_environment(&format!("PORT={port}"));
            serve(container.start(), port, expected, |_| container.stop());
        } else {
            let output = container.start().wait_with_output().expect("an own child");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {said}", self.name);
            assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{}", self.name);
        }
    }
}

/// Waits until the server listens, asks it what it has to say, and stops it.
fn serve(mut server: Child, port: u16, expected: &str, stop: impl FnOnce(&Child)) {
    let mut told = BufReader::new(server.stderr.take().expect("a pipe"));
    let mut said = String::new();
    while !said.contains("listening on") {
        assert!(told.read_line(&mut said).expect("text") > 0, "the server ends: {said}");
    }
    let answer = get(port, "/");
    let user = get(port, "/user");
    // Somebody has to read what it says about the requests.
    let drain = std::thread::spawn(move || std::io::copy(&mut told, &mut std::io::sink()));
    stop(&server);
    wait_for(&mut server, 30);
    drain.join().expect("no panic").expect("a pipe");
    assert_eq!(answer, expected);
    let user: serde_json::Value = serde_json::from_str(&user).expect("JSON");
    assert_eq!((user["uid"].as_u64(), user["gid"].as_u64()), (Some(1000), Some(1000)), "{user}");
    assert!(user["bottle"].is_string(), "{user}");
}

/// The body of an answer over HTTP.
fn get(port: u16, path: &str) -> String {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
    write!(connection, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.contains(" 200 OK"), "{head}");
    body.to_owned()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A word of letters that no build has seen.
fn new_word() -> String {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    let digits = time.as_nanos().to_string();
    digits.bytes().map(|digit| char::from(digit - b'0' + b'a')).collect()
}

fn check(name: &str) {
    let Some(builder) = Builder::debian() else { return };
    let example = EXAMPLES.iter().find(|example| example.name == name);
    example.expect("it is listed").check(&builder);
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
