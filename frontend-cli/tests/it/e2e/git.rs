//! `ADD` from git repositories on loopback, behind the real `git http-backend` and `git daemon`.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::builder::{Builder, wait_for};
use super::callers::from_shell;
use super::git_origin::{Origin, git};
use super::git_server::{Reply, Seen, Server};
use super::outcome::Outcome;
use super::skip;

/// A builder, and a repository with a branch, a tag and a directory.
fn world() -> Option<(Builder, Origin, [String; 2])> {
    let builder = Builder::bare()?;
    let origin = Origin::new(&builder.path("served"), "app");
    origin.write("file", "one");
    origin.write("docs/page", "a page");
    origin.write("docs/run", "#!/bin/sh\n");
    let mode = fs::Permissions::from_mode(0o775);
    fs::set_permissions(origin.work().join("docs/run"), mode).expect("an own file");
    std::os::unix::fs::symlink("docs", origin.work().join("link")).expect("room");
    let first = origin.commit();
    origin.git(&["tag", "-a", "v1", "-m", "a tag"]);
    origin.write("file", "two");
    let second = origin.commit();
    Some((builder, origin, [first, second]))
}

/// Builds `ADD WHAT /` into `out`, which is removed before.
fn add(builder: &Builder, what: &str, words: &[&str]) -> Outcome {
    let _ = fs::remove_dir_all(builder.path("out"));
    let dockerfile = format!("FROM scratch\nADD {what} /\n");
    builder.build(&dockerfile, &[&["-o", "out"][..], words].concat())
}

fn requests(server: &Server) -> usize {
    server.take().len()
}

#[test]
fn privileged_a_commit_is_added_once_and_looked_up_again() {
    let Some((builder, origin, [first, second])) = world() else { return };
    let server = Server::open(&builder.path("served"));
    let url = server.url("app.git");
    builder.write("tagged/Dockerfile", format!("FROM scratch\nADD {url}#v1 /\n"));
    let command = builder.command(&["build", "-o", "type=tar,dest=out.tar", "tagged"]);
    // A caller whose files are for nobody else.
    builder.run_command(&mut from_shell(&command, "umask 077")).success();
    let mut found = Vec::new();
    let mut archive = tar::Archive::new(fs::File::open(builder.path("out.tar")).expect("written"));
    for entry in archive.entries().expect("a tar") {
        let header = entry.expect("a tar").header().clone();
        let name = String::from_utf8_lossy(&header.path_bytes()).into_owned();
        let owner = (header.uid().expect("one"), header.gid().expect("one"));
        assert_eq!(owner, (0, 0), "{name}");
        found.push(format!("{:o} {name}", header.mode().expect("one") & 0o7777));
    }
    found.sort();
    let expected =
        ["644 docs/page", "644 file", "755 docs/", "755 docs/run", "777 link"].map(str::to_owned);
    assert_eq!(found, expected);

    add(&builder, &url, &[]).success();
    assert_eq!(builder.read("out/file"), "two");
    let by_branch = requests(&server);
    assert!(by_branch > 2, "{by_branch}");
    // It has not moved: one look-up, and nothing runs.
    assert_eq!(add(&builder, &url, &[]).success().ran(), [""; 0]);
    assert_eq!(requests(&server), 2);
    // A whole commit is asked for nowhere, by whichever name it was fetched.
    let pinned = format!("{url}#{second}");
    for words in [&[][..], &["--offline"]] {
        assert_eq!(add(&builder, &pinned, words).success().ran(), [""; 0]);
    }
    assert_eq!(
        add(&builder, &format!("{url}?checksum={first}"), &["--offline"]).success().ran(),
        [""; 0]
    );
    assert_eq!(requests(&server), 0);
    let offline = add(&builder, &url, &["--offline"]).fails_with(1).words();
    assert!(offline.contains("offline: `http://") && offline.contains("app.git"), "{offline}");
    assert!(offline.contains("name the commit"), "{offline}");

    origin.write("file", "three");
    origin.commit();
    assert_eq!(add(&builder, &url, &[]).success().ran(), ["1/1", "1/1"]);
    assert_eq!(builder.read("out/file"), "three");
}

#[test]
fn privileged_the_address_says_what_is_wanted() {
    let Some((builder, _origin, [first, second])) = world() else { return };
    let server = Server::open(&builder.path("served"));
    let url = server.url("app.git");
    let mine = |query: &str| format!("{url}{query}");
    for (what, content) in [
        (mine("#v1"), "one"),
        (mine("#main"), "two"),
        (mine("?branch=main"), "two"),
        (mine("?tag=v1"), "one"),
        (mine("?ref=refs/tags/v1"), "one"),
        (mine(&format!("?ref=v1&checksum={}", &first[..7])), "one"),
        (mine(&format!("?commit={first}")), "one"),
        (mine(&format!("?branch=main&fetch-by-commit&commit={first}")), "one"),
        (format!("--checksum={} {url}", &second[..8]), "two"),
        (format!("--checksum={second} {url}"), "two"),
    ] {
        add(&builder, &what, &[]).success();
        assert_eq!(builder.read("out/file"), content, "{what}");
        assert!(!builder.path("out/.git").exists());
    }
    add(&builder, &mine("#v1:docs"), &[]).success();
    assert_eq!(builder.read("out/page"), "a page");
    assert!(!builder.path("out/file").exists() && !builder.path("out/docs").exists());
    add(&builder, &mine("?mtime=commit"), &[]).success();
    for name in ["file", "docs/page", "link", "docs"] {
        let found = fs::symlink_metadata(builder.path("out").join(name)).expect("added");
        assert_eq!(found.mtime(), 1_600_000_000, "{name}");
    }
    for (what, message) in [
        (format!("--checksum={} {url}", &first[..7]), "expected checksum to match"),
        (
            format!("--checksum=xyz {url}"),
            "invalid checksum xyz for Git URL, expected hex commit hash",
        ),
        (mine("#v2"), "repository does not contain ref v2"),
        (mine("#--upload-pack=touch"), "`--upload-pack=touch` is not a valid git reference"),
        (mine("#main:none"), "the repository has no directory `none`"),
        (mine("#main:link"), "a part of the path is a symbolic link"),
        (mine("#main:file"), "it is not a directory"),
        (mine("?fetch-by-commit"), "fetch-by-commit requires a checksum or a commit SHA ref"),
        (server.url("other.git"), "not found"),
    ] {
        let words = add(&builder, &what, &[]).fails_with(1).words();
        assert!(words.contains(message) && words.contains("Dockerfile:2"), "{what}: {words}");
    }
}

#[test]
fn privileged_a_repository_is_kept_with_its_reference() {
    let Some((builder, origin, [first, second])) = world() else { return };
    let inner = Origin::new(&builder.path("served"), "inner");
    inner.write("deep", "inner");
    let inner_commit = inner.commit();
    origin.add_submodule("libs/inner", "lib/inner", "../inner.git", &inner_commit);
    let third = origin.commit_index();
    let server = Server::open(&builder.path("served"));
    let url = server.url("app.git");
    let out = builder.path("out");
    for (what, commit) in [
        (format!("--keep-git-dir=true {url}#v1"), &first),
        (format!("{url}?keep-git-dir&commit={second}"), &second),
        (format!("{url}?keep-git-dir"), &third),
    ] {
        add(&builder, &what, &[]).success();
        assert_eq!(git(&out, &["status", "--porcelain"]), "", "{what}");
        assert_eq!(&git(&out, &["rev-parse", "HEAD"]), commit);
        assert_eq!(git(&out, &["remote", "get-url", "origin"]), url);
        if commit == &first {
            assert_eq!(git(&out, &["describe"]), "v1");
        }
    }
    assert_eq!(builder.read("out/lib/inner/deep"), "inner");
    let status = git(&out, &["submodule", "status", "--recursive"]);
    assert!(status.trim_start().starts_with(&format!("{inner_commit} lib/inner")), "{status}");
    assert_eq!(git(&out.join("lib/inner"), &["status", "--porcelain"]), "");
    assert_eq!(git(&out, &["rev-parse", "main"]), third);
    let warning = "`.git` is not kept: only the directory `docs` is";
    for (what, warnings) in
        [("?keep-git-dir#v1:docs", 1), ("?keep-git-dir#v1:docs", 1), ("#v1:docs", 0)]
    {
        let words = add(&builder, &format!("{url}{what}"), &[]).success().stderr;
        assert_eq!(words.matches(warning).count(), warnings, "{words}");
    }
}

#[test]
fn privileged_submodules_come_from_where_they_may() {
    let Some((builder, origin, _)) = world() else { return };
    let root = builder.path("served");
    let server = Server::open(&root);
    let (inner, innermost) = (Origin::new(&root, "inner"), Origin::new(&root, "innermost"));
    innermost.write("bottom", "innermost");
    let commit = innermost.commit();
    inner.write("middle", "inner");
    inner.commit();
    inner.add_submodule("b", "sub/b", "../innermost.git", &commit);
    let commit = inner.commit_index();
    origin.add_submodule("a", "docs/a", &server.url("inner.git"), &commit);
    origin.commit_index();
    let url = server.url("app.git");
    add(&builder, &url, &[]).success();
    assert_eq!(builder.read("out/docs/a/middle"), "inner");
    assert_eq!(builder.read("out/docs/a/sub/b/bottom"), "innermost");
    assert!(!builder.path("out/docs/a/.git").exists());
    add(&builder, &format!("{url}#:docs"), &[]).success();
    assert_eq!(builder.read("out/a/sub/b/bottom"), "innermost");
    add(&builder, &format!("{url}?submodules=false"), &[]).success();
    assert_eq!(fs::read_dir(builder.path("out/docs/a")).expect("a directory").count(), 0);

    let own = builder.path("served/app.git").display().to_string();
    for (number, (address, message)) in [
        (format!("file://{own}"), "only http, https, ssh and git are allowed"),
        (own, "it is not the address of a repository"),
        ("../../../x.git".to_owned(), "it leads out of the server"),
    ]
    .into_iter()
    .enumerate()
    {
        let hostile = Origin::new(&root, &format!("hostile{number}"));
        hostile.write("file", "x");
        hostile.commit();
        hostile.add_submodule("m", "m", &address, &commit);
        hostile.commit_index();
        let url = server.url(&format!("hostile{number}.git"));
        let words = add(&builder, &url, &[]).fails_with(1).words();
        assert!(words.contains("submodule `m`") && words.contains(message), "{address}: {words}");
    }
    // One inside itself has no end.
    let circle = Origin::new(&root, "circle");
    circle.write("file", "x");
    let at = circle.commit();
    circle.add_submodule("m", "m", "./../circle.git", &at);
    circle.commit_index();
    add(&builder, &server.url("circle.git"), &[]).success();
    assert_eq!(builder.read("out/m/file"), "x");
}

#[test]
fn privileged_a_commit_may_be_the_context() {
    let Some((builder, origin, _)) = world() else { return };
    origin.write("Dockerfile", "FROM scratch\nCOPY . /\n");
    let commit = origin.commit();
    let server = Server::open(&builder.path("served"));
    let url = server.url("app.git");
    let build = |context: &str, words: &[&str]| {
        let _ = fs::remove_dir_all(builder.path("out"));
        builder
            .run(&[&["build", "--progress", "json", "-o", "out"][..], words, &[context]].concat())
    };
    build(&url, &[]).success();
    assert_eq!(builder.read("out/file"), "two");
    assert!(!builder.path("out/.git").exists());
    let looked_up = server.take().iter().filter(|seen| seen.method == "GET").count();
    assert_eq!(looked_up, 2, "it is looked up once, and fetched once");
    let keep = ["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1"];
    build(&url, &keep).success();
    assert_eq!(git(&builder.path("out"), &["rev-parse", "HEAD"]), commit);
    build(&url, &["--build-arg", "SOURCE_DATE_EPOCH=context"]).success();
    let time = fs::metadata(builder.path("out/file")).expect("a file").mtime();
    assert_eq!(time, 1_600_000_000, "that of the commit");
    builder.write("context/Dockerfile", "FROM scratch\nCOPY --from=docs page /\n");
    build("context", &["--build-context", &format!("docs={url}#v1:docs")]).success();
    assert_eq!(builder.read("out/page"), "a page");
}

const TOKEN: &str = "correct-horse-battery-staple";
/// `x-access-token:` and the token.
const AS_BASIC: &str = "basic eC1hY2Nlc3MtdG9rZW46Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5LXN0YXBsZQ==";

/// Answers those who have the token.
fn guarded(seen: &Seen) -> Reply {
    match seen.header("authorization") {
        Some(AS_BASIC) => Reply::Backend,
        _ => Reply::Is(401, vec![("WWW-Authenticate", "Basic realm=x".to_owned())], Vec::new()),
    }
}

#[test]
fn privileged_a_secret_goes_to_its_server_and_nowhere_else() {
    let Some((builder, origin, _)) = world() else { return };
    let root = builder.path("served");
    let inner = Origin::new(&root, "inner");
    inner.write("middle", "inner");
    let commit = inner.commit();
    let (server, other) = (Server::new(&root, guarded), Server::open(&root));
    origin.add_submodule("a", "a", &other.url("inner.git"), &commit);
    origin.commit_index();
    let url = server.url("app.git");
    builder.write("secret/token", format!("{TOKEN}\n"));
    builder.write("secret/header", AS_BASIC);
    builder.write("secret/other", "of another server");
    let words = add(&builder, &url, &[]).fails_with(1).words();
    let named = format!("--secret id=GIT_AUTH_TOKEN.{}", server.host());
    assert!(words.contains(&named) && words.contains("`GIT_AUTH_TOKEN` for any"), "{words}");
    builder.write("secret/wrong", "of nobody");
    for id in ["GIT_AUTH_TOKEN".to_owned(), format!("GIT_AUTH_TOKEN.{}", server.host())] {
        let secret = format!("id={id},src=secret/wrong");
        let words = add(&builder, &url, &["--secret", &secret]).fails_with(1).words();
        assert!(words.contains(&format!("the server rejected the secret `{id}`")), "{words}");
        assert!(!words.contains("prompts") && !words.contains("Username"), "{words}");
    }

    let token = format!("id=GIT_AUTH_TOKEN.{},src=secret/token", server.host());
    let of_other = format!("id=GIT_AUTH_TOKEN.{},src=secret/other", other.host());
    for secret in
        ["id=GIT_AUTH_TOKEN,src=secret/token", "id=GIT_AUTH_HEADER,src=secret/header", &token]
    {
        builder.run(&["prune", "--all", "--force"]).success();
        let outcome = add(&builder, &url, &["--secret", secret]).success();
        assert_eq!(builder.read("out/a/middle"), "inner");
        assert!(!outcome.stderr.contains(TOKEN) && !outcome.stderr.contains(&AS_BASIC[6..]));
        assert!(other.take().iter().all(|seen| seen.header("authorization").is_none()));
    }
    builder.run(&["prune", "--all", "--force"]).success();
    add(&builder, &url, &["--secret", &of_other, "--secret", &token]).success();
    let seen = other.take();
    assert!(!seen.is_empty() && seen.iter().all(|seen| seen.header("authorization").is_some()));
    // In the address, too.
    let login = url.replace("http://", &format!("http://x-access-token:{TOKEN}@"));
    builder.run(&["prune", "--all", "--force"]).success();
    add(&builder, &format!("{login}?keep-git-dir"), &[]).success();
    for word in [TOKEN, &AS_BASIC[6..]] {
        for place in [builder.store().to_owned(), builder.path("out"), builder.path("tmp")] {
            let mut grep = Command::new("grep");
            grep.args(["-rlaF", "-e", word]).arg(&place).args([
                "--exclude",
                "records*",
                "--exclude-dir",
                "blobs",
            ]);
            let found = grep.output().expect("grep runs").stdout;
            assert_eq!(String::from_utf8_lossy(&found), "", "{word}");
        }
    }
    builder.write("secret/header", "two\nlines");
    let secret = ["--secret", "id=GIT_AUTH_HEADER,src=secret/header"];
    let words = add(&builder, &format!("{url}#v1"), &secret).fails_with(1).words();
    assert!(words.contains("secret `GIT_AUTH_HEADER` cannot be used"), "{words}");
}

#[test]
fn privileged_a_redirect_is_followed_without_the_secret() {
    let Some((builder, _origin, _)) = world() else { return };
    let root = builder.path("served");
    let elsewhere = Server::open(&root);
    let to = Arc::new(Mutex::new(elsewhere.url("app.git")));
    let place = to.clone();
    let server = Server::new(&root, move |seen| {
        let moved = seen.target.strip_prefix("/old.git");
        match (guarded(seen), moved) {
            (Reply::Backend, Some(rest)) => {
                let location = format!("{}{rest}", place.lock().expect("no panic"));
                Reply::Is(301, vec![("Location", location)], Vec::new())
            }
            (reply, _) => reply,
        }
    });
    builder.write("secret/token", TOKEN);
    let token = ["--secret", "id=GIT_AUTH_TOKEN,src=secret/token"];
    let old = server.url("old.git");
    add(&builder, &old, &token).success();
    assert_eq!(builder.read("out/file"), "two");
    let seen = elsewhere.take();
    assert!(!seen.is_empty() && seen.iter().all(|seen| seen.header("authorization").is_none()));
    // On the same server the secret goes along.
    *to.lock().expect("no panic") = server.url("app.git");
    add(&builder, &format!("{old}#v1"), &token).success();
    assert_eq!(builder.read("out/file"), "one");
    *to.lock().expect("no panic") = "http://example.com/app.git".to_owned();
    let words = add(&builder, &format!("{old}#v1:docs?"), &token).fails_with(1).words();
    assert!(words.contains("redirects") && !words.contains(TOKEN), "{words}");
}

#[test]
fn privileged_a_daemon_is_asked_as_well() {
    let Some((builder, _origin, _)) = world() else { return };
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let port = free.local_addr().expect("bound").port();
    drop(free);
    let mut command = Command::new("git");
    command.args(["daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1"]);
    command.args([
        format!("--port={port}"),
        format!("--base-path={}", builder.path("served").display()),
    ]);
    let mut daemon = command.spawn().expect("git daemon starts");
    let start = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20));
    }
    let outcome = add(&builder, &format!("git://127.0.0.1:{port}/app.git#v1"), &[]);
    // It has started a process of its own for each connection.
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", daemon.id()));
    for child in children.unwrap_or_default().split_whitespace() {
        let child = Pid::from_raw(child.parse().expect("a number")).expect("a process");
        let _ = kill_process(child, Signal::KILL);
    }
    daemon.kill().expect("an own child");
    daemon.wait().expect("an own child");
    outcome.success();
    assert_eq!(builder.read("out/file"), "one");
}

#[test]
fn privileged_builds_at_once_share_what_is_fetched() {
    let Some((builder, _origin, [first, second])) = world() else { return };
    let server = Server::open(&builder.path("served"));
    let mut children = Vec::new();
    for number in 0..4 {
        let commit = if number % 2 == 0 { &first } else { &second };
        let context = format!("context{number}");
        let dockerfile = format!("FROM scratch\nADD {}#{commit} /\n", server.url("app.git"));
        builder.write(&format!("{context}/Dockerfile"), dockerfile);
        let out = format!("out{number}");
        let mut command = builder.command(&["build", "-o", &out, &context]);
        children.push(builder.spawn(command.stdout(Stdio::null()).stderr(Stdio::null())));
    }
    for (number, mut child) in children.into_iter().enumerate() {
        assert!(wait_for(&mut child, 120).success());
        let content = if number % 2 == 0 { "one" } else { "two" };
        assert_eq!(builder.read(&format!("out{number}/file")), content);
    }
    let usage = builder.run(&["du", "--format", "json"]).success().text();
    assert!(usage.contains("\"mirror_count\":1"), "{usage}");
    let items = builder.run(&["du", "--verbose", "--filter", "type=source.git.checkout"]).success();
    assert!(items.text().contains(&server.url("app.git")), "{}", items.text());
    let told = builder.run(&["prune", "--force", "--filter", "type=source.git.checkout"]).success();
    assert!(told.text().contains("1 git repository"), "{}", told.text());
}

/// Whether objects are asked for (gitprotocol-v2).
fn is_fetch(seen: &Seen) -> bool {
    String::from_utf8_lossy(&seen.body).contains("command=fetch")
}

/// A server that sends no pack until it is told to.
fn holding(builder: &Builder) -> (Server, Arc<Mutex<bool>>) {
    let holds = Arc::new(Mutex::new(true));
    let asked = holds.clone();
    let server = Server::new(&builder.path("served"), move |seen| {
        match is_fetch(seen) && *asked.lock().expect("no panic") {
            true => Reply::Silence,
            false => Reply::Backend,
        }
    });
    (server, holds)
}

/// Processes of `git fetch` that have `words` among their arguments.
fn processes_with(words: &str) -> usize {
    let arguments = |entry: fs::DirEntry| fs::read(entry.path().join("cmdline")).ok();
    let found = fs::read_dir("/proc").expect("Linux").flatten().filter_map(arguments);
    let found = found.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    found.filter(|found| found.contains("git\0fetch") && found.contains(words)).count()
}

#[test]
fn privileged_an_interrupted_or_killed_fetch_leaves_nothing_wrong() {
    let Some((builder, origin, _)) = world() else { return };
    for signal in [Signal::INT, Signal::KILL] {
        let content = format!("{signal:?}");
        origin.write("file", &content);
        origin.commit();
        let (server, holds) = holding(&builder);
        let dockerfile = format!("FROM scratch\nADD {} /\n", server.url("app.git"));
        builder.write("c/Dockerfile", dockerfile);
        let mut command = builder.command(&["build", "-o", "out", "c"]);
        let null = Stdio::null;
        let mut child = builder.spawn(command.stdout(null()).stderr(null()));
        let start = Instant::now();
        while !server.take().iter().any(is_fetch) {
            assert!(start.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(processes_with(&server.host()) > 0);
        kill_process(Pid::from_child(&child), signal).expect("it runs");
        wait_for(&mut child, 20);
        let start = Instant::now();
        while processes_with(&server.host()) > 0 {
            assert!(start.elapsed() < Duration::from_secs(5), "git runs on");
            std::thread::sleep(Duration::from_millis(10));
        }
        *holds.lock().expect("no panic") = false;
        add(&builder, &server.url("app.git"), &[]).success();
        assert_eq!(builder.read("out/file"), content);
    }
}

#[test]
fn privileged_what_was_kept_and_is_damaged_is_fetched_again() {
    let Some((builder, _origin, [first, second])) = world() else { return };
    let server = Server::open(&builder.path("served"));
    let url = server.url("app.git");
    let damage = |what: &str| {
        let mirrors = fs::read_dir(builder.store().join("git-v1")).expect("a bucket");
        let mirror = mirrors.map(|entry| entry.expect("one").path().join("0")).next().expect("one");
        match what {
            "pack" => {
                let packs = fs::read_dir(mirror.join("objects/pack")).expect("packs");
                for pack in packs.map(|entry| entry.expect("one").path()) {
                    fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).expect("own");
                    let length = fs::metadata(&pack).expect("one").len() as usize;
                    fs::write(&pack, vec![7; length]).expect("an own file");
                }
            }
            "head" => fs::write(mirror.join("HEAD"), "").expect("an own file"),
            _ => fs::remove_dir_all(mirror.join("objects")).expect("an own directory"),
        }
    };
    add(&builder, &format!("{url}#{first}"), &[]).success();
    for what in ["pack", "head", "objects"] {
        damage(what);
        let found = builder.run(&["fsck", "--full"]).fails_with(1);
        assert!(found.text().contains(&format!("git-repository: {url}")), "{}", found.text());
        builder.run(&["prune", "--all", "--force", "--filter", "type=regular"]).success();
        for (commit, content) in [(&first, "one"), (&second, "two")] {
            add(&builder, &format!("{url}#{commit}"), &[]).success();
            assert_eq!(builder.read("out/file"), content, "{what}");
        }
    }
}

/// The content of a file that Git LFS keeps, and its name there.
const LARGE: &str = "a large file, in a manner of speaking\n";

#[test]
fn privileged_large_files_come_from_where_they_are_kept() {
    let Some((builder, origin, _)) = world() else { return };
    if !Path::new("/usr/bin/git-lfs").exists() {
        return skip("git-lfs is not installed");
    }
    let oid = oci::Digest::of(LARGE.as_bytes()).hex().to_owned();
    let pointer = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {}\n",
        LARGE.len()
    );
    origin.write(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n");
    origin.write("large.bin", &pointer);
    origin.commit();
    let server = Server::new(&builder.path("served"), move |seen| {
        let refused = guarded(seen);
        if !matches!(refused, Reply::Backend) {
            return refused;
        }
        let json = ("Content-Type", "application/vnd.git-lfs+json".to_owned());
        let host = seen.header("host").unwrap_or_default();
        match seen.target.split('?').next() {
            Some("/app.git/info/lfs/objects/batch") => {
                let size = LARGE.len();
                let body = format!(
                    r#"{{"transfer":"basic","objects":[{{"oid":"{oid}","size":{size},"authenticated":true,"actions":{{"download":{{"href":"http://{host}/large/{oid}"}}}}}}]}}"#
                );
                Reply::Is(200, vec![json], body.into_bytes())
            }
            Some(path) if path == format!("/large/{oid}") => {
                Reply::Is(200, Vec::new(), LARGE.as_bytes().to_vec())
            }
            _ => Reply::Backend,
        }
    });
    builder.write("secret/token", TOKEN);
    let token = ["--secret", "id=GIT_AUTH_TOKEN,src=secret/token"];
    let url = server.url("app.git");
    add(&builder, &url, &token).success();
    assert_eq!(builder.read("out/large.bin"), pointer);
    add(&builder, &format!("{url}?lfs"), &token).success();
    assert_eq!(builder.read("out/large.bin"), LARGE);
    assert_eq!(add(&builder, &format!("{url}?lfs"), &token).success().ran(), [""; 0]);
    // One that is not there is an error, not a pointer.
    let lost = oci::Digest::of(b"lost").hex().to_owned();
    origin.write(
        "large.bin",
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{lost}\nsize 9\n"),
    );
    origin.commit();
    let words = add(&builder, &format!("{url}?lfs"), &token).fails_with(1).words();
    assert!(words.contains("failed to fetch") && !words.contains(TOKEN), "{words}");
}

/// A program in the place of `git` that has been taken over, as far as the kernel can tell.
#[test]
fn privileged_git_touches_no_file_of_the_user() {
    let Some((builder, _origin, _)) = world() else { return };
    let server = Server::open(&builder.path("served"));
    builder.write("home/secret", "a secret");
    let home = builder.path("home");
    let script = format!(
        "#!/bin/sh\ncat {home}/secret 2>/dev/null && exit 9\n(echo x >{home}/new) 2>/dev/null && exit 9\n\
         exec /usr/bin/git \"$@\"\n",
        home = home.display()
    );
    builder.write("programs/git", script);
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(builder.path("programs/git"), mode).expect("an own file");
    builder.write("Dockerfile", format!("FROM scratch\nADD {} /\n", server.url("app.git")));
    let mut command = builder.command(&["build", "-o", "out", "."]);
    command.env("PATH", format!("{}:/usr/bin:/bin", builder.path("programs").display()));
    builder.run_command(&mut command).success();
    assert_eq!(builder.read("out/file"), "two");
    assert!(!home.join("new").exists());
}
