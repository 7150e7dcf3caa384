//! Caches at clouds for whom their services know: keys and tokens that are given out for a time.

use std::time::{Duration, SystemTime};

use data_encoding::BASE64URL_NOPAD;

use super::builder::Builder;
use super::engine_tls::make_certificates;
use super::object_store::{Kind, ObjectStore};
use super::outcome::Outcome;
use super::shared_cache::{command, world};
use super::web::Web;
use crate::server::{Reply, Seen};

/// What the services want to see.
const TOKEN: &str = "s-e-s-a-m-e";

fn keys(id: &str) -> String {
    let end = jiff::Timestamp::try_from(SystemTime::now() + Duration::from_secs(3600)).unwrap();
    format!(
        r#"{{"Code":"Success","AccessKeyId":"{id}","SecretAccessKey":"secret","Token":"{id}-session","Expiration":"{end}"}}"#
    )
}

/// The services of a container (`/keys`), of an instance and its one role (`/latest`).
fn services(seen: &Seen) -> Reply {
    let knows = |name: &str| seen.header(name) == Some(TOKEN);
    let role = "/latest/meta-data/iam/security-credentials/";
    match (seen.method.as_str(), seen.path()) {
        ("GET", "/keys") if knows("authorization") => Reply::ok(keys("CONTAINER")),
        ("PUT", "/latest/api/token")
            if seen.header("x-aws-ec2-metadata-token-ttl-seconds").is_some() =>
        {
            Reply::ok(TOKEN)
        }
        ("GET", path) if path == role && knows("x-aws-ec2-metadata-token") => Reply::ok("builder"),
        ("GET", path) if path.strip_prefix(role) == Some("builder") => {
            match knows("x-aws-ec2-metadata-token") {
                true => Reply::ok(keys("INSTANCE")),
                false => Reply::new(401, ""),
            }
        }
        ("GET", "/away") => Reply::redirect("/keys"),
        ("GET", "/html") => Reply::ok("<html>"),
        _ => Reply::new(403, "<Error><Code>AccessDenied</Code></Error>"),
    }
}

fn build(builder: &Builder, store: &str, words: &[&str], variables: &[(&str, &str)]) -> Outcome {
    builder.run_command(command(builder, store, words).envs(variables.iter().copied()))
}

#[test]
fn privileged_a_bucket_gets_keys_from_the_services_of_aws() {
    let Some(builder) = world() else { return };
    let Some(objects) = ObjectStore::start(&builder, Kind::S3) else { return };
    let web = Web::start(services);
    let cache = objects.cache_of_environment();
    builder.write("token", format!("{TOKEN}\n"));
    builder
        .write("config", "[profile ci]\naws_access_key_id = PROFILE\naws_secret_access_key = s\n");
    let file = |name: &str| builder.path(name).display().to_string();
    let (token, config, sts, full, own) =
        (file("token"), file("config"), objects.url(), web.url("/keys"), web.url(""));
    let no_proxy = ("no_proxy", "*");
    let container = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", full.as_str());
    let instance = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", own.as_str())];
    let identity = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/builder"),
        ("AWS_ENDPOINT_URL_STS", &sts),
    ];
    let (count, id) = (std::cell::Cell::new(0), "X-Amz-Credential=");
    for (variables, expected) in [
        (vec![("AWS_CONFIG_FILE", config.as_str()), ("AWS_PROFILE", "ci")], "PROFILE/"),
        (vec![container, ("AWS_CONTAINER_AUTHORIZATION_TOKEN", TOKEN)], "CONTAINER/"),
        (vec![container, ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token)], "CONTAINER/"),
        (instance.to_vec(), "INSTANCE/"),
        // Those of a session begin so.
        (identity.to_vec(), "ASIA"),
    ] {
        let store = |name: &str| format!("{name}{}", count.get());
        count.set(count.get() + 1);
        objects.asked(&builder);
        let to = format!("{cache},name={},mode=max", count.get());
        let variables = [&variables[..], &[no_proxy]].concat();
        build(&builder, &store("to"), &["--cache-to", &to], &variables).success();
        let from = format!("{cache},name={}", count.get());
        let found = build(&builder, &store("from"), &["--cache-from", &from], &variables).success();
        assert_eq!(found.ran(), Vec::<String>::new(), "{}", found.stderr);
        let asked = objects.asked(&builder);
        let mut signed = asked.lines().filter(|line| line.contains("ci/"));
        assert!(signed.clone().count() > 4, "{asked}");
        let key = format!("{id}{expected}");
        assert!(signed.all(|line| line.contains(&key)), "{variables:?}: {asked}");
        assert_eq!(asked.contains("X-Amz-Security-Token="), expected != "PROFILE/");
    }
    // One key for all requests of a build.
    let lines = web.take_lines();
    let given = lines.iter().filter(|line| line.ends_with("/keys") || line.ends_with("/builder"));
    assert_eq!(given.count(), 6, "{lines:#?}");
}

#[test]
fn privileged_a_service_that_gives_no_key_is_named() {
    let Some(builder) = world() else { return };
    let web = Web::start(services);
    let full = |path: &str| web.url(path);
    builder.write("token", TOKEN);
    let token = builder.path("token").display().to_string();
    let cache =
        "type=s3,bucket=bucket,region=here,endpoint_url=http://127.0.0.1:9,use_path_style=true";
    let container = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
    let none = full("");
    for (variables, told) in [
        (
            vec![(container, full("/keys"))],
            "failed to get an access key from 127.0.0.1: the server answered with status 403: AccessDenied",
        ),
        (vec![(container, full("/away"))], "status 307"),
        (vec![(container, full("/html"))], "127.0.0.1 gave something that is not an access key"),
        (
            vec![(container, "http://keys.example/x".to_owned())],
            "`http://keys.example/x` is not an address that credentials are sent to",
        ),
        (
            vec![
                ("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere".to_owned()),
                ("AWS_ROLE_ARN", "r".to_owned()),
                ("AWS_ENDPOINT_URL_STS", none.clone()),
            ],
            "failed to read the token in `/nowhere`",
        ),
        (
            vec![
                ("AWS_WEB_IDENTITY_TOKEN_FILE", token),
                ("AWS_ROLE_ARN", "r".to_owned()),
                ("AWS_ENDPOINT_URL_STS", none),
            ],
            "status 403: AccessDenied",
        ),
    ] {
        let mut variables: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        variables.push(("no_proxy", "*"));
        let missed = build(&builder, "one", &["--cache-from", cache], &variables).success();
        assert!(missed.stderr.contains(told), "{variables:?}: {}", missed.stderr);
        assert_eq!(missed.stderr.matches("\"type\":\"warning\"").count(), 1);
        assert!(!missed.stderr.contains(TOKEN), "{}", missed.stderr);
    }
}

/// A token that says what it has to, signed by nobody.
fn bearer() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let payload = format!(
        r#"{{"aud":"https://storage.azure.com","iss":"https://sts.windows.net/ab1f708d-50f6-404c-a006-d71b2ac7a606/","iat":{now},"nbf":{now},"exp":{},"ver":"1.0"}}"#,
        now + 3600
    );
    let part = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
    format!("{}.{}.{}", part(r#"{"typ":"JWT","alg":"RS256"}"#), part(&payload), part("nobody"))
}

/// Azure's directory, and the services that know a machine and an application.
fn directory(seen: &Seen) -> Reply {
    let form = String::from_utf8_lossy(&seen.body).into_owned();
    let says = |what: &str| form.contains(what) || seen.target.contains(what);
    let client = says("client_id=builder");
    let known = match seen.path() {
        "/home/oauth2/v2.0/token" => {
            let scope = says("scope=https%3A%2F%2Fstorage.azure.com%2F.default");
            let shown = says(&format!("client_secret={TOKEN}"))
                || says(&format!("client_assertion={TOKEN}")) && says("jwt-bearer");
            client && scope && shown
        }
        "/metadata/identity/oauth2/token" => seen.header("metadata") == Some("true"),
        "/msi" => client && seen.header("x-identity-header") == Some(TOKEN),
        _ => false,
    };
    match known {
        true => Reply::ok(format!(r#"{{"access_token":"{}","expires_in":"3599"}}"#, bearer())),
        false => Reply::new(401, r#"{"error":"invalid_client","error_description":"no"}"#),
    }
}

#[test]
fn privileged_a_container_lets_in_who_is_known_to_azures_directory() {
    let Some(builder) = world() else { return };
    if !make_certificates(&builder) {
        return;
    }
    let Some(objects) = ObjectStore::start(&builder, Kind::AzureWithTokens) else { return };
    let web = Web::start(directory);
    builder.write("token", TOKEN);
    let (file, ca) = (builder.path("token"), builder.path("tls/ca.pem"));
    let (file, ca) = (file.display().to_string(), ca.display().to_string());
    let (own, msi, cache) = (web.url(""), web.url("/msi"), objects.cache());
    let trusted = [("SSL_CERT_FILE", ca.as_str()), ("no_proxy", "*")];
    let client = ("AZURE_CLIENT_ID", "builder");
    let who = [("AZURE_AUTHORITY_HOST", own.as_str()), ("AZURE_TENANT_ID", "home"), client];
    for (number, variables) in [
        [&who[..], &[("AZURE_CLIENT_SECRET", TOKEN)]].concat(),
        [&who[..], &[("AZURE_FEDERATED_TOKEN_FILE", &file)]].concat(),
        vec![("AZURE_POD_IDENTITY_AUTHORITY_HOST", &own)],
        vec![("IDENTITY_ENDPOINT", &msi), ("IDENTITY_HEADER", TOKEN), client],
    ]
    .iter()
    .enumerate()
    {
        let variables = [&variables[..], &trusted[..]].concat();
        let to = format!("{cache},name=n{number},mode=max");
        build(&builder, &format!("to{number}"), &["--cache-to", &to], &variables).success();
        let from = format!("{cache},name=n{number}");
        let store = format!("from{number}");
        let found = build(&builder, &store, &["--cache-from", &from], &variables).success();
        assert_eq!(found.ran(), Vec::<String>::new(), "{}", found.stderr);
        // One token for all requests of a build.
        assert_eq!(web.take_lines().len(), 2, "{variables:?}");
    }
    let wrong = [&who[..], &[("AZURE_CLIENT_SECRET", "wrong")], &trusted[..]].concat();
    let missed = build(&builder, "other", &["--cache-from", &cache], &wrong).success();
    let told = "failed to get a token for Azure's storage from 127.0.0.1: the server answered with status 401: invalid_client";
    assert!(missed.stderr.contains(told), "{}", missed.stderr);
}
