//! Contexts from git repositories on loopback, behind the real `git http-backend`.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use super::builder::Builder;
use super::git_origin::Origin;
use super::git_server::Server;
use super::outcome::Outcome;

/// When the commits of an [`Origin`] are made.
const COMMITTED: i64 = 1_600_000_000;
const COMMITTED_TEXT: &str = "2020-09-13T12:26:40Z";

/// A builder, and a repository that can be built, with a tag and a directory that can be built, too.
fn world() -> Option<(Builder, Origin)> {
    let builder = Builder::bare()?;
    let origin = Origin::new(&builder.path("served"), "app");
    origin.write("Dockerfile", "FROM scratch\nCOPY . /\n");
    origin.write("file", "one");
    // An ignore file is a file like others, as for BuildKit.
    origin.write(".dockerignore", "file\n");
    origin.write("sub/Dockerfile", "FROM scratch\nCOPY page /sub\n");
    origin.write("sub/page", "a page");
    origin.commit();
    origin.git(&["tag", "v1"]);
    origin.write("file", "two");
    origin.commit();
    Some((builder, origin))
}

fn build(builder: &Builder, words: &[&str]) -> Outcome {
    let _ = fs::remove_dir_all(builder.path("out"));
    builder.run(&[&["build", "--progress", "json", "-o", "out"], words].concat())
}

#[test]
fn privileged_a_context_comes_from_git() {
    let Some((builder, origin)) = world() else { return };
    let server = Server::open(&builder.path("served"));
    let url = server.url("app.git");
    let at = |rest: &str| format!("{url}{rest}");
    build(&builder, &[&url]).success();
    assert_eq!(builder.read("out/file"), "two");
    assert!(builder.path("out/.dockerignore").exists() && !builder.path("out/.git").exists());
    // It is asked once where it is, and nothing is done again.
    server.take();
    assert_eq!(build(&builder, &[&url]).success().ran(), [""; 0]);
    assert_eq!(server.take().len(), 2);

    build(&builder, &[&at("#v1")]).success();
    assert_eq!(builder.read("out/file"), "one");
    build(&builder, &[&at("#main:sub")]).success();
    assert_eq!(builder.read("out/sub"), "a page");
    build(&builder, &["-f", "sub/Dockerfile", &at("#v1")]).fails_with(1);
    build(&builder, &["-f", "Dockerfile", &at("?subdir=sub&tag=v1")]).success();
    assert_eq!(builder.read("out/sub"), "a page");
    let keep = ["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", &url];
    build(&builder, &keep).success();
    assert!(builder.path("out/.git/HEAD").exists());
    // A Dockerfile of one's own.
    builder.write("own.Dockerfile", "FROM scratch\nCOPY file /own\n");
    let own = builder.path("own.Dockerfile");
    build(&builder, &["-f", own.to_str().expect("text"), &url]).success();
    assert_eq!(builder.read("out/own"), "two");
    let piped = builder
        .run_with_input(&["build", "-o", "out", "-f", "-", &url], b"FROM scratch\nCOPY file /in\n");
    piped.success();
    assert_eq!(builder.read("out/in"), "two");

    // A link of the repository leads nowhere but into it.
    builder.write("secret/Dockerfile", "FROM scratch\nCOPY canary /\n");
    let secret = builder.path("secret/Dockerfile");
    std::os::unix::fs::symlink(&secret, origin.work().join("linked")).expect("room");
    origin.commit();
    let linked = build(&builder, &["-f", "linked", &url]).fails_with(1);
    assert!(!linked.stderr.contains("canary"), "{}", linked.words());
    let up = build(&builder, &["-f", "../../secret/Dockerfile", &url]).fails_with(1);
    assert!(!up.stderr.contains("canary"), "{}", up.words());
    for (address, told) in [
        (at("#none"), "repository does not contain ref none"),
        (at("#main:none"), "the repository has no directory `none`"),
        (at("?what=ever"), "unexpected query \"what\""),
        (at("#--upload-pack=touch"), "not a valid git reference"),
        (server.url("other.git"), "not found"),
    ] {
        let failed = build(&builder, &[&address]).fails_with(1);
        assert!(failed.stderr.contains(told), "{address}: {}", failed.words());
    }
    let offline = build(&builder, &["--offline", &url]).fails_with(1);
    assert!(offline.stderr.contains("offline: `http://"), "{}", offline.words());
}

#[test]
fn privileged_a_named_context_comes_from_git() {
    let Some((builder, _origin)) = world() else { return };
    let server = Server::open(&builder.path("served"));
    let context = format!("app={}#v1", server.url("app.git"));
    let dockerfile = "FROM app AS base\nFROM scratch\nCOPY --from=app file /copied\n\
                      COPY --from=base sub/page /based\n";
    let _ = fs::remove_dir_all(builder.path("out"));
    builder.build(dockerfile, &["--build-context", &context, "-o", "out"]).success();
    assert_eq!(
        (builder.read("out/copied").as_str(), builder.read("out/based").as_str()),
        ("one", "a page")
    );
}

#[test]
fn privileged_a_commit_dates_what_is_built_from_it() {
    let Some((builder, _origin)) = world() else { return };
    let server = Server::open(&builder.path("served"));
    let url = server.url("app.git");
    let created = |words: &[&str]| {
        builder.run(&[&["build", "-t", "dated"], words].concat()).success();
        let about = builder.run(&["inspect", "--format", "{{.Created}}", "dated"]).success();
        about.text().trim().to_owned()
    };
    let dated = ["--build-arg", "SOURCE_DATE_EPOCH=context"];
    assert_eq!(created(&[dated[0], dated[1], &url]), COMMITTED_TEXT);
    build(&builder, &[dated[0], dated[1], &url]).success();
    let file = fs::symlink_metadata(builder.path("out/file")).expect("it is there");
    assert_eq!(file.mtime(), COMMITTED);
    // A named context, and a stage that only fetches.
    builder
        .write("here/Dockerfile", "ARG SOURCE_DATE_EPOCH=src\nFROM scratch\nCOPY Dockerfile /\n");
    let context = format!("src={url}#v1");
    assert_eq!(created(&["--build-context", &context, "here"]), COMMITTED_TEXT);
    let stage = format!(
        "ARG SOURCE_DATE_EPOCH=src\nFROM scratch AS src\nADD {url}#v1 /\nFROM scratch\nCOPY Dockerfile /\n"
    );
    builder.write("here/Dockerfile", stage);
    assert_eq!(created(&["here"]), COMMITTED_TEXT);
}
