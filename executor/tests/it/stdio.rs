//! Where input and output go.

use std::fs::File;
use std::io::{Read, Write};

use executor::Stdio;

use crate::Test;
use crate::fixture::Fixture;

pub(crate) const TESTS: &[Test] = &[
    ("privileged_output_and_errors_are_apart", output_and_errors_are_apart),
    ("privileged_a_terminal_is_a_terminal", a_terminal_is_a_terminal),
    ("privileged_much_output_arrives", much_output_arrives),
];

fn output_and_errors_are_apart(fixture: &Fixture) {
    let outcome =
        fixture.run(fixture.shell("echo out; echo err >&2; cat; test -t 0 || echo no tty"));
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\nno tty\n", "err\n"));
}

fn a_terminal_is_a_terminal(fixture: &Fixture) {
    let mut process =
        fixture.shell("tty; test -c /dev/console && stty size; read line; stty size; echo $line");
    process.stdio = Stdio::Tty { rows: 7, columns: 77 };
    let mut running = fixture.spawn(process);
    let mut terminal = File::from(running.terminal().unwrap().unwrap());
    let mut text = String::new();
    let mut buffer = [0; 256];
    while !text.contains("7 77") {
        let count = terminal.read(&mut buffer).unwrap();
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    running.resize(8, 88).unwrap();
    terminal.write_all(b"hello\n").unwrap();
    // The end of a terminal is an error, not an end of file.
    while let Ok(count @ 1..) = terminal.read(&mut buffer) {
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    assert!(running.wait().unwrap().success());
    assert!(text.starts_with("/dev/pts/0\r\n7 77\r\n"), "{text:?}");
    assert!(text.ends_with("8 88\r\nhello\r\n"), "{text:?}");
}

fn much_output_arrives(fixture: &Fixture) {
    let outcome =
        fixture.run(fixture.shell("head -c 3000000 /dev/zero; head -c 2000000 /dev/zero >&2"));
    assert_eq!((outcome.stdout.len(), outcome.stderr.len()), (3_000_000, 2_000_000));
}
