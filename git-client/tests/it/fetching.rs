//! What is fetched, and how much of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use git_client::{Access, Commit, GitError, Place, Remote, Repository, Wanted};

use super::origin::{Origin, git};
use super::server::{Reply, Server};
use super::world::{World, only};

/// Bytes that do not get smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..length).map(next).collect()
}

#[tokio::test]
async fn references_are_looked_up_and_checked_out() {
    let world = World::new();
    let origin = Origin::new(world.root(), "a");
    origin.write("file", "one");
    origin.write("run/it", "#!/bin/sh\n");
    fs::set_permissions(origin.work().join("run/it"), fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("file", origin.work().join("link")).unwrap();
    let first = origin.commit();
    origin.git(&["tag", "-a", "v1", "-m", "a tag"]);
    origin.git(&["tag", "light"]);
    origin.git(&["branch", "v1"]);
    origin.write("file", "two");
    let second = origin.commit();
    let server = Server::open(world.root());
    let url = server.url("a.git");
    for (number, (reference, commit, content)) in [
        ("", &second, "two"),
        ("HEAD", &second, "two"),
        ("main", &second, "two"),
        ("refs/heads/main", &second, "two"),
        ("v1", &first, "one"),
        ("refs/tags/v1", &first, "one"),
        ("tags/light", &first, "one"),
    ]
    .into_iter()
    .enumerate()
    {
        let to = format!("out{number}");
        let found = world.fetch(&url, reference, &to).await.expect(reference);
        assert_eq!(found.as_str(), commit, "{reference}");
        assert_eq!(fs::read_to_string(world.path(&to).join("file")).unwrap(), content);
        let mode =
            |name: &str| fs::metadata(world.path(&to).join(name)).unwrap().permissions().mode();
        assert_eq!((mode("file") & 0o7777, mode("run/it") & 0o7777), (0o644, 0o755));
        assert_eq!(fs::read_link(world.path(&to).join("link")).unwrap().to_str(), Some("file"));
        assert!(!world.path(&to).join(".git").exists());
    }
    let missing = world.fetch(&url, "v2", "none").await.unwrap_err();
    assert_eq!(missing.to_string(), "repository does not contain ref v2");
    let nothing = world.fetch(&server.url("b.git"), "", "none").await.unwrap_err();
    assert!(nothing.to_string().contains("not found"), "{nothing}");
}

#[tokio::test]
async fn the_next_fetch_moves_only_what_is_new() {
    let world = World::new();
    let origin = Origin::new(world.root(), "a");
    origin.write("large", noise(1 << 20));
    origin.commit();
    let server = Server::open(world.root());
    let url = server.url("a.git");
    let sent = |server: &Server| server.take().iter().map(|seen| seen.sent).sum::<usize>();
    world.fetch(&url, "", "one").await.unwrap();
    let first = sent(&server);
    assert!(first > 1 << 20, "{first}");
    origin.write("small", "a");
    let second = origin.commit();
    world.fetch(&url, "", "two").await.unwrap();
    let next = sent(&server);
    assert!(next < 20_000, "{next} after {first}");
    assert!(world.path("two/large").exists() && world.path("two/small").exists());
    // What has not moved is only looked up.
    world.fetch(&url, "", "three").await.unwrap();
    let posted = server
        .take()
        .iter()
        .filter(|seen| seen.method == "POST")
        .map(|seen| seen.sent)
        .sum::<usize>();
    assert!(posted < 1000, "{posted}");
    assert!(world.repository("ours").has(&second.parse().unwrap()).await.unwrap());
}

/// A commit below the tip, its branch, and a server that names only branches.
#[tokio::test]
async fn a_server_that_gives_no_commit_by_name_gives_a_branch() {
    let world = World::new();
    let origin = Origin::new(world.root(), "a");
    origin.write("file", "one");
    let first = origin.commit();
    origin.write("file", "two");
    let second = origin.commit();
    let server = Server::new(world.root(), |_| Reply::OldBackend);
    let remote = Remote::parse(&server.url("a.git")).unwrap();
    let (repository, access) = (world.repository("ours"), Access::default());
    for commit in [&second, &first] {
        repository.fetch(&remote, &access, &only(commit)).await.expect(commit);
        world.check_out(&repository, &commit.parse().unwrap(), commit).await.unwrap();
    }
    assert_eq!(fs::read_to_string(world.path(&first).join("file")).unwrap(), "one");
    // A reference that has moved on meanwhile.
    let other = world.repository("other");
    let reference = Some("refs/heads/main".to_owned());
    let moved = Wanted { reference, ..only(&first) };
    other.fetch(&remote, &access, &moved).await.unwrap();
    assert!(other.has(&moved.commit).await.unwrap());
    let nobodys = "0123456789abcdef0123456789abcdef01234567";
    let missing = other.fetch(&remote, &access, &only(nobodys)).await.unwrap_err();
    assert!(matches!(missing, GitError::NoCommit(_)), "{missing}");
    assert!(!other.has(&nobodys.parse().unwrap()).await.unwrap());
}

#[tokio::test]
async fn what_a_killed_fetch_left_is_cleared_up() {
    let world = World::new();
    let origin = Origin::new(world.root(), "a");
    origin.write("file", "one");
    origin.commit();
    let server = Server::open(world.root());
    world.fetch(&server.url("a.git"), "", "one").await.unwrap();
    let left = ["shallow.lock", "refs/kept/x.lock", "objects/pack/tmp_pack_x", "packed-refs.lock"];
    left.iter().for_each(|name| fs::write(world.path("ours").join(name), "half").unwrap());
    origin.write("file", "two");
    origin.commit();
    world.fetch(&server.url("a.git"), "", "two").await.unwrap();
    for name in left {
        assert!(!world.path("ours").join(name).exists(), "{name}");
    }
    for (name, content) in [("HEAD", ""), ("config", "[core]\n\thooksPath = /tmp\n")] {
        let path = world.path("ours").join(name);
        let before = fs::read(&path).unwrap();
        fs::write(&path, content).unwrap();
        assert!(matches!(world.open("ours").err(), Some(GitError::Damaged)), "{name}");
        fs::write(&path, before).unwrap();
    }
    assert!(world.open("ours").is_ok());
}

#[tokio::test]
async fn many_packs_are_made_one() {
    let world = World::new();
    let origin = Origin::new(world.root(), "a");
    let server = Server::open(world.root());
    let remote = Remote::parse(&server.url("a.git")).unwrap();
    let repository = world.repository("ours");
    let mut commits = Vec::new();
    for number in 0..42 {
        origin.write("file", format!("{number}"));
        let commit = origin.commit();
        repository.fetch(&remote, &Access::default(), &only(&commit)).await.unwrap();
        commits.push(commit);
    }
    let packs = fs::read_dir(world.path("ours/objects/pack")).unwrap();
    let packs = packs.filter(|e| e.as_ref().unwrap().path().extension() == Some("pack".as_ref()));
    assert!(packs.count() < 5);
    for commit in commits {
        assert!(repository.has(&commit.parse().unwrap()).await.unwrap());
    }
    repository.verify().await.unwrap();
}

#[tokio::test]
async fn repositories_may_have_long_names() {
    let world = World::new();
    let origin = Origin::with_format(world.root(), "a", "sha256");
    origin.write("file", "one");
    let commit: Commit = origin.commit().parse().unwrap();
    assert_eq!(commit.format(), "sha256");
    let server = Server::open(world.root());
    fs::create_dir(world.path("ours")).unwrap();
    Repository::create(&world.path("ours"), commit.format()).unwrap();
    assert_eq!(world.fetch(&server.url("a.git"), "", "out").await.unwrap(), commit);
    assert_eq!(fs::read_to_string(world.path("out/file")).unwrap(), "one");
}

#[tokio::test]
async fn a_kept_repository_is_one_to_work_with() {
    let world = World::new();
    let origin = Origin::new(world.root(), "a");
    origin.write("file", "one");
    let commit = origin.commit();
    origin.git(&["tag", "-a", "v1", "-m", "a tag"]);
    origin.publish();
    let server = Server::open(world.root());
    let remote =
        Remote::parse(&server.url("a.git").replace("http://", "http://me:secret@")).unwrap();
    let repository = world.repository("ours");
    let tag = Some(origin.git(&["rev-parse", "v1"]).parse().unwrap());
    let reference = |name: &str| Some(name.to_owned());
    for (to, tag, reference) in [
        ("tag", tag, reference("refs/tags/v1")),
        ("branch", None, reference("refs/heads/main")),
        ("commit", None, None),
    ] {
        let wanted = Wanted { commit: commit.parse().unwrap(), tag, reference };
        repository.fetch(&remote, &Access::default(), &wanted).await.unwrap();
        world.check_out(&repository, &wanted.commit, to).await.unwrap();
        let (work_tree, git_dir) = (world.path(to), world.path(to).join(".git"));
        let place = Place { git_dir: &git_dir, work_tree: &work_tree, worktree_setting: None };
        repository.make_git_dir(place, &remote, &wanted, &[]).await.unwrap();
        assert_eq!(git(&work_tree, &["status", "--porcelain"]), "", "{to}");
        assert_eq!(git(&work_tree, &["rev-parse", "HEAD"]), commit);
        assert_eq!(git(&work_tree, &["log", "--format=%s"]), "a commit");
        assert_eq!(git(&work_tree, &["remote", "get-url", "origin"]), server.url("a.git"));
        git(&work_tree, &["fsck", "--full"]);
        let files = walkdir::WalkDir::new(&git_dir).into_iter().map(Result::unwrap);
        for file in files.filter(|file| file.file_type().is_file()) {
            let content = fs::read(file.path()).unwrap();
            let has = |words: &str| content.windows(words.len()).any(|w| w == words.as_bytes());
            let own = world.root().to_str().unwrap();
            assert!(!has("secret") && !has(own), "{}", file.path().display());
        }
    }
    assert_eq!(git(&world.path("tag"), &["describe"]), "v1");
    assert_eq!(git(&world.path("branch"), &["rev-parse", "main"]), commit);
}
