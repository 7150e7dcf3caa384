//! Times: of what a build makes, under `SOURCE_DATE_EPOCH`, and in what is written out.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::builder::Builder;

const EPOCH: &str = "1000000000";

/// An image as a layout has it.
#[derive(Debug, Clone, PartialEq)]
struct Image {
    /// Its entry in the index.
    descriptor: Value,
    manifest: Value,
    config: Value,
}

impl Image {
    fn read(builder: &Builder, layout: &str) -> Self {
        let json = |name: &str| -> Value {
            serde_json::from_str(&builder.read(&format!("{layout}/{name}"))).expect("JSON")
        };
        let blob = |digest: &Value| {
            json(&format!("blobs/{}", digest.as_str().expect("a digest").replace(':', "/")))
        };
        let index = json("index.json");
        assert_eq!(index["manifests"].as_array().map(Vec::len), Some(1), "{index}");
        let descriptor = index["manifests"][0].clone();
        let manifest = blob(&descriptor["digest"]);
        let config = blob(&manifest["config"]["digest"]);
        Self { descriptor, manifest, config }
    }

    /// Path and time of every entry of its layer number `number`.
    fn times(&self, builder: &Builder, layout: &str, number: usize) -> Vec<(String, u64)> {
        let digest = self.manifest["layers"][number]["digest"].as_str().expect("a digest");
        let path = builder.path(&format!("{layout}/blobs/{}", digest.replace(':', "/")));
        times_in(File::open(path).expect("a blob"))
    }
}

/// Path and time of every entry of a tar.
fn times_in(file: File) -> Vec<(String, u64)> {
    let mut archive = tar::Archive::new(file);
    let entries = archive.entries().expect("a tar").map(|entry| {
        let entry = entry.expect("a tar");
        let path = entry.path().expect("a path").to_string_lossy().into_owned();
        (path, entry.header().mtime().expect("a time"))
    });
    entries.collect()
}

/// Builds `context` with these words into the store and the layout `layout`.
fn build(builder: &Builder, words: &[&str], layout: &str) -> Image {
    build_as(builder, builder.command(&[]), words, layout)
}

fn build_as(builder: &Builder, mut command: Command, words: &[&str], layout: &str) -> Image {
    // A layout keeps what it had.
    let _ = std::fs::remove_dir_all(builder.path(layout));
    let output = format!("type=oci,tar=false,compression=uncompressed,dest={layout}");
    command.args(["build", "-q", "-t", "app", "-o", "type=image", "-o", &output]);
    builder.run_command(command.args(words).arg("context")).success();
    Image::read(builder, layout)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_secs()
}

fn set_time(path: &Path, seconds: u64) {
    let time = UNIX_EPOCH + Duration::from_secs(seconds);
    File::open(path).and_then(|file| file.set_modified(time)).expect("an own file");
}

#[test]
fn privileged_what_a_build_makes_is_dated_when_it_is_made() {
    let Some(builder) = Builder::bare() else { return };
    builder.write("context/tree/file", "text");
    for name in ["tree/file", "tree"] {
        set_time(&builder.path(&format!("context/{name}")), 999);
    }
    let tar = Command::new("tar")
        .args(["-cf", "archive.tar", "-C", "tree", "file"])
        .current_dir(builder.path("context"))
        .status();
    assert!(tar.expect("tar runs").success());
    builder.write(
        "context/Dockerfile",
        "FROM scratch\nCOPY tree /a/b/\nADD archive.tar /unpacked/\nCOPY <<END /document\ntext\nEND\n\
         WORKDIR /w/d\n",
    );
    let before = now();
    let image = build(&builder, &[], "layout");
    let after = now();
    let times = |image: &Image| {
        let layers = image.manifest["layers"].as_array().expect("a list").len();
        let times = (0..layers).flat_map(|number| image.times(&builder, "layout", number));
        times.collect::<std::collections::BTreeMap<_, _>>()
    };
    let made = ["a/", "unpacked/", "document", "w/", "w/d/"];
    let first = times(&image);
    for name in made {
        assert!((before..=after).contains(&first[name]), "{name}: {first:?}");
    }
    for name in ["a/b/", "a/b/file", "unpacked/file"] {
        assert_eq!(first[name], 999, "{name}");
    }
    // The time is not in the keys: what is known keeps it.
    std::thread::sleep(Duration::from_millis(1100));
    let again = build(&builder, &[], "layout");
    assert_eq!(again, image);
    let mut command = builder.command(&[]);
    command.env("MYBUILD_ROOT", builder.path("other")).env("SOURCE_DATE_EPOCH", EPOCH);
    let dated = times(&build_as(&builder, command, &[], "layout"));
    for name in made {
        assert_eq!(dated[name], 1_000_000_000, "{name}");
    }
}

#[test]
fn privileged_a_changed_document_is_newer_than_what_was_made_from_the_last() {
    let Some(builder) = Builder::new() else { return };
    let make = |text: &str| {
        builder.write(
            "context/Dockerfile",
            format!(
                "FROM busybox\nCOPY <<END /source\n{text}\nEND\n\
                 RUN --mount=type=cache,target=/c [ /c/made -nt /source ] || cp /source /c/made; \
                 cp /c/made /made\n"
            ),
        );
        builder.run(&["build", "-q", "-o", "out", "context"]).success();
        builder.read("out/made")
    };
    assert_eq!(make("one"), "one\n");
    assert_eq!(make("two"), "two\n");
}
