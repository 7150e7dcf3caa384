//! Contexts and Dockerfiles that try to get out. Each case is a published way out of some builder.
//!
//! Whatever they do, a directory of the host stays as it is, nobody reads the word in it, nothing
//! appears at the host's root, and the build ends.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::builder::Builder;
use super::outcome::Outcome;

/// A line with this word is written by a step that got out or read what it must not.
const ESCAPED: &str = "ESCAPED";
/// What stands in the canary's files.
const WORD: &str = "a-word-that-no-step-may-know";

/// A builder, and a directory beside it that must stay as it is.
struct Cage {
    builder: Builder,
    canary: PathBuf,
    before: Vec<String>,
}

impl Cage {
    fn new() -> Option<Self> {
        let builder = Builder::new()?;
        builder.write("canary/secret", WORD);
        builder.write("canary/hosts", WORD);
        builder.write("canary/resolv.conf", WORD);
        builder.write("canary/victim", "");
        builder.write("canary/ptmx", "");
        builder.write("canary/passwd", "leak:x:0:0::/:/bin/sh\n");
        let canary = builder.path("canary");
        symlink("secret", canary.join("link")).expect("made");
        let before = listing(&canary);
        // Symbolic links of the image may be put into `context/evil`.
        builder.copy_busybox("context/evil/bin/busybox");
        for applet in
            ["sh", "cat", "ls", "echo", "touch", "grep", "test", "id", "mkdir", "readlink"]
        {
            let _ = symlink("busybox", builder.path("context/evil/bin").join(applet));
        }
        Some(Self { builder, canary, before })
    }

    /// Builds, with `CANARY` replaced by the canary's path, and sees that nothing got out.
    fn try_to_escape(&self, dockerfile: &str) -> Outcome {
        let host_root = names(Path::new("/"));
        let core_pattern = fs::read("/proc/sys/kernel/core_pattern").ok();
        let program = program(&self.builder);
        let canary = self.canary.display().to_string();
        let begin = Instant::now();
        let outcome = self.builder.build(&dockerfile.replace("CANARY", &canary), &[]);
        assert!(begin.elapsed() < Duration::from_secs(60), "{dockerfile}");
        assert!(matches!(outcome.code, Some(0 | 1)), "{dockerfile}: {}", outcome.stderr);
        let said = outcome.log();
        assert!(!said.contains(ESCAPED) && !said.contains(WORD), "{dockerfile}: {said}");
        assert_eq!(listing(&self.canary), self.before, "{dockerfile}");
        assert_eq!(names(Path::new("/")), host_root, "{dockerfile}");
        assert_eq!(fs::read("/proc/sys/kernel/core_pattern").ok(), core_pattern, "{dockerfile}");
        assert_eq!(self::program(&self.builder), program, "{dockerfile}");
        outcome
    }

    /// Makes a symbolic link in the image of `FROM scratch` and `COPY evil /`.
    fn link(&self, name: &str, target: &str) {
        let link = self.builder.path("context/evil").join(name);
        fs::create_dir_all(link.parent().expect("it is in a directory")).expect("made");
        symlink(target.replace("CANARY", &self.canary.display().to_string()), link).expect("made");
    }
}

/// Every name with its mode, size, target and content.
fn listing(directory: &Path) -> Vec<String> {
    let mut lines: Vec<String> = fs::read_dir(directory)
        .expect("a directory")
        .flatten()
        .map(|entry| {
            let metadata = fs::symlink_metadata(entry.path()).expect("it is there");
            let target = fs::read_link(entry.path()).unwrap_or_default();
            let content = fs::read_to_string(entry.path()).unwrap_or_default();
            format!(
                "{:?} {:o} {target:?} {content}",
                entry.file_name(),
                metadata.permissions().mode()
            )
        })
        .collect();
    lines.sort();
    lines
}

fn names(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory").flatten();
    let mut names: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    names.sort();
    names
}

/// The size and the times of the program.
fn program(builder: &Builder) -> (u64, std::time::SystemTime) {
    let metadata = fs::metadata(builder.program()).expect("the program");
    (metadata.len(), metadata.modified().expect("a time"))
}

#[test]
fn privileged_a_working_directory_behind_a_descriptor_leads_nowhere() {
    let Some(cage) = Cage::new() else { return };
    for descriptor in [3, 7, 8, 9] {
        cage.try_to_escape(&format!(
            "FROM busybox\nWORKDIR /proc/self/fd/{descriptor}\n\
             RUN for up in . .. ../.. ../../.. ../../../.. ../../../../.. ../../../../../..; do \
             cat $up/CANARY/secret && echo {ESCAPED}; done; true\n"
        ));
    }
    let outcome = cage.try_to_escape(
        "FROM busybox\nRUN for f in /proc/self/fd/*; do readlink $f; done | sort -u | grep -v '^pipe:'; true\n",
    );
    // The directory that is just being listed, and the device of a closed input.
    let other = |line: &&str| !line.starts_with("/proc/") && *line != "/dev/null";
    assert_eq!(outcome.success().log().lines().filter(other).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn privileged_sources_of_mounts_stay_in_their_tree() {
    let Some(cage) = Cage::new() else { return };
    let breakout = format!("mybuild-breakout-{}", std::process::id());
    for dockerfile in [
        // A source that is a symbolic link to the root.
        &format!(
            "FROM busybox AS evil\nRUN ln -s / /r\nFROM busybox\n\
             RUN --mount=type=bind,from=evil,source=/r,target=/x,rw touch /x/{breakout}; \
             cat /x/CANARY/secret && echo {ESCAPED}; true\n"
        ),
        // A cache's name that is a path.
        &format!(
            "FROM busybox\nRUN --mount=type=cache,id=../../../../../../../../../../..CANARY,target=/c \
             touch /c/new; cat /c/secret && echo {ESCAPED}; true\n"
        ),
        // A symbolic link inside a cache.
        &format!(
            "FROM busybox\nRUN --mount=type=cache,id=x,target=/c ln -s CANARY /c/sel\n\
             RUN --mount=type=cache,id=x,source=sel,target=/d touch /d/new; \
             cat /d/secret && echo {ESCAPED}; true\n"
        ),
    ] {
        cage.try_to_escape(dockerfile);
    }
}

#[test]
fn privileged_special_directories_that_are_links_are_not_followed() {
    for (name, target) in [
        ("dev", "CANARY"),
        ("dev", "../../../../../../../..CANARY"),
        ("proc", "CANARY"),
        ("sys", "CANARY"),
        ("etc", "CANARY"),
        ("etc/hosts", "CANARY/hosts"),
        ("etc/resolv.conf", "CANARY/resolv.conf"),
    ] {
        let Some(cage) = Cage::new() else { return };
        cage.link(name, target);
        cage.try_to_escape(&format!(
            "FROM scratch\nCOPY evil /\n\
             RUN touch /dev/new /proc/new /sys/new /etc/new; echo x >/etc/hosts; \
             cat /dev/secret /etc/secret /sys/secret && echo {ESCAPED}; true\n"
        ));
    }
}

#[test]
fn privileged_masks_do_not_come_from_the_image() {
    let Some(cage) = Cage::new() else { return };
    cage.link("dev/null", "/proc/sys/kernel/core_pattern");
    let outcome = cage.try_to_escape(&format!(
        "FROM scratch\nCOPY evil /\nRUN test -c /dev/null || echo {ESCAPED}; \
         test -s /proc/keys && echo {ESCAPED}; \
         (echo x >/proc/sys/kernel/core_pattern) && echo {ESCAPED}; true\n"
    ));
    outcome.success();
}

#[test]
fn privileged_accounts_are_read_in_the_image_and_from_files_only() {
    for (setup, user) in [
        ("RUN mkdir -p /etc && ln -s CANARY/passwd /etc/passwd", "leak"),
        ("RUN mkdir -p /etc && ln -s /dev/zero /etc/passwd", "someone"),
        ("RUN mkdir -p /etc && mkfifo /etc/passwd", "someone"),
        ("RUN mkdir -p /etc && dd if=/dev/zero of=/etc/passwd bs=1M count=0 seek=2048", "someone"),
        ("RUN true", "4294967296"),
        ("RUN true", "-1"),
        ("RUN true", "1000:4294967296"),
    ] {
        let Some(cage) = Cage::new() else { return };
        let dockerfile = format!("FROM busybox\n{setup}\nUSER {user}\n");
        let outcome = cage.try_to_escape(&format!("{dockerfile}RUN echo {ESCAPED}; id\n"));
        assert_eq!(outcome.code, Some(1), "{dockerfile}");
    }
    let Some(cage) = Cage::new() else { return };
    let outcome = cage.try_to_escape(
        "FROM busybox\nRUN mkdir -p /etc && echo app:x:1000:1000::/:/bin/sh >/etc/passwd && \
         printf 'app:x:1000:\\nextra:x:3000:app\\n' >/etc/group\nUSER app\nRUN id -u; id -G\n",
    );
    assert_eq!(outcome.success().log(), "1000\n1000 3000\n");
}

#[test]
fn privileged_directories_are_not_made_through_links() {
    let Some(cage) = Cage::new() else { return };
    cage.builder.write("context/file", "copied");
    for instruction in
        ["WORKDIR /l/new", "COPY file /l/", "COPY file /l/new/", "ADD file /l/new", "COPY file /f"]
    {
        cage.try_to_escape(&format!(
            "FROM busybox\nRUN ln -s CANARY /l && ln -s CANARY/secret /f\n{instruction}\n\
             RUN cat /l/secret; true\n"
        ));
    }
    // Out of the image, and out of the context.
    symlink(&cage.canary, cage.builder.path("context/out")).expect("made");
    for instruction in
        ["COPY --from=evil /l/secret /", "COPY --from=evil /l/ /got/", "COPY out/secret /"]
    {
        cage.try_to_escape(&format!(
            "FROM busybox AS evil\nRUN ln -s CANARY /l\nFROM busybox\n{instruction}\n\
             RUN grep -r {WORD} /got /secret && echo {ESCAPED}; true\n"
        ));
    }
}

#[test]
fn privileged_the_program_is_out_of_a_steps_reach() {
    let Some(cage) = Cage::new() else { return };
    cage.try_to_escape("FROM busybox\nRUN [\"/proc/self/exe\", \"true\"]\n");
    cage.try_to_escape(
        "FROM busybox\nRUN for exe in /proc/[0-9]*/exe; do (echo x >>$exe); done; true\n",
    );
}

#[test]
fn privileged_nothing_of_the_host_is_in_a_steps_environment() {
    let Some(cage) = Cage::new() else { return };
    cage.builder.write("Dockerfile", format!(
        "FROM busybox\nRUN (env; cat /proc/*/environ 2>/dev/null) | grep -a OF_THE_HOST && echo {ESCAPED}; env\n"
    ));
    let words = ["--progress", "json", "-f", "Dockerfile", "context"];
    let mut command = cage.builder.command(&words);
    let outcome = cage.builder.run_command(command.env("OF_THE_HOST", WORD)).success();
    let log = outcome.log();
    let mut names: Vec<&str> = log.lines().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    assert_eq!(names, ["HOME", "PATH", "PWD", "SHLVL"], "{log}");
}

#[test]
fn privileged_a_process_does_not_outlive_its_step() {
    let Some(cage) = Cage::new() else { return };
    // The canary's path is what it is found by.
    let stay = "trap '' TERM INT HUP; while :; do sleep 12345; done # CANARY";
    cage.try_to_escape(&format!("FROM busybox\nRUN (setsid sh -c \"{stay}\" &)\n")).success();
    cage.builder.assert_nothing_left();
}
