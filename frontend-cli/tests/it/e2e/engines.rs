//! Images that go into a running engine.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::builder::Builder;
use super::outcome::Outcome;
use super::skip;
use super::ssh::{make_key, server_with};

const DOCKERFILE: &str =
    "FROM scratch\nCOPY busybox /bin/busybox\nCMD [\"/bin/busybox\", \"echo\", \"it runs\"]\n";

/// An engine that ends with the test.
pub(super) struct Engine {
    process: Child,
    pub(super) address: String,
}

impl Engine {
    /// Starts an engine that listens on `socket`; nothing, and a word about it, where it is not there or does
    /// not come up.
    pub(super) fn start(command: &mut Command, socket: &Path) -> Option<Self> {
        Self::start_and_ask(command, socket, || is_up(socket))
    }

    /// The same of one that is asked by other means whether it has come up.
    fn start_and_ask(
        command: &mut Command,
        socket: &Path,
        is_up: impl Fn() -> bool,
    ) -> Option<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        if !rustix::process::getuid().is_root() {
            skip(&format!("{name} is started by root alone"));
            return None;
        }
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(process) = started.spawn() else {
            skip(&format!("{name} is not installed"));
            return None;
        };
        let engine = Self { process, address: format!("unix://{}", socket.display()) };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !is_up() {
            if Instant::now() > deadline {
                skip(&format!("{name} does not come up on this machine"));
                return None;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(engine)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        // It takes what it has started with it.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.process.wait();
    }
}

fn is_up(socket: &Path) -> bool {
    let ask = || {
        let mut connection = std::os::unix::net::UnixStream::connect(socket)?;
        connection.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer.contains(" 200 "))
    };
    ask().unwrap_or(false)
}

pub(super) fn load(builder: &Builder, words: &[&str], variables: &[(&str, &str)]) -> Outcome {
    builder.write("context/Dockerfile", DOCKERFILE);
    let mut command = builder.command(&[words, &["context"]].concat());
    command.env_remove("MYBUILD_LOAD").envs(variables.iter().copied());
    builder.run_command(&mut command)
}

#[test]
fn privileged_dockerd_gets_the_image() {
    let Some(builder) = Builder::bare() else { return };
    let at = |name: &str| builder.path(name).display().to_string();
    let socket = builder.path("d.sock");
    let mut dockerd = Command::new("dockerd");
    dockerd
        .args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")])
        .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs"])
        .args(["-H", &format!("unix://{}", socket.display())]);
    let Some(engine) = Engine::start(&mut dockerd, &socket) else { return };
    let host = [("DOCKER_HOST", engine.address.as_str())];
    let loaded = load(&builder, &["-t", "app:1", "--load"], &host).success();
    assert!(loaded.stderr.contains(&format!("loaded into {}", engine.address)), "{loaded:?}");
    let both = "linux/arm64,linux/amd64";
    load(&builder, &["-t", "two:1", "--platform", both, "-o", "type=docker"], &host).success();
    let listed =
        docker(&engine, &["images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}", "--no-trunc"]);
    let mut listed: Vec<&str> =
        listed.lines().map(|line| line.split(' ').next().unwrap()).collect();
    listed.sort_unstable();
    assert_eq!(listed, ["app:1", "two:1"]);
    let inspect = |name: &str, what: &str| docker(&engine, &["inspect", "-f", what, name]);
    assert_eq!(
        inspect("two:1", "{{.Architecture}}").trim(),
        std::env::consts::ARCH.replace("x86_64", "amd64")
    );
    // The store has what was named there, too, under the same id.
    let stored = builder.run(&["images", "-q", "--no-trunc"]).success();
    assert_eq!(String::from_utf8_lossy(&stored.stdout), inspect("app:1", "{{.Id}}"));
}

#[test]
fn privileged_podman_gets_the_image() {
    let Some(builder) = Builder::bare() else { return };
    let at = |name: &str| builder.path(name).display().to_string();
    let socket = builder.path("p.sock");
    let storage = ["--root", &at("root"), "--runroot", &at("run"), "--storage-driver", "vfs"];
    let podman = || {
        let mut podman = Command::new("podman");
        podman.args(storage);
        podman
    };
    let mut service = podman();
    service.args(["system", "service", "-t", "0", &format!("unix://{}", socket.display())]);
    let Some(engine) = Engine::start(&mut service, &socket) else { return };
    let choice = [("MYBUILD_LOAD", engine.address.as_str())];
    load(&builder, &["-t", "app:1", "--load"], &choice).success();
    let listed = podman().args(["images", "--format", "{{.Repository}}:{{.Tag}}"]).output();
    let listed = listed.expect("podman runs").stdout;
    assert_eq!(String::from_utf8_lossy(&listed), "docker.io/library/app:1\n");
}

#[test]
fn privileged_containerd_gets_the_image() {
    let Some(builder) = Builder::bare() else { return };
    let at = |name: &str| builder.path(name).display().to_string();
    let socket = builder.path("c.sock");
    let config = format!(
        "version = 2\nroot = \"{}\"\nstate = \"{}\"\n[grpc]\naddress = \"{}\"\n[ttrpc]\naddress = \"{}\"\n",
        at("root"),
        at("state"),
        socket.display(),
        at("t.sock")
    );
    builder
        .write("c.toml", format!("disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n{config}"));
    let mut containerd = Command::new("containerd");
    containerd.args(["--config", &at("c.toml")]);
    let is_up = || UnixStream::connect(&socket).is_ok();
    let Some(_engine) = Engine::start_and_ask(&mut containerd, &socket, is_up) else { return };
    let address = format!("containerd://{}?namespace=of-test", socket.display());
    let choice = [("MYBUILD_LOAD", address.as_str())];
    let loaded = load(&builder, &["-t", "app:1", "--load"], &choice).success();
    assert!(loaded.stderr.contains(&format!("loaded into {address}")), "{loaded:?}");
    let both = "linux/arm64,linux/amd64";
    load(&builder, &["-t", "two:1", "--platform", both, "-o", "type=docker"], &choice).success();
    let ctr = |words: &[&str]| {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&socket).args(["--namespace", "of-test"]).args(words);
        let output = command.output().expect("ctr comes with containerd");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    assert_eq!(ctr(&["images", "ls", "-q"]), "docker.io/library/app:1\ndocker.io/library/two:1\n");
    assert!(ctr(&["images", "ls", "name==docker.io/library/two:1"]).contains("linux/arm64"));
    // One that does not listen is reported, as is what `ctr` says.
    let gone = [("MYBUILD_LOAD", "containerd:///nowhere.sock")];
    let failed = load(&builder, &["--load"], &gone).fails_with(1);
    assert!(failed.words().contains("failed to reach the engine at `containerd://"), "{failed:?}");
}

/// Takes what comes to the engine's socket, and notes what was asked for.
const DIAL: &str = "import os, socket, sys, threading
open(sys.argv[2], 'w').write(os.environ['SSH_ORIGINAL_COMMAND'])
engine = socket.socket(socket.AF_UNIX)
engine.connect(sys.argv[1])
def forward():
    while data := os.read(0, 65536):
        engine.sendall(data)
threading.Thread(target=forward, daemon=True).start()
while data := engine.recv(65536):
    os.write(1, data)
";

#[test]
fn privileged_an_engine_elsewhere_is_reached_by_ssh() {
    if !super::ssh::is_installed() {
        return;
    }
    let Some(builder) = Builder::bare() else { return };
    let at = |name: &str| builder.path(name).display().to_string();
    builder.write("dial.py", DIAL);
    let force = format!(
        "ForceCommand /usr/bin/python3 {} {} {}\n",
        at("dial.py"),
        at("e.sock"),
        at("asked")
    );
    let (_server, port) = server_with(&builder, &force);
    make_key(&builder, "key", &["-t", "ed25519"]);
    let key = std::fs::read_to_string(builder.path("key.pub")).expect("a key");
    builder.write("allowed", key);
    builder.make_directory("home/.ssh");
    std::fs::copy(builder.path("key"), builder.path("home/.ssh/id_ed25519")).expect("a key");
    let address = format!("ssh://root@127.0.0.1:{port}");
    let host = [("DOCKER_HOST", address.as_str())];
    // Whose key nobody has looked at is not the host.
    let failed = load(&builder, &["-o", "type=docker"], &host).fails_with(1);
    assert!(failed.words().contains("ssh: Host key verification failed"), "{failed:?}");
    let known = format!("[127.0.0.1]:{port} {}", builder.read("host.pub"));
    builder.write("home/.ssh/known_hosts", known);
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\n\r\n{\"stream\":\"Loaded image: app:latest\\n\"}\r\n", None),
        ("HTTP/1.1 500 X\r\n\r\n{\"message\":\"no space left\"}", Some("no space left")),
    ] {
        let engine = answering(builder.path("e.sock"), answer, true);
        let loaded = load(&builder, &["-o", "type=docker"], &host);
        engine.join().expect("it has answered");
        std::fs::remove_file(builder.path("e.sock")).expect("a socket");
        match expected {
            None => assert!(loaded.success().stderr.contains(&format!("loaded into {address}"))),
            Some(words) => assert!(loaded.fails_with(1).words().contains(words)),
        }
        assert_eq!(builder.read("asked"), "docker system dial-stdio");
    }
}

pub(super) fn docker(engine: &Engine, words: &[&str]) -> String {
    let output = Command::new("docker").args(["-H", &engine.address]).args(words).output();
    let output = output.expect("docker comes with dockerd");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// An engine that reads a request and gives one answer, or hangs up at once without reading.
fn answering(socket: PathBuf, answer: &'static str, reads: bool) -> std::thread::JoinHandle<()> {
    let listener = UnixListener::bind(socket).expect("a socket");
    std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("a client");
        if reads {
            let mut reader = BufReader::new(connection.try_clone().expect("the same"));
            let mut line = Vec::new();
            while line != b"0\r\n" {
                line.clear();
                reader.read_until(b'\n', &mut line).expect("a request");
            }
        }
        connection.write_all(answer.as_bytes()).expect("written");
    })
}

#[test]
fn privileged_what_an_engine_says_is_told() {
    let Some(builder) = Builder::bare() else { return };
    for (number, (answer, reads, expected)) in [
        ("HTTP/1.1 200 OK\r\n\r\n{\"stream\":\"Loaded image: app:latest\\n\"}\r\n", true, None),
        ("HTTP/1.1 500 X\r\n\r\n{\"message\":\"no space left\"}", true, Some("no space left")),
        ("HTTP/1.1 200 OK\r\n\r\n{\"error\":\"invalid archive\"}", true, Some("invalid archive")),
        ("HTTP/1.1 200 OK\r\n\r\nwhat?", true, Some("no answer that makes sense")),
        ("", false, Some("it has hung up without an answer")),
    ]
    .into_iter()
    .enumerate()
    {
        let socket = builder.path(&format!("{number}.sock"));
        let address = format!("unix://{}", socket.display());
        let engine = answering(socket, answer, reads);
        let loaded = load(&builder, &["-o", "type=docker"], &[("MYBUILD_LOAD", &address)]);
        engine.join().expect("it has answered");
        match expected {
            None => drop(loaded.success()),
            Some(words) => {
                let failed = loaded.fails_with(1);
                assert!(failed.words().contains(words), "{number}: {failed:?}");
            }
        }
    }
    // Docker's contexts say where an engine is; one that is not there is an error, not the store.
    let meta = "{\"Name\":\"far\",\"Endpoints\":{\"docker\":{\"Host\":\"unix:///nowhere.sock\"}}}";
    let hash = oci::Digest::of(b"far").hex().to_owned();
    builder.write(&format!("home/.docker/contexts/meta/{hash}/meta.json"), meta);
    let failed = load(&builder, &["-o", "type=docker,context=far"], &[]).fails_with(1);
    assert!(failed.words().contains("failed to reach the engine at `unix:///nowhere.sock`"));
    builder.write("home/.docker/config.json", "{\"currentContext\": \"far\"}");
    load(&builder, &["--load"], &[]).fails_with(1);
    let gone = load(&builder, &["--load"], &[("DOCKER_CONTEXT", "gone")]).fails_with(2);
    assert!(gone.words().contains("context `gone`: it does not exist"), "{gone:?}");
    let pipe = load(&builder, &["--load"], &[("DOCKER_HOST", "npipe://x")]).fails_with(2);
    assert!(pipe.words().contains("cannot be loaded into `npipe://x`"), "{pipe:?}");
    load(&builder, &["--load"], &[("MYBUILD_LOAD", "store")]).success();
}
