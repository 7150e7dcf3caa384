//! Servers and repositories that want more than to be fetched.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use git_client::checkout::{move_entries, open_directory};
use git_client::{Access, Git, GitError, Limits, Remote};

use super::origin::Origin;
use super::server::{Reply, Server};
use super::world::{World, limits};

#[tokio::test]
async fn a_reference_is_never_an_option() {
    let world = World::new();
    let server = Server::open(world.root());
    let remote = Remote::parse(&server.url("a.git")).unwrap();
    for name in ["--upload-pack=touch /tmp/x", "-u./x", "a b", "a:b", "^a", "a..b"] {
        let refused = world.git.look_up(&remote, &Access::default(), name).await.unwrap_err();
        assert!(matches!(refused, GitError::InvalidName(_)), "{name}: {refused}");
    }
    assert!(server.take().is_empty());
}

#[tokio::test]
async fn a_header_goes_to_its_own_server() {
    let world = World::new();
    let origin = Origin::new(world.root(), "a");
    origin.write("file", "one");
    origin.commit();
    let other = Server::open(world.root());
    let to = other.url("");
    let first = Server::new(world.root(), move |seen| {
        Reply::Is(302, vec![("Location", format!("{}{}", to, &seen.target[1..]))], Vec::new())
    });
    let remote = Remote::parse(&first.url("a.git")).unwrap();
    let secret = Access::header(&remote, "basic c2VjcmV0").unwrap();
    let error = world.git.look_up(&remote, &secret, "").await.unwrap_err();
    assert!(error.is_redirect() && !error.to_string().contains("c2Vjcm"), "{error}");
    assert!(other.take().is_empty());
    assert!(first.take().iter().all(|seen| seen.header("authorization") == Some("basic c2VjcmV0")));
    // Without anything to hide it is followed.
    world.git.look_up(&remote, &Access::default(), "").await.unwrap();
    assert!(other.take().iter().all(|seen| seen.header("authorization").is_none()));
    // A header for another server is not sent.
    let elsewhere =
        Access::header(&Remote::parse("http://127.0.0.1:1/a.git").unwrap(), "x").unwrap();
    let direct = Remote::parse(&other.url("a.git")).unwrap();
    world.git.look_up(&direct, &elsewhere, "").await.unwrap();
    assert!(other.take().iter().all(|seen| seen.header("authorization").is_none()));
}

#[tokio::test]
async fn a_server_that_asks_for_a_password_gets_none() {
    let world = World::new();
    let deny = |_: &super::server::Seen| {
        Reply::Is(401, vec![("WWW-Authenticate", "Basic realm=x".to_owned())], Vec::new())
    };
    let server = Server::new(world.root(), deny);
    let remote = Remote::parse(&server.url("a.git")).unwrap();
    let error = world.git.look_up(&remote, &Access::default(), "").await.unwrap_err();
    assert!(error.is_denied(), "{error}");
    assert!(server.take().iter().all(|seen| seen.header("authorization").is_none()));
}

/// Processes that have `words` among their arguments.
fn running(words: &str) -> usize {
    let arguments = |entry: fs::DirEntry| fs::read(entry.path().join("cmdline")).ok();
    let processes = fs::read_dir("/proc").unwrap().flatten().filter_map(arguments);
    processes.filter(|found| String::from_utf8_lossy(found).contains(words)).count()
}

#[tokio::test]
async fn a_silent_server_is_left() {
    let world = World::with(Limits { idle: Duration::from_secs(1), ..limits() });
    let server = Server::new(world.root(), |_| Reply::Silence);
    let remote = Remote::parse(&server.url("a.git")).unwrap();
    let start = Instant::now();
    let error = world.git.look_up(&remote, &Access::default(), "").await.unwrap_err();
    // `git` and this look at the clock.
    let said = error.to_string();
    assert!(said.starts_with("nothing came") || said.contains("too slow"), "{said}");
    assert!(start.elapsed() < Duration::from_secs(15));
    nothing_runs(&server.host()).await;
}

#[tokio::test]
async fn whoever_stops_waiting_ends_all_that_was_started() {
    let world = World::new();
    let server = Server::new(world.root(), |_| Reply::Silence);
    let remote = Remote::parse(&server.url("a.git")).unwrap();
    let (git, host): (Git, String) = (world.git.clone(), server.host());
    let asking =
        tokio::spawn(async move { git.look_up(&remote, &Access::default(), "").await.is_ok() });
    let start = Instant::now();
    // `git` and its helper for HTTP.
    while running(&host) < 2 || server.take().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    nothing_runs(&host).await;
}

/// They were killed; that they are gone takes a moment.
async fn nothing_runs(words: &str) {
    let start = Instant::now();
    while running(words) > 0 {
        assert!(start.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_endless_list_ends() {
    let world = World::new();
    let line = b"0041aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa refs/heads/abcdefgh\n";
    assert_eq!(line.len(), 0x41);
    let server = Server::new(world.root(), move |_| Reply::Endless(line.repeat(1000)));
    let remote = Remote::parse(&server.url("a.git")).unwrap();
    let start = Instant::now();
    let error = world.git.look_up(&remote, &Access::default(), "").await.unwrap_err();
    // `git` runs into its limit, or is so long about making room that it reads nothing more.
    let said = error.to_string();
    assert!(said.contains("ut of memory") || said.contains("nothing came"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(60));
    nothing_runs(&server.host()).await;
}

#[tokio::test]
async fn a_full_disk_ends_it() {
    let watch = Arc::new(|| Some("the disk is full".to_owned()));
    let world = World::with(Limits { watch, ..limits() });
    let server = Server::new(world.root(), |_| Reply::Silence);
    let remote = Remote::parse(&server.url("a.git")).unwrap();
    let error = world.git.look_up(&remote, &Access::default(), "").await.unwrap_err();
    assert_eq!(error.to_string(), "the disk is full");
}

#[tokio::test]
async fn objects_that_are_not_well_formed_are_refused() {
    let world = World::new();
    let origin = Origin::new(world.root(), "a");
    // A tree with a name that leads into `.git`.
    let blob = origin.git(&["hash-object", "-w", "--stdin"]);
    let bytes: Vec<u8> = (0..blob.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&blob[at..at + 2], 16).unwrap())
        .collect();
    let mut tree = b"100644 .git\0".to_vec();
    tree.extend(bytes);
    origin.write("../tree", &tree);
    let tree = origin.git(&["hash-object", "-w", "--literally", "-t", "tree", "../tree"]);
    let commit = origin.git(&["commit-tree", "-m", "bad", &tree]);
    origin.git(&["update-ref", "refs/heads/main", &commit]);
    origin.publish();
    let server = Server::open(world.root());
    let error = world.fetch(&server.url("a.git"), "main", "out").await.unwrap_err();
    assert!(error.to_string().contains("hasDotgit"), "{error}");
    assert!(!world.path("out").exists());
}

#[tokio::test]
async fn a_directory_is_not_reached_through_links() {
    let world = World::new();
    let origin = Origin::new(world.root(), "a");
    origin.write("d/e/file", "inside");
    origin.write("file", "x");
    for (link, target) in [("root", "/"), ("up", ".."), ("d/root", "/etc"), ("to-d", "d")] {
        std::os::unix::fs::symlink(target, origin.work().join(link)).unwrap();
    }
    origin.commit();
    let server = Server::open(world.root());
    world.fetch(&server.url("a.git"), "", "out").await.unwrap();
    let out = world.path("out");
    for (path, why) in [
        ("root", "a symbolic link"),
        ("root/etc", "a symbolic link"),
        ("d/root", "a symbolic link"),
        ("to-d/e", "a symbolic link"),
        ("up", "a symbolic link"),
        ("../out", "cannot be opened"),
        ("file", "not a directory"),
        ("none", "no directory `none`"),
    ] {
        let error = open_directory(&out, path).unwrap_err().to_string();
        assert!(error.contains(why), "{path}: {error}");
    }
    fs::create_dir(world.path("taken")).unwrap();
    move_entries(&open_directory(&out, "d").unwrap(), &world.path("taken")).unwrap();
    assert_eq!(fs::read_to_string(world.path("taken/e/file")).unwrap(), "inside");
}

#[tokio::test]
async fn submodules_are_told_where_they_may_be() {
    let world = World::new();
    let server = Server::open(world.root());
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let remote = Remote::parse(&server.url("a.git")).unwrap();
    for (number, (name, path, url, want)) in [
        ("m", "m", "../b.git", Ok(server.url("b.git"))),
        ("m", "m", "https://other.example/b.git", Ok("https://other.example/b.git".to_owned())),
        ("m", "m", "file:///etc", Err("only http, https, ssh and git are allowed")),
        ("m", "m", "/etc", Err("not the address of a repository")),
        ("m", "m", "../../../b.git", Err("it leads out of the server")),
        ("m", "m", "ext::sh -c x", Err("not allowed")),
        // These `git` knows itself.
        ("m", "m", "--upload-pack=touch /tmp/x", Err("gitmodulesUrl")),
        ("../../hooks", "m", "../b.git", Err("gitmodulesName")),
        ("m", "a/../../m", "../b.git", Err("its path is not allowed")),
        ("m", ".git/hooks", "../b.git", Err("its path is not allowed")),
    ]
    .into_iter()
    .enumerate()
    {
        let origin = Origin::new(world.root(), &format!("{number}"));
        let at =
            if want.is_err() && path.contains("..") || path.contains(".git") { "x" } else { path };
        origin.add_submodule(name, at, url, commit);
        let told = fs::read_to_string(origin.work().join(".gitmodules")).unwrap();
        origin
            .write(".gitmodules", told.replace(&format!("path = {at}"), &format!("path = {path}")));
        origin.git(&["add", ".gitmodules"]);
        let top = origin.commit_index();
        let to = format!("out{number}");
        let fetched = world.fetch(&server.url(&format!("{number}.git")), "", &to).await;
        let found = match fetched {
            Ok(_) => world.repository("ours").submodules(&top.parse().unwrap(), &remote).await,
            Err(error) => Err(error),
        };
        match want {
            Ok(address) => {
                let found = found.expect(url);
                assert_eq!(found[0].remote.address(), address);
                assert_eq!((found[0].path.as_str(), found[0].commit.as_str()), (path, commit));
            }
            Err(why) => {
                let error = found.expect_err(url).to_string();
                assert!(error.contains(why), "{url} {path}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn what_a_repository_asks_git_to_run_is_not_run() {
    let world = World::new();
    let origin = Origin::new(world.root(), "a");
    let mark = world.path("mark");
    let command = format!("touch {}", mark.display());
    origin.write(".gitattributes", "* filter=evil diff=evil merge=evil\n");
    origin.write(
        ".gitconfig",
        format!("[filter \"evil\"]\n\tsmudge = {command}\n[core]\n\tfsmonitor = {command}\n"),
    );
    origin.write("hooks/post-checkout", format!("#!/bin/sh\n{command}\n"));
    origin.write("file", "x");
    origin.commit();
    drop(world.repository("ours"));
    fs::create_dir(world.path("ours/hooks")).unwrap();
    for hook in ["post-checkout", "post-index-change", "reference-transaction"] {
        let path = world.path("ours/hooks").join(hook);
        fs::write(&path, format!("#!/bin/sh\n{command}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let server = Server::open(world.root());
    world.fetch(&server.url("a.git"), "", "out").await.unwrap();
    assert!(!mark.exists());
    assert_eq!(fs::read_to_string(world.path("out/file")).unwrap(), "x");
}
