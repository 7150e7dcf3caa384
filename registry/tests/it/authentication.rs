//! Who gets which credentials, and who does not.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use data_encoding::BASE64;
use registry::{Config, Credential, Credentials, ErrorKind, Registries};
use serde_json::{Value, json};

use crate::image::Image;
use crate::server::{Reply, Seen, Server};
use crate::{client_with, fetch, noise, reference};

const ALICE: &str = "alice:secret";

fn basic(account: &str) -> String {
    format!("Basic {}", BASE64.encode(account.as_bytes()))
}

fn alice() -> Credential {
    Credential::Basic { username: "alice".into(), password: "secret".into() }
}

/// A registry whose realm, at itself or elsewhere, hands out `token-SCOPE` for accepted accounts.
struct Protected {
    registry: Server,
    image: Image,
}

/// A token service: `account` (or a client without one, if there is none) gets a token.
fn token_service(seen: &Seen, account: Option<&str>) -> Reply {
    let allowed = match seen.method.as_str() {
        "POST" => String::from_utf8_lossy(&seen.body).contains("refresh_token=alice-refresh&"),
        _ => seen.header("authorization") == account.map(basic).as_deref(),
    };
    if allowed {
        Reply::ok(json!({"access_token": "granted", "expires_in": 300}).to_string())
    } else {
        Reply::new(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"bad account"}]}"#)
    }
}

impl Protected {
    /// Needs a token of the service at `realm`; its own service, at `/token`, accepts `account`.
    async fn start(account: Option<&'static str>, realm: Option<String>) -> Self {
        let image = Image::new(noise(1000));
        let here = Arc::new(OnceLock::<String>::new());
        let (host, content) = (Arc::clone(&here), image.clone());
        let registry = Server::start(move |seen| {
            if seen.path() == "/token" {
                return token_service(seen, account);
            }
            if seen.header("authorization") == Some("Bearer granted") {
                return content.answer(seen);
            }
            let realm =
                realm.clone().unwrap_or_else(|| format!("http://{}/token", host.get().unwrap()));
            let challenge = format!(
                "Bearer realm=\"{realm}\",service=\"the service\",scope=\"registry:catalog:*\""
            );
            Reply::new(401, "")
                .with("WWW-Authenticate", "Basic realm=\"x\"")
                .with("WWW-Authenticate", challenge)
        })
        .await;
        here.set(registry.host().to_owned()).unwrap();
        Self { registry, image }
    }

    fn host(&self) -> &str {
        self.registry.host()
    }

    /// The requests to the token service.
    fn asked(&self) -> Vec<Seen> {
        self.registry.seen().into_iter().filter(|seen| seen.path() == "/token").collect()
    }

    async fn pull(&self, client: &Registries) -> Result<(), ErrorKind> {
        client.manifest(&reference(self.host(), "app")).await.map_err(|error| error.kind())?;
        fetch(client, self.host(), &self.image.layer).await.map(drop).map_err(|error| error.kind())
    }
}

fn with(credentials: Credentials) -> Registries {
    client_with(Config::default(), credentials)
}

#[tokio::test]
async fn one_anonymous_token_serves_a_whole_pull() {
    let server = Protected::start(None, None).await;
    let client = with(Credentials::anonymous());
    assert_eq!(server.pull(&client).await, Ok(()));
    assert_eq!(server.pull(&client).await, Ok(()));
    let targets: Vec<_> = server.asked().into_iter().map(|seen| seen.target).collect();
    // Our own scope, whatever the challenge would like.
    assert_eq!(targets, ["/token?service=the+service&scope=repository%3Aapp%3Apull"]);
    let refused =
        server.registry.seen().iter().filter(|seen| seen.header("authorization").is_none()).count();
    assert_eq!(
        refused,
        2,
        "one request is refused, and one fetches the token: {:?}",
        server.registry.lines()
    );
}

#[tokio::test]
async fn an_account_gets_its_token() {
    let server = Protected::start(Some(ALICE), None).await;
    let client = with(Credentials::anonymous().with(server.host(), alice()));
    assert_eq!(server.pull(&client).await, Ok(()));
    assert!(server.asked()[0].target.ends_with("&account=alice"));
    assert_eq!(server.pull(&with(Credentials::anonymous())).await, Err(ErrorKind::Unauthorized));
    let mallory = Credential::Basic { username: "mallory".into(), password: "secret".into() };
    let client = with(Credentials::anonymous().with(server.host(), mallory));
    assert_eq!(server.pull(&client).await, Err(ErrorKind::Unauthorized));
}

#[tokio::test]
async fn an_identity_token_is_exchanged() {
    let server = Protected::start(Some(ALICE), None).await;
    let token = Credential::IdentityToken("alice-refresh".into());
    assert_eq!(
        server.pull(&with(Credentials::anonymous().with(server.host(), token))).await,
        Ok(())
    );
    let body = String::from_utf8(server.asked()[0].body.clone()).unwrap();
    let expected = "grant_type=refresh_token&refresh_token=alice-refresh&client_id=mybuild\
                    &scope=repository%3Aapp%3Apull&service=the+service";
    assert_eq!(body, expected);
}

#[tokio::test]
async fn a_revoked_token_is_replaced_once() {
    let image = Image::new(noise(10));
    let here = Arc::new(OnceLock::<String>::new());
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (host, tokens) = (Arc::clone(&here), Arc::clone(&count));
    let server = Server::start(move |seen| {
        use std::sync::atomic::Ordering::Relaxed;
        if seen.path() == "/token" {
            return Reply::ok(
                json!({"token": format!("t{}", tokens.fetch_add(1, Relaxed))}).to_string(),
            );
        }
        // Each token is good for one request.
        let newest = format!("Bearer t{}", tokens.load(Relaxed).wrapping_sub(1));
        if seen.header("authorization") == Some(&newest) {
            tokens.fetch_add(1, Relaxed);
            return image.answer(seen);
        }
        let challenge = format!("Bearer realm=\"http://{}/token\"", host.get().unwrap());
        Reply::new(401, "").with("WWW-Authenticate", challenge)
    })
    .await;
    here.set(server.host().to_owned()).unwrap();
    let client = with(Credentials::anonymous());
    for _ in 0..3 {
        client.manifest(&reference(server.host(), "app")).await.unwrap();
    }
}

#[tokio::test]
async fn credentials_never_cross_to_another_host() {
    let bytes = noise(1000);
    let blob = bytes.clone();
    let store = Server::start(move |seen| Reply::part(seen, &blob)).await;
    let target = format!("http://{}/blob", store.host());
    let server = Server::start(move |seen| match (seen.path(), seen.header("authorization")) {
        ("/v2/", _) => Reply::ok("{}"),
        (_, Some(account)) if account == basic(ALICE) => Reply::redirect(target.clone()),
        _ => Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"here\""),
    })
    .await;
    let client = with(Credentials::anonymous().with(server.host(), alice()));
    assert!(fetch(&client, server.host(), &bytes).await.unwrap().0 == bytes);
    assert_eq!(store.seen().len(), 1);
    assert!(store.seen().iter().all(|seen| seen.header("authorization").is_none()));
    // Nor does an upload that is to go elsewhere carry them.
    let target = format!("http://{}/upload", store.host());
    let server =
        Server::start(move |seen| match (seen.method.as_str(), seen.header("authorization")) {
            ("HEAD", Some(_)) => Reply::not_found(),
            ("POST", Some(_)) => Reply::new(202, "").with("Location", target.clone()),
            _ if seen.path() == "/v2/" => Reply::ok("{}"),
            _ => Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"here\""),
        })
        .await;
    let client = with(Credentials::anonymous().with(server.host(), alice()));
    let descriptor = oci::Descriptor::new("", oci::Digest::of(&bytes), bytes.len() as u64);
    let source: Arc<dyn http_client::BodySource> = Arc::new(tokio_util::bytes::Bytes::from(bytes));
    client
        .push_blob(&reference(server.host(), "app"), &descriptor, None, None, source)
        .await
        .unwrap();
    let put = store.seen().pop().unwrap();
    assert_eq!(
        (put.method.as_str(), put.body.len(), put.header("authorization")),
        ("PUT", 1000, None)
    );
}

#[tokio::test]
async fn a_token_service_is_trusted_only_where_it_is_safe() {
    for realm in [
        "http://203.0.113.7/token",
        "file:///etc/passwd",
        "not a url",
        "http://169.254.169.254/token",
    ] {
        let server = Protected::start(Some(ALICE), Some(realm.to_owned())).await;
        let client = with(Credentials::anonymous().with(server.host(), alice()));
        assert_eq!(server.pull(&client).await, Err(ErrorKind::InvalidAnswer), "{realm}");
    }
}

#[tokio::test]
async fn a_token_service_elsewhere_is_not_told_who_the_user_is() {
    for account in [None, Some(ALICE)] {
        let service = Server::start(move |seen| token_service(seen, account)).await;
        // The same machine by another name, which is all that a registry's word can be checked for.
        let realm = format!("http://{}/token", service.host().replace("127.0.0.1", "localhost"));
        let server = Protected::start(None, Some(realm)).await;
        for credential in [alice(), Credential::IdentityToken("alice-refresh".into())] {
            let client = with(Credentials::anonymous().with(server.host(), credential));
            let pulled = client.manifest(&reference(server.host(), "app")).await;
            match account {
                // A client without an account gets what there is for everybody.
                None => assert!(pulled.is_ok()),
                Some(_) => {
                    let error = pulled.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Unauthorized);
                    let text = error.cause().to_string();
                    assert!(text.contains("were not sent to `localhost`"), "{text}");
                }
            }
        }
        for seen in service.seen() {
            assert_eq!((seen.method.as_str(), seen.header("authorization")), ("GET", None));
            assert!(!seen.target.contains("alice"), "{}", seen.target);
        }
    }
}

#[tokio::test]
async fn a_registry_that_takes_only_passwords_says_whose_it_wants() {
    let server =
        Server::start(|_| Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"here\""))
            .await;
    let error = with(Credentials::anonymous())
        .manifest(&reference(server.host(), "app"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    let text = error.cause().to_string().replace(server.host(), "HOST");
    assert_eq!(text, "authentication required: no credentials for `HOST`");
}

/// What a `config.json` gives for a host and repository; helpers live in `directory`.
async fn check_file(directory: &Path, config: &Value, host: &str, path: &str, expected: &str) {
    let file = directory.join("config.json");
    std::fs::write(&file, config.to_string()).unwrap();
    let credentials = Credentials::from_files(vec![directory.join("absent.json"), file]);
    let found = match credentials.get(host, path).await {
        Ok(Some(Credential::Basic { username, password })) => format!("{username}:{password}"),
        Ok(Some(Credential::IdentityToken(token))) => format!("token {token}"),
        Ok(None) => "nobody".to_owned(),
        Err(error) => error.to_string(),
    };
    assert!(found.starts_with(expected), "{host}/{path} of {config}: {found}, not {expected}");
}

#[tokio::test]
async fn docker_s_and_podman_s_files_are_understood() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let auth = |account: &str| json!({"auth": BASE64.encode(account.as_bytes())});
    let config = json!({"auths": {
        "https://index.docker.io/v1/": auth("hub:p"),
        "registry.example:5000": auth("a:p:with:colons"),
        "https://old.example/v2/": auth("old:p"),
        "quay.example": auth("all:p"),
        "quay.example/team": auth("team:p"),
        "token.example": {"identitytoken": "t"},
        "empty.example": {},
    }});
    for (host, path, expected) in [
        ("docker.io", "library/alpine", "hub:p"),
        ("registry.example:5000", "app", "a:p:with:colons"),
        ("registry.example", "app", "nobody"),
        ("old.example", "app", "old:p"),
        ("quay.example", "other/app", "all:p"),
        ("quay.example", "team/app", "team:p"),
        ("quay.example", "teamwork/app", "all:p"),
        ("token.example", "app", "token t"),
        ("empty.example", "app", "nobody"),
        ("unknown.example", "app", "nobody"),
    ] {
        check_file(directory, &config, host, path, expected).await;
    }
    check_file(directory, &json!({}), "docker.io", "library/alpine", "nobody").await;
    check_file(directory, &json!([]), "docker.io", "library/alpine", "failed to parse `").await;
    let broken = json!({"auths": {"x.example": {"auth": "!"}}});
    check_file(
        directory,
        &broken,
        "x.example",
        "app",
        "failed to get the credentials for `x.example`",
    )
    .await;
}

#[tokio::test]
async fn helpers_that_fail_do_not_stand_in_the_way_of_public_images() {
    let server = Protected::start(None, None).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.json");
    std::fs::write(&file, json!({"credsStore": "is-not-installed"}).to_string()).unwrap();
    let credentials = Credentials::from_files(vec![file]);
    assert!(credentials.get(server.host(), "app").await.is_err());
    assert_eq!(server.pull(&with(credentials.clone())).await, Ok(()));
    // A private image tells of the helper rather than of the missing account.
    let server = Protected::start(Some(ALICE), None).await;
    assert_eq!(server.pull(&with(credentials)).await, Err(ErrorKind::Configuration));
}

#[test]
fn helpers_are_asked_for_stored_credentials() {
    // Helpers are found on the path, which only a process of its own may change.
    let directory = tempfile::tempdir().unwrap();
    let helper = directory.path().join("docker-credential-test");
    let script = "#!/bin/sh\nread server\ncase $server in\n\
        known.example) echo '{\"Username\":\"u\",\"Secret\":\"s\"}';;\n\
        token.example) echo '{\"Username\":\"<token>\",\"Secret\":\"t\"}';;\n\
        broken.example) echo 'the key\tring is locked' >&2; exit 1;;\n\
        *) echo 'credentials not found in native keychain'; exit 1;;\nesac\n";
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "authentication::helper_process", "--nocapture"])
        .env("PATH", path)
        .env("MYBUILD_TEST_HELPERS", directory.path())
        .status();
    assert!(status.unwrap().success());
}

/// The other half of the test above; on its own it has nothing to do.
#[tokio::test]
async fn helper_process() {
    let Some(directory) = std::env::var_os("MYBUILD_TEST_HELPERS") else { return };
    let directory = Path::new(&directory);
    let store = json!({"credsStore": "test", "auths": {"known.example": {}}});
    let helpers = json!({"credHelpers": {"known.example": "test"}});
    for (config, host, expected) in [
        (&store, "known.example", "u:s"),
        (&store, "token.example", "token t"),
        (&store, "unknown.example", "nobody"),
        (
            &store,
            "broken.example",
            "credential helper for `broken.example` failed: `docker-credential-test`: the key",
        ),
        (&helpers, "known.example", "u:s"),
        (&helpers, "token.example", "nobody"),
    ] {
        check_file(directory, config, host, "app", expected).await;
    }
}
