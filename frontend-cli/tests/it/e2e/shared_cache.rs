//! Caches that several stores share: what one has built the others find, and nothing that a cache says is
//! believed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::builder::Builder;
use super::outcome::Outcome;
use crate::plain_registry::PlainRegistry;

/// Every step's result depends on its inputs alone, but for times, and an image is dated by `SOURCE_DATE_EPOCH`.
pub(super) const DOCKERFILE: &str = "FROM scratch AS base\nCOPY busybox /bin/busybox\n\
     RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n\
     FROM base AS make\nRUN seq 100000 > /big && echo made > /made\n\
     FROM base\nARG WHO=nobody\nRUN echo $WHO > /who\nCOPY --from=make /made /made\nCOPY a /a\n";

/// Builds `context` in the store called `store`.
pub(super) fn build(builder: &Builder, store: &str, words: &[&str]) -> Outcome {
    builder.run_command(&mut command(builder, store, words))
}

/// The command that does so.
pub(super) fn command(builder: &Builder, store: &str, words: &[&str]) -> Command {
    let all = ["build", "--progress", "json", "-f", "Dockerfile", "-t", "app"];
    let times = ["-o", "type=image,rewrite-timestamp=all"];
    let mut command = builder.command(&[&all[..], &times, words, &["context"]].concat());
    command.env("MYBUILD_ROOT", builder.path(store)).env("SOURCE_DATE_EPOCH", "1000000000");
    command
}

pub(super) fn id(builder: &Builder, store: &str) -> String {
    let mut command = builder.command(&["images", "-q", "--no-trunc"]);
    builder.run_command(command.env("MYBUILD_ROOT", builder.path(store))).success().text()
}

pub(super) fn check(builder: &Builder, store: &str) {
    let mut command = builder.command(&["fsck", "--full"]);
    builder.run_command(command.env("MYBUILD_ROOT", builder.path(store))).success();
}

pub(super) fn world() -> Option<Builder> {
    let builder = Builder::bare()?;
    builder.write("Dockerfile", DOCKERFILE);
    builder.write("context/a", "a\n");
    Some(builder)
}

#[test]
fn privileged_another_store_runs_nothing_and_fetches_what_it_needs() {
    let (Some(builder), Some(registry)) = (world(), PlainRegistry::start()) else { return };
    let cache = format!("type=registry,ref={}/cache:main", registry.host);
    build(&builder, "one", &["--cache-to", &format!("{cache},mode=max")]).success();
    registry.requests();

    let found = build(&builder, "two", &["--cache-from", &cache]).success();
    assert_eq!(found.ran(), Vec::<String>::new(), "{}", found.stderr);
    assert_eq!(id(&builder, "one"), id(&builder, "two"));
    let requests = registry.requests();
    let blobs = requests.iter().filter(|request| request.contains("/blobs/")).count();
    // The large layer of the image: records and small ones are in the manifest. Not what only the stage `make` has.
    assert_eq!(blobs, 1, "{requests:#?}");
    assert!(requests.len() <= 4, "{requests:#?}");
    check(&builder, "two");

    // Now its own store knows them, too, and has all that it says it has.
    let again = build(&builder, "two", &[]).success();
    assert_eq!(again.ran(), Vec::<String>::new(), "{}", again.stderr);
    assert_eq!(id(&builder, "one"), id(&builder, "two"));

    // What depends on an edit runs, on layers that come for it.
    builder.write("context/a", "edited\n");
    let edited = build(&builder, "three", &["--cache-from", &cache]).success();
    assert_eq!(edited.ran(), ["stage-2 3/3"], "{}", edited.stderr);
    builder.write("context/a", "a\n");
    builder.write("Dockerfile", DOCKERFILE.replace("> /made", "> /made && wc -l /big"));
    let edited = build(&builder, "four", &["--cache-from", &cache]).success();
    // What it copies from there is the same.
    assert_eq!(edited.ran(), ["make 1/1"], "{}", edited.stderr);
    check(&builder, "four");
}

#[test]
fn privileged_the_smaller_mode_has_the_layers_of_the_image_alone() {
    let (Some(builder), Some(registry)) = (world(), PlainRegistry::start()) else { return };
    let cache = format!("{}/cache", registry.host);
    build(&builder, "one", &["--cache-to", &cache]).success();
    let found = build(&builder, "two", &["--cache-from", &cache]).success();
    // A result whose inputs are known only by their keys is found without them.
    assert_eq!(found.ran(), Vec::<String>::new(), "{}", found.stderr);
    builder.write("Dockerfile", DOCKERFILE.replace("/made /made", "/big /big"));
    let more = build(&builder, "three", &["--cache-from", &cache]).success();
    assert_eq!(more.ran(), ["make 1/1", "stage-2 2/3", "stage-2 3/3"], "{}", more.stderr);
}

#[test]
fn privileged_ten_who_write_at_once_lose_nothing() {
    let (Some(builder), Some(registry)) = (world(), PlainRegistry::start()) else { return };
    let cache = format!("type=registry,ref={}/cache:main", registry.host);
    let names: Vec<String> = (0..10).map(|n| format!("WHO=writer{n}")).collect();
    std::thread::scope(|scope| {
        for (number, name) in names.iter().enumerate() {
            let (builder, to) = (&builder, format!("{cache},mode=max"));
            let words = ["--build-arg", name.as_str()];
            scope.spawn(move || {
                let store = format!("writer{number}");
                build(builder, &store, &[&words[..], &["--cache-to", &to]].concat()).success();
            });
        }
    });
    for name in &names {
        let words = ["--build-arg", name, "--cache-from", &cache];
        let found = build(&builder, &format!("reader-{name}"), &words).success();
        assert_eq!(found.ran(), Vec::<String>::new(), "{name}: {}", found.stderr);
    }
}

#[test]
fn privileged_an_image_is_not_overwritten_by_a_cache() {
    let (Some(builder), Some(registry)) = (world(), PlainRegistry::start()) else { return };
    let name = format!("{}/app:1", registry.host);
    builder.run(&["build", "-f", "Dockerfile", "--push", "-t", &name, "context"]).success();
    registry.requests();
    for more in ["", ",format=buildkit"] {
        let to = format!("type=registry,ref={name},mode=max{more}");
        let failed = build(&builder, "one", &["--cache-to", &to]).fails_with(1);
        assert!(failed.words().contains("would be lost"), "{}", failed.stderr);
    }
    let written = registry.requests().into_iter().filter(|r| r.contains("/manifests/"));
    let written: Vec<String> = written.filter(|request| request.starts_with("PUT")).collect();
    assert_eq!(written, Vec::<String>::new());
}

/// A cache in a directory, to do harm to.
struct Cache {
    root: PathBuf,
}

impl Cache {
    fn packs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.root.join("records/latest")).expect("it was written");
        entries.map(|entry| entry.expect("it was written").path()).collect()
    }

    fn edit(&self, edit: impl Fn(&mut Value)) {
        for pack in self.packs() {
            let mut value = serde_json::from_slice(&fs::read(&pack).unwrap()).unwrap();
            edit(&mut value);
            fs::write(&pack, serde_json::to_vec(&value).unwrap()).unwrap();
        }
    }

    fn blobs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.root.join("blobs/sha256")).expect("it was written");
        entries.map(|entry| entry.expect("it was written").path()).collect()
    }
}

/// How a cache may be wrong, and what is said then.
type Harm = (&'static str, fn(&Cache), &'static str);

/// Gives all layers that came with the records the same `data`.
fn embed(cache: &Cache, data: impl Fn(&Value) -> Value) {
    cache.edit(|pack| {
        let layers = pack["layers"].as_array_mut().unwrap();
        let small = layers.iter_mut().filter(|layer| !layer["blob"]["data"].is_null());
        let small: Vec<_> = small.collect();
        assert!(small.len() > 2, "{small:?}");
        let data = data(&small[0]["blob"]["data"]);
        small.into_iter().for_each(|layer| layer["blob"]["data"] = data.clone());
    });
}

const HARM: [Harm; 11] = [
    (
        "other bytes",
        |cache| cache.blobs().iter().for_each(|blob| fs::write(blob, "other").unwrap()),
        "is not used any more",
    ),
    (
        "cut short",
        |cache| {
            for blob in cache.blobs() {
                let length = fs::metadata(&blob).unwrap().len();
                fs::OpenOptions::new()
                    .write(true)
                    .open(&blob)
                    .unwrap()
                    .set_len(length - 1)
                    .unwrap();
            }
        },
        "is not used any more",
    ),
    (
        "gone",
        |cache| cache.blobs().iter().for_each(|blob| fs::remove_file(blob).unwrap()),
        "is not used any more",
    ),
    (
        "another layer's blob",
        |cache| {
            cache.edit(|pack| {
                let layers = pack["layers"].as_array_mut().unwrap();
                let blob = layers[0]["blob"].clone();
                layers.iter_mut().for_each(|layer| layer["blob"] = blob.clone());
            });
        },
        "it has other content",
    ),
    ("another layer's bytes", |cache| embed(cache, Value::clone), "it has other content"),
    ("bytes in no alphabet", |cache| embed(cache, |_| "?".into()), "is not used any more"),
    ("no JSON", |cache| fs::write(&cache.packs()[0], "{").unwrap(), "not records of a cache"),
    (
        "another version",
        |cache| cache.edit(|pack| pack["version"] = 99.into()),
        "which this program does not know",
    ),
    (
        "a number that leads nowhere",
        |cache| cache.edit(|pack| pack["layers"][1]["below"] = 7777.into()),
        "number is wrong",
    ),
    ("nothing", |cache| fs::remove_dir_all(&cache.root).unwrap(), "is empty"),
    (
        "a file in its place",
        |cache| {
            fs::remove_dir_all(&cache.root).unwrap();
            fs::write(&cache.root, "").unwrap();
        },
        "is not used",
    ),
];

#[test]
fn privileged_a_cache_that_is_wrong_is_a_miss_with_a_warning() {
    let Some(builder) = world() else { return };
    build(&builder, "one", &["--cache-to", "type=local,dest=cache,mode=max"]).success();
    let right = id(&builder, "one");
    for (number, (what, harm, said)) in HARM.into_iter().enumerate() {
        let root = builder.path(&format!("cache-{number}"));
        copy(&builder.path("cache"), &root);
        harm(&Cache { root: root.clone() });
        let store = format!("store-{number}");
        let from = format!("type=local,src={}", root.display());
        let built = build(&builder, &store, &["--cache-from", &from]).success();
        assert!(built.stderr.contains(said), "{what}: {}", built.stderr);
        assert!(built.ran().len() >= 6, "{what}: {:?}", built.ran());
        assert_eq!(id(&builder, &store), right, "{what}");
        check(&builder, &store);
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.expect("cp runs").success());
}

/// Key pairs of RFC 8032's first two tests.
const PRIVATE: [&str; 2] = [
    "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
    "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
];
const PUBLIC: [&str; 2] = [
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
];

#[test]
fn privileged_only_what_the_key_has_signed_counts() {
    let Some(builder) = world() else { return };
    let written = [("one", PRIVATE[0]), ("two", PRIVATE[1])];
    for (name, key) in written {
        builder.write(&format!("{name}.key"), key);
        let to = format!("type=local,dest={name},mode=max,sign={name}.key");
        build(&builder, &format!("writer-{name}"), &["--cache-to", &to]).success();
    }
    builder.write("key.pub", PUBLIC[0]);
    let from = |cache: &str| format!("type=local,src={cache},verify=key.pub");
    let found = build(&builder, "trusting", &["--cache-from", &from("one")]).success();
    assert_eq!(found.ran(), Vec::<String>::new(), "{}", found.stderr);

    let other = build(&builder, "wary", &["--cache-from", &from("two")]).success();
    assert_eq!(other.ran().len(), 6, "{:?}", other.ran());
    assert!(other.stderr.contains("nothing in it is signed by the key"), "{}", other.stderr);

    // A record that was signed, under the key of another step; one whose layers were exchanged.
    let edits: [fn(&mut Value); 2] = [
        |pack| {
            let records = pack["records"].as_array_mut().unwrap();
            let key = records[0]["key"].clone();
            for record in records.iter_mut() {
                record["key"] = key.clone();
                record["aliases"] = Value::Array(Vec::new());
            }
            let last = records.len() - 1;
            records.swap(0, last);
        },
        |pack| {
            let records = pack["records"].as_array_mut().unwrap();
            let outputs = records[0]["outputs"].clone();
            records.iter_mut().for_each(|record| record["outputs"] = outputs.clone());
        },
    ];
    let right = id(&builder, "trusting");
    for (number, edit) in edits.into_iter().enumerate() {
        let root = builder.path(&format!("edited-{number}"));
        copy(&builder.path("one"), &root);
        Cache { root: root.clone() }.edit(edit);
        let store = format!("edited-store-{number}");
        let built = build(&builder, &store, &["--cache-from", &from(root.to_str().unwrap())]);
        built.success();
        assert_eq!(id(&builder, &store), right);
    }
}

#[test]
fn privileged_a_cache_that_cannot_be_reached_stops_only_who_writes_it() {
    let Some(builder) = world() else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap();
    drop(listener);
    let cache = format!("type=registry,ref={host}/cache");
    let built = build(&builder, "one", &["--cache-from", &cache]).success();
    assert!(built.stderr.contains("is not used"), "{}", built.stderr);
    let failed = build(&builder, "one", &["--cache-to", &cache]).fails_with(1);
    assert!(failed.stderr.contains("failed to write the cache"), "{}", failed.stderr);
    let lenient = format!("{cache},ignore-error=true");
    let built = build(&builder, "one", &["--cache-to", &lenient]).success();
    assert!(built.stderr.contains("failed to write the cache"), "{}", built.stderr);
}
