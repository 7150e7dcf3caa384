//! A project of `testdata`: built, built again, run, changed, and built again.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Child;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};

use super::builder::{Builder, wait_for};
use super::{runc, skip};

/// A directory of `testdata`, and what a change to one of its files does.
#[derive(Clone, Copy)]
pub(crate) struct Example<'a> {
    /// The directory, which the image is called after.
    pub(crate) name: &'static str,
    /// The directory of `testdata` that it is in.
    pub(crate) inside: &'static str,
    /// Images that it starts from: `golang:1` is the stage `golang` of `bases`, beside it.
    pub(crate) bases: &'static [&'static str],
    /// Further flags of the build.
    pub(crate) flags: &'a [&'a str],
    /// What the image is told to run, instead of what it runs by itself.
    pub(crate) run: &'static [&'static str],
    /// The file, what is replaced in it, and what replaces it; `NEW` is something new each time.
    pub(crate) edit: (&'static str, &'static str, &'static str),
    /// The steps that take the file in, or what came of it.
    pub(crate) runs_again: &'static [&'static str],
    /// What the image says after the change, if that differs.
    pub(crate) changed: Option<&'static str>,
}

/// One build of it.
struct Built {
    steps: usize,
    ran: Vec<String>,
    id: String,
    time: Duration,
}

/// What became of it: how long the builds took, and what the image says after the change.
pub(crate) struct Checked {
    pub(crate) first: Duration,
    pub(crate) again: Duration,
    pub(crate) changed: Duration,
    pub(crate) says: String,
}

impl Example<'_> {
    /// In `testdata` itself, on `debian:12`, and run as it is.
    pub(crate) const PLAIN: Self = Self {
        name: "",
        inside: ".",
        bases: &[],
        flags: &[],
        run: &[],
        edit: ("", "", ""),
        runs_again: &[],
        changed: None,
    };

    /// Builds it five times: from nothing or what is kept, as it is, touched, changed, and as it
    /// is then.
    pub(crate) fn check(&self, builder: &Builder) -> Checked {
        let name = self.name;
        self.make_bases(builder);
        builder.copy_testdata(&format!("{}/{name}", self.inside));
        let first = self.build(builder);
        assert!(first.steps > self.runs_again.len(), "{name}: {}", first.steps);
        let again = self.build(builder);
        assert_eq!(again.ran, [""; 0], "{name}: nothing has changed");
        assert_eq!(again.id, first.id, "{name}: nothing has changed");
        self.touch_everything(builder);
        let touched = self.build(builder);
        assert_eq!(touched.ran, [""; 0], "{name}: only times have changed");
        assert_eq!(touched.id, first.id, "{name}: only times have changed");
        let expected = builder.read(&format!("{name}/expected.txt"));
        self.check_run(builder, &expected);

        let new = self.change(builder);
        let changed = self.build(builder);
        assert_eq!(changed.ran, self.runs_again, "{name}: {} has changed", self.edit.0);
        let expected = self.changed.map_or(expected, |changed| changed.replace("NEW", &new));
        self.check_run(builder, &expected);
        let last = self.build(builder);
        assert_eq!(last.ran, [""; 0], "{name}: nothing has changed since");
        assert_eq!(last.id, changed.id, "{name}: nothing has changed since");
        Checked { first: first.time, again: again.time, changed: changed.time, says: expected }
    }

    /// Builds the images that it starts from.
    fn make_bases(&self, builder: &Builder) {
        if !self.bases.is_empty() {
            builder.copy_testdata(&format!("{}/bases", self.inside));
        }
        for image in self.bases {
            let (stage, _) = image.split_once(':').expect("a name and a tag");
            builder.build_directory("bases", &["--target", stage, "-t", image]).success();
        }
    }

    fn build(&self, builder: &Builder) -> Built {
        let start = Instant::now();
        let words = [&["-t", self.name, "--iidfile", "id"], self.flags].concat();
        let outcome = builder.build_directory(self.name, &words).success();
        let time = start.elapsed();
        Built { steps: outcome.steps().len(), ran: outcome.ran(), id: builder.read("id"), time }
    }

    /// Makes the change, and gives what is new in it.
    fn change(&self, builder: &Builder) -> String {
        let (file, from, to) = self.edit;
        let file = format!("{}/{file}", self.name);
        let new = new_word();
        let text = builder.read(&file);
        assert!(text.contains(from), "{file}");
        builder.write(&file, text.replacen(from, &to.replace("NEW", &new), 1));
        new
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
            let outcome = builder.run(&[&["run", self.name], self.run].concat());
            assert_eq!(outcome.success().text(), expected, "{}", self.name);
        }
    }

    /// The image is the same to an engine that is not ours.
    pub(crate) fn check_other_engine(&self, builder: &Builder, expected: &str) {
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
