//! Programs that an archive goes through: `ctr` into containerd, and `ssh` to an engine elsewhere.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

use crate::environment::Environment;

/// Keys that `ssh` looks for by itself.
const KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

/// Bytes of what a program says that are kept.
const SAID_MAX: u64 = 64 << 10;

/// A program that runs, with what it says read along, so that it never waits for that.
struct Running {
    name: &'static str,
    child: Child,
    said: Option<JoinHandle<String>>,
}

impl Running {
    fn start(name: &'static str, command: &mut Command) -> io::Result<Self> {
        let started = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = started.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                io::Error::new(error.kind(), format!("`{name}` is not installed"))
            }
            _ => error,
        })?;
        let stderr = child.stderr.take().expect("it is a pipe");
        let said = std::thread::spawn(move || {
            let mut said = Vec::new();
            let mut limited = stderr.take(SAID_MAX);
            // What cannot be read is not told.
            let _ = limited.read_to_end(&mut said);
            let _ = io::copy(&mut limited.into_inner(), &mut io::sink());
            String::from_utf8_lossy(&said).into_owned()
        });
        Ok(Self { name, child, said: Some(said) })
    }

    /// Waits for its end; fails with what it has said if it did.
    fn finish(&mut self) -> io::Result<()> {
        let status = self.child.wait()?;
        let said = self.said.take().and_then(|said| said.join().ok()).unwrap_or_default();
        if status.success() {
            return Ok(());
        }
        let last = said.lines().rfind(|line| !line.trim().is_empty());
        let last = last.map_or_else(|| status.to_string(), |line| line.trim().to_owned());
        Err(io::Error::other(format!("{}: {last}", self.name)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.said.is_some() {
            // One that has ended already is not there to be killed.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// `ctr images import` of containerd, which reads an archive.
pub(super) struct Importing {
    archive: Option<ChildStdin>,
    ctr: Running,
}

impl Importing {
    pub(super) fn begin(socket: &Path, namespace: &str) -> io::Result<Self> {
        // Its own error, at once: `ctr` would try for a while.
        std::os::unix::net::UnixStream::connect(socket)?;
        let mut command = Command::new("ctr");
        command.arg("--address").arg(socket).args(["--namespace", namespace]);
        command.args(["images", "import", "-"]).stdout(Stdio::null());
        let mut ctr = Running::start("ctr", &mut command)?;
        Ok(Self { archive: ctr.child.stdin.take(), ctr })
    }
}

impl Write for Importing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.archive.as_mut().expect("it is open until the end").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.archive.as_mut().expect("it is open until the end").flush()
    }
}

impl engine::Load for Importing {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        drop(self.archive.take());
        self.ctr.finish()
    }
}

/// The streams of a program that leads to an engine.
pub(super) struct Dialed {
    stdin: ChildStdin,
    stdout: ChildStdout,
    program: Running,
}

impl Dialed {
    /// `docker system dial-stdio` on the host `destination`, by `ssh`, as Docker's own client does it.
    pub(super) fn ssh(destination: &str, port: Option<u16>) -> io::Result<Self> {
        let mut command = Command::new("ssh");
        command.args(["-T", "-o", "ConnectTimeout=30"]).args(own_files());
        if let Some(port) = port {
            command.args(["-p", &port.to_string()]);
        }
        command.args(["--", destination, "docker", "system", "dial-stdio"]).stdout(Stdio::piped());
        let mut program = Running::start("ssh", &mut command)?;
        let pipes = (program.child.stdin.take(), program.child.stdout.take());
        let (Some(stdin), Some(stdout)) = pipes else { unreachable!("both are pipes") };
        Ok(Self { stdin, stdout, program })
    }
}

/// In our user namespace `ssh` takes itself for root: it is told where its user's files are.
fn own_files() -> Vec<OsString> {
    let Some(home) = Environment::of_process().path("HOME") else { return Vec::new() };
    let folder = home.join(".ssh");
    let mut words: Vec<OsString> = Vec::new();
    let config = folder.join("config");
    if config.exists() {
        words.extend(["-F".into(), config.into()]);
    }
    let mut option = |name: &str, path: PathBuf| {
        let quoted = format!("{name}=\"{}\"", path.display());
        words.extend(["-o".into(), quoted.into()]);
    };
    option("UserKnownHostsFile", folder.join("known_hosts"));
    for key in KEYS.map(|name| folder.join(name)).into_iter().filter(|key| key.exists()) {
        option("IdentityFile", key);
    }
    words
}

impl Read for Dialed {
    /// Its end is that of the program, whose failure is an error here.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.stdout.read(buffer)? {
            0 if !buffer.is_empty() && self.program.said.is_some() => {
                self.program.finish().map(|()| 0)
            }
            length => Ok(length),
        }
    }
}

impl Write for Dialed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stdin.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdin.flush()
    }
}
