//! Files that a build fetches over HTTP.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use oci::Digest;

use super::builder::Builder;
use super::web::{Page, Site, Web};
use crate::server::Reply;

const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const THEN_SECONDS: i64 = 784_111_777;
const NOW: &str = "Mon, 07 Nov 1994 08:49:37 GMT";

/// Bytes without a pattern that a mix-up of parts could hide in.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn privileged_add_fetches_a_file() {
    let Some(builder) = Builder::bare() else { return };
    let site = Site::default();
    site.put("/dir/file.txt", Page::new("content\n").with_time(THEN));
    site.put("/", Page::new("top"));
    let mut tar = Command::new("tar");
    tar.args(["-cz", "busybox"]).current_dir(builder.path("context"));
    let tar = tar.output().expect("tar runs").stdout;
    site.put("/packed.tar.gz", Page::new(tar.clone()));
    let web = Web::serve(&site);
    let dockerfile = format!(
        "FROM scratch
ARG WHERE={host}
ADD http://$WHERE/dir/file.txt?query#fragment /a/
ADD --chmod=4755 --chown=7:8 http://{host}/dir/file.txt /b
ADD http://{host}/ /c/
ADD http://{host}/packed.tar.gz /d/
ADD --unpack http://{host}/packed.tar.gz /e/
",
        host = web.host()
    );
    builder.build(&dockerfile, &["-o", "out"]).success();
    let about = |name: &str| {
        let file = fs::symlink_metadata(builder.path(&format!("out/{name}"))).expect("it is there");
        (file.mode() & 0o7777, file.uid(), file.gid(), file.mtime())
    };
    assert_eq!(builder.read("out/a/file.txt"), "content\n");
    assert_eq!(about("a/file.txt"), (0o600, 0, 0, THEN_SECONDS));
    assert_eq!(builder.read("out/b"), "content\n");
    assert_eq!((about("b").0, about("b").3), (0o4755, THEN_SECONDS));
    builder.build(&dockerfile, &["-o", "type=tar,dest=out.tar"]).success();
    let mut archive = tar::Archive::new(fs::File::open(builder.path("out.tar")).expect("a tar"));
    let entries = archive.entries().expect("a tar").map(|entry| entry.expect("an entry"));
    let owners = entries.filter(|entry| entry.path_bytes().as_ref() == b"b");
    let owners: Vec<_> = owners.map(|b| (b.header().uid().ok(), b.header().gid().ok())).collect();
    assert_eq!(owners, [(Some(7), Some(8))]);
    assert_eq!(builder.read("out/c/__unnamed__"), "top");
    assert_eq!(about("c/__unnamed__"), (0o600, 0, 0, 0));
    assert!(fs::read(builder.path("out/d/packed.tar.gz")).expect("a file") == tar);
    let unpacked = fs::read(builder.path("out/e/busybox")).expect("a file");
    assert!(unpacked == fs::read("/bin/busybox").expect("a file"));
    assert!(!builder.path("out/e/packed.tar.gz").exists());
    // It is a file like others, and no network of steps has to do with it.
    let words = ["--network=none", "-o", "out", "--no-cache"];
    let from = format!(
        "FROM scratch AS from\nADD {} /\nFROM scratch\nCOPY --from=from file.txt /copied\n",
        web.url("/dir/file.txt")
    );
    builder.build(&from, &words).success();
    assert_eq!(about("copied"), (0o600, 0, 0, THEN_SECONDS));

    let gone = web.url("/gone");
    let missing = builder.build(&format!("FROM scratch\nADD {gone} /\n"), &[]).fails_with(1);
    let told = format!("failed to fetch `{gone}`: invalid response status 404");
    assert!(missing.stderr.contains(&told), "{}", missing.words());
    let copy = builder.build(&format!("FROM scratch\nCOPY {gone} /\n"), &[]).fails_with(1);
    assert!(copy.stderr.contains("source can't be a URL for COPY"), "{}", copy.words());
}

#[test]
fn privileged_a_file_is_fetched_again_only_when_it_has_changed() {
    let Some(builder) = Builder::bare() else { return };
    let site = Site::default();
    site.put("/tag", Page::new("1").with_etag("one"));
    site.put("/time", Page::new("1").with_time(THEN));
    site.put("/both", Page::new("1").with_etag("one").with_time(THEN));
    site.put("/none", Page::new("1"));
    let web = Web::serve(&site);
    let ran = |path: &str, lines: &[&str]| {
        let dockerfile = format!("FROM scratch\nADD {} /file\n", web.url(path));
        let outcome = builder.build(&dockerfile, &["-o", "out"]).success();
        assert_eq!(web.take_lines(), lines, "{path}");
        (builder.read("out/file"), outcome.ran().len())
    };
    for (path, asked) in [
        ("/tag", "if-none-match: \"one\"".to_owned()),
        ("/time", format!("if-modified-since: {THEN}")),
        ("/both", format!("if-none-match: \"one\" if-modified-since: {THEN}")),
    ] {
        let (first, again) = (format!("GET {path}"), format!("GET {path} {asked}"));
        let (first, again) = ([first.as_str()], [again.as_str()]);
        // The file itself is one step, the copy of it another.
        assert_eq!(ran(path, &first), ("1".to_owned(), 2));
        assert_eq!(ran(path, &again), ("1".to_owned(), 0));
        site.put(path, Page::new("2").with_etag("two").with_time(NOW));
        assert_eq!(ran(path, &again), ("2".to_owned(), 2));
    }
    // Without a word of the server it comes again, and is what it was.
    assert_eq!(ran("/none", &["GET /none"]), ("1".to_owned(), 2));
    assert_eq!(ran("/none", &["GET /none"]), ("1".to_owned(), 1));
    // The same content of another time is copied already, as a file of a context would be.
    site.put("/time", Page::new("2").with_time(THEN));
    let asked = format!("GET /time if-none-match: \"two\" if-modified-since: {NOW}");
    assert_eq!(ran("/time", &[&asked]), ("2".to_owned(), 1));
}

#[test]
fn privileged_a_server_that_knows_no_conditions_need_not_send_all() {
    let Some(builder) = Builder::bare() else { return };
    // It says with each answer how much is to come, and sends less than that.
    let asked = AtomicUsize::new(0);
    let web = Web::start(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::ok("content").with("ETag", "\"a\""),
        _ => Reply::stall(1 << 30, "").with("ETag", "W/\"a\""),
    });
    let dockerfile = format!("FROM scratch\nADD {} /file\n", web.url("/file"));
    assert_eq!(builder.build(&dockerfile, &[]).success().ran().len(), 2);
    assert_eq!(builder.build(&dockerfile, &[]).success().ran(), [""; 0]);
    assert_eq!(web.take_lines(), ["GET /file", "GET /file if-none-match: \"a\""]);
}

#[test]
fn privileged_a_file_with_a_checksum_is_asked_for_once() {
    let Some(builder) = Builder::bare() else { return };
    let site = Site::default();
    site.put("/file", Page::new("content").with_time(THEN));
    site.put("/other/file", Page::new("changed"));
    site.put("/lazy", Page::new("lazy").with_etag("a"));
    let web = Web::serve(&site);
    let digest = Digest::of(b"content");
    let sha512 = "b2d1d285b5199c85f988d03649c37e44fd3dde01e5d69c50fef90651962f48110e9340b60d49a479c4c0b53f5f07d690686dd87d2481937a512e8b85ee7c617f";
    let build = |checksum: &str, path: &str| {
        let url = web.url(path);
        let dockerfile = format!("FROM scratch\nADD --checksum={checksum} {url} /file\n");
        builder.build(&dockerfile, &["-o", "out"])
    };
    let digest_text = digest.to_string();
    assert_eq!(build(&digest_text, "/file").success().ran().len(), 2);
    assert_eq!(builder.read("out/file"), "content");
    assert_eq!(web.take_lines(), ["GET /file"]);
    assert_eq!(build(&digest_text, "/file").success().ran(), [""; 0]);
    // The same content from elsewhere, which has another now.
    assert_eq!(build(&digest_text, "/other/file").success().ran(), [""; 0]);
    assert_eq!(web.take_lines(), [""; 0]);
    build(&format!("sha512:{sha512}"), "/file").success();
    assert_eq!(web.take_lines(), ["GET /file"]);

    // What is fetched without one does as well.
    builder.build(&format!("FROM scratch\nADD {} /x\n", web.url("/lazy")), &[]).success();
    web.take_lines();
    build(Digest::of(b"lazy").as_str(), "/lazy").success();
    assert_eq!(web.take_lines(), [""; 0]);

    let wrong = Digest::of(b"else");
    let failed = build(wrong.as_str(), "/file").fails_with(1);
    let url = web.url("/file");
    let told = format!("failed to fetch `{url}`: digest mismatch: {digest} (expected: {wrong})");
    assert!(failed.stderr.contains(&told), "{}", failed.words());
    // Nothing of it is kept.
    build(wrong.as_str(), "/file").fails_with(1);
    assert_eq!(web.take_lines(), ["GET /file", "GET /file"]);
    // Where nobody answers a file that is known is found nevertheless.
    let dockerfile = format!("FROM scratch\nADD --checksum={digest} {url} /file\n");
    drop(web);
    assert_eq!(builder.build(&dockerfile, &[]).success().ran(), [""; 0]);
}

#[test]
fn privileged_secrets_go_to_their_host_alone() {
    let Some(builder) = Builder::bare() else { return };
    const TOKEN: &str = "token-battery-staple-93b1";
    let other = Web::start(|_| Reply::ok("of another host"));
    let target = other.url("/file");
    let web = Web::start(move |seen| match (seen.path(), seen.header("authorization")) {
        ("/away", Some(_)) => Reply::redirect(target.clone()),
        ("/here", Some(_)) => Reply::redirect("/there").status(302),
        (_, Some(authorization)) => Reply::ok(authorization),
        _ => Reply::new(401, ""),
    });
    let build = |url: &str, words: &[&str], set: &str| {
        builder.write("Dockerfile", format!("FROM scratch\nADD {url} /file\n"));
        let words = [&["build", "--progress", "plain", "-o", "out"][..], words, &["."]].concat();
        builder.run_command(builder.command(&words).env("SECRET", set))
    };
    let (token, header) =
        ("id=HTTP_AUTH_TOKEN_127.0.0.1,env=SECRET", "id=HTTP_AUTH_HEADER_127.0.0.1,env=SECRET");
    let user = format!("http://me:{TOKEN}%40@{}/user", web.host());
    for (url, words, set, expected) in [
        (web.url("/token"), &["--secret", token][..], TOKEN, format!("Bearer {TOKEN}")),
        (web.url("/header"), &["--secret", header], "Key k\n", "Key k".to_owned()),
        (web.url("/here"), &["--secret", token], TOKEN, format!("Bearer {TOKEN}")),
        (web.url("/both"), &["--secret", token, "--secret", header], "t", "Bearer t".to_owned()),
        (web.url("/away"), &["--secret", token], TOKEN, "of another host".to_owned()),
        (user, &[], "", "Basic bWU6dG9rZW4tYmF0dGVyeS1zdGFwbGUtOTNiMUA=".to_owned()),
    ] {
        let outcome = build(&url, words, set).success();
        assert_eq!(builder.read("out/file"), expected, "{url}");
        let is_shown = outcome.stderr.contains(TOKEN);
        assert!(!is_shown, "{url}: {}", outcome.stderr);
    }
    let seen = other.take_seen();
    assert_eq!(seen.iter().map(|seen| seen.header("authorization")).collect::<Vec<_>>(), [None]);
    // Another host's secret is not sent, and what fails says how to give one.
    let url = web.url("/token");
    let refused =
        build(&url, &["--secret", "id=HTTP_AUTH_TOKEN_localhost,env=SECRET"], TOKEN).fails_with(1);
    assert!(refused.stderr.contains("invalid response status 401"), "{}", refused.stderr);
    assert!(refused.stderr.contains("HTTP_AUTH_TOKEN_127.0.0.1"), "{}", refused.stderr);
    let refused = build(&url, &["--secret", token], "a\nb").fails_with(1);
    assert!(refused.stderr.contains("cannot be sent in an HTTP header"), "{}", refused.stderr);
}

#[test]
fn privileged_servers_lead_nowhere_they_should_not() {
    let Some(builder) = Builder::bare() else { return };
    let web = Web::start(|seen| {
        let to = match seen.path() {
            "/file" => "file:///etc/passwd",
            "/ftp" => "ftp://127.0.0.1/x",
            "/user" => "http://me:hidden@127.0.0.1/x",
            "/cloud" => "http://169.254.169.254/x",
            "/loop" => "/loop",
            "/empty" => "",
            _ => return Reply::new(300, ""),
        };
        Reply::redirect(to)
    });
    for (path, told) in [
        ("/file", "only HTTP and HTTPS are supported"),
        ("/ftp", "only HTTP and HTTPS are supported"),
        ("/user", "the address contains credentials"),
        ("/cloud", "the address is local"),
        ("/loop", "too many redirects"),
        ("/empty", "too many redirects"),
        ("/choice", "invalid response status 300"),
    ] {
        let dockerfile = format!("FROM scratch\nADD {} /\n", web.url(path));
        let failed = builder.build(&dockerfile, &[]).fails_with(1);
        assert!(failed.stderr.contains(told), "{path}: {}", failed.words());
        assert!(!failed.stderr.contains("hidden"), "{path}: {}", failed.words());
    }
}

#[test]
fn privileged_what_breaks_is_resumed_and_what_lies_is_refused() {
    let Some(builder) = Builder::bare() else { return };
    let bytes = noise(300_000);
    let (asked, file) = (AtomicUsize::new(0), bytes.clone());
    let web = Web::start(move |seen| {
        let reply = match (seen.path(), asked.fetch_add(1, Ordering::Relaxed)) {
            ("/lies", _) => Reply::cut(file.len() + 1, &file[..]),
            ("/broken", 0) => Reply::new(503, ""),
            ("/broken", 1) => Reply::cut(file.len(), &file[..100_000]),
            ("/broken", 2) => Reply::new(500, ""),
            // Another file in the place of the first.
            ("/other", 0) => Reply::cut(file.len(), &file[..100_000]).with("ETag", "\"b\""),
            ("/other", _) => return Reply::ok("other").with("ETag", "\"c\""),
            ("/shrunk", 0) => Reply::cut(file.len(), &file[..100_000]),
            ("/shrunk", 1) => return Reply::new(416, "").with("ETag", "\"a\""),
            ("/shrunk", _) => return Reply::ok("shrunk").with("ETag", "\"a\""),
            ("/encoded", _) => Reply::ok(&file[..]).with("Content-Encoding", "gzip"),
            ("/part", _) => Reply::range(&file, 0, 9),
            _ => Reply::part(seen, &file),
        };
        reply.with("ETag", "\"a\"")
    });
    let build = |path: &str| {
        web.take_lines();
        let dockerfile = format!("FROM scratch\nADD {} /file\n", web.url(path));
        builder.build(&dockerfile, &["-o", "out"])
    };
    build("/broken").success();
    assert!(fs::read(builder.path("out/file")).expect("a file") == bytes);
    let rest = "GET /broken if-range: \"a\" range: bytes=100000-299999";
    assert_eq!(web.take_lines(), ["GET /broken", "GET /broken", rest, rest]);
    for (path, told) in [
        ("/lies", "failed to fetch"),
        ("/encoded", "the content is encoded as `gzip`"),
        ("/part", "invalid response status 206"),
    ] {
        let failed = build(path).fails_with(1);
        assert!(failed.stderr.contains(told), "{path}: {}", failed.words());
    }
}

#[test]
fn privileged_a_file_of_the_same_second_is_fetched_again() {
    let Some(builder) = Builder::bare() else { return };
    let web = Web::start(|seen| match seen.header("if-modified-since") {
        Some(_) => Reply::new(304, "").with("Date", NOW),
        None => {
            let is_fresh = seen.path() == "/fresh";
            let modified = if is_fresh { NOW } else { THEN };
            Reply::ok("1").with("Last-Modified", modified).with("Date", NOW)
        }
    });
    let old = format!("GET /old if-modified-since: {THEN}");
    for (path, second) in [("/fresh", "GET /fresh"), ("/old", &old)] {
        let dockerfile = format!("FROM scratch\nADD {} /file\n", web.url(path));
        builder.build(&dockerfile, &[]).success();
        web.take_lines();
        builder.build(&dockerfile, &[]).success();
        assert_eq!(web.take_lines(), [second]);
    }
}

#[test]
fn privileged_a_file_that_ends_early_is_said_to() {
    let Some(builder) = Builder::bare() else { return };
    let web = Web::start(|seen| match seen.path() {
        "/known" => Reply::cut(1000, [b'x'; 300]).with("Last-Modified", THEN),
        _ => Reply::cut(1000, [b'x'; 300]),
    });
    let cut = "the server closed the connection after 300 of 1000 bytes";
    for path in ["/known", "/unknown"] {
        let dockerfile = format!("FROM scratch\nADD {} /file\n", web.url(path));
        let failed = builder.build(&dockerfile, &["--progress=plain"]).fails_with(1);
        let (progress, error) = failed.stderr.split_once("\nerror: ").expect("an error");
        assert!(error.contains(cut), "{path}: {}", failed.words());
        let again = progress.lines().filter(|line| line.contains("; trying again"));
        let again: Vec<&str> = again.collect();
        assert!(!again.is_empty() && again.iter().all(|line| line.contains(cut)), "{progress}");
    }
}

#[test]
fn privileged_a_file_that_another_replaces_is_never_half_of_each() {
    let Some(builder) = Builder::bare() else { return };
    let file = noise(200_000);
    for (name, then) in [
        ("all of another", (|_| Reply::ok("other").with("ETag", "\"b\"")) as fn(usize) -> Reply),
        ("another of the same size", |size| Reply::ok(vec![b'x'; size]).with("ETag", "\"b\"")),
        ("a part of another", |size| {
            Reply::range(&vec![b'x'; size], 100_000, size - 1).with("ETag", "\"b\"")
        }),
        ("less", |_| Reply::new(416, "")),
    ] {
        let (asked, first) = (AtomicUsize::new(0), file.clone());
        let web = Web::start(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::cut(first.len(), &first[..100_000]).with("ETag", "\"a\""),
            1 => then(first.len()),
            _ => Reply::ok("other").with("ETag", "\"b\""),
        });
        let dockerfile = format!("FROM scratch\nADD {} /file\n", web.url("/file"));
        builder.build(&dockerfile, &["-o", "out"]).success();
        assert_eq!(builder.read("out/file"), "other", "{name}");
    }
}

#[test]
fn privileged_endless_files_end() {
    let Some(builder) = Builder::bare() else { return };
    let web = Web::start(|seen| match seen.path() {
        "/announced" => Reply::stall(2 << 30, "a"),
        "/closed" => Reply::until_close("whole"),
        _ => Reply::endless(),
    });
    for path in ["/announced", "/endless"] {
        let dockerfile = format!("FROM scratch\nADD {} /\n", web.url(path));
        let failed = builder.build(&dockerfile, &["--step-disk", "1MB"]).fails_with(1);
        let told = "it is larger than the 1048576 bytes that a step may write";
        assert!(failed.stderr.contains(told), "{path}: {}", failed.words());
    }
    // Without a length the end of the connection is that of the file.
    let dockerfile = format!("FROM scratch\nADD {} /file\n", web.url("/closed"));
    builder.build(&dockerfile, &["-o", "out", "--step-disk", "1MB"]).success();
    assert_eq!(builder.read("out/file"), "whole");
    builder.assert_nothing_left();
}

#[test]
fn privileged_files_are_fetched_while_other_steps_go_on() {
    let Some(builder) = Builder::bare() else { return };
    // Whoever asks first is answered when the other one has asked, too.
    let both = Arc::new(Barrier::new(2));
    let web = Web::start(move |seen| {
        // The server's other tasks go on meanwhile.
        tokio::task::block_in_place(|| both.wait());
        Reply::ok(seen.path()).with("ETag", "\"a\"")
    });
    let dockerfile = format!(
        "FROM scratch AS other\nADD {} /two\nFROM scratch\nADD {} /one\nCOPY --from=other two /\n",
        web.url("/two"),
        web.url("/one")
    );
    let outcome = builder.build(&dockerfile, &["-o", "out"]).success();
    assert_eq!((builder.read("out/one"), builder.read("out/two")), ("/one".into(), "/two".into()));
    // It is told how far they are.
    let transfers = outcome.stderr.lines().filter(|line| line.contains("\"type\":\"transfer\""));
    let whole = transfers.filter(|line| line.contains("\"done\":true"));
    assert_eq!(whole.filter(|line| line.contains("\"current\":4,\"total\":4")).count(), 2);
}
