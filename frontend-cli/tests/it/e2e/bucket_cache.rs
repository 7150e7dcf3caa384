//! Caches in object stores: buckets of S3, containers of Azure.

use super::builder::Builder;
use super::object_store::{Kind, ObjectStore};
use super::outcome::Outcome;
use super::shared_cache::{DOCKERFILE, build, check, id, world};

const KINDS: [Kind; 2] = [Kind::S3, Kind::Azure];

/// A world with each kind of store that is installed.
pub(super) fn worlds() -> impl Iterator<Item = (Builder, ObjectStore)> {
    KINDS.into_iter().filter_map(|kind| {
        let builder = world()?;
        let objects = ObjectStore::start(&builder, kind)?;
        Some((builder, objects))
    })
}

fn is_cached(outcome: &Outcome) {
    assert_eq!(outcome.ran(), Vec::<String>::new(), "{}", outcome.stderr);
}

#[test]
fn privileged_a_bucket_is_shared_like_a_registry() {
    for (builder, objects) in worlds() {
        let cache = objects.cache();
        build(&builder, "one", &["--cache-to", &format!("{cache},mode=max")]).success();
        objects.gets(&builder);
        let found = build(&builder, "two", &["--cache-from", &cache]).success();
        is_cached(&found);
        assert_eq!(id(&builder, "one"), id(&builder, "two"));
        // The list, the records with the small layers, and a large one.
        assert_eq!(objects.gets(&builder), 3);
        check(&builder, "two");

        // Another name is another cache.
        let other = build(&builder, "three", &["--cache-from", &format!("{cache},name=other")]);
        assert!(other.success().stderr.contains("/other is empty"));
    }
}

#[test]
fn privileged_ten_who_write_to_a_bucket_at_once_lose_nothing() {
    for (builder, objects) in worlds() {
        let to = format!("{},mode=max", objects.cache());
        let names: Vec<String> = (0..10).map(|n| format!("WHO=writer{n}")).collect();
        std::thread::scope(|scope| {
            for (number, name) in names.iter().enumerate() {
                let words = ["--build-arg", name.as_str(), "--cache-to", &to];
                let builder = &builder;
                scope.spawn(move || build(builder, &format!("w{number}"), &words).success().ran());
            }
        });
        for (number, name) in names.iter().enumerate() {
            let words = ["--build-arg", name, "--cache-from", &objects.cache()];
            is_cached(&build(&builder, &format!("r{number}"), &words).success());
        }
    }
}

#[test]
fn privileged_a_bucket_that_is_not_there_or_not_ours_is_named() {
    for (builder, objects) in worlds() {
        for (wrong, said) in objects.wrong() {
            let missed = build(&builder, "one", &["--cache-from", &wrong]).success();
            assert!(missed.stderr.contains(said), "{}", missed.stderr);
            assert!(!missed.stderr.contains("secret"), "{}", missed.stderr);
            assert_eq!(missed.stderr.matches("\"type\":\"warning\"").count(), 1);
        }
    }
}

#[test]
fn privileged_a_large_layer_goes_to_a_bucket_in_parts() {
    for (builder, objects) in worlds() {
        builder.write("Dockerfile", format!("{DOCKERFILE}COPY large /large\n"));
        builder.write_random("context/large", 70 << 20);
        let cache = objects.cache();
        build(&builder, "one", &["--cache-to", &format!("{cache},mode=max")]).success();
        let asked = objects.asked(&builder);
        let parts = asked.lines().filter(|line| {
            let part = ["partNumber=", "comp=block&", "comp=blocklist"];
            let is_taken = line.ends_with("\" 200 -") || line.ends_with("\" 201 -");
            line.contains("PUT /") && is_taken && part.iter().any(|part| line.contains(part))
        });
        // Two parts; what they make is said once more.
        assert!((2..=3).contains(&parts.count()), "{asked}");
        is_cached(&build(&builder, "two", &["--cache-from", &cache]).success());
        assert_eq!(id(&builder, "one"), id(&builder, "two"));
        check(&builder, "two");
    }
}
