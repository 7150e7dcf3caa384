//! What fails, and what clients are told.

use daemon::wire::control::{CacheOptions, CacheOptionsEntry};
use daemon::wire::rpc;

use super::builds::exporter;
use super::client::{Asked, Client};
use super::daemon::Daemon;
use crate::e2e::builder::Builder;

/// The details of a status: kind and JSON.
fn details(status: &tonic::Status) -> Vec<(String, serde_json::Value)> {
    let decoded: rpc::Status = prost::Message::decode(status.details()).expect("a status");
    assert_eq!((decoded.message.as_str(), decoded.code), (status.message(), status.code() as i32));
    let details = decoded.details.into_iter();
    details.map(|any| (any.type_url, serde_json::from_slice(&any.value).expect("JSON"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn privileged_errors_say_where_they_are() {
    let Some(builder) = Builder::new() else { return };
    let daemon = Daemon::start(&builder, &[]);
    let root = builder.path("files");
    let client = Client::with(&[("context", &root), ("dockerfile", &root)]);
    builder.write("files/Dockerfile", "FROM busybox\nCOPPY a b\n");
    let done = client.build(&daemon.socket, Asked::default()).await;
    let wrong = done.result.expect_err("it is wrong");
    assert_eq!(
        wrong.message(),
        "dockerfile parse error on line 2: unknown instruction: COPPY (did you mean COPY?)"
    );
    let of_dockerfile = details(&wrong);
    assert_eq!(of_dockerfile[0].0, "github.com/moby/buildkit/errdefs.Source+json");
    assert_eq!(of_dockerfile[0].1["ranges"][0]["start"]["line"], 2);
    // What the client has returned is what the build ends with.
    let returned = done.response.expect_err("it fails");
    assert_eq!(details(&returned), of_dockerfile);

    builder.write("files/Dockerfile", "FROM busybox\nRUN exit 3\n");
    let done = client.build(&daemon.socket, Asked::default()).await;
    assert!(done.result.is_ok());
    let failed = done.response.expect_err("it fails");
    let expected = "process \"/bin/sh -c exit 3\" did not complete successfully: exit code: 3";
    assert_eq!(failed.message(), expected);
    let of_step = details(&failed);
    assert_eq!(of_step[0].1["ranges"][0]["start"]["line"], 2);
    assert_eq!(of_step[1].0, "github.com/moby/buildkit/gatewayapi.ExitMessage+json");
    assert_eq!(of_step[1].1["Code"], 3);
    let vertexes = done.messages.iter().flat_map(|message| &message.vertexes);
    assert!(vertexes.into_iter().any(|vertex| vertex.error == expected));
    daemon.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn privileged_what_is_not_built_is_refused_by_name() {
    let Some(builder) = Builder::new() else { return };
    let daemon = Daemon::start(&builder, &[]);
    builder.write("files/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let root = builder.path("files");
    let client = Client::with(&[("context", &root), ("dockerfile", &root)]);
    for (name, value, expected) in [
        ("nonsense", "1", "`--opt nonsense` is not supported"),
        ("context:x", "/etc", "context `x`: `/etc` is not a source"),
        ("context:x", "oci-layout://a", "context `x`: `oci-layout://a` names no digest"),
        ("context", "/etc", "context `/etc` is not an address"),
        ("force-network-mode", "host", "network.host is not allowed"),
        ("frontend.caps", "moby.buildkit.frontend.magic", "unsupported frontend capability"),
        ("requestid", "frontend.magic", "unsupported request frontend.magic"),
        ("attest:sbom", "", "`--opt attest:sbom` is not supported"),
    ] {
        let options = [(name.to_owned(), value.to_owned())].into();
        let done = client.build(&daemon.socket, Asked { options, ..Asked::default() }).await;
        let refused = done.result.expect_err("it is refused");
        assert!(refused.message().contains(expected), "{name}: {refused:?}");
        assert_eq!(done.response.expect_err("it fails").message(), refused.message());
    }
    let attrs = |name: &str, value: &str| [(name.to_owned(), value.to_owned())].into();
    let cache = |kind: &str, attrs| CacheOptions {
        imports: vec![CacheOptionsEntry { r#type: kind.to_owned(), attrs }],
        ..CacheOptions::default()
    };
    for (exporters, cache, expected) in [
        (vec![exporter("oci", &[("dest", "/etc/x")])], CacheOptions::default(), "`dest` of"),
        (vec![exporter("magic", &[])], CacheOptions::default(), "unknown type `magic`"),
        (vec![], cache("local", attrs("src", "/etc")), "`type=local` are not supported"),
        (vec![], cache("registry", attrs("verify", "/etc/shadow")), "`verify` are not supported"),
    ] {
        let done =
            client.build(&daemon.socket, Asked { exporters, cache, ..Asked::default() }).await;
        let refused = done.result.expect_err("it is refused");
        assert!(refused.message().contains(expected), "{refused:?}");
    }
    daemon.stop();
}
