//! The examples as an ordinary user builds and runs them.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::builder::{Builder, debian_directory};
use super::examples::{EXAMPLES, check_with};
use super::git_origin::Origin;
use super::git_server::Server;
use super::skip;
use super::ssh;

/// What the names of such users begin with; the test's process and a number follow.
const PREFIX: &str = "mybuild-e2e-";

/// A user of the machine, for the time of a test.
pub(super) struct User {
    name: String,
    pub(super) id: u32,
    pub(super) home: PathBuf,
}

impl User {
    pub(super) fn new() -> Self {
        remove_forgotten();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let home = PathBuf::from("/home").join(&name);
        run("useradd", &["--create-home", "--user-group", "--shell", "/bin/sh", &name]);
        let user = Self { id: run("id", &["-u", &name]).parse().expect("a number"), name, home };
        for file in ["/etc/subuid", "/etc/subgid"] {
            let ranges = std::fs::read_to_string(file).unwrap_or_default();
            let has_range = ranges.lines().any(|line| line.starts_with(&format!("{}:", user.name)));
            assert!(has_range, "useradd gives no range in {file}");
        }
        user
    }
}

impl Drop for User {
    fn drop(&mut self) {
        run("userdel", &["--remove", &self.name]);
    }
}

/// The users of tests that were killed.
fn remove_forgotten() {
    let accounts = std::fs::read_to_string("/etc/passwd").expect("a text file");
    for name in accounts.lines().filter_map(|line| line.split(':').next()) {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let pid = rest.split('-').next().expect("there is always one");
        if !Path::new("/proc").join(pid).exists() {
            run("userdel", &["--remove", name]);
        }
    }
}

fn run(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().expect("it is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {said}");
    String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
}

#[test]
fn privileged_an_ordinary_user_builds_and_runs_every_example() {
    if !rustix::process::geteuid().is_root() {
        return skip("every test is an ordinary user's here");
    }
    // What makes the packages reachable here makes the Debian, too.
    let Some(_) = Builder::debian() else { return };
    let user = User::new();
    {
        let builder = Builder::for_user(&user.home, user.id);
        builder.make_directory("debian");
        for name in ["Dockerfile", "debian.tar"] {
            let copy = builder.path("debian").join(name);
            std::fs::copy(format!("{}/{name}", debian_directory()), &copy).expect("room for it");
            chown(&copy, Some(user.id), Some(user.id)).expect("root may");
        }
        builder.run(&["build", "-t", "debian:12", "debian"]).success();
        for example in &EXAMPLES {
            check_with(&builder, example);
        }
        builder.assert_nothing_left();
    }
    drop(user);
}

/// Without root `sysfs` cannot be mounted there; what is mounted on is in the layer, and the layer is the
/// same whoever builds.
#[test]
fn privileged_a_step_on_the_hosts_network_leaves_the_places_that_it_leaves_with_root() {
    if !rustix::process::geteuid().is_root() {
        return skip("every test is an ordinary user's here");
    }
    let user = User::new();
    {
        let builder = Builder::for_user(&user.home, user.id);
        let step = "FROM scratch\nCOPY busybox /\nRUN --network=host [\"/busybox\", \"true\"]\n";
        builder.build(step, &["--allow", "network.host", "-o", "out"]).success();
        for place in ["dev", "proc", "sys"] {
            assert!(builder.path("out").join(place).is_dir(), "/{place}");
        }
        builder.assert_nothing_left();
    }
    drop(user);
}

/// An owner whom the user's range does not have is told by name and number, and where to look.
#[test]
fn privileged_an_owner_outside_of_the_users_range_is_named() {
    if !rustix::process::geteuid().is_root() {
        skip("only root can become another user");
        return;
    }
    let user = User::new();
    let builder = Builder::for_user(&user.home, user.id);
    builder.copy_busybox("context/busybox");
    let base = "FROM scratch\nCOPY busybox /bin/\nRUN [\"/bin/busybox\", \"true\"]\n";
    for (lines, wanted) in [
        (
            "COPY --chown=9999999 busybox /owned\nRUN [\"/bin/busybox\", \"true\"]\n",
            "`/owned` cannot have this owner: this user has no user id 9999999: `/etc/subuid`",
        ),
        (
            "COPY --chown=0:9999999 busybox /owned\nRUN [\"/bin/busybox\", \"true\"]\n",
            "`/owned` cannot have this owner: this user has no group id 9999999: `/etc/subgid`",
        ),
        (
            "USER 9999999\nRUN [\"/bin/busybox\", \"true\"]\n",
            "this user has no user id 9999999: `/etc/subuid`",
        ),
        (
            "RUN --mount=type=cache,target=/c,uid=9999999 [\"/bin/busybox\", \"true\"]\n",
            "this user has no user id 9999999: `/etc/subuid`",
        ),
        // Also where nothing mounts it.
        (
            "COPY --chown=9999999 busybox /owned\n",
            "`/owned` cannot have this owner: this user has no user id 9999999: `/etc/subuid`",
        ),
        (
            "COPY --chown=9999999 <<EOF /made\nx\nEOF\n",
            "`/made` cannot have this owner: this user has no user id 9999999: `/etc/subuid`",
        ),
        (
            "RUN [\"/bin/busybox\", \"chown\", \"9999999\", \"/bin/busybox\"]\n",
            "`/etc/subuid` and `/etc/subgid` give a user more",
        ),
    ] {
        let outcome = builder.build(&format!("{base}{lines}"), &[]);
        assert_eq!(outcome.code, Some(1), "{lines}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(wanted), "{lines}: {}", outcome.stderr);
    }
}

/// What is lent is lent in a user namespace, too, and to another user there.
#[test]
fn privileged_an_ordinary_user_lends_keys_to_steps() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can become another user");
    }
    if !ssh::is_installed() {
        return;
    }
    let user = User::new();
    {
        let builder = Builder::for_user(&user.home, user.id);
        builder.make_busybox();
        ssh::make_client(&builder);
        ssh::make_key(&builder, "key", &["-t", "ed25519"]);
        // From now on it is the user's.
        builder.write("key", builder.read("key"));
        let dockerfile = "FROM client
RUN echo them:x:7:7::/:/bin/sh >>/etc/passwd
USER 7
RUN --mount=type=ssh,uid=7,gid=7,mode=0640 (stat -c '%F %a %u %g' $SSH_AUTH_SOCK; ssh-add -l; \\
    ssh-add -D) >/tmp/told 2>&1; true
";
        builder.build(dockerfile, &["--ssh", "default=key", "--squash", "-o", "out"]).success();
        let told = builder.read("out/tmp/told");
        assert!(told.starts_with("socket 640 7 7\n"), "{told}");
        assert!(
            told.contains(" key (ED25519)\n") && told.contains("Failed to remove all"),
            "{told}"
        );
        let outside = "FROM client\nRUN --mount=type=ssh,uid=9999999 true\n";
        let failed = builder.build(outside, &["--ssh", "default=key"]).fails_with(1);
        let words = failed.words();
        assert!(words.contains("this user has no user id 9999999"), "{words}");
        builder.assert_nothing_left();
    }
    drop(user);
}

#[test]
fn privileged_an_ordinary_user_adds_a_commit() {
    if !rustix::process::geteuid().is_root() {
        return skip("every test is an ordinary user's here");
    }
    let user = User::new();
    {
        let builder = Builder::for_user(&user.home, user.id);
        let origin = Origin::new(&builder.path("served"), "app");
        origin.write("docs/page", "a page");
        origin.commit();
        let server = Server::open(&builder.path("served"));
        let dockerfile = format!("FROM scratch\nADD {}#:docs /docs\n", server.url("app.git"));
        builder.build(&dockerfile, &["-o", "out"]).success();
        assert_eq!(builder.read("out/docs/page"), "a page");
        assert_eq!(builder.build(&dockerfile, &["-o", "out"]).success().ran(), [""; 0]);
        builder.assert_nothing_left();
    }
    drop(user);
}

#[test]
fn privileged_an_ordinary_user_keeps_and_commits_a_container() {
    if !rustix::process::geteuid().is_root() {
        return skip("every test is an ordinary user's here");
    }
    let user = User::new();
    let builder = Builder::for_user(&user.home, user.id);
    builder.make_busybox();
    let script = "echo new >/new; rm -r /tmp; mkdir /tmp; chown 3:4 /new";
    builder.run(&["run", "--name", "kept", "busybox", "sh", "-c", script]).success();
    let changed = "A /new\nC /tmp (mode 1777 -> 755)\n";
    assert_eq!(builder.run(&["diff", "kept"]).success().text(), changed);
    builder.run(&["commit", "kept", "saved"]).success();
    assert_eq!(builder.run(&["diff", "saved"]).success().text(), changed);
    let owner = builder.run(&["run", "saved", "stat", "-c", "%u:%g", "/new"]).success();
    assert_eq!(owner.text(), "3:4\n");
    builder.run(&["rm", "kept"]).success();
    builder.run(&["fsck", "--full"]).success();
}
