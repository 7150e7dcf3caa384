//! Mirrors stand in for a registry, and give way to it.

use oci::Digest;
use registry::{Config, Credentials, ErrorKind, HostConfig, Registries};

use crate::image::Image;
use crate::server::{Reply, Server};
use crate::{client_with, fetch, noise, reference};

pub(crate) fn mirrored_by(mirrors: &[&str]) -> HostConfig {
    HostConfig {
        mirrors: mirrors.iter().map(|mirror| (*mirror).to_owned()).collect(),
        ..HostConfig::default()
    }
}

fn client_for(domain: &str, mirrors: &[&str]) -> Registries {
    let config =
        Config { hosts: [(domain.to_owned(), mirrored_by(mirrors))].into(), ..Config::default() };
    client_with(config, Credentials::anonymous())
}

async fn serve(image: &Image) -> Server {
    let image = image.clone();
    Server::start(move |seen| image.answer(seen)).await
}

#[tokio::test]
async fn a_mirror_s_answer_is_enough() {
    let image = Image::new(noise(1000));
    let mirror = serve(&image).await;
    let client = client_for("mirrored.example", &[mirror.host()]);
    let (descriptor, _) = client.manifest(&reference("mirrored.example", "app")).await.unwrap();
    assert_eq!(descriptor.digest, Digest::of(&image.manifest));
    assert_eq!(mirror.lines(), ["GET /v2/app/manifests/latest?ns=mirrored.example"]);
    assert!(fetch(&client, "mirrored.example", &image.layer).await.unwrap().0 == image.layer);
}

#[tokio::test]
async fn the_registry_is_asked_for_what_a_mirror_cannot_give() {
    let image = Image::new(noise(1000));
    let origin = serve(&image).await;
    let empty = Server::start(|_| Reply::not_found()).await;
    let limited = Server::start(|_| Reply::new(403, "")).await;
    let wrong = Server::start(|seen| match seen.path() {
        "/v2/" => Reply::ok("{}"),
        _ => Reply::ok(noise(1000)).with("Content-Type", "text/html"),
    })
    .await;
    for mirror in [empty.host(), limited.host(), wrong.host(), "127.0.0.1:1", "not a host"] {
        let client = client_for(origin.host(), &[mirror]);
        let reference = reference(origin.host(), "app");
        assert_eq!(client.resolve(&reference).await.unwrap().host, origin.host(), "{mirror}");
        assert!(client.manifest(&reference).await.is_ok(), "{mirror}");
        // The bytes of `wrong` have the right length, and turn out wrong only at the end.
        let blob = Image::new(noise(1000)).layer.into_iter().rev().collect::<Vec<_>>();
        assert_eq!(
            fetch(&client, origin.host(), &blob).await.unwrap_err().kind(),
            ErrorKind::NotFound
        );
        assert!(
            fetch(&client, origin.host(), &image.config).await.unwrap().0 == image.config,
            "{mirror}"
        );
    }
}

#[tokio::test]
async fn an_error_tells_what_the_mirrors_said() {
    let origin = Server::start(|_| Reply::not_found()).await;
    let mirror =
        Server::start(|_| Reply::new(403, r#"{"errors":[{"code":"DENIED","message":"go away"}]}"#))
            .await;
    let client = client_for(origin.host(), &[mirror.host()]);
    let error = client.resolve(&reference(origin.host(), "app:1")).await.unwrap_err();
    let text = error.to_string().replace(origin.host(), "ORIGIN").replace(mirror.host(), "MIRROR");
    assert_eq!(
        text,
        "failed to resolve `ORIGIN/app:1` at `ORIGIN` (mirror `MIRROR`: access denied)"
    );
    assert_eq!(error.kind(), ErrorKind::NotFound);
    // The cause of a cause, too.
    let client = client_for(origin.host(), &["not a host"]);
    let error = client.resolve(&reference(origin.host(), "app:1")).await.unwrap_err().to_string();
    let expected =
        "(mirror `not a host`: `not a host` is not a host: invalid international domain name)";
    assert!(error.ends_with(expected), "{error}");
}

#[tokio::test]
async fn a_mirror_may_keep_its_repositories_below_a_path() {
    let mirror = Server::start(|_| Reply::not_found()).await;
    let with_path = format!("http://{}/proxy/cache/", mirror.host());
    let client = client_for(mirror.host(), &[&with_path]);
    assert!(client.resolve(&reference(mirror.host(), "app:1")).await.is_err());
    let namespace = mirror.host().replace(':', "%3A");
    let lines = [
        format!("HEAD /v2/proxy/cache/app/manifests/1?ns={namespace}"),
        "HEAD /v2/app/manifests/1".to_owned(),
    ];
    assert_eq!(mirror.lines(), lines);
}

#[test]
fn host_tables_are_read_strictly() {
    let table = r#"{"mirrors": ["127.0.0.1:5000"], "http": true, "insecure": false, "ca": ["/ca.pem"],
        "keypair": [{"key": "/k.pem", "cert": "/c.pem"}]}"#;
    let host: HostConfig = serde_json::from_str(table).unwrap();
    assert_eq!((host.mirrors.len(), host.http, host.keypair.len()), (1, Some(true), 1));
    assert_eq!(serde_json::from_str::<HostConfig>("{}").unwrap(), HostConfig::default());
    let error = serde_json::from_str::<HostConfig>(r#"{"mirror": []}"#).unwrap_err();
    assert!(error.to_string().starts_with("unknown field `mirror`"), "{error}");
}
