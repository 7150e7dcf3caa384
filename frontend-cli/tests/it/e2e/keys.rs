//! What counts and what does not: for each instruction and flag, one input is changed, and exactly the
//! steps that depend on it run.
//!
//! The rows are in `tests/it/keys`. A case is a Dockerfile below `[NAME]`; lines before it that begin with
//! `words`, `env` or `ignore` belong to all its builds. A row is `> EDITS => LINES`: after the edits, which
//! `;;` separates, the steps on these lines of the edited Dockerfile run, and no others; `image` says that
//! nothing runs and the image is another. Edits:
//!
//! | edit | does |
//! |---|---|
//! | `file NAME=CONTENT`, `same NAME`, `swap NAME` | writes a file: with content that no other row has, with its own, with other of the same size and time |
//! | `touch` `mkdir` `remove` `mode NAME OCTAL` `own NAME ID` `move NAME NAME` `link NAME TARGET` `tar NAME FILE=CONTENT` | what they say |
//! | `ignore PATTERNS` | the ignore file has these patterns instead |
//! | `line N TEXT`, `insert N TEXT`, `delete N` | changes the Dockerfile |
//! | `words WORDS`, `env NAME=VALUE` | adds to the command line, or to its environment |

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::PathBuf;
use std::time::SystemTime;

use super::builder::Builder;
use super::outcome::Outcome;

const FILES: &str = include_str!("../keys/files.txt");
const RUN: &str = include_str!("../keys/run.txt");
const IMAGE: &str = include_str!("../keys/image.txt");

/// What every context has, by name.
const CONTEXT: [&str; 8] = ["a", "b", "d/x", "d/y", "one.c", "two.c", "s/x", "s/y"];

/// A Dockerfile, how it is built, and what is changed.
#[derive(Debug, Default)]
struct Case<'a> {
    name: &'a str,
    words: Vec<&'a str>,
    env: Vec<(&'a str, &'a str)>,
    ignored: Vec<&'a str>,
    lines: Vec<String>,
    rows: Vec<(&'a str, Vec<&'a str>, Expected)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Expected {
    /// These lines run.
    Ran(Vec<u64>),
    /// Nothing runs, and the image is another.
    OtherImage,
    Failure,
}

fn cases(text: &str) -> Vec<Case<'_>> {
    let mut cases: Vec<Case<'_>> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            cases.push(Case { name, ..Case::default() });
            continue;
        }
        let Some(case) = cases.last_mut() else { continue };
        match line.split_once(' ') {
            Some((">", row)) => case.rows.push(parse_row(row)),
            Some(("words", words)) => case.words.extend(words.split(' ')),
            Some(("env", pair)) => case.env.extend(pair.split_once('=')),
            Some(("ignore", patterns)) => case.ignored.extend(patterns.split(' ')),
            _ => case.lines.push(line.to_owned()),
        }
    }
    cases
}

fn parse_row(row: &str) -> (&str, Vec<&str>, Expected) {
    let (edits, expected) = row.rsplit_once("=>").expect("a row has an arrow");
    let expected = match expected.trim() {
        "image" => Expected::OtherImage,
        "fails" => Expected::Failure,
        lines => Expected::Ran(
            lines.split_whitespace().map(|line| line.parse().expect("a line")).collect(),
        ),
    };
    (row, edits.split(";;").map(str::trim).collect(), expected)
}

/// One build: what it is of, and what files it finds.
struct Build<'a> {
    builder: &'a Builder,
    /// Makes contents that only this row has.
    mark: String,
    words: Vec<&'a str>,
    env: Vec<(&'a str, &'a str)>,
    lines: Vec<String>,
}

impl<'a> Build<'a> {
    /// As the case has it, in a fresh context.
    fn new(builder: &'a Builder, case: &Case<'a>) -> Self {
        for directory in ["context", "other"] {
            let _ = fs::remove_dir_all(builder.path(directory));
        }
        let mark = case.name.to_owned();
        for name in CONTEXT {
            builder.write(&format!("context/{name}"), format!("{name} of {mark}"));
        }
        for name in ["other/a", "other/b", "secret"] {
            builder.write(name, format!("{name} of {mark}"));
        }
        let (words, env, lines) = (case.words.clone(), case.env.clone(), case.lines.clone());
        let build = Self { builder, mark, words, env, lines };
        build.edit_file("link", "l", "a");
        build.edit_file("link", "s/l", "x");
        build.edit_file("tar", "t.tar", "one=1");
        build.ignore(&case.ignored);
        build
    }

    fn path(&self, name: &str) -> PathBuf {
        self.builder.path("context").join(name)
    }

    /// An ignore file that does not count itself.
    fn ignore(&self, patterns: &[&str]) {
        let text = [&[".dockerignore"], patterns].concat().join("\n");
        self.builder.write("context/.dockerignore", text);
    }

    fn edit(&mut self, edit: &'a str) {
        let (kind, rest) = edit.split_once(' ').expect("an edit and its object");
        let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
        let number = || first.parse::<usize>().expect("a line") - 1;
        match kind {
            "words" => self.words.extend(rest.split(' ')),
            "env" => self.env.extend(rest.split_once('=')),
            "ignore" => self.ignore(&rest.split(' ').collect::<Vec<_>>()),
            "line" => self.lines[number()] = second.to_owned(),
            "insert" => self.lines.insert(number(), second.to_owned()),
            "delete" => drop(self.lines.remove(number())),
            "file" => {
                let (name, content) = rest.split_once('=').expect("a file and its content");
                self.edit_file(kind, name, content);
            }
            kind => self.edit_file(kind, first, second),
        }
    }

    fn edit_file(&self, kind: &str, name: &str, value: &str) {
        let path = self.path(name);
        let time = path.metadata().and_then(|metadata| metadata.modified());
        match kind {
            "file" => {
                let content = format!("{value} of {}", self.mark);
                self.builder.write(&format!("context/{name}"), content);
            }
            "same" => fs::write(&path, fs::read(&path).expect("a file")).expect("written"),
            "swap" => {
                let mut bytes = fs::read(&path).expect("a file");
                bytes.reverse();
                fs::write(&path, bytes).expect("written");
                File::open(&path).and_then(|file| file.set_modified(time?)).expect("a time");
            }
            "touch" => {
                let file = File::open(&path).expect("a file");
                file.set_modified(SystemTime::UNIX_EPOCH).expect("a time");
            }
            "mkdir" => fs::create_dir(&path).expect("a directory"),
            "remove" => fs::remove_file(&path).expect("removed"),
            "mode" => {
                let mode = u32::from_str_radix(value, 8).expect("a mode");
                fs::set_permissions(&path, Permissions::from_mode(mode)).expect("an own file");
            }
            "own" => {
                let id = value.parse().expect("an id");
                chown(&path, Some(id), Some(id)).expect("root may");
            }
            "move" => fs::rename(&path, self.path(value)).expect("moved"),
            "link" => {
                let _ = fs::remove_file(&path);
                symlink(value, &path).expect("a link");
            }
            "tar" => {
                let (name, content) = value.split_once('=').expect("a file and its content");
                let content = format!("{content} of {}", self.mark);
                let mut header = tar::Header::new_gnu();
                header.set_size(content.len() as u64);
                header.set_mode(0o644);
                let mut archive = tar::Builder::new(File::create(&path).expect("a file"));
                let written = archive.append_data(&mut header, name, content.as_bytes());
                written.and_then(|()| archive.finish()).expect("an archive");
            }
            kind => panic!("`{kind}` is not an edit"),
        }
    }

    /// Builds it, and gives the id of the image, too, where there is one.
    fn run(&self) -> (Outcome, String) {
        let id = self.builder.path("iid");
        let _ = fs::remove_file(&id);
        let mut words = vec!["build", "--progress", "json", "-f", "-", "--iidfile", "iid"];
        if self.words.contains(&"--output") {
            words.truncate(words.len() - 2);
        }
        words.extend(&self.words);
        words.push("context");
        let mut command = self.builder.command(&words);
        command.envs(self.env.iter().copied());
        let dockerfile = self.builder.path("dockerfile");
        fs::write(&dockerfile, self.lines.join("\n") + "\n").expect("written");
        command.stdin(File::open(&dockerfile).expect("a file"));
        let outcome = self.builder.run_command(&mut command);
        (outcome, fs::read_to_string(id).unwrap_or_default())
    }
}

/// The lines of the steps that ran.
fn ran(outcome: &Outcome) -> Vec<u64> {
    let steps = outcome.steps();
    let ran = steps.iter().filter(|step| step.ran() && step.number().is_some());
    let mut lines: Vec<u64> = ran.filter_map(|step| step.line).collect();
    lines.sort_unstable();
    lines.dedup();
    lines
}

/// What is wrong with a case's rows.
fn check(builder: &Builder, case: &Case<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    let (first, image) = Build::new(builder, case).run();
    first.success();
    for (number, (row, edits, expected)) in case.rows.iter().enumerate() {
        let mut build = Build::new(builder, case);
        build.mark = format!("{} {number}", case.name);
        edits.iter().for_each(|edit| build.edit(edit));
        let (outcome, edited) = build.run();
        let found = match (outcome.code, ran(&outcome)) {
            (Some(0), lines) if lines.is_empty() && *expected == Expected::OtherImage => {
                if edited == image { Expected::Ran(lines) } else { Expected::OtherImage }
            }
            (Some(0), lines) => Expected::Ran(lines),
            _ => Expected::Failure,
        };
        // Where only files were changed and none of it counts, the result is the same.
        let is_same = build.lines != case.lines || build.words != case.words || edited == image;
        if found != *expected {
            wrong.push(format!("[{}] {row}: {found:?}\n{}", case.name, outcome.words()));
        } else if found == Expected::Ran(Vec::new()) && build.env == case.env && !is_same {
            wrong.push(format!("[{}] {row}: another image", case.name));
        }
    }
    // All edits undone, all is known.
    let (again, _) = Build::new(builder, case).run();
    let lines = ran(&again.success());
    if !lines.is_empty() {
        wrong.push(format!("[{}]: {lines:?} ran when all was undone", case.name));
    }
    wrong
}

fn check_all(text: &str, rows: usize) {
    let Some(builder) = Builder::new() else { return };
    let cases = cases(text);
    assert_eq!(cases.iter().map(|case| case.rows.len()).sum::<usize>(), rows, "rows are read");
    let wrong: Vec<String> = cases.iter().flat_map(|case| check(&builder, case)).collect();
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
    builder.assert_nothing_left();
}

#[test]
fn privileged_a_file_that_changes_makes_just_what_takes_it_in_run() {
    check_all(FILES, 167);
}

#[test]
fn privileged_a_command_that_changes_makes_just_what_stands_on_it_run() {
    check_all(RUN, 134);
}

#[test]
fn privileged_what_runs_nothing_changes_the_image_alone() {
    check_all(IMAGE, 67);
}
