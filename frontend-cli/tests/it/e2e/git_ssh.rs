//! `ADD` from git repositories over SSH: OpenSSH's `sshd` on loopback, keys lent with `--ssh`.

use std::fs;
use std::path::Path;

use super::builder::Builder;
use super::git_origin::Origin;
use super::outcome::Outcome;
use super::skip;
use super::ssh::{SSHD, agent, make_key, server_with};

fn add(builder: &Builder, what: &str, words: &[&str]) -> Outcome {
    let _ = fs::remove_dir_all(builder.path("out"));
    builder.write("Dockerfile", format!("FROM scratch\nADD {what} /\n"));
    let words = [&["build", "--progress", "json", "-f", "Dockerfile", "-o", "out"][..], words];
    let mut command = builder.command(&[&words.concat()[..], &["context"]].concat());
    builder.run_command(command.env("SSH_AUTH_SOCK", builder.path("agent.sock")))
}

#[test]
fn privileged_a_repository_is_fetched_with_a_key_that_stays_outside() {
    if !Path::new(SSHD).exists() {
        return skip("OpenSSH's client and server are not installed");
    }
    let Some(builder) = Builder::bare() else { return };
    let (_server, port) = server_with(&builder, "");
    make_key(&builder, "key", &["-t", "ed25519"]);
    let _agent = agent(&builder, "key");
    let root = builder.path("served");
    let (origin, inner) = (Origin::new(&root, "app"), Origin::new(&root, "inner"));
    inner.write("middle", "inner");
    let commit = inner.commit();
    origin.write("file", "one");
    origin.add_submodule("inner", "inner", "../inner.git", &commit);
    origin.git(&["add", "file"]);
    origin.commit_index();
    let url = format!("ssh://root@127.0.0.1:{port}{}/app.git", root.display());

    let words = add(&builder, &url, &[]).fails_with(1).words();
    assert!(words.contains("no SSH key \"default\" forwarded from the client"), "{words}");
    assert!(words.contains("`--ssh default`"), "{words}");
    // Whose key nobody has looked at is not the server.
    let words = add(&builder, &url, &["--ssh", "default"]).fails_with(1).words();
    assert!(words.contains("Host key verification failed"), "{words}");
    assert!(words.contains(&format!("`ssh-keyscan -p {port} 127.0.0.1 >> ")), "{words}");
    let key = builder.read("host.pub");
    builder.write("home/.ssh/known_hosts", format!("[127.0.0.1]:{port} {key}"));
    for ssh in ["default", "default=key"] {
        builder.run(&["prune", "--all", "--force"]).success();
        add(&builder, &url, &["--ssh", ssh]).success();
        assert_eq!(
            (builder.read("out/file"), builder.read("out/inner/middle")),
            ("one".into(), "inner".into())
        );
    }
    assert_eq!(add(&builder, &url, &["--ssh", "default"]).success().ran(), [""; 0]);
    // A key that the server does not know, and another server at its place.
    fs::write(builder.path("allowed"), "").expect("an own file");
    let words =
        add(&builder, &format!("{url}?mtime=commit"), &["--ssh", "default"]).fails_with(1).words();
    assert!(words.contains("Permission denied") && words.contains("lend a key"), "{words}");
    make_key(&builder, "impostor", &["-t", "ed25519"]);
    let key = builder.read("impostor.pub");
    builder.write("home/.ssh/known_hosts", format!("[127.0.0.1]:{port} {key}"));
    let words = add(&builder, &url, &["--ssh", "default"]).fails_with(1).words();
    assert!(words.contains("Host key verification failed"), "{words}");
    let left = fs::read_dir(builder.store().join("tmp-v1")).expect("a store").count();
    assert_eq!(left, 0);
}
