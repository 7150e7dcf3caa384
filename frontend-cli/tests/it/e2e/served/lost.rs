//! Clients that vanish, and some that never say a word.

use std::time::Duration;

use daemon::wire::control::control_client::ControlClient;
use daemon::wire::control::{ListWorkersRequest, StatusRequest};

use super::client::{Asked, Client, channel, drive};
use super::daemon::Daemon;
use crate::e2e::builder::Builder;

/// Whether a process of the machine has these words.
fn runs(words: &str) -> bool {
    let processes = std::fs::read_dir("/proc").expect("Linux has it").flatten();
    processes
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .any(|line| String::from_utf8_lossy(&line).replace('\0', " ").contains(words))
}

async fn until(what: impl Fn() -> bool) {
    for _ in 0..300 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it has not come to that in 30 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn privileged_a_client_that_vanishes_leaves_nothing() {
    let Some(builder) = Builder::new() else { return };
    builder.write("files/Dockerfile", "FROM busybox\nRUN sleep 7654.5\n");
    let daemon = Daemon::start(&builder, &[]);
    let root = builder.path("files");
    let client = Client::with(&[("context", &root), ("dockerfile", &root)]);
    let elsewhere = tokio::runtime::Runtime::new().expect("threads");
    let (socket, vanishing) = (daemon.socket.clone(), client.clone());
    elsewhere.spawn(async move { vanishing.build(&socket, Asked::default()).await });
    until(|| runs("sleep 7654.5")).await;
    // With all its connections.
    elsewhere.shutdown_background();
    until(|| !runs("sleep 7654.5")).await;

    // Its session ends, and the build is told so.
    let channel = channel(&daemon.socket).await;
    let session = client.open(&channel).await;
    let frames = session.frames.clone();
    let building = {
        let channel = channel.clone();
        tokio::spawn(async move { drive(&channel, &session, Asked::default()).await })
    };
    until(|| runs("sleep 7654.5")).await;
    frames.close();
    let done = building.await.expect("no panic");
    assert_eq!(done.response.expect_err("it is lost").code(), tonic::Code::Cancelled);
    until(|| !runs("sleep 7654.5")).await;

    builder.write("files/Dockerfile", "FROM busybox\nRUN echo still here\n");
    let done = client.build(&daemon.socket, Asked::default()).await;
    assert!(done.log().contains("still here"), "{:?}", done.response);
    daemon.stop();
    let left = std::fs::read_dir(builder.store().join("tmp-v1")).expect("a directory").count();
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn privileged_silent_connections_keep_nobody_out() {
    let Some(builder) = Builder::new() else { return };
    let daemon = Daemon::start(&builder, &[]);
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(std::os::unix::net::UnixStream::connect(&daemon.socket).expect("taken"));
    }
    let channel = channel(&daemon.socket).await;
    let mut control = ControlClient::new(channel);
    let workers = control.list_workers(ListWorkersRequest::default()).await.expect("answered");
    assert_eq!(workers.into_inner().record.len(), 1);
    let asked = StatusRequest { r#ref: "nobody".to_owned() };
    let unknown = control.status(asked).await.expect_err("there is none");
    assert_eq!(unknown.code(), tonic::Code::NotFound);
    drop(silent);
    daemon.stop();
}
