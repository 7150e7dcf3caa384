//! Every build argument and variable that steers Docker, buildx or BuildKit, by the table.

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use engine::request::CacheLocation;
use engine::{
    AwsAccess, AzblobOptions, AzureAccess, AzureIdentity, ContainerToken, GhaOptions, GhaVersion,
    ManagedIdentity, S3Credentials,
};
use expect_test::expect_file;
use frontend_cli::build_args::{Build, resolve};
use frontend_cli::cli::Subcommand;
use frontend_cli::environment::Environment;
use frontend_cli::error::UsageError;
use frontend_cli::settings::{Place, SETTINGS, Setting, Stance};

/// What `--print=dag` shows of everything that an argument may change.
const DOCKERFILE: &str = "# syntax=docker/dockerfile:1
ARG SOURCE_DATE_EPOCH
FROM scratch AS Last
ARG BUILDPLATFORM BUILDOS BUILDOSVERSION BUILDARCH BUILDVARIANT SOURCE_DATE_EPOCH
ARG TARGETPLATFORM TARGETOS TARGETOSVERSION TARGETARCH TARGETVARIANT TARGETSTAGE
RUN --mount=type=cache,target=/cache env
";

/// A value that asks for something.
fn value(name: &str) -> &'static str {
    match name {
        "BUILDKIT_DOCKERFILE_CHECK" => "error=true",
        "BUILDKIT_PROGRESS" => "json",
        "DOCKER_CONFIG" => concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/docker"),
        "DOCKER_DEFAULT_PLATFORM" => "linux/arm64",
        _ => "7",
    }
}

/// The name itself, or one of those it stands for.
fn example(setting: &Setting) -> String {
    setting.name.replace('*', "X")
}

/// Those that the process looks at before or after the words have a meaning, those that only
/// `--ssh` and `--load` ask for (`arguments`, `e2e::engines` and `e2e::engine_tls` have them), and those of caches in
/// buckets (below).
fn is_outside(name: &str) -> bool {
    let is_outside = matches!(
        name,
        "CLICOLOR_FORCE"
            | "DOCKER_CERT_PATH"
            | "DOCKER_CONTEXT"
            | "DOCKER_HOST"
            | "DOCKER_TLS_VERIFY"
            | "MYBUILD_CONFIG"
            | "MYBUILD_LOAD"
            | "MYBUILD_ROOT"
            | "NO_COLOR"
            | "SSH_AUTH_SOCK"
    );
    is_outside
        || ["AWS_", "ACTIONS_", "AZURE_", "BUILDKIT_AZURE_", "IDENTITY_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

#[test]
fn a_bucket_takes_from_the_environment_what_its_attributes_do_not_say() {
    const ALL: [(&str, &str); 5] = [
        ("AWS_REGION", "region"),
        ("AWS_ENDPOINT_URL", "endpoint_url"),
        ("AWS_ACCESS_KEY_ID", "access_key_id"),
        ("AWS_SECRET_ACCESS_KEY", "secret_access_key"),
        ("AWS_SESSION_TOKEN", "session_token"),
    ];
    let locations = |attributes: &str, variables: &[(&str, &str)]| {
        let from = format!("type=s3,bucket=b{attributes}");
        let build = resolved(&["--cache-from", &from, "."], variables);
        build.map(|build| build.request.cache_from[0].location.clone())
    };
    let attributes: String =
        ALL.iter().map(|(_, attribute)| format!(",{attribute}=own-{attribute}")).collect();
    let variables: Vec<(&str, String)> =
        ALL.iter().map(|(name, attribute)| (*name, format!("own-{attribute}"))).collect();
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let given = locations(&attributes, &[]).unwrap();
    assert!(locations("", &variables).unwrap() == given);
    let other: Vec<(&str, &str)> = ALL.iter().map(|(name, _)| (*name, "other")).collect();
    assert!(locations(&attributes, &other).unwrap() == given);
    for left_out in 1..ALL.len() {
        let mut some = variables.clone();
        some.remove(left_out);
        assert!(locations("", &some).is_err() || locations("", &some).unwrap() != given);
    }
    let default = [("AWS_DEFAULT_REGION", "here")];
    assert!(locations("", &default).unwrap() == locations(",region=here", &[]).unwrap());
    assert!(locations("", &[]).unwrap_err().message.contains("`region` is missing"));
}

#[test]
fn a_container_takes_from_the_environment_what_its_attributes_do_not_say() {
    let location = |attributes: &str, variables: &[(&str, &str)]| {
        let from = format!("type=azblob,secret_access_key=hidden{attributes}");
        let build = resolved(&["--cache-from", &from, "."], variables)?;
        Ok::<_, UsageError>(build.request.cache_from[0].location.clone())
    };
    const ALL: [(&str, &str, &str); 4] = [
        ("BUILDKIT_AZURE_STORAGE_ACCOUNT_URL", "account_url", "https://of-host.blob.example"),
        ("BUILDKIT_AZURE_STORAGE_ACCOUNT_NAME", "account_name", "acct"),
        ("BUILDKIT_AZURE_STORAGE_CONTAINER", "container", "box"),
        ("BUILDKIT_AZURE_STORAGE_PREFIX", "prefix", "ci"),
    ];
    let options = AzblobOptions {
        account_url: "https://of-host.blob.example".to_owned(),
        account: "acct".to_owned(),
        access: AzureAccess::Key("hidden".to_owned()),
        container: "box".to_owned(),
        prefix: "ci".to_owned(),
        blobs_prefix: "blobs".to_owned(),
        manifests_prefix: "manifests".to_owned(),
        name: "buildkit".to_owned(),
    };
    let variables = ALL.map(|(variable, _, value)| (variable, value));
    let attributes: String =
        ALL.iter().map(|(_, attribute, value)| format!(",{attribute}={value}")).collect();
    let others = ALL.map(|(variable, ..)| (variable, "other"));
    let all = CacheLocation::Azblob(options.clone());
    assert_eq!(location("", &variables).as_ref(), Ok(&all));
    assert_eq!(location(&attributes, &others).as_ref(), Ok(&all));
    let (account, container) = ("of-host".to_owned(), "buildkit-cache".to_owned());
    let least = AzblobOptions { account, container, prefix: String::new(), ..options };
    assert_eq!(location("", &variables[..1]), Ok(CacheLocation::Azblob(least)));
    let message = location("", &variables[1..]).unwrap_err().message;
    assert!(message.contains("`account_url` is missing"), "{message}");

    let words = |url: &str| format!("type=azblob,account_url={url}");
    let refused = |text: &str| resolved(&["--cache-to", text, "."], &[]).unwrap_err().message;
    let message = refused(&words("https://a.example?sv=1&sig=hidden,name=a;b"));
    assert!(message.contains("want one name") && !message.contains("hidden"), "{message}");
    assert!(resolved(&["--cache-to", &words("https://a.example?sv=1&sig=x"), "."], &[]).is_ok());
}

#[test]
fn a_bucket_is_used_by_whom_the_tools_of_aws_find() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let config = "[default]\nregion=of-file\n[profile ci]\nregion=r\nrole_arn=role\nweb_identity_token_file=/t\n\
        [profile sso]\nregion=r\nsso_session=x\n[profile other]\nrole_arn=role\nsource_profile=ci\n";
    let config = file("config", config);
    let keys = file("keys", "[default]\naws_access_key_id=id\naws_secret_access_key=s\n");
    let home = directory.path().join("home").display().to_string();
    file("home/.aws/credentials", "[own]\naws_access_key_id=id\naws_secret_access_key=s\n");
    let key =
        AwsAccess::Key(S3Credentials { id: "id".to_owned(), secret: "s".to_owned(), token: None });
    let role = |endpoint: &str, file: &str, session: &str| AwsAccess::WebIdentity {
        endpoint: endpoint.to_owned(),
        token_file: file.into(),
        role: "role".to_owned(),
        session: session.to_owned(),
    };
    let container = |url: &str, token| AwsAccess::Container { url: url.to_owned(), token };
    let instance = |endpoint: &str| AwsAccess::Instance { endpoint: endpoint.to_owned() };
    let known = ("AWS_REGION", "r");
    let files = [("AWS_CONFIG_FILE", &*config), ("AWS_SHARED_CREDENTIALS_FILE", &*keys)];
    let identity = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/f"), ("AWS_ROLE_ARN", "role")];
    let sts = "https://sts.r.amazonaws.com";
    let value = Some(ContainerToken::Value("t".to_owned()));
    for (variables, expected) in [
        (vec![known], Ok(instance("http://169.254.169.254"))),
        (vec![known, ("AWS_EC2_METADATA_DISABLED", "True")], Ok(AwsAccess::Anonymous)),
        (
            vec![known, ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6")],
            Ok(instance("http://[fd00:ec2::254]")),
        ),
        (vec![known, ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://e")], Ok(instance("http://e"))),
        (
            vec![known, ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x")],
            Ok(container("http://169.254.170.2/v2/x", None)),
        ),
        (
            vec![
                known,
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://c"),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "t"),
            ],
            Ok(container("http://c", value)),
        ),
        (
            vec![
                known,
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://c"),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/f"),
            ],
            Ok(container("http://c", Some(ContainerToken::File("/f".into())))),
        ),
        ([&identity[..], &[known]].concat(), Ok(role(sts, "/f", "mybuild"))),
        (
            vec![
                known,
                identity[0],
                identity[1],
                ("AWS_ROLE_SESSION_NAME", "job"),
                ("AWS_ENDPOINT_URL_STS", "http://sts"),
            ],
            Ok(role("http://sts", "/f", "job")),
        ),
        (vec![known, identity[0]], Err("without a role")),
        ([&files[..], &[known]].concat(), Ok(key.clone())),
        (vec![files[0], files[1]], Ok(key.clone())),
        // The environment counts before a profile.
        ([&files[..], &identity[..], &[known]].concat(), Ok(role(sts, "/f", "mybuild"))),
        (vec![files[0], ("AWS_PROFILE", "ci")], Ok(role(sts, "/t", "mybuild"))),
        (
            vec![files[0], ("AWS_PROFILE", "sso")],
            Err("wants `sso_session`, which is not supported"),
        ),
        (vec![files[0], known, ("AWS_PROFILE", "other")], Err("wants `source_profile`")),
        (vec![files[0], ("AWS_PROFILE", "none")], Err("there is no profile `none`")),
        (vec![known, ("AWS_CONFIG_FILE", "/nowhere")], Err("failed to read `/nowhere`")),
        (vec![known, ("HOME", &home), ("AWS_PROFILE", "own")], Ok(key)),
    ] {
        let words = ["--cache-from", "type=s3,bucket=b", "."];
        let found = resolved(&words, &variables);
        match (expected, found) {
            (Ok(expected), Ok(build)) => {
                let CacheLocation::S3(options) = &build.request.cache_from[0].location else {
                    panic!("it is a bucket");
                };
                assert!(options.access == expected, "{variables:?}: {:?}", options.access);
            }
            (Err(told), Err(error)) => assert!(error.message.contains(told), "{}", error.message),
            (_, found) => panic!("{variables:?}: {:?}", found.map(|build| build.request)),
        }
    }
}

#[test]
fn a_container_is_used_by_whom_azures_libraries_find() {
    let (authority, tenant, client) =
        ("https://login.microsoftonline.com".to_owned(), "t".to_owned(), "c".to_owned());
    let secret = AzureIdentity::Secret {
        authority: authority.clone(),
        tenant: tenant.clone(),
        client: client.clone(),
        secret: "s".to_owned(),
    };
    let workload = AzureIdentity::Workload {
        authority: "https://own".to_owned(),
        tenant,
        client: client.clone(),
        token_file: "/f".into(),
    };
    let managed = |service, client| AzureIdentity::Managed { service, client };
    let machine = || ManagedIdentity::Machine { endpoint: "http://169.254.169.254".to_owned() };
    let application = ManagedIdentity::Application {
        endpoint: "http://127.0.0.1:1/msi/token".to_owned(),
        header: "h".to_owned(),
    };
    let who = [("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c")];
    let file = ("AZURE_FEDERATED_TOKEN_FILE", "/f");
    let own = ("AZURE_AUTHORITY_HOST", "https://own");
    for (variables, expected) in [
        (vec![who[0], who[1], ("AZURE_CLIENT_SECRET", "s"), file], Ok(secret)),
        (vec![who[0], who[1], file, own], Ok(workload)),
        (vec![who[0], who[1], ("AZURE_CLIENT_CERTIFICATE_PATH", "/c")], Err("not supported")),
        (vec![], Ok(managed(machine(), None))),
        (vec![who[1]], Ok(managed(machine(), Some(client)))),
        (
            vec![("IDENTITY_ENDPOINT", "http://127.0.0.1:1/msi/token"), ("IDENTITY_HEADER", "h")],
            Ok(managed(application, None)),
        ),
    ] {
        let words = ["--cache-from", "type=azblob,account_url=https://a.example", "."];
        match (expected, resolved(&words, &variables)) {
            (Ok(expected), Ok(build)) => {
                let CacheLocation::Azblob(options) = &build.request.cache_from[0].location else {
                    panic!("it is a container");
                };
                assert!(options.access == AzureAccess::Identity(expected), "{variables:?}");
            }
            (Err(told), Err(error)) => assert!(error.message.contains(told), "{}", error.message),
            (_, found) => panic!("{variables:?}: {:?}", found.map(|build| build.request)),
        }
    }
}

#[test]
fn a_job_of_actions_knows_its_cache_service() {
    use GhaVersion::{V1, V2};

    const FIRST: (&str, &str) = ("ACTIONS_CACHE_URL", "http://first");
    const RESULTS: (&str, &str) = ("ACTIONS_RESULTS_URL", "http://results");
    const SECOND: (&str, &str) = ("ACTIONS_CACHE_SERVICE_V2", "True");
    let github = "https://results-receiver.actions.githubusercontent.com/";
    let of_github = format!(",url={github}");
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<(&'a str, GhaVersion)>);
    let cases: &[Case<'_>] = &[
        ("", &[FIRST, RESULTS, SECOND], Some(("http://results", V2))),
        ("", &[FIRST, RESULTS], Some(("http://first", V1))),
        ("", &[RESULTS], Some(("http://results", V1))),
        ("", &[("ACTIONS_RESULTS_URL", github)], Some((github, V2))),
        ("", &[FIRST, SECOND], Some(("http://first", V1))),
        ("", &[FIRST, RESULTS, ("ACTIONS_CACHE_SERVICE_V2", "0")], Some(("http://first", V1))),
        ("", &[("ACTIONS_RESULTS_URL", "")], None),
        ("", &[], None),
        (",version=2", &[FIRST, RESULTS], Some(("http://results", V2))),
        (",version=1", &[FIRST, RESULTS, SECOND], Some(("http://first", V1))),
        (",url=http://own", &[FIRST, RESULTS], Some(("http://own", V1))),
        (",url=http://own,version=2", &[], Some(("http://own", V2))),
        (&of_github, &[], Some((github, V2))),
        (",url_v2=http://own", &[FIRST], Some(("http://own", V2))),
        (",url_v2=http://own,version=1", &[FIRST], Some(("http://first", V1))),
        (",version=3", &[FIRST], None),
    ];
    for (attributes, variables, expected) in cases {
        let from = format!("type=gha,scope=s,timeout=90s{attributes}");
        let with_token = [*variables, &[("ACTIONS_RUNTIME_TOKEN", "secret")]].concat();
        let found = resolved(&["--cache-from", &from, "."], &with_token);
        let found = found.ok().map(|build| build.request.cache_from[0].location.clone());
        let expected = expected.map(|(url, version)| {
            let (url, token) = (url.to_owned(), "secret".to_owned());
            let (scope, timeout) = ("s".to_owned(), Some(Duration::from_secs(90)));
            CacheLocation::Gha(GhaOptions { url, version, token, scope, timeout })
        });
        assert_eq!(found, expected, "{attributes} {variables:?}");
        let without = resolved(&["--cache-from", &from, "."], variables);
        assert!(without.is_err(), "{attributes} {variables:?}");
    }
}

#[test]
fn a_cache_has_no_secret_in_a_message() {
    for text in [
        "type=gha,url=http://x,token=hidden,mode=max,none=1",
        "type=s3,bucket=b,region=r,access_key_id=id,secret_access_key=hidden,none=1",
        "token=hidden",
    ] {
        let message = resolved(&["--cache-to", text, "."], &[]).unwrap_err().message;
        assert!(message.contains("=***") && !message.contains("hidden"), "{message}");
    }
}

/// What the words mean in an environment.
fn resolved(words: &[&str], variables: &[(&str, &str)]) -> Result<Build, UsageError> {
    let argv = ["mybuild"].iter().chain(words).map(Into::into).collect();
    let Ok(cli) = frontend_cli::read(argv) else { panic!("{words:?} are a command line") };
    let Subcommand::Build(args) = cli.command else { panic!("{words:?} are not a build") };
    let variables = variables.iter().chain(&[("TERM", "xterm")]);
    let environment = Environment {
        variables: variables.map(|(name, value)| ((*name).to_owned(), value.into())).collect(),
        engine_sockets: Vec::new(),
        stdin_is_terminal: true,
        stdout_is_terminal: true,
        stderr_is_terminal: true,
    };
    resolve(&args, &environment)
}

/// The same as text: everything and the warnings, or the error.
fn meaning(words: &[&str], variables: &[(&str, &str)]) -> Result<(String, Vec<String>), String> {
    let mut build =
        resolved(words, variables).map_err(|e| format!("{}: {:?}", e.message, e.hint))?;
    let warnings = std::mem::take(&mut build.warnings);
    Ok((format!("{build:?}"), warnings))
}

/// What the program does with `words` and `variables`.
fn outcome(words: &[&str], variables: &[(&str, &str)]) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("Dockerfile"), DOCKERFILE).expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_mybuild"))
        .env_clear()
        .env("MYBUILD_ROOT", directory.path().join("store"))
        .envs(variables.iter().copied())
        .args(["build", "--print=dag=json"])
        .args(words)
        .arg(".")
        .current_dir(directory.path())
        .output()
        .expect("mybuild runs");
    let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
    format!("{:?}\n{text}", output.status.code())
}

#[test]
fn every_setting_is_honoured_refused_named_or_meaningless() {
    let mut walked = 0;
    for setting in SETTINGS {
        let (name, value) = (example(setting), value(setting.name));
        if setting.place != Place::Argument && !is_outside(&name) {
            let tells = |value: &str, words: &[&str]| meaning(words, &[(&name, value)]);
            check(setting, &name, &tells(value, &["."]), &meaning(&["."], &[]));
            let words = ["--metadata-file", "x", "."];
            check_metadata(setting, &name, &tells(value, &words));
            assert_eq!(tells("", &["."]), meaning(&["."], &[]), "{name} is empty");
        }
        // Those that reach the process alone are in no graph, and that of git contexts changes no other
        // (`e2e::git` has it).
        let is_shown =
            name != "BUILDKIT_CONTEXT_KEEP_GIT_DIR" && !name.to_lowercase().ends_with("_proxy");
        if setting.place != Place::Variable && is_shown {
            let argument = format!("--build-arg={name}={value}");
            match setting.stance {
                Stance::Honoured(_) => {
                    assert_ne!(outcome(&[&argument], &[]), outcome(&[], &[]), "{name}");
                }
                _ => {
                    let plain = meaning(&[&format!("--build-arg={name}="), "."], &[]);
                    let plain = plain.map(|(build, told)| {
                        let (empty, full) =
                            (format!("{name:?}: \"\""), format!("{name:?}: {value:?}"));
                        (build.replace(&empty, &full), told)
                    });
                    check(setting, &name, &meaning(&[&argument, "."], &[]), &plain);
                }
            }
        }
        walked += 1;
    }
    assert!(walked > 60, "the walk found {walked} settings only");
}

type Meaning = Result<(String, Vec<String>), String>;

/// Compares what a setting does with what the table says; `plain` is without it.
fn check(setting: &Setting, name: &str, with: &Meaning, plain: &Meaning) {
    let (plain_build, plain_warnings) = plain.as_ref().expect("without it all is well");
    match (setting.stance, with) {
        (Stance::Refused(hint), Err(error)) => {
            assert!(error.contains(name) && error.contains(hint), "{name}: {error}");
        }
        (Stance::Honoured(_), Ok((build, _))) => assert_ne!(build, plain_build, "{name}"),
        // A value that it cannot have is noticed.
        (Stance::Honoured(_), Err(error)) => assert!(error.contains(name), "{name}: {error}"),
        (Stance::Unused(why), Ok((build, warnings))) => {
            assert_eq!(build, plain_build, "{name}");
            let [warning] = warnings.as_slice() else { panic!("{name}: {warnings:?}") };
            assert!(warning.contains(name) && warning.ends_with(why), "{name}: {warning}");
        }
        (Stance::Meaningless(_) | Stance::RefusedInMetadata(_), Ok((build, warnings))) => {
            assert_eq!((build, warnings), (plain_build, plain_warnings), "{name}");
        }
        (stance, with) => panic!("{name}: {stance:?}, but {with:?}"),
    }
}

fn check_metadata(setting: &Setting, name: &str, with: &Meaning) {
    let Stance::RefusedInMetadata(hint) = setting.stance else { return };
    let error = with.as_ref().expect_err(name);
    assert!(error.contains(name) && error.contains(hint), "{name}: {error}");
}

#[test]
fn what_the_process_looks_at_is_honoured() {
    let error = ("--build-arg=BUILDKIT_SYNTAX=other", ("CLICOLOR_FORCE", "1"));
    let told = |variables: &[(&str, &str)]| outcome(&[error.0], variables);
    assert_ne!(told(&[error.1]), told(&[]), "CLICOLOR_FORCE");
    assert_eq!(told(&[error.1, ("NO_COLOR", "1")]), told(&[]), "NO_COLOR");
    let nowhere = outcome(&[], &[("MYBUILD_ROOT", "/dev/null/x")]);
    assert!(nowhere.contains("/dev/null/x"), "{nowhere}");
    let no_file = outcome(&[], &[("MYBUILD_CONFIG", "/dev/null/x")]);
    assert!(no_file.contains("/dev/null/x"), "{no_file}");
}

#[test]
fn dockers_proxies_count_before_those_of_the_environment() {
    let docker = ("DOCKER_CONFIG", value("DOCKER_CONFIG"));
    let variables = [docker, ("http_proxy", "http://mine"), ("all_proxy", "http://all")];
    let (build, _) = meaning(&["--build-arg", "no_proxy=typed", "."], &variables).expect("good");
    let arguments = build.split("build_args: ").nth(1).and_then(|rest| rest.split('}').next());
    assert_eq!(
        arguments,
        Some(
            "{\"HTTPS_PROXY\": \"http://docker:2\", \"HTTP_PROXY\": \"http://docker:1\", \
             \"all_proxy\": \"http://all\", \"no_proxy\": \"typed\""
        )
    );
}

#[test]
fn the_page_lists_every_setting() {
    let mut page = "# Settings of Docker, buildx and BuildKit

Build arguments and environment variables that steer a build elsewhere, and what becomes of each here. *Honoured*: it does
what it does there. *Refused*: the build ends with exit code 2 unless the value turns it off (empty, `0`, `false`,
`disabled`). *Not used*: a warning says so. *No meaning*: it concerns something that there is not here. Any other `--build-arg`
is a value for an `ARG`, and a warning says so where no `ARG` has its name.

| name | set as | | |
|---|---|---|---|
"
    .to_owned();
    for setting in SETTINGS {
        let place = match setting.place {
            Place::Argument => "build argument",
            Place::Variable => "variable",
            Place::Both => "either",
        };
        let (stance, why) = match setting.stance {
            Stance::Honoured(what) => ("honoured", what),
            Stance::Refused(hint) => ("refused", hint),
            Stance::RefusedInMetadata(hint) => ("refused with `--metadata-file`", hint),
            Stance::Unused(why) => ("not used", why),
            Stance::Meaningless(why) => ("no meaning", why),
        };
        let _ = writeln!(page, "| `{}` | {place} | {stance} | {why} |", setting.name);
    }
    page.push_str(
        "\nThe proxies of Docker's `config.json` (`proxies.default`) are those of the environment, unless `--build-arg` gives\n\
         another: they reach the steps, but neither image nor cache. `mybuild run` sets them in the container, in both cases; there\n\
         the environment's own do not count, as for `docker run`.\n",
    );
    expect_file!["../../../docs/settings.md"].assert_eq(&page);
}

#[test]
fn settings_are_sorted() {
    assert!(SETTINGS.is_sorted_by_key(|setting| setting.name));
}
