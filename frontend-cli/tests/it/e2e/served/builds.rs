//! Builds over the socket.

use std::io::Read as _;

use daemon::wire::control::Exporter;

use super::client::{Asked, Client};
use super::daemon::Daemon;
use crate::e2e::builder::Builder;

pub(super) fn exporter(kind: &str, attrs: &[(&str, &str)]) -> Exporter {
    let attrs = attrs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Exporter { r#type: kind.to_owned(), attrs: attrs.collect() }
}

/// The names in a tar.
fn names(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().expect("a tar");
    entries
        .map(|entry| entry.expect("whole").path().expect("a path").display().to_string())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn privileged_a_build_comes_over_the_socket_and_goes_back() {
    let Some(builder) = Builder::new() else { return };
    builder.write("files/Dockerfile", "FROM busybox\nCOPY a.txt sub /\nRUN cat /a.txt >/b.txt\n");
    builder.write("files/.dockerignore", "left-out\n");
    builder.write("files/a.txt", "first\n");
    builder.write("files/left-out", "x");
    builder.write("files/sub/c.txt", "third\n");
    let daemon = Daemon::start(&builder, &[]);
    let root = builder.path("files");
    let client = Client::with(&[("context", &root), ("dockerfile", &root)]);
    let asked = Asked {
        exporters: vec![exporter("tar", &[]), exporter("oci", &[("name", "app:1")])],
        ..Asked::default()
    };
    let done = client.build(&daemon.socket, asked).await;
    let response = done.response.expect("it builds");
    assert!(response["containerimage.digest"].starts_with("sha256:"), "{response:?}");
    let archives = client.archives.0.lock().expect("no panic").clone();
    let mut tree = tar::Archive::new(&archives["0"][..]);
    let mut text = String::new();
    let found = tree.entries().expect("a tar").map(|entry| entry.expect("whole"));
    let mut found = found.filter(|entry| entry.path().is_ok_and(|path| path.ends_with("b.txt")));
    found.next().expect("it is there").read_to_string(&mut text).expect("text");
    assert_eq!(text, "first\n");
    assert!(names(&archives["1"]).contains(&"oci-layout".to_owned()));
    assert!(!names(&archives["0"]).iter().any(|name| name.contains("left-out")));
    let sent = client.directories.sent.lock().expect("no panic").clone();
    assert!(!sent.contains(&"context:left-out".to_owned()), "{sent:?}");
    daemon.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn privileged_only_what_is_new_and_needed_is_sent() {
    let Some(builder) = Builder::new() else { return };
    builder.write(
        "files/Dockerfile",
        "FROM busybox\nCOPY a.txt /\nCOPY sub /sub\nRUN cat /sub/c /a.txt\n",
    );
    for (name, content) in [("a.txt", "first\n"), ("sub/c", "third\n"), ("unneeded", "x")] {
        builder.write(&format!("files/{name}"), content);
    }
    let daemon = Daemon::start(&builder, &[]);
    let root = builder.path("files");
    let client = Client {
        shared_key: "files:one".to_owned(),
        ..Client::with(&[("context", &root), ("dockerfile", &root)])
    };
    let sent = || {
        let mut sent = std::mem::take(&mut *client.directories.sent.lock().expect("no panic"));
        sent.retain(|name| name.starts_with("context:"));
        sent.sort();
        sent
    };
    let first = client.build(&daemon.socket, Asked::default()).await;
    assert!(first.response.is_ok(), "{:?}", first.response);
    assert!(first.log().contains("third\nfirst\n"), "{}", first.log());
    assert_eq!(sent(), ["context:a.txt", "context:sub/c"]);

    let second = client.build(&daemon.socket, Asked::default()).await;
    assert_eq!(sent(), [""; 0]);
    let steps = second.steps();
    let is_run = |step: &&String| step.contains("] RUN");
    assert!(steps.iter().find(is_run).expect("there is one").ends_with("cached"), "{steps:?}");

    builder.write("files/a.txt", "other\n");
    let third = client.build(&daemon.socket, Asked::default()).await;
    assert_eq!(sent(), ["context:a.txt"]);
    assert!(third.log().contains("third\nother\n"), "{}", third.log());
    daemon.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn privileged_secrets_and_questions_go_over_the_session() {
    let Some(builder) = Builder::new() else { return };
    builder.write(
        "files/Dockerfile",
        "FROM busybox AS base\nARG V=1\nRUN --mount=type=secret,id=key wc -c </run/secrets/key\n",
    );
    let daemon = Daemon::start(&builder, &[]);
    let root = builder.path("files");
    let mut client = Client::with(&[("context", &root), ("dockerfile", &root)]);
    client.secrets.0.insert("key".to_owned(), b"twelve bytes".to_vec());
    let done = client.build(&daemon.socket, Asked::default()).await;
    assert!(done.response.is_ok(), "{:?}", done.response);
    assert!(done.log().contains("12\n"), "{}", done.log());
    for (call, expected) in [
        ("frontend.outline", "\"name\": \"V\""),
        ("frontend.targets", "\"name\": \"base\""),
        ("frontend.lint", "\"warnings\""),
        ("frontend.subrequests.describe", "frontend.outline"),
    ] {
        let options = [("requestid".to_owned(), call.to_owned())].into();
        let asked = Asked { options, ..Asked::default() };
        let done = client.build(&daemon.socket, asked).await;
        let result = done.result.expect("it is told");
        let json = String::from_utf8_lossy(&result.metadata["result.json"]).into_owned();
        assert!(json.contains(expected), "{call}: {json}");
        assert!(done.response.expect("nothing is built").is_empty());
    }
    daemon.stop();
}
