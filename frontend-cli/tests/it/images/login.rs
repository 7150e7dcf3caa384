//! Logging in to registries, and out of them.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::run::{read_until, terminal};
use super::world::{World, stderr, stdout};
use crate::docker_registry::{
    IDENTITY, Registry, TokenService, certificate, has, with_passwords, with_tls, with_tokens,
};
use crate::e2e::web::Web;
use crate::server::Reply;

/// `alice:secret` in base64.
const ALICE: &str = "YWxpY2U6c2VjcmV0";

/// Runs `mybuild` with the Docker configuration in `docker`.
fn run(world: &World, words: &[&str], stdin: &str) -> Output {
    let mut command = command(world, words);
    let mut child = command.spawn().expect("mybuild runs");
    let _ = child.stdin.take().expect("a pipe").write_all(stdin.as_bytes());
    child.wait_with_output().expect("mybuild ends")
}

fn command(world: &World, words: &[&str]) -> Command {
    let mut command = world.command(words);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = format!("{}:{}", world.path("bin").display(), path.to_str().expect("UTF-8"));
    command.env("DOCKER_CONFIG", world.path("docker")).env("PATH", path);
    command
}

#[track_caller]
fn logs_in(world: &World, words: &[&str], stdin: &str) -> String {
    let output = run(world, words, stdin);
    assert_eq!(stdout(&output), "Login Succeeded\n", "{words:?}: {}", stderr(&output));
    stderr(&output)
}

fn config(world: &World) -> Value {
    let text = fs::read(world.path("docker/config.json")).expect("it is there");
    serde_json::from_slice(&text).expect("JSON")
}

#[test]
fn a_login_changes_its_entry_of_dockers_file_alone() {
    let Some(world) = World::new() else { return };
    let Some(registry) = Registry::start(with_passwords) else { return };
    let host = registry.host.as_str();
    // A file elsewhere that others may read, behind a link.
    fs::create_dir_all(world.path("docker")).expect("made");
    let (link, file) = (world.path("docker/config.json"), world.path("real.json"));
    let other = json!({"auths": {"r.example": {"auth": "eDp5"}}, "proxies": {"default": {}}, "psFormat": "x"});
    fs::write(&file, other.to_string()).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("set");
    symlink("../real.json", &link).expect("linked");
    let before = fs::read(&file).expect("read");
    // Wrong ones are told in one line, and kept nowhere.
    for (words, stdin) in [
        (&["-u", "alice", "--password-stdin"][..], "wrong\n"),
        (&["-u", "mallory", "-p", "secret"], ""),
    ] {
        let output = run(&world, &[&["login"], words, &[host]].concat(), stdin);
        assert_eq!((output.status.code(), &*stdout(&output)), (Some(1), ""));
        let told = stderr(&output);
        let error = told.lines().find(|line| line.starts_with("error")).expect("an error");
        let want = format!("failed to log in to `{host}`");
        assert!(error.contains(&want) && error.contains("authentication required"), "{told}");
        assert_eq!(fs::read(&file).expect("read"), before);
    }
    let told = logs_in(&world, &["login", "-u", "alice", "--password-stdin", host], "secret\n");
    assert!(told.contains("is not encrypted in `"), "{told}");
    let mut want = other.clone();
    want["auths"][host] = json!({ "auth": ALICE });
    assert_eq!(config(&world), want);
    assert!(link.is_symlink());
    assert_eq!(file.metadata().expect("there").permissions().mode() & 0o7777, 0o600);
    // What is known is tried first, also by another spelling; other tools read it.
    let told = logs_in(&world, &["login", &format!("http://{host}/v2/")], "");
    assert!(told.contains("existing credentials"), "{told}");
    if has("skopeo") {
        let known = Command::new("skopeo")
            .args(["login", "--get-login", "--authfile"])
            .arg(&link)
            .arg(host)
            .output()
            .expect("it runs");
        assert_eq!(stdout(&known), "alice\n", "{}", stderr(&known));
    }
    // With `--password` others may see it, which is said.
    let told = logs_in(&world, &["login", "-u", "alice", "-p", "secret", host], "");
    assert!(told.contains("--password-stdin"), "{told}");
    let output = run(&world, &["logout", host], "");
    assert_eq!(stdout(&output), format!("Removing login credentials for {host}\n"));
    assert_eq!(config(&world), other);
    let output = run(&world, &["logout", host], "");
    assert_eq!(stdout(&output), format!("Not logged in to {host}\n"));
}

#[test]
fn a_login_makes_dockers_file_where_there_is_none() {
    let Some(world) = World::new() else { return };
    let Some(registry) = Registry::start(with_passwords) else { return };
    let host = registry.host.as_str();
    assert_eq!(stdout(&run(&world, &["logout", host], "")), format!("Not logged in to {host}\n"));
    assert!(!world.path("docker").exists());
    logs_in(&world, &["login", "-u", "alice", "--password-stdin", host], "secret");
    assert_eq!(config(&world), json!({"auths": {host: {"auth": ALICE}}}));
    let mode = |name: &str| {
        fs::metadata(world.path(name)).expect("it is there").permissions().mode() & 0o7777
    };
    assert_eq!((mode("docker"), mode("docker/config.json")), (0o700, 0o600));
    // What cannot be understood stays as it is.
    fs::write(world.path("docker/config.json"), "{").expect("written");
    let output = run(&world, &["login", "-u", "alice", "-p", "secret", host], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("failed to parse `"), "{}", stderr(&output));
    assert_eq!(fs::read(world.path("docker/config.json")).expect("read"), b"{");
    // Nobody to ask, nowhere to write.
    let output = run(&world, &["login", "r.example"], "");
    assert!(stderr(&output).contains("--password-stdin"), "{}", stderr(&output));
    let output = world.run(&["login", "-u", "alice", "-p", "secret", host], "");
    assert!(stderr(&output).contains("neither HOME nor DOCKER_CONFIG"), "{}", stderr(&output));
}

/// A credential helper that keeps a file a server, and writes down how it was called.
fn install_helper(world: &World) {
    fs::create_dir_all(world.path("bin")).expect("made");
    fs::create_dir_all(world.path("docker")).expect("made");
    let helper = world.path("bin/docker-credential-test");
    let kept = world.path("kept").display().to_string();
    let script = format!(
        "#!/bin/sh\nset -eu\nmkdir -p {kept}\necho \"$1\" >>{kept}/calls\ninput=$(cat)\n\
         key() {{ echo \"$1\" | tr -c 'a-z0-9.\\n' '_'; }}\n\
         case $1 in\n\
         store) server=$(echo \"$input\" | sed 's/.*\"ServerURL\":\"\\([^\"]*\\)\".*/\\1/')\n\
         echo \"$input\" >{kept}/$(key \"$server\") ;;\n\
         get) cat {kept}/$(key \"$input\") 2>/dev/null || {{ echo credentials not found in native keychain; exit 1; }} ;;\n\
         erase) rm {kept}/$(key \"$input\") ;;\nesac\n"
    );
    fs::write(&helper, script).expect("written");
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("set");
}

#[test]
fn a_credential_helper_keeps_what_it_is_there_for() {
    let Some(world) = World::new() else { return };
    let Some(registry) = Registry::start(with_passwords) else { return };
    let host = registry.host.as_str();
    install_helper(&world);
    for settings in [json!({"credsStore": "test"}), json!({"credHelpers": {host: "test"}})] {
        // What was in the file before does not stay there.
        let mut before = settings.clone();
        before["auths"] = json!({format!("https://{host}/v1/"): {"auth": "eDp5"}});
        fs::write(world.path("docker/config.json"), before.to_string()).expect("written");
        let told = logs_in(&world, &["login", "-u", "alice", "--password-stdin", host], "secret");
        assert!(!told.contains("encrypted"), "{told}");
        let mut want = settings.clone();
        want["auths"] = json!({host: {}});
        assert_eq!(config(&world), want);
        // And is what a later command uses.
        logs_in(&world, &["login", host], "");
        let output = run(&world, &["logout", host], "");
        assert_eq!(stdout(&output), format!("Removing login credentials for {host}\n"));
        want["auths"] = json!({});
        assert_eq!(config(&world), want);
        let left = fs::read_dir(world.path("kept")).expect("listed").count();
        assert_eq!(left, 1, "the calls alone");
    }
    // One that fails is told, and nothing is written.
    fs::write(world.path("bin/docker-credential-test"), "#!/bin/sh\necho locked >&2\nexit 1\n")
        .expect("written");
    fs::write(world.path("docker/config.json"), r#"{"credsStore":"test"}"#).expect("written");
    let output = run(&world, &["login", "-u", "alice", "-p", "secret", host], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("`docker-credential-test`: locked"), "{}", stderr(&output));
    assert_eq!(config(&world), json!({"credsStore": "test"}));
}

#[test]
fn an_identity_token_is_kept_instead_of_the_password() {
    let Some(world) = World::new() else { return };
    let keys = world.path("keys");
    fs::create_dir(&keys).expect("made");
    if !certificate(&keys) {
        return;
    }
    let service = TokenService::new(&keys);
    let service = Web::start(move |seen| service.answer(seen));
    let Some(registry) = Registry::start(|_: &Path| with_tokens(service.host(), &keys)) else {
        return;
    };
    let host = registry.host.as_str();
    let output = run(&world, &["login", "-u", "alice", "--password-stdin", host], "wrong");
    assert!(stderr(&output).contains("incorrect username or password"), "{}", stderr(&output));
    assert!(!world.path("docker").exists());
    logs_in(&world, &["login", "-u", "alice", "--password-stdin", host], "secret");
    let want = json!({"auth": "YWxpY2U6", "identitytoken": IDENTITY});
    assert_eq!(config(&world), json!({"auths": {host: want}}));
    service.take_seen();
    logs_in(&world, &["login", host], "");
    let methods: Vec<String> = service.take_seen().into_iter().map(|seen| seen.method).collect();
    assert_eq!(methods, ["POST"]);
}

#[test]
fn a_registry_that_asks_for_no_password_is_told_as_such() {
    let Some(world) = World::new() else { return };
    let web = Web::start(|_| Reply::ok("{}"));
    let told = logs_in(&world, &["login", "-u", "alice", "-p", "secret", web.host()], "");
    assert!(told.contains("it was not checked"), "{told}");
}

#[test]
fn a_terminal_is_asked_and_does_not_show_the_password() {
    let Some(world) = World::new() else { return };
    let Some(registry) = Registry::start(with_passwords) else { return };
    let host = registry.host.as_str();
    let (mut ours, theirs) = terminal(24, 80);
    let end = || Stdio::from(theirs.try_clone().expect("cloned"));
    let start = || {
        let mut command = command(&world, &["login", host]);
        command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("mybuild runs")
    };
    let modes = || rustix::termios::tcgetattr(&theirs).expect("a terminal").local_modes;
    let before = modes();
    // Given up: the terminal is as before.
    let mut child = start();
    read_until(&mut ours, "Username: ");
    ours.write_all(b"alice\n").expect("written");
    read_until(&mut ours, "Password: ");
    assert_ne!(modes(), before);
    ours.write_all(b"secret\x03").expect("written");
    let shown = read_until(&mut ours, "canceled");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert!(!shown.contains("secret"), "{shown}");
    assert_eq!(modes(), before);
    assert!(!world.path("docker").exists());
    let mut child = start();
    read_until(&mut ours, "Username: ");
    ours.write_all(b"alice\n").expect("written");
    read_until(&mut ours, "Password: ");
    ours.write_all(b"secret\n").expect("written");
    let shown = read_until(&mut ours, "Login Succeeded");
    assert!(!shown.contains("secret"), "{shown}");
    assert!(child.wait().expect("it ends").success());
    assert_eq!(modes(), before);
    // The name that is known need not be typed again once its password is refused.
    let auth = data_encoding::BASE64.encode(b"alice:old");
    let old = json!({"auths": {host: {"auth": auth}}});
    fs::write(world.path("docker/config.json"), old.to_string()).expect("written");
    let mut child = start();
    read_until(&mut ours, "Username (alice): ");
    ours.write_all(b"\n").expect("written");
    read_until(&mut ours, "Password: ");
    ours.write_all(b"secret\n").expect("written");
    read_until(&mut ours, "Login Succeeded");
    assert!(child.wait().expect("it ends").success());
    assert_eq!(config(&world)["auths"][host]["auth"], ALICE);
}

/// Everything at once: a certificate that only the user trusts, a password, a push, a pull and a `FROM`.
#[test]
fn privileged_a_build_starts_from_an_image_behind_a_password() {
    let Some(world) = World::with_small_image() else { return };
    let keys = world.path("keys");
    fs::create_dir(&keys).expect("made");
    if !certificate(&keys) {
        return;
    }
    let both = |directory: &Path| {
        let auth = with_passwords(directory);
        let (_, auth) = auth.split_once('\n').expect("two lines");
        format!("{}\n{auth}", with_tls(&keys))
    };
    let Some(registry) = Registry::start(both) else { return };
    let host = registry.host.as_str();
    let own = |words: &[&str], stdin: &str| {
        let mut command = command(&world, words);
        let mut child = command.env("XDG_CONFIG_HOME", world.path("xdg")).spawn().expect("it runs");
        let _ = child.stdin.take().expect("a pipe").write_all(stdin.as_bytes());
        child.wait_with_output().expect("it ends")
    };
    let login = ["login", "-u", "alice", "--password-stdin", host];
    let told = stderr(&own(&login, "secret"));
    assert!(told.contains("certificate") && told.contains("certs.d"), "{told}");
    let directory = world.path("xdg/docker/certs.d").join(host);
    fs::create_dir_all(&directory).expect("made");
    fs::copy(keys.join("cert.pem"), directory.join("ca.crt")).expect("copied");
    let name = format!("{host}/team/small:1");
    fs::write(world.path("Dockerfile"), format!("FROM {name}\nWORKDIR /new\n")).expect("written");
    let succeeds = |words: &[&str]| {
        let output = own(words, "");
        assert!(output.status.success(), "{words:?}: {}", stderr(&output));
        stdout(&output)
    };
    let refused = own(&["pull", "-q", &name], "");
    assert!(stderr(&refused).contains("mybuild login"), "{}", stderr(&refused));
    assert_eq!(stdout(&own(&login, "secret")), "Login Succeeded\n");
    succeeds(&["tag", "small:1", &name]);
    succeeds(&["push", "-q", &name]);
    succeeds(&["rmi", &name]);
    succeeds(&["pull", "-q", &name]);
    succeeds(&["build", "-q", "--pull", "-t", "built:1", "."]);
    succeeds(&["imagetools", "inspect", &name]);
    succeeds(&["logout", host]);
    let refused = own(&["build", "--pull", "."], "");
    assert!(stderr(&refused).contains("authentication required"), "{}", stderr(&refused));
}
