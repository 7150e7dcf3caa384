//! Images and requests made to reach out of the sandbox. For each: it fails or does no harm, and a
//! directory on the host stays as it is.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use executor::{BindSource, Mount, MountSource};

use crate::Test;
use crate::fixture::{Fixture, listing};

pub(crate) const TESTS: &[Test] = &[
    ("privileged_a_working_directory_is_no_way_out", working_directory),
    ("privileged_system_directories_that_are_links_are_refused", linked_system_directories),
    ("privileged_configuration_files_are_not_written_through_links", linked_configuration),
    ("privileged_a_null_device_of_the_image_is_not_used", null_device_of_the_image),
    ("privileged_a_user_database_cannot_hang_or_leak", hostile_user_database),
    ("privileged_bind_sources_stay_in_their_directory", linked_bind_source),
    ("privileged_mount_targets_stay_in_the_root", linked_mount_target),
    ("privileged_a_moved_mount_point_is_not_followed", moved_mount_point),
    ("privileged_the_init_cannot_be_reached", the_init_cannot_be_reached),
    ("privileged_a_swapped_source_never_shows_the_host", swapped_source),
];

/// A directory on the host that has to stay as it is.
struct Canary {
    path: PathBuf,
    before: Vec<String>,
}

impl Canary {
    fn new(fixture: &Fixture) -> Self {
        let path = fixture.directory("canary");
        for name in ["ptmx", "victim", "hosts", "file"] {
            fs::write(path.join(name), "").unwrap();
        }
        fs::write(path.join("token"), "LEAK").unwrap();
        let before = listing(&path);
        Self { path, before }
    }

    fn assert_unchanged(&self) {
        assert_eq!(listing(&self.path), self.before);
    }
}

fn working_directory(fixture: &Fixture) {
    let canary = Canary::new(fixture);
    for number in 0..20 {
        for path in [format!("/proc/self/fd/{number}"), format!("/proc/1/fd/{number}")] {
            let mut process = fixture.shell("cat ../../../../../../../../token; pwd");
            process.cwd = path;
            let refusal = fixture.refusal(process);
            assert!(refusal.starts_with("failed to enter the working directory"), "{refusal}");
        }
    }
    for (path, expected) in [
        ("/missing", "failed to enter the working directory `/missing`: No such file"),
        ("/etc/passwd", "failed to enter the working directory `/etc/passwd`: Not a directory"),
    ] {
        let mut process = fixture.shell("true");
        process.cwd = path.to_owned();
        assert!(fixture.refusal(process).starts_with(expected));
    }
    symlink("../../../../../../../../../../../", fixture.root().join("up")).unwrap();
    let mut process = fixture.shell("pwd; ls /proc/self/cwd/ | head -1");
    process.cwd = "/up/../up/../..".to_owned();
    assert_eq!(fixture.output_of(process), "/\nbin\n");
    canary.assert_unchanged();
}

fn linked_system_directories(fixture: &Fixture) {
    let canary = Canary::new(fixture);
    for name in ["proc", "sys", "dev"] {
        for target in [canary.path.clone(), PathBuf::from(format!("..{}", canary.path.display()))] {
            let place = fixture.root().join(name);
            fs::remove_dir(&place).unwrap();
            symlink(target, &place).unwrap();
            let refusal = fixture.refusal(fixture.shell("true"));
            assert!(
                refusal.contains(&format!("`/{name}` in the image is not a directory")),
                "{refusal}"
            );
            fs::remove_file(&place).unwrap();
            fs::create_dir(&place).unwrap();
        }
    }
    canary.assert_unchanged();
}

fn linked_configuration(fixture: &Fixture) {
    let canary = Canary::new(fixture);
    let etc = fixture.root().join("etc");
    symlink(canary.path.join("hosts"), etc.join("hosts")).unwrap();
    symlink(
        "../../../../../../../../..".to_owned() + canary.path.to_str().unwrap() + "/new",
        etc.join("resolv.conf"),
    )
    .unwrap();
    assert!(fixture.output("cat /etc/hosts").contains("localhost"));
    canary.assert_unchanged();
    fs::rename(&etc, fixture.root().join("etc2")).unwrap();
    symlink(&canary.path, &etc).unwrap();
    let outcome = fixture.run(fixture.shell("cat /etc/hosts"));
    assert!(outcome.stdout.contains("localhost") && !outcome.stdout.contains("LEAK"));
    canary.assert_unchanged();
    // What was made along the links is gone again, but for directories that were there before.
    let left = listing(&fixture.upper());
    assert!(left.iter().all(|line| line.starts_with("tmp ")), "{left:?}");
}

fn null_device_of_the_image(fixture: &Fixture) {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    symlink("/proc/sys/kernel/core_pattern", fixture.root().join("dev/null")).unwrap();
    let script = "test -c /dev/null && test ! -L /dev/null && echo device; cat /proc/keys; \
                  (echo '|/x' > /proc/sys/kernel/core_pattern) 2>/dev/null || echo refused; echo x > /dev/null";
    assert_eq!(fixture.output(script), "device\nrefused\n");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), pattern);
}

fn hostile_user_database(fixture: &Fixture) {
    let etc = fixture.root().join("etc");
    let run_as = |user: &str| {
        let mut process = fixture.shell("id -u");
        process.user = user.to_owned();
        process
    };
    let no_user = "no user `app` in the image's /etc/passwd";
    fs::remove_file(etc.join("passwd")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        etc.join("passwd"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    assert_eq!(fixture.refusal(run_as("app")), no_user);
    for target in
        ["/dev/zero", "/proc/self/environ", "../../../../etc/passwd-of-the-host", "passwd"]
    {
        fs::remove_file(etc.join("passwd")).unwrap();
        symlink(target, etc.join("passwd")).unwrap();
        assert_eq!(fixture.refusal(run_as("app")), no_user, "{target}");
    }
    fs::remove_file(etc.join("passwd")).unwrap();
    fs::File::create(etc.join("passwd")).unwrap().set_len(2 << 30).unwrap();
    let refusal = fixture.refusal(run_as("app"));
    assert!(refusal.contains("it is larger than 16 MiB"), "{refusal}");
    for id in ["4294967296", "-1", "4294967295"] {
        assert!(fixture.refusal(run_as(id)).contains("is not a user or group id"), "{id}");
    }
}

fn bind(target: &str, dir: PathBuf, selector: &str) -> Mount {
    let source = BindSource::Path { dir, selector: selector.to_owned() };
    Mount { target: target.to_owned(), source: MountSource::Bind(source), readonly: false }
}

fn linked_bind_source(fixture: &Fixture) {
    let canary = Canary::new(fixture);
    let dir = fixture.directory("source");
    symlink("/", dir.join("root")).unwrap();
    symlink(&canary.path, dir.join("out")).unwrap();
    symlink("../../../../../..", dir.join("up")).unwrap();
    for selector in ["root", "up", "../..", "up/../root"] {
        let mut process = fixture.shell("ls -A /x; touch /x/BREAKOUT");
        process.mounts.push(bind("/x", dir.clone(), selector));
        assert_eq!(fixture.output_of(process), "out\nroot\nup\n", "{selector}");
        fs::remove_file(dir.join("BREAKOUT")).unwrap();
    }
    let mut process = fixture.shell("true");
    process.mounts.push(bind("/x", dir.clone(), "out"));
    assert!(fixture.refusal(process).contains("No such file"));
    let mut process = fixture.shell("true");
    process.mounts.push(bind("/x", PathBuf::from("/proc"), "self/cwd"));
    assert!(fixture.refusal(process).contains("failed to open"));
    canary.assert_unchanged();
}

fn linked_mount_target(fixture: &Fixture) {
    let canary = Canary::new(fixture);
    symlink(&canary.path, fixture.root().join("link")).unwrap();
    symlink("loop", fixture.root().join("loop")).unwrap();
    let dir = fixture.directory("source");
    fs::write(dir.join("seen"), "").unwrap();
    for target in ["/link", "/link/new/dir", "/../../../up", "/var/../../over"] {
        let mut process = fixture.shell(&format!("ls {target}"));
        process.mounts.push(bind(target, dir.clone(), ""));
        assert_eq!(fixture.output_of(process), "seen\n", "{target}");
    }
    let mut process = fixture.shell("true");
    process.mounts.push(bind("/loop/x", dir, ""));
    assert!(fixture.refusal(process).starts_with("failed to mount `/loop/x`: Too many levels"));
    canary.assert_unchanged();
}

/// The cleaner of mount points must not remove an empty `victim` elsewhere.
fn moved_mount_point(fixture: &Fixture) {
    let canary = Canary::new(fixture);
    let script = format!(
        "mv /q /q2; ln -s {} /q; mkdir -p {1}; touch {1}/victim; true",
        canary.path.display(),
        "/other"
    );
    let mut process = fixture.shell(&script);
    process.mounts.push(bind("/q/victim", fixture.directory("source"), ""));
    fixture.run(process);
    canary.assert_unchanged();
    assert!(fixture.upper().join("other/victim").exists());
}

fn the_init_cannot_be_reached(fixture: &Fixture) {
    let own = std::env::current_exe().unwrap();
    let before = fs::read(&own).unwrap();
    let script = "(echo x > /proc/1/exe) 2>/dev/null && echo WROTE; \
                  for p in /proc/[0-9]*; do (echo x > $p/exe) 2>/dev/null; done; \
                  for f in /proc/1/fd/[3-9]* /proc/1/task/1/fd/* /proc/1/cwd /proc/1/root; do readlink $f; cat $f; ls $f/; done \
                  2>/dev/null; \
                  cat /proc/1/maps /proc/1/mem 2>/dev/null; kill -9 1; kill -STOP 1; echo alive";
    assert_eq!(fixture.output(script), "alive\n");
    let outcome = fixture.executor.spawn(fixture.process(&["/proc/self/exe", "true"]));
    drop(outcome);
    let outcome = fixture.executor.spawn(fixture.process(&["/proc/1/exe", "true"]));
    assert!(outcome.is_err());
    drop(outcome);
    assert!(fs::read(&own).unwrap() == before, "the program's file is as it was");
}

/// One step flips a link in a shared directory while others mount through it.
fn swapped_source(fixture: &Fixture) {
    let canary = Canary::new(fixture);
    let dir = fixture.directory("shared");
    fs::create_dir(dir.join("good")).unwrap();
    symlink("good", dir.join("sel")).unwrap();
    let flips = format!(
        "ln -s / /s/a; ln -s {} /s/b; while true; do mv -T /s/a /s/sel 2>/dev/null; ln -s good /s/c; \
         mv /s/c /s/sel; ln -s {0} /s/a; done",
        canary.path.display()
    );
    let mut flipper = fixture.shell(&flips);
    flipper.mounts.push(bind("/s", dir.clone(), ""));
    let flipper = fixture.spawn(flipper);
    for _ in 0..50 {
        let mut victim = fixture.shell("cat /x/token /x/etc/hostname 2>/dev/null; true");
        victim.mounts.push(bind("/x", dir.clone(), "sel"));
        if let Ok(mut running) = fixture.executor.spawn(victim) {
            let output =
                running.stdout().map(|fd| std::io::read_to_string(fs::File::from(fd)).unwrap());
            running.wait().unwrap();
            assert_eq!(output.as_deref(), Some(""));
        }
    }
    flipper.kill();
    flipper.wait().unwrap();
    canary.assert_unchanged();
}
