//! Contents of cache mounts that travel in shared caches: a step finds what another store's step has left, and
//! whatever is wrong with a cache is an empty mount.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::bucket_cache::worlds;
use super::builder::Builder;
use super::outcome::Outcome;
use crate::plain_registry::PlainRegistry;

/// The step tells what it finds, and leaves something.
pub(super) const DOCKERFILE: &str = "FROM scratch AS base\nCOPY busybox /bin/busybox\n\
     RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n\
     FROM base\nARG WHO=nobody\n\
     RUN --mount=type=cache,target=/m,id=work,mode=0751,uid=5,gid=6 \
     cd /m; find . | sort | xargs stat -c 'found %n %a %u:%g %Y %F'; \
     cat common 2>/dev/null; echo common by $WHO >common; \
     echo $WHO >$WHO; test -e big || seq 400000 >big\n";

/// Builds as `who` in the store called `store`.
fn build(builder: &Builder, store: &str, who: &str, words: &[&str]) -> Outcome {
    let who = format!("WHO={who}");
    let all = ["build", "--progress", "json", "-f", "Dockerfile", "--build-arg", &who];
    let mut command =
        builder.command(&[&all[..], &["-o", "type=cacheonly"], words, &["context"]].concat());
    builder.run_command(command.env("MYBUILD_ROOT", builder.path(store)))
}

fn world() -> Option<Builder> {
    let builder = Builder::bare()?;
    builder.write("Dockerfile", DOCKERFILE);
    Some(builder)
}

/// Names in the mount as the step found it.
pub(super) fn found(outcome: &Outcome) -> BTreeSet<String> {
    let log = outcome.log();
    let lines = log.lines().filter_map(|line| line.strip_prefix("found ./"));
    lines.map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
}

pub(super) fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Sizes of all blobs of a cache in a directory.
fn blobs(builder: &Builder, cache: &str) -> Vec<(PathBuf, u64)> {
    let entries = fs::read_dir(builder.path(cache).join("blobs/sha256")).expect("it was written");
    let entries = entries.map(|entry| entry.expect("it was written"));
    entries.map(|entry| (entry.path(), entry.metadata().unwrap().len())).collect()
}

fn warnings(outcome: &Outcome) -> Vec<&str> {
    outcome.stderr.lines().filter(|line| line.contains("\"warning\"")).collect()
}

#[test]
fn privileged_a_step_finds_what_another_stores_step_has_left() {
    let (Some(builder), Some(registry)) = (world(), PlainRegistry::start()) else { return };
    let cache = format!("type=registry,ref={}/cache:main", registry.host);
    let to = format!("{cache},mode=max,mounts=true");
    let first = build(&builder, "one", "one", &["--cache-to", &to]).success();
    assert_eq!(found(&first), names(&[]), "{}", first.log());

    // What is cached needs no mount.
    let cached = build(&builder, "cached", "one", &["--cache-from", &cache]).success();
    assert!(!cached.stderr.contains("fetching cache mount"), "{}", cached.stderr);

    let words = ["--cache-from", &cache, "--cache-to", &to];
    let second = build(&builder, "two", "two", &words).success();
    assert_eq!(found(&second), names(&["big", "common", "one"]), "{}", second.log());
    let log = second.log();
    assert!(log.contains("common by one"), "{log}");
    assert!(log.contains("found . 751 5:6 ") && log.contains("found ./one 644 0:0 "), "{log}");
    assert!(second.stderr.contains("fetching cache mount"), "{}", second.stderr);
    assert_eq!(warnings(&second), Vec::<&str>::new());

    // What is there stays, whatever the cache has by now.
    let again = build(&builder, "one", "again", &["--cache-from", &cache]).success();
    assert_eq!(found(&again), names(&["big", "common", "one"]), "{}", again.log());

    // Who does not want it gets an empty one; and so does who wants to begin from nothing.
    let refused = format!("{cache},mounts=false");
    let without = build(&builder, "three", "three", &["--cache-from", &refused]).success();
    assert_eq!(found(&without), names(&[]), "{}", without.log());
    let fresh = build(&builder, "four", "four", &["--cache-from", &cache, "--no-cache"]).success();
    assert_eq!(found(&fresh), names(&[]), "{}", fresh.log());
}

#[test]
fn privileged_mounts_travel_in_buckets() {
    for (builder, objects) in worlds() {
        builder.write("Dockerfile", DOCKERFILE);
        let cache = objects.cache();
        let to = format!("{cache},mode=max,mounts=true");
        build(&builder, "one", "one", &["--cache-to", &to]).success();
        let words = ["--cache-from", &cache, "--cache-to", &to];
        let second = build(&builder, "two", "two", &words).success();
        assert_eq!(found(&second), names(&["big", "common", "one"]), "{}", second.log());
        let third = build(&builder, "three", "three", &["--cache-from", &cache]).success();
        assert_eq!(found(&third), names(&["big", "common", "one", "two"]), "{}", third.log());
        assert_eq!(warnings(&third), Vec::<&str>::new());
    }
}

#[test]
fn privileged_only_what_is_new_in_a_mount_is_sent() {
    let Some(builder) = world() else { return };
    let (from, to) = ("type=local,src=cache", "type=local,dest=cache,mounts=true");
    build(&builder, "one", "one", &["--cache-to", to]).success();
    let before: BTreeSet<_> = blobs(&builder, "cache").into_iter().collect();
    build(&builder, "two", "two", &["--cache-from", from, "--cache-to", to]).success();
    let after: BTreeSet<_> = blobs(&builder, "cache").into_iter().collect();
    let size = |blobs: &mut dyn Iterator<Item = &(PathBuf, u64)>| -> u64 {
        blobs.map(|(_, size)| size).sum()
    };
    let (all, new) = (size(&mut before.iter()), size(&mut after.difference(&before)));
    assert!(new * 10 < all, "{new} of {all}");
    // Nor by who writes another cache in the same place.
    let branch = format!("{to},tag=branch");
    build(&builder, "three", "three", &["--cache-from", from, "--cache-to", &branch]).success();
    let branched: BTreeSet<_> = blobs(&builder, "cache").into_iter().collect();
    let new = size(&mut branched.difference(&after));
    assert!(new * 10 < all, "{new} of {all}");
    // What has not changed is not written again.
    let packs = || fs::read_dir(builder.path("cache/records/latest")).unwrap().count();
    let written = packs();
    build(&builder, "two", "two", &["--cache-from", from, "--cache-to", to]).success();
    assert_eq!(packs(), written);
}

#[test]
fn privileged_of_those_who_wrote_at_the_same_time_nothing_is_lost() {
    let (Some(builder), Some(registry)) = (world(), PlainRegistry::start()) else { return };
    let cache = format!("type=registry,ref={}/cache", registry.host);
    let to = format!("{cache},mounts=true");
    build(&builder, "seed", "seed", &["--cache-to", &to]).success();
    let words = ["--cache-from", cache.as_str(), "--cache-to", &to];
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (builder, words) = (&builder, &words);
            let who = format!("writer{number}");
            scope.spawn(move || build(builder, &who, &who, words).success());
        }
    });
    // The last one's is the newer of two files with one name.
    let last = build(&builder, "last", "last", &words).success();
    let read = build(&builder, "reader", "reader", &["--cache-from", &cache]).success();
    let writers = ["big", "common", "seed", "writer0", "writer1", "writer2", "writer3"];
    assert_eq!(found(&last), names(&writers), "{}", last.log());
    assert_eq!(found(&read), names(&[&writers[..], &["last"]].concat()), "{}", read.log());
    assert!(read.log().contains("common by last"), "{}", read.log());
}

/// What is wrong with a cache's mounts, and what is said then.
type Harm = (&'static str, fn(&mut Value), &'static str);

const HARM: [Harm; 6] = [
    ("another index", |mount| mount["index"] = mount["bundles"][0].clone(), "cannot be read"),
    ("no such index", |mount| mount["index"]["digest"] = digest().into(), "failed to read"),
    ("another size", |mount| mount["size"] = 1.into(), "length"),
    ("an endless index", |mount| mount["index"]["size"] = (1_u64 << 60).into(), "too long"),
    ("another mount's name", |mount| mount["id"] = "/other".into(), ""),
    ("nobody's successor", |mount| mount["after"] = vec!["../../x"; 1000].into(), ""),
];

/// The same of a blob.
type BlobHarm = (&'static str, fn(&Path), &'static str);

fn digest() -> String {
    format!("sha256:{}", "0".repeat(64))
}

/// Changes what the cache says of each mount.
fn edit(builder: &Builder, cache: &str, edit: fn(&mut Value)) {
    for pack in fs::read_dir(builder.path(cache).join("records/latest")).unwrap() {
        let pack = pack.unwrap().path();
        let mut value: Value = serde_json::from_slice(&fs::read(&pack).unwrap()).unwrap();
        value["mounts"].as_array_mut().unwrap().iter_mut().for_each(edit);
        fs::write(&pack, serde_json::to_vec(&value).unwrap()).unwrap();
    }
}

fn copy(builder: &Builder, to: &str) {
    let (from, to) = (builder.path("cache"), builder.path(to));
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// The first blob that the cache says has chunks of a mount.
fn bundle(builder: &Builder, cache: &str) -> PathBuf {
    let pack = fs::read_dir(builder.path(cache).join("records/latest")).unwrap().next();
    let pack: Value =
        serde_json::from_slice(&fs::read(pack.unwrap().unwrap().path()).unwrap()).unwrap();
    let digest = pack["mounts"][0]["bundles"][0]["digest"].as_str().unwrap();
    builder.path(cache).join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
}

#[test]
fn privileged_what_is_wrong_is_an_empty_mount_with_a_warning() {
    let Some(builder) = world() else { return };
    let to = "type=local,dest=cache,mode=max,mounts=true";
    build(&builder, "one", "one", &["--cache-to", to]).success();
    let check = |what: &str, number: String, said: &str| {
        let from = format!("type=local,src=cache-{number}");
        let built = build(&builder, &format!("store-{number}"), "two", &["--cache-from", &from]);
        let built = built.success();
        let warnings = warnings(&built);
        if said.is_empty() {
            assert_eq!(warnings, Vec::<&str>::new(), "{what}");
            return;
        }
        assert_eq!(found(&built), names(&[]), "{what}: {}", built.log());
        assert_eq!(warnings.len(), 1, "{what}: {warnings:?}");
        let is_told = warnings[0].contains("not used any more") && warnings[0].contains(said);
        assert!(is_told, "{what}: {warnings:?}");
        // The steps before it are cached all the same.
        assert_eq!(built.ran(), ["stage-1 1/1"], "{what}");
    };
    for (number, (what, harm, said)) in HARM.into_iter().enumerate() {
        copy(&builder, &format!("cache-{number}"));
        edit(&builder, &format!("cache-{number}"), harm);
        check(what, number.to_string(), said);
    }
    let harm: [BlobHarm; 3] = [
        ("cut", |path| fs::write(path, &fs::read(path).unwrap()[1..]).unwrap(), "content"),
        ("gone", |path| fs::remove_file(path).unwrap(), "failed to read"),
        ("endless", |path| File::create(path).unwrap().set_len(1 << 40).unwrap(), "content"),
    ];
    for (what, harm, said) in harm {
        copy(&builder, &format!("cache-{what}"));
        harm(&bundle(&builder, &format!("cache-{what}")));
        check(what, what.to_owned(), said);
    }
}

#[test]
fn privileged_what_cannot_be_read_any_more_is_left_behind() {
    let Some(builder) = world() else { return };
    // Two who know nothing of each other.
    for who in ["lost", "kept"] {
        let to = format!("type=local,dest={who},mounts=true");
        build(&builder, who, who, &["--cache-to", &to]).success();
    }
    let lost = bundle(&builder, "lost");
    let merge = ["-a", "lost/.", "kept"].map(|word| match word {
        "-a" => word.into(),
        path => builder.path(path),
    });
    assert!(Command::new("cp").args(merge).status().unwrap().success());
    let both = build(&builder, "both", "both", &["--cache-from", "type=local,src=kept"]).success();
    assert_eq!(found(&both), names(&["big", "common", "kept", "lost"]), "{}", both.log());

    fs::remove_file(builder.path("kept/blobs/sha256").join(lost.file_name().unwrap())).unwrap();
    let words =
        ["--cache-from", "type=local,src=kept", "--cache-to", "type=local,dest=kept,mounts=true"];
    let one = build(&builder, "one", "one", &words).success();
    assert_eq!(found(&one), names(&["big", "common", "kept"]), "{}", one.log());
    assert_eq!(warnings(&one).len(), 1, "{:?}", warnings(&one));
    // Who comes next hears no more of it.
    let next = build(&builder, "next", "next", &words).success();
    assert_eq!(found(&next), names(&["big", "common", "kept", "one"]), "{}", next.log());
    assert_eq!(warnings(&next), Vec::<&str>::new());
    // Nor where nothing could be read.
    fs::remove_dir_all(builder.path("kept/blobs")).unwrap();
    let empty = build(&builder, "empty", "empty", &words).success();
    assert_eq!(found(&empty), names(&[]), "{}", empty.log());
    let last = build(&builder, "last", "last", &words).success();
    assert_eq!(found(&last), names(&["big", "common", "empty"]), "{}", last.log());
    // Layers are missed, too.
    assert!(!last.stderr.contains("cache mounts in the cache"), "{:?}", warnings(&last));
}

#[test]
fn privileged_a_mount_that_is_too_large_is_left_out_with_a_warning() {
    let Some(builder) = world() else { return };
    let more = "RUN --mount=type=cache,target=/small echo small >/small/small\n";
    builder.write("Dockerfile", format!("{DOCKERFILE}{more}"));
    let to = "type=local,dest=cache,mounts=true,mounts-max-size=1m";
    let built = build(&builder, "one", "one", &["--cache-to", to]).success();
    let told = warnings(&built);
    let is_told =
        told.len() == 1 && told[0].contains("`work`") && told[0].contains("`mounts-max-size`");
    assert!(is_told, "{told:?}");
    let look = "RUN --mount=type=cache,target=/small echo found ./$(ls /small) is there\n";
    builder.write("Dockerfile", format!("{DOCKERFILE}{more}{look}"));
    let read = build(&builder, "two", "two", &["--cache-from", "type=local,src=cache"]).success();
    assert_eq!(found(&read), names(&["small"]), "{}", read.log());
}

#[test]
fn privileged_of_mounts_only_what_the_key_has_signed_counts() {
    let Some(builder) = world() else { return };
    builder.write("private", "01".repeat(32));
    builder.write("other", "02".repeat(32));
    let public = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c";
    let to = "type=local,dest=cache,mounts=true";
    build(&builder, "one", "signed", &["--cache-to", &format!("{to},sign=private")]).success();
    // What others say replaces nothing.
    let from = "type=local,src=cache";
    build(&builder, "two", "unsigned", &["--cache-from", from, "--cache-to", to]).success();
    let others = format!("{to},sign=other");
    build(&builder, "three", "other", &["--cache-from", from, "--cache-to", &others]).success();
    let verified = format!("{from},verify-env=KEY");
    let who = |store: &str, from: &str| {
        let words = ["build", "--progress", "json", "-f", "Dockerfile", "--cache-from", from];
        let mut command = builder.command(&[&words[..], &["context"]].concat());
        command.env("MYBUILD_ROOT", builder.path(store)).env("KEY", public);
        builder.run_command(&mut command).success()
    };
    assert_eq!(found(&who("four", &verified)), names(&["big", "common", "signed"]));
    let all = names(&["big", "common", "other", "signed", "unsigned"]);
    assert_eq!(found(&who("five", from)), all);
}
