//! Builds over the socket.

use std::io::Read as _;

use daemon::wire::control::Exporter;

use super::client::{Asked, Client};
use super::daemon::Daemon;
use crate::e2e::builder::Builder;

fn exporter(kind: &str, attrs: &[(&str, &str)]) -> Exporter {
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
