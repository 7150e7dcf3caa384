//! Builds by the real program, as far as they need neither a network nor a base image.
//!
//! An ordinary user needs a user namespace, which some systems forbid: then these tests say
//! aloud that they are skipped.

mod calls;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use expect_test::expect;
use tempfile::TempDir;

/// A directory with a context and a store of its own.
struct World {
    directory: TempDir,
}

impl World {
    /// `None`, and a word about it, where nothing can be built.
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    fn new() -> Option<Self> {
        let world = Self { directory: tempfile::tempdir().expect("a directory") };
        std::fs::create_dir(world.path("context")).expect("a context");
        world.write("context/file", "content\n");
        world.write("empty.toml", "");
        let output = world.run(&["-q", "-"], "FROM scratch\n");
        let stderr = String::from_utf8_lossy(&output.stderr);
        if stderr.contains("user namespace") {
            eprintln!("SKIPPED: this system lets nobody but root build: {stderr}");
            return None;
        }
        Some(world)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("written");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("read")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mybuild"));
        command
            .args(words)
            .env_clear()
            .env("MYBUILD_ROOT", self.path("store"))
            .env("MYBUILD_CONFIG", self.path("empty.toml"))
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .current_dir(self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, words: &[&str], stdin: impl AsRef<[u8]>) -> Output {
        let mut child = self.command(words).spawn().expect("mybuild runs");
        // Who refuses the words reads no input.
        let _ = child.stdin.take().expect("a pipe").write_all(stdin.as_ref());
        child.wait_with_output().expect("mybuild ends")
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// Standard error with digests and times replaced.
fn stderr(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).expect("UTF-8");
    let is_time = |word: &str| word.strip_suffix('s').is_some_and(|n| n.parse::<f64>().is_ok());
    let replaced = text.split_inclusive([' ', '\n']).map(|word| match word.trim_end() {
        digest if digest.starts_with("sha256:") => word.replace(digest, "sha256:DIGEST"),
        time if is_time(time) => word.replace(time, "TIME"),
        _ => word.to_owned(),
    });
    replaced.collect()
}

#[test]
fn privileged_a_graph_shows_no_passwords() {
    let Some(world) = World::new() else { return };
    for format in ["dag", "dag=json", "dag=dot"] {
        let words = [&format!("--print={format}"), "-f", "-", "context"];
        let output = world.run(&words, "FROM scratch\nADD https://me:secret@example.com/x /x\n");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("https://example.com/x"), "{format}: {text}");
        assert!(!text.contains("secret"), "{format}: {text}");
    }
}

#[test]
fn privileged_the_id_is_the_same_wherever_it_is_told() {
    let Some(world) = World::new() else { return };
    let dockerfile = "FROM scratch\nCOPY file /\n";
    let quiet = world.run(&["-q", "-t", "app", "-f", "-", "context"], dockerfile);
    assert_eq!(stderr(&quiet), "");
    let id = stdout(&quiet).trim_end().to_owned();
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    let words = [
        "--iidfile",
        "id",
        "--metadata-file",
        "meta",
        "-t",
        "app",
        "-t",
        "b:2",
        "-f",
        "-",
        "context",
    ];
    let told = world.run(&words, dockerfile);
    assert_eq!(told.status.code(), Some(0));
    assert_eq!(stdout(&told), "");
    assert!(
        stderr(&told).ends_with(
            "built sha256:DIGEST as docker.io/library/app:latest, docker.io/library/b:2\n"
        )
    );
    assert_eq!(world.read("id"), id);
    let metadata: serde_json::Value = serde_json::from_str(&world.read("meta")).expect("JSON");
    assert_eq!(metadata["containerimage.config.digest"], id);
    assert_eq!(metadata["image.name"], "docker.io/library/app:latest,docker.io/library/b:2");
    assert_eq!(metadata["containerimage.digest"], metadata["containerimage.descriptor"]["digest"]);
}

#[test]
fn privileged_progress_is_no_data() {
    let Some(world) = World::new() else { return };
    let output = world.run(&["-f", "-", "context"], "FROM scratch\nCOPY file /\n");
    assert_eq!(stdout(&output), "");
    expect![[r#"
        #1 [internal] load build context
        #1 DONE TIME

        #2 [1/1] COPY file /
        #2 DONE TIME

        #3 exporting to image
        #3 DONE TIME

        built sha256:DIGEST
    "#]]
    .assert_eq(&stderr(&output));
    let output = world.run(&["--progress", "none", "-f", "-", "context"], "FROM scratch\n");
    assert_eq!((stdout(&output), stderr(&output)), (String::new(), String::new()));
}

#[test]
fn privileged_a_wrong_dockerfile_ends_with_1_and_leaves_no_id() {
    let Some(world) = World::new() else { return };
    world.write("id", "stale");
    let output = world.run(&["--iidfile", "id", "-"], "FROM scratch\nCOPPY a b\n");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "");
    expect![[r#"
        error: unknown instruction: COPPY (did you mean COPY?)
         --> Dockerfile:2:1
          |
        2 | COPPY a b
          | ^^^^^
    "#]]
    .assert_eq(&stderr(&output));
    assert!(!world.path("id").exists());
}

#[test]
fn privileged_an_archive_goes_in_and_out_by_pipes() {
    let Some(world) = World::new() else { return };
    world.write("context/Dockerfile", "FROM scratch\nCOPY file /copied\n");
    let archive = tar(&world.path("context"));
    for words in
        [&["-o", "-", "-"][..], &["-o", "-", "-f", "Dockerfile", "-"], &["-o", "-", "context"]]
    {
        let output = world.run(words, &archive);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", stderr(&output));
        // The name of the one file is the first thing in the tar.
        assert!(output.stdout.starts_with(b"copied\0"), "{words:?}");
    }
}

#[test]
fn privileged_a_graph_is_printed_and_nothing_built() {
    let Some(world) = World::new() else { return };
    let output =
        world.run(&["--print=dag=json", "-f", "-", "context"], "FROM scratch\nCOPY file /\n");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let graph: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    let vertices = graph["vertices"].as_array().expect("a list");
    let names: Vec<&str> =
        vertices.iter().map(|vertex| vertex["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["[internal] load build context", "[1/1] COPY file /"]);
}

#[test]
fn privileged_an_interrupt_stops_the_build_with_130() {
    let Some(world) = World::new() else { return };
    // A registry that takes calls and never answers.
    let registry = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = registry.local_addr().expect("an address").port();
    let mut child = world.command(&["--progress", "plain", "-"]).spawn().expect("mybuild runs");
    let dockerfile = format!("FROM 127.0.0.1:{port}/never\n");
    child.stdin.take().expect("a pipe").write_all(dockerfile.as_bytes()).expect("it reads");
    let (mut connection, _) = registry.accept().expect("a call");
    assert!(connection.read(&mut [0; 1]).expect("a request") > 0);
    let pid = rustix::process::Pid::from_raw(child.id().try_into().expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("sent");
    let output = child.wait_with_output().expect("mybuild ends");
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert!(stderr(&output).ends_with("error: canceled\n"), "{}", stderr(&output));
}

/// The directory as a tar archive.
fn tar(directory: &Path) -> Vec<u8> {
    let output = Command::new("tar").arg("-C").arg(directory).args(["-c", "."]).output();
    output.expect("tar runs").stdout
}
