//! `RUN --mount=type=ssh` against OpenSSH's own programs: `ssh-agent`, and `sshd` on loopback.

use std::fs::{self, Permissions};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::builder::Builder;
use super::skip;

/// Where Debian has it.
pub(super) const SSHD: &str = "/usr/sbin/sshd";

/// Logs in, and writes what it is told there to `/told`.
const LOGIN: &str = "RUN --mount=type=ssh ssh -F none -o StrictHostKeyChecking=no \
                     -o UserKnownHostsFile=/dev/null -o BatchMode=yes -p $PORT root@127.0.0.1 >/told\n";

/// A process of this test, killed when it is dropped.
pub(super) struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        self.0.kill().expect("an own child");
        self.0.wait().expect("an own child");
    }
}

/// A builder whose image `client` has OpenSSH's `ssh` and `ssh-add`.
fn client() -> Option<Builder> {
    if !is_installed() {
        return None;
    }
    let builder = Builder::new()?;
    make_client(&builder);
    Some(builder)
}

/// Whether OpenSSH is; a word where it is not.
pub(super) fn is_installed() -> bool {
    let is_installed = Path::new(SSHD).exists();
    if !is_installed {
        skip("OpenSSH's client and server are not installed");
    }
    is_installed
}

/// Builds an image `client` on `busybox`.
pub(super) fn make_client(builder: &Builder) {
    for program in ["/usr/bin/ssh", "/usr/bin/ssh-add"] {
        for file in [vec![program.to_owned()], libraries(program)].concat() {
            let copy = format!("client/root{file}");
            builder.write(&copy, fs::read(&file).expect("installed"));
            let mode = Permissions::from_mode(0o755);
            fs::set_permissions(builder.path(&copy), mode).expect("an own file");
        }
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\n";
    builder.write("client/root/etc/passwd", passwd);
    builder.write("client/Dockerfile", "FROM busybox\nCOPY root /\n");
    builder.run(&["build", "-t", "client", "client"]).success();
}

/// What a program is linked with.
fn libraries(program: &str) -> Vec<String> {
    let output = Command::new("ldd").arg(program).output().expect("ldd runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let paths = text.lines().filter_map(|line| {
        line.split_whitespace().find(|word| word.starts_with('/')).map(str::to_owned)
    });
    paths.collect()
}

/// Makes a key; its public half may log in.
pub(super) fn make_key(builder: &Builder, name: &str, words: &[&str]) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-N", "", "-C", name, "-f"])
        .arg(builder.path(name))
        .args(words)
        .status();
    assert!(made.expect("ssh-keygen runs").success());
    let allowed = builder.path("allowed");
    let public = builder.read(&format!("{name}.pub"));
    let known = fs::read_to_string(&allowed).unwrap_or_default();
    fs::write(&allowed, known + &public).expect("room");
}

/// An `sshd` that greets whoever has one of the keys, and its port.
fn server(builder: &Builder) -> (Daemon, String) {
    server_with(builder, "ForceCommand echo welcome\n")
}

/// One that lets whoever has one of the keys in, and its port.
pub(super) fn server_with(builder: &Builder, settings: &str) -> (Daemon, String) {
    make_key(builder, "host", &["-t", "ed25519"]);
    fs::create_dir_all("/run/sshd").expect("root may");
    let free = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let port = free.local_addr().expect("bound").port();
    drop(free);
    let directory = builder.path("");
    let directory = directory.display();
    let config = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {directory}/host\nPidFile none\nUsePAM no\n\
         StrictModes no\nAuthorizedKeysFile {directory}/allowed\nPermitRootLogin yes\n\
         PasswordAuthentication no\n{settings}"
    );
    builder.write("sshd.conf", config);
    let mut command = Command::new(SSHD);
    command.args(["-D", "-e", "-f"]).arg(builder.path("sshd.conf"));
    let log = fs::File::create(builder.path("sshd.log")).expect("room");
    let daemon = Daemon(command.stderr(log).spawn().expect("sshd starts"));
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(start.elapsed() < Duration::from_secs(30), "{}", builder.read("sshd.log"));
        std::thread::sleep(Duration::from_millis(20));
    }
    (daemon, port.to_string())
}

/// An `ssh-agent` with a key, at `agent.sock`.
pub(super) fn agent(builder: &Builder, key: &str) -> Daemon {
    let socket = builder.path("agent.sock");
    let mut command = Command::new("ssh-agent");
    command.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null());
    let daemon = Daemon(command.spawn().expect("ssh-agent starts"));
    let start = Instant::now();
    // It is there before anybody listens.
    while UnixStream::connect(&socket).is_err() {
        assert!(start.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut add = Command::new("ssh-add");
    add.arg("-q").arg(builder.path(key)).env("SSH_AUTH_SOCK", socket);
    assert!(add.status().expect("ssh-add runs").success());
    daemon
}

#[test]
fn privileged_a_step_logs_in_with_what_stays_outside() {
    let Some(builder) = client() else { return };
    let (_server, port) = server(&builder);
    let kinds: [(&str, &[&str]); 5] = [
        ("ed25519", &["-t", "ed25519"]),
        ("rsa", &["-t", "rsa", "-b", "2048"]),
        ("ecdsa", &["-t", "ecdsa", "-b", "256"]),
        ("ecdsa384", &["-t", "ecdsa", "-b", "384", "-m", "PKCS8"]),
        ("pem", &["-t", "rsa", "-b", "3072", "-m", "PEM"]),
    ];
    for (name, words) in kinds {
        make_key(&builder, name, words);
    }
    let _agent = agent(&builder, "ed25519");
    let dockerfile = format!("FROM client\nARG PORT\n{LOGIN}");
    let login = |ssh: &str, no_cache: &[&str]| {
        let port = format!("PORT={port}");
        let words = ["build", "--progress", "json", "-f", "Dockerfile", "--network=host"];
        let more = ["--ssh", ssh, "--build-arg", &port, "-o", "out", "context"];
        let socket = builder.path("agent.sock");
        builder.write("Dockerfile", &dockerfile);
        let mut command = builder.command(&[&words[..], no_cache, &more].concat());
        builder.run_command(command.env("SSH_AUTH_SOCK", socket)).success()
    };
    for ssh in ["default", "default=agent.sock"]
        .map(str::to_owned)
        .into_iter()
        .chain(kinds.iter().map(|(name, _)| format!("default={name}")))
    {
        login(&ssh, &["--no-cache"]);
        assert_eq!(builder.read("out/told"), "welcome\n", "{ssh}");
        fs::write(builder.path("out/told"), "").expect("room");
    }
    // The key is no part of the step's.
    let again = login("default=ed25519", &[]);
    assert_eq!(again.ran(), [""; 0]);
    let several = builder.build(
        "FROM client\nRUN --mount=type=ssh,id=two ssh-add -l >/list\n",
        &["--ssh", "one=ecdsa", "--ssh", "two=ed25519,rsa", "-o", "out"],
    );
    several.success();
    let list = builder.read("out/list");
    assert_eq!(list.lines().count(), 2, "{list}");
    assert!(list.contains(" ed25519 (ED25519)") && list.contains(" rsa (RSA)"), "{list}");
    for (name, _) in kinds {
        let key = builder.read(name);
        let line = key.lines().nth(5).expect("a key has lines");
        let grep = Command::new("grep").args(["-rlaF", "-e", line]).arg(builder.store()).output();
        assert_eq!(String::from_utf8_lossy(&grep.expect("grep runs").stdout), "", "{name}");
    }
}

#[test]
fn privileged_what_is_lent_is_lent_for_signatures_only() {
    let Some(builder) = client() else { return };
    make_key(&builder, "key", &["-t", "ed25519"]);
    make_key(&builder, "other", &["-t", "ed25519"]);
    let _agent = agent(&builder, "key");
    builder.write("context/other", builder.read("other"));
    let dockerfile = "FROM client
COPY --chmod=600 other /other
RUN --mount=type=ssh,target=/agent.sock,mode=0640,uid=7,gid=8 \\
    --mount=type=ssh,id=files,required \\
    stat -c '%F %a %u %g' /agent.sock >/told; echo $SSH_AUTH_SOCK >>/told; \\
    for socket in /agent.sock /run/buildkit/ssh_agent.1; do \\
        export SSH_AUTH_SOCK=$socket; \\
        ssh-add -q /other 2>/dev/null || echo no add >>/told; \\
        ssh-add -q -D 2>/dev/null || echo no removal >>/told; \\
        ssh-add -q -d /other 2>/dev/null || echo no removal >>/told; \\
        ssh-add -l | cut -d ' ' -f 3- >>/told; \\
        for each in $(seq 100); do ssh-add -l >>/many & done; wait; \\
    done
RUN ls /run >/left; ls /agent.sock >>/left 2>&1; env | grep SSH >>/left; true
";
    let outcome = builder
        .build(dockerfile, &["--ssh", "default=agent.sock", "--ssh", "files=key", "-o", "out"]);
    outcome.success();
    let lists = "no add\nno removal\nno removal\nkey (ED25519)\n".repeat(2);
    assert_eq!(builder.read("out/told"), format!("socket 640 7 8\n/agent.sock\n{lists}"));
    assert_eq!(builder.read("out/many").lines().count(), 200);
    assert_eq!(builder.read("out/left"), "ls: /agent.sock: No such file or directory\n");
    let store = fs::read_dir(builder.store()).expect("a store").flatten();
    let left = store.filter(|entry| entry.file_name().to_string_lossy().contains("ssh")).count();
    assert_eq!(left, 0);
}

#[test]
fn privileged_an_agent_that_is_missing_is_named_or_left_out() {
    let Some(builder) = client() else { return };
    let step = |mount: &str| {
        format!(
            "FROM client\nRUN --mount={mount} ls /agent >/told 2>&1; echo $SSH_AUTH_SOCK >>/told\n"
        )
    };
    builder.build(&step("type=ssh,target=/agent"), &["-o", "out"]).success();
    assert_eq!(builder.read("out/told"), "ls: /agent: No such file or directory\n/agent\n");
    let refused = builder.build(&step("type=ssh,required"), &[]).fails_with(1);
    let words = refused.words();
    assert!(words.contains("no SSH key \"default\" forwarded from the client"), "{words}");
    assert!(words.contains("`--ssh default`"), "{words}");
    let refused = builder.build(&step("type=ssh,id=a,required"), &["--ssh", "b=gone"]);
    assert!(refused.fails_with(2).words().contains("`--ssh b=gone`: `gone`: No such file"));
    make_key(&builder, "locked", &["-t", "ed25519"]);
    let mut lock = Command::new("ssh-keygen");
    lock.args(["-q", "-p", "-P", "", "-N", "secret", "-f"]).arg(builder.path("locked"));
    assert!(lock.stdout(Stdio::null()).status().expect("ssh-keygen runs").success());
    let refused = builder.build(&step("type=ssh"), &["--ssh", "default=locked"]).fails_with(2);
    let words = refused.words();
    assert!(
        words.contains("`locked` is not usable: the key is protected by a passphrase"),
        "{words}"
    );
    assert!(words.contains("`ssh-add`"), "{words}");
    // One that is there no more.
    let gone = std::os::unix::net::UnixListener::bind(builder.path("dead")).expect("room");
    drop(gone);
    let refused = builder.build(&step("type=ssh"), &["--ssh", "default=dead"]).fails_with(1);
    let words = refused.words();
    assert!(words.contains("failed to reach ssh agent `default` at `dead`"), "{words}");
}
