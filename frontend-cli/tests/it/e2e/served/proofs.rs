//! What proves to others who the client is: credentials for registries, and agents.

use std::process::{Command, Stdio};

use super::builds::exporter;
use super::client::{Asked, Client};
use super::daemon::Daemon;
use crate::docker_registry::{Registry, with_passwords};
use crate::e2e::builder::Builder;
use crate::e2e::ssh::{is_installed, make_client, make_key};

#[tokio::test(flavor = "multi_thread")]
async fn privileged_a_push_has_the_clients_credentials() {
    let Some(registry) = Registry::start(with_passwords) else { return };
    let Some(builder) = Builder::new() else { return };
    builder.write("files/Dockerfile", "FROM busybox\nRUN echo pushed >/told\n");
    let daemon = Daemon::start(&builder, &[]);
    let root = builder.path("files");
    let mut client = Client::with(&[("context", &root), ("dockerfile", &root)]);
    let name = format!("{}/app:1", registry.host);
    let exporters = vec![exporter("image", &[("name", &name), ("push", "true")])];
    let asked = Asked { exporters, ..Asked::default() };
    let refused = client.build(&daemon.socket, asked.clone()).await.response;
    let refused = refused.expect_err("there are no credentials");
    assert!(refused.message().contains("authentication required"), "{refused:?}");
    client.login.known = Some(("alice".to_owned(), "secret".to_owned()));
    let done = client.build(&daemon.socket, asked).await;
    let response = done.response.expect("it is pushed");
    assert_eq!(response["image.name"], name);
    let asked = client.login.asked.lock().expect("no panic").clone();
    assert!(asked.iter().all(|host| *host == registry.host), "{asked:?}");
    daemon.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn privileged_steps_use_the_clients_agent() {
    if !is_installed() {
        return;
    }
    let Some(builder) = Builder::new() else { return };
    make_client(&builder);
    make_key(&builder, "key", &["-t", "ed25519"]);
    builder.write("files/Dockerfile", "FROM client\nRUN --mount=type=ssh,required ssh-add -L\n");
    let socket = builder.path("agent.sock");
    let mut agent = Command::new("ssh-agent")
        .args(["-D", "-a"])
        .arg(&socket)
        .stdout(Stdio::null())
        .spawn()
        .expect("it is installed");
    while !socket.exists() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let added = Command::new("ssh-add")
        .arg(builder.path("key"))
        .env("SSH_AUTH_SOCK", &socket)
        .stderr(Stdio::null())
        .status();
    assert!(added.expect("it is installed").success());
    let daemon = Daemon::start(&builder, &[]);
    let root = builder.path("files");
    let mut client = Client::with(&[("context", &root), ("dockerfile", &root)]);
    let refused = client.build(&daemon.socket, Asked::default()).await.response;
    assert!(refused.expect_err("there is no agent").message().contains("ssh"));
    client.agent.0 = Some(socket);
    let done = client.build(&daemon.socket, Asked::default()).await;
    agent.kill().expect("an own child");
    agent.wait().expect("an own child");
    let public = builder.read("key.pub");
    let key = public.split_whitespace().nth(1).expect("a key");
    assert!(done.log().contains(key), "{:?} {}", done.response, done.log());
    daemon.stop();
}
