//! Caches in BuildKit's form. That BuildKit itself reads and writes it so is held by what it has recorded
//! (`buildkit-cache/testdata`); here steps are found again through it.

use serde_json::Value;

use super::builder::Builder;
use super::shared_cache::{build, check, id};
use crate::plain_registry::PlainRegistry;

/// Files of the client and of another stage, copied and mounted.
const DOCKERFILE: &str = "FROM scratch AS base\nCOPY busybox /bin/busybox\n\
     RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n\
     FROM base AS make\nWORKDIR /src\nCOPY a b* ./\nRUN seq 100000 > /big && cat a > /made\n\
     FROM base\nENV A=\"<1> & 2\"\nRUN --mount=source=dir/c,target=/in cat /in > /c\n\
     RUN --mount=from=make,source=/src,target=/src --mount=type=cache,target=/cache/ cat /src/b1 > /b\n\
     COPY --from=make /made /made\nCOPY --link --chown=7 dir/ /dir/\nRUN <<EOF\necho $A > /env\nEOF\n";

/// One stage takes a file of another.
const STAGES: &str = "FROM scratch AS base\nCOPY busybox /bin/busybox\n\
     RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n\
     FROM base AS make\nRUN echo made > /made # first\n\
     FROM base\nCOPY --from=make /made /made\nRUN wc /made > /count\n";

fn world() -> Option<Builder> {
    let builder = Builder::bare()?;
    builder.write("Dockerfile", DOCKERFILE);
    for name in ["a", "b1", "b2", "dir/c", "dir/sub/d"] {
        builder.write(&format!("context/{name}"), name);
    }
    Some(builder)
}

fn to(registry: &PlainRegistry, more: &str) -> String {
    format!("type=registry,ref={}/cache:main,format=buildkit{more}", registry.host)
}

#[test]
fn privileged_steps_are_found_in_a_cache_that_buildkit_reads() {
    let (Some(builder), Some(registry)) = (world(), PlainRegistry::start()) else { return };
    build(&builder, "one", &["--cache-to", &to(&registry, ",mode=max")]).success();
    let from = format!("{}/cache:main", registry.host);
    let manifest = registry.manifest("cache", "main").1;
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.buildkit.cacheconfig.v0");
    registry.requests();

    let found = build(&builder, "two", &["--cache-from", &from]).success();
    assert_eq!(found.ran(), Vec::<String>::new(), "{}", found.stderr);
    check(&builder, "two");
    // The image's layers, and what the step that mounts files of the client next to those of `make` reads.
    let blobs = registry.requests().iter().filter(|request| request.contains("/blobs/")).count();
    assert!(blobs <= 12, "{blobs}");
    // The store knows them now.
    let again = build(&builder, "two", &[]).success();
    assert_eq!(again.ran(), Vec::<String>::new(), "{}", again.stderr);
    assert_eq!(id(&builder, "one"), id(&builder, "two"));

    builder.write("context/dir/sub/d", "edited");
    let edited = build(&builder, "three", &["--cache-from", &from]).success();
    assert_eq!(edited.ran(), ["stage-2 4/5", "stage-2 5/5"], "{}", edited.stderr);
    check(&builder, "three");
}

#[test]
fn privileged_equal_files_of_another_stage_find_a_step_by_themselves() {
    let (Some(builder), Some(registry)) = (world(), PlainRegistry::start()) else { return };
    builder.write("Dockerfile", STAGES);
    build(&builder, "one", &["--cache-to", &to(&registry, ",mode=max")]).success();
    let from = format!("{}/cache:main", registry.host);
    builder.write("Dockerfile", STAGES.replace("# first", "# second"));
    let second = build(&builder, "two", &["--cache-from", &from]).success();
    assert_eq!(second.ran(), ["make 1/1"], "{}", second.stderr);
    check(&builder, "two");
}

#[test]
fn privileged_what_is_there_does_not_travel_again() {
    let (Some(builder), Some(registry)) = (world(), PlainRegistry::start()) else { return };
    build(&builder, "one", &["--cache-to", &to(&registry, ",mode=max")]).success();
    let manifest = registry.manifest("cache", "main").1;
    registry.requests();
    let from = format!("{}/cache:main", registry.host);
    let words =
        ["--cache-from", &from, "--cache-to", &to(&registry, ",mode=max"), "-o", "type=cacheonly"];
    build(&builder, "two", &words).success();
    let requests = registry.requests();
    let uploads =
        requests.iter().filter(|request| request.starts_with("PUT") && request.contains("/blobs/"));
    // The config alone.
    assert!(uploads.count() <= 1, "{requests:#?}");
    let layers = |manifest: &Value| {
        let layers = manifest["layers"].as_array().expect("a list").iter();
        let mut digests: Vec<_> = layers.map(|layer| layer["digest"].to_string()).collect();
        digests.sort();
        digests
    };
    assert_eq!(layers(&registry.manifest("cache", "main").1), layers(&manifest));
}

#[test]
fn privileged_a_cache_without_its_layers_is_left_out() {
    let (Some(builder), Some(registry)) = (world(), PlainRegistry::start()) else { return };
    build(&builder, "one", &["--cache-to", &to(&registry, ",mode=max")]).success();
    registry.lose_layers("cache", "main");
    let from = format!("{}/cache:main", registry.host);
    let built = build(&builder, "two", &["--cache-from", &from]).success();
    assert!(built.stderr.contains("is not used any more"), "{}", built.stderr);
    assert!(!built.ran().is_empty());
    check(&builder, "two");
}

#[test]
fn privileged_an_image_carries_the_steps_that_it_is_made_of() {
    let (Some(builder), Some(registry)) = (world(), PlainRegistry::start()) else { return };
    builder.write("Dockerfile", STAGES);
    let image = format!("{}/app:1", registry.host);
    let run = |store: &str, words: &[&str]| {
        let all = ["build", "--progress", "json", "-f", "Dockerfile"];
        let mut command = builder.command(&[&all[..], words, &["context"]].concat());
        builder.run_command(command.env("MYBUILD_ROOT", builder.path(store)))
    };
    let asked = [["--cache-to", "type=inline"], ["--build-arg", "BUILDKIT_INLINE_CACHE=1"]];
    for (number, asked) in asked.iter().enumerate() {
        let image = format!("{}/app:{number}", registry.host);
        run("one", &[&["-t", &image, "--push"][..], asked].concat()).success();
        let store = format!("two-{number}");
        let found = run(&store, &["--cache-from", &image]).success();
        assert_eq!(found.ran(), Vec::<String>::new(), "{}", found.stderr);
        check(&builder, &store);
    }
    // What is built on it does not carry that.
    builder.write("Dockerfile", format!("FROM {image}\nRUN echo more > /more\n"));
    let over = format!("{}/over:1", registry.host);
    run("one", &["-t", &over, "--push"]).success();
    let built = run("three", &["--cache-from", &over]).success();
    assert!(built.stderr.contains("there is no cache"), "{}", built.stderr);

    builder.write("Dockerfile", STAGES);
    let squashed = run("one", &["--squash", "--cache-to", "type=inline"]).success();
    assert!(squashed.stderr.contains("the image carries no cache"), "{}", squashed.stderr);
}

#[test]
fn what_buildkit_cannot_read_is_not_asked_for() {
    let Some(builder) = Builder::bare() else { return };
    for (text, want) in [
        ("type=local,dest=x,format=buildkit", "a cache for BuildKit is written to a registry"),
        ("type=registry,ref=a/b,format=other", "`format=other`: want mybuild or buildkit"),
        ("type=inline,mode=max", "an image has the layers of its own steps alone"),
        ("type=inline,ref=a/b", "`ref` is not an attribute of `type=inline`"),
    ] {
        let refused = builder.run(&["build", "--cache-to", text, "."]);
        assert!(refused.stderr.contains(want), "{text}: {}", refused.stderr);
        assert_eq!(refused.code, Some(2), "{text}");
    }
}
