//! `mybuild run`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::world::{World, stderr, stdout};

#[test]
fn privileged_a_container_does_what_docker_says() {
    let Some(world) = World::with_busybox() else { return };
    std::fs::create_dir(world.path("shared")).expect("made");
    std::fs::write(world.path("shared/file"), "of the host\n").expect("written");
    std::fs::write(world.path("variables"), "# comment\nFROM_FILE=1\n").expect("written");
    for (words, code, wanted) in [
        // What runs.
        (&["app:1"][..], 0, "default command\n"),
        (&["--rm", "app:1", "sh", "-c", "echo out; exit 7"], 7, "out\n"),
        (&["--entrypoint", "sh", "app:1", "-c", "echo mine"], 0, "mine\n"),
        (&["--entrypoint", "pwd", "app:1"], 0, "/\n"),
        (&["--entrypoint", "", "app:1", "pwd"], 0, "/\n"),
        (&["app:1", "nosuch"], 127, ""),
        (&["app:1", "/bin/script"], 126, ""),
        (&["--init", "app:1", "sh", "-c", "kill -9 $$"], 137, ""),
        // Who is process 1, and that it is the log's.
        (&["app:1", "sh", "-c", "echo $$; echo logged >/proc/1/fd/1"], 0, "1\nlogged\n"),
        (&["--init", "app:1", "sh", "-c", "echo $$; echo logged >/proc/1/fd/1"], 0, "2\nlogged\n"),
        // Words after the image are the command's.
        (&["app:1", "sh", "-c", "echo $0 $1", "--rm=false", "-i"], 0, "--rm=false -i\n"),
        // Environment.
        (&["app:1", "sh", "-c", "echo $FROM_IMAGE $PATH $HOME"], 0, "yes /bin /root\n"),
        (
            &[
                "-e",
                "A=1",
                "--env",
                "FROM_IMAGE=no",
                "-e",
                "NOSUCH",
                "app:1",
                "sh",
                "-c",
                "echo $A $FROM_IMAGE ${NOSUCH-unset}",
            ],
            0,
            "1 no unset\n",
        ),
        (&["--env-file", "variables", "app:1", "sh", "-c", "echo $FROM_FILE"], 0, "1\n"),
        // Who and where.
        (&["-w", "/made/on the way", "app:1", "pwd"], 0, "/made/on the way\n"),
        (&["-u", "app", "app:1", "sh", "-c", "id -u; id -g; echo $HOME"], 0, "1000\n1000\n/home\n"),
        (&["-u", "7:8", "app:1", "sh", "-c", "id -u; id -g"], 0, "7\n8\n"),
        (&["-u", "nosuch", "app:1", "id"], 125, ""),
        (&["--hostname", "box", "app:1", "sh", "-c", "hostname; echo $HOSTNAME"], 0, "box\nbox\n"),
        (
            &["--add-host", "db=10.0.0.5", "app:1", "grep", "-w", "db", "/etc/hosts"],
            0,
            "10.0.0.5\tdb\n",
        ),
        (&["--ulimit", "nofile=99:99", "app:1", "sh", "-c", "ulimit -n"], 0, "99\n"),
        (&["--network", "none", "app:1", "sh", "-c", "ls /sys/class/net"], 0, "lo\n"),
        (&["app:1", "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"], 0, "0\n"),
        (&["--hostname", "box", "app:1", "cat", "/etc/hostname"], 0, "box\n"),
        (&["app:1", "sh", "-c", "echo more >>/etc/hosts && grep more /etc/hosts"], 0, "more\n"),
        (&["--read-only", "app:1", "sh", "-c", "echo more >>/etc/hosts"], 1, ""),
        // Files.
        (&["-v", "/dev:/mnt:ro,z", "app:1", "ls", "/mnt/pts/ptmx"], 0, "/mnt/pts/ptmx\n"),
        (
            &["--tmpfs", "/mem:mode=0750,size=1m", "app:1", "busybox", "stat", "-c", "%a", "/mem"],
            0,
            "750\n",
        ),
        (&["--tmpfs", "/mem", "app:1", "sh", "-c", "echo exit 7 >/mem/x; sh -c '. /mem/x'"], 7, ""),
        (
            &[
                "--tmpfs",
                "/mem",
                "app:1",
                "sh",
                "-c",
                "busybox cp /bin/busybox /mem/echo; /mem/echo runs",
            ],
            126,
            "",
        ),
        (
            &[
                "--tmpfs",
                "/mem:exec",
                "app:1",
                "sh",
                "-c",
                "busybox cp /bin/busybox /mem/echo; /mem/echo runs",
            ],
            0,
            "runs\n",
        ),
        (
            &["--shm-size", "1m", "app:1", "grep", "-c", "/dev/shm.*size=1024k", "/proc/mounts"],
            0,
            "1\n",
        ),
        (&["-v", "./shared:/mnt", "app:1", "cat", "/mnt/file"], 0, "of the host\n"),
        (
            &[
                "-v",
                "./shared/file:/etc/file:ro",
                "app:1",
                "sh",
                "-c",
                "cat /etc/file; touch /etc/file",
            ],
            1,
            "of the host\n",
        ),
        (&["-v", "./new:/mnt", "app:1", "touch", "/mnt/written"], 0, ""),
        (&["--read-only", "app:1", "touch", "/x"], 1, ""),
        (
            &["--read-only", "app:1", "sh", "-c", "cat /data/from-image && touch /data/x"],
            0,
            "kept\n",
        ),
        (
            &[
                "--read-only",
                "-v",
                "/fresh",
                "--tmpfs",
                "/mem:size=1m",
                "app:1",
                "touch",
                "/fresh/x",
                "/mem/x",
            ],
            0,
            "",
        ),
        (&["app:1", "sh", "-c", "touch /x /data/y && ls /x"], 0, "/x\n"),
        (&["app:1", "ls", "/x"], 1, ""),
        (&["--init", "app:1", "true"], 0, ""),
    ] {
        let output = world.run(&[&["run"], words].concat(), "");
        assert_eq!(
            (output.status.code(), stdout(&output).as_str()),
            (Some(code), wanted),
            "{words:?}: {}",
            stderr(&output)
        );
    }
    assert!(world.path("new/written").exists());
    let told = world.fails(&["run", "app:1", "nosuch"], 127);
    assert!(told.contains("`nosuch` not found in the image"), "{told}");
    world.assert_nothing_left();
}

#[test]
fn privileged_input_is_forwarded_only_when_asked_for() {
    let Some(world) = World::with_busybox() else { return };
    let forwarded = world.run(&["run", "-i", "app:1", "cat"], "some\ninput");
    assert_eq!(stdout(&forwarded), "some\ninput", "{}", stderr(&forwarded));
    let kept = world.run(&["run", "app:1", "cat"], "some\ninput");
    assert_eq!((kept.status.code(), stdout(&kept).as_str()), (Some(0), ""));
    // Outputs stay apart.
    let output =
        world.run(&["run", "--network=none", "app:1", "sh", "-c", "echo out; echo err >&2"], "");
    assert_eq!((stdout(&output).as_str(), stderr(&output).as_str()), ("out\n", "err\n"));
    // Somebody who has read enough ends it.
    let mut child = world.spawn(&["run", "app:1", "sh", "-c", "while echo y; do :; done"]);
    let mut first = [0; 2];
    child.stdout.take().expect("a pipe").read_exact(&mut first).expect("it writes");
    assert_eq!(&first, b"y\n");
    child.wait().expect("it ends");
    world.assert_nothing_left();
}

/// A container that says `ready` when it is; what follows comes from the reader.
fn start(world: &World, words: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = world.spawn(&[&["run"], words].concat());
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    output.read_line(&mut line).expect("it writes");
    assert_eq!(line, "ready\n");
    (child, output)
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("it is there");
}

#[test]
fn privileged_signals_reach_the_command_and_the_second_kills() {
    let Some(world) = World::with_busybox() else { return };
    let trap = "trap 'echo got $S; exit 3' $S; echo ready; while :; do sleep 0.1; done";
    for (sent, flags, name) in [
        (Signal::TERM, &[][..], "TERM"),
        (Signal::TERM, &["--stop-signal", "USR2"], "USR2"),
        (Signal::INT, &[], "INT"),
        (Signal::HUP, &[], "HUP"),
    ] {
        let variable = format!("S={name}");
        let words = [flags, &["-e", &variable, "app:1", "sh", "-c", trap]].concat();
        let (mut child, mut output) = start(&world, &words);
        signal(&child, sent);
        let mut rest = String::new();
        output.read_to_string(&mut rest).expect("it ends");
        assert_eq!(rest, format!("got {name}\n"));
        assert_eq!(child.wait().expect("it ends").code(), Some(3), "{name}");
    }
    let stubborn = "trap 'echo no' INT; echo ready; while :; do sleep 0.1; done";
    let (mut child, mut output) = start(&world, &["app:1", "sh", "-c", stubborn]);
    signal(&child, Signal::INT);
    let mut line = String::new();
    output.read_line(&mut line).expect("it writes");
    assert_eq!(line, "no\n");
    signal(&child, Signal::INT);
    assert_eq!(child.wait().expect("it ends").code(), Some(137));
    world.assert_nothing_left();
}

#[test]
fn privileged_nothing_outlives_a_program_that_is_killed() {
    let Some(world) = World::with_busybox() else { return };
    let words = ["-v", "/fresh", "app:1", "sh", "-c", "sleep 1000 & echo ready; sleep 1000"];
    let (mut child, mut output) = start(&world, &words);
    child.kill().expect("it is there");
    child.wait().expect("it ends");
    // Its pipes have an end only when the container is gone.
    output.read_to_end(&mut Vec::new()).expect("it ends");
    // What it left on disk, the next sessions clear up in the background, as far as each gets.
    let has_lease =
        || std::fs::read_dir(world.path("store/leases-v1")).expect("listed").next().is_some();
    for _ in 0..100 {
        if has_lease() {
            world.ok(&["images"]);
        }
    }
    world.assert_nothing_left();
}

#[test]
fn privileged_a_name_is_taken_while_its_container_runs() {
    let Some(world) = World::with_busybox() else { return };
    let (mut child, _output) =
        start(&world, &["-i", "--name", "web", "app:1", "sh", "-c", "echo ready; cat"]);
    let taken = world.fails(&["run", "--name", "web", "app:1"], 125);
    assert!(taken.contains("a container named `web` is running"), "{taken}");
    world.ok(&["run", "--rm", "--name", "other", "app:1"]);
    drop(child.stdin.take());
    child.wait().expect("it ends");
    let taken = world.fails(&["run", "--name", "web", "app:1"], 125);
    assert!(taken.contains("a container named `web` exists"), "{taken}");
    world.ok(&["rm", "web"]);
    world.ok(&["run", "--rm", "--name", "web", "app:1"]);
    world.ok(&["run", "--rm", "--name", "web", "app:1"]);
}

#[test]
fn privileged_wrong_usage_of_run_is_125() {
    let Some(world) = World::with_busybox() else { return };
    for (words, wanted) in [
        (&["run"][..], "required arguments"),
        (&["run", "--nosuch", "app:1"], "--nosuch"),
        (&["container", "run", "--nosuch", "app:1"], "--nosuch"),
        (&["run", "-v", "name:/x", "app:1"], "would be a named volume"),
        (&["run", "-v", "./name:/x:bogus", "app:1"], "options are ro, rw, z, Z, "),
        (&["run", "-p", "80", "--network=none", "app:1"], "do not go together"),
        (&["run", "-p", "80", "--network=host", "app:1"], "do not go together"),
        (&["run", "-it", "app:1"], "standard input"),
    ] {
        let told = world.fails(words, 125);
        assert!(told.contains(wanted), "{words:?}: {told}");
    }
    world.fails(&["images", "--nosuch"], 2);
}

/// A web server that a port leads to, with its words for where it listens.
struct Served {
    child: Child,
    address: SocketAddr,
}

impl Served {
    /// `None`, and a word about it, where no port can lead into a container.
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    fn start(world: &World, port: &str, listen: &str) -> Option<Self> {
        let tried = world.run(&["run", "-p", "127.0.0.1::8000", "app:1"], "");
        if stderr(&tried).contains("cannot be published") {
            eprintln!("SKIPPED: {}", stderr(&tried));
            return None;
        }
        let serve =
            format!("echo hello >/tmp/index.html; httpd -p {listen} -h /tmp && echo ready; cat");
        let (mut child, _output) = start(world, &["-i", "-p", port, "app:1", "sh", "-c", &serve]);
        let mut told = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        // Which port the kernel has chosen.
        told.read_line(&mut line).expect("it writes");
        let address = line.strip_prefix("port 8000 is at ").expect("the port is told");
        let address = address.split_whitespace().next().expect("an address");
        Some(Self { child, address: address.parse().expect("an address") })
    }

    /// What it answers, if anything.
    fn answer(&self, from: IpAddr) -> String {
        let address = SocketAddr::new(from, self.address.port());
        let mut stream = TcpStream::connect(address).expect("the port is open");
        // A connection that leads nowhere may end before or while it is written to.
        let _ = stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    fn stop(mut self) {
        drop(self.child.stdin.take());
        assert_eq!(self.child.wait().expect("it ends").code(), Some(0));
        assert!(TcpStream::connect(self.address).is_err(), "the port is closed");
    }
}

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[test]
fn privileged_a_published_port_is_answered_at_every_address() {
    let Some(world) = World::with_busybox() else { return };
    let Some(served) = Served::start(&world, "8000", "8000") else { return };
    let mut addresses = vec![LOCAL];
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        addresses.push(Ipv6Addr::LOCALHOST.into());
    }
    for address in addresses {
        let answer = served.answer(address);
        assert!(answer.starts_with("HTTP/1.") && answer.ends_with("hello\n"), "{answer}");
    }
    served.stop();
    world.assert_nothing_left();
}

#[test]
fn privileged_a_port_does_not_open_what_listens_on_the_loopback() {
    let Some(world) = World::with_busybox() else { return };
    let port = "127.0.0.1::8000";
    let Some(served) = Served::start(&world, port, "127.0.0.1:8000") else { return };
    assert_eq!(served.answer(LOCAL), "");
    served.stop();
    world.assert_nothing_left();
}

/// A terminal: the side we hold, and the other.
pub(super) fn terminal(rows: u16, columns: u16) -> (std::fs::File, OwnedFd) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&ours).expect("granted");
    unlockpt(&ours).expect("unlocked");
    resize(&ours, rows, columns);
    let name = ptsname(&ours, Vec::new()).expect("it has a name");
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
    let theirs = rustix::fs::open(&*name, flags, rustix::fs::Mode::empty()).expect("opened");
    (ours.into(), theirs)
}

fn resize(terminal: impl std::os::fd::AsFd, rows: u16, columns: u16) {
    let size =
        rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size).expect("resized");
}

/// Reads until `wanted` was shown.
#[track_caller]
pub(super) fn read_until(terminal: &mut std::fs::File, wanted: &str) -> String {
    let mut shown = String::new();
    let mut buffer = [0; 1024];
    while !shown.contains(wanted) {
        match terminal.read(&mut buffer) {
            Ok(count @ 1..) => shown.push_str(&String::from_utf8_lossy(&buffer[..count])),
            other => panic!("{other:?} after {shown:?}"),
        }
    }
    shown
}

#[test]
fn privileged_a_terminal_is_raw_has_our_size_and_is_restored() {
    let Some(world) = World::with_busybox() else { return };
    let (mut ours, theirs) = terminal(33, 111);
    let before = rustix::termios::tcgetattr(&theirs).expect("it is a terminal");
    let side = || Stdio::from(theirs.try_clone().expect("copied"));
    let script = "echo size $(stty size) $TERM; \
                  while [ \"$(stty size)\" != '40 50' ]; do sleep 0.1; done; echo resized; \
                  trap 'echo interrupted; exit 9' INT; read line; echo got $line; \
                  while :; do sleep 0.1; done";
    let mut command = world.command(&["run", "-it", "app:1", "sh", "-c", script]);
    let mut child =
        command.stdin(side()).stdout(side()).stderr(side()).spawn().expect("mybuild runs");
    drop(command);
    read_until(&mut ours, "size 33 111 xterm");
    resize(&ours, 40, 50);
    // The terminal is nobody's controlling one here, so that the kernel does not send this.
    signal(&child, Signal::WINCH);
    read_until(&mut ours, "resized");
    ours.write_all(b"a line\r").expect("it reads");
    read_until(&mut ours, "got a line");
    ours.write_all(b"\x03").expect("it reads");
    read_until(&mut ours, "interrupted");
    assert_eq!(child.wait().expect("it ends").code(), Some(9));
    let after = rustix::termios::tcgetattr(&theirs).expect("it is a terminal");
    assert_eq!(
        (after.local_modes, after.input_modes, after.output_modes),
        (before.local_modes, before.input_modes, before.output_modes)
    );
    world.assert_nothing_left();
}
