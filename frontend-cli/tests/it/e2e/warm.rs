//! What a step sees does not depend on what the store knows.

use std::fs::Permissions;
use std::io::{Seek as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use super::builder::Builder;

/// All that a step can tell of the files it was given: names in the order in which directories list
/// them, links, blocks, sizes, modes, and which names are one file.
const LOOK: &str = "find . | while read -r n; do stat -c '%i %n %h %b %s %f' \"$n\"; done | \
                    awk '{ if (!($1 in f)) f[$1] = $2; $1 = f[$1]; print }'";

fn dockerfile() -> String {
    format!(
        "FROM busybox AS first\nWORKDIR /app\nCOPY d .\nCOPY d /pure\nRUN cd /app && {LOOK}\n\
         RUN cd /pure && {LOOK}\nFROM busybox\nCOPY --from=first /app /copied\nADD d.tar /added\n\
         RUN cd /copied && {LOOK}\nRUN cd /added && {LOOK}\n"
    )
}

type Edit = (&'static str, fn(&Path));

const EDITS: [Edit; 6] = [
    ("one file edited", |d| std::fs::write(d.join("f3"), "edited").unwrap()),
    ("a file deeper down", |d| std::fs::write(d.join("s/deep/f"), "edited").unwrap()),
    ("a new file", |d| std::fs::write(d.join("a-new"), "new").unwrap()),
    ("a file that is gone", |d| std::fs::remove_file(d.join("f5")).unwrap()),
    ("another mode", |d| {
        std::fs::set_permissions(d.join("f1"), Permissions::from_mode(0o700)).unwrap();
    }),
    ("a new link", |d| symlink("f1", d.join("link")).unwrap()),
];

/// Builds in the store called `store`, and gives back what each step has seen.
fn seen(builder: &Builder, store: &str) -> Vec<(String, String)> {
    let run = |words: &[&str], input: &str| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(input.as_bytes()).unwrap();
        file.rewind().unwrap();
        let mut command = builder.command(words);
        command.env("MYBUILD_ROOT", builder.path(store)).stdin(file);
        builder.run_command(&mut command).success()
    };
    if !builder.path(store).exists() {
        run(&["build", "-t", "busybox", "base"], "");
    }
    let mut tar = Command::new("tar");
    let tar = tar.args(["-C", "context/d", "-cf", "context/d.tar", "."]);
    assert!(tar.current_dir(builder.path("")).status().unwrap().success());
    let words = ["build", "--progress", "json", "-f", "-", "context"];
    let steps = run(&words, &dockerfile()).steps();
    let looks = steps.into_iter().filter(|step| !step.log.is_empty());
    let mut seen: Vec<_> = looks.map(|step| (step.name, step.log)).collect();
    seen.sort();
    seen
}

#[test]
fn privileged_a_step_sees_the_same_in_a_warm_store_as_in_an_empty_one() {
    let Some(warm) = Builder::new() else { return };
    warm.make_directory("context/d/s/deep");
    for n in 1..=6 {
        warm.write(&format!("context/d/f{n}"), format!("file {n}\n"));
    }
    warm.write("context/d/s/deep/f", "deep\n");
    warm.write("context/d/s/large", vec![b'x'; 300_000]);
    std::fs::hard_link(warm.path("context/d/f6"), warm.path("context/d/s/six")).unwrap();
    assert_eq!(seen(&warm, "store").len(), 4);
    for (number, (about, edit)) in EDITS.into_iter().enumerate() {
        edit(&warm.path("context/d"));
        let expected = seen(&warm, &format!("empty-{number}"));
        assert_eq!(expected.len(), 4, "{about}");
        assert_eq!(seen(&warm, "store"), expected, "{about}");
    }
}
