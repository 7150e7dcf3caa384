//! Times: of what a build makes, under `SOURCE_DATE_EPOCH`, and in what is written out.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::builder::Builder;

const EPOCH: &str = "1000000000";
const EPOCH_TEXT: &str = "2001-09-09T01:46:40Z";
/// A base whose files, history and config have times of their own, later than the epoch.
const BASE: &str = "FROM scratch AS base\nCOPY busybox /bin/busybox\n\
     RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\nRUN mkdir /old; echo old >/old/file\n";

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

    fn history(&self) -> Vec<&str> {
        let entries = self.config["history"].as_array().expect("a list");
        entries.iter().map(|entry| entry["created"].as_str().expect("a time")).collect()
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

/// How often each builder of the storm builds; `scripts/torment/prunes` asks for more.
fn rounds() -> usize {
    let asked = std::env::var("TORMENT_ROUNDS").ok();
    asked.map_or(15, |rounds| rounds.parse().expect("a number"))
}

#[test]
fn privileged_prunes_beside_builds_change_no_image() {
    let Some(builder) = Builder::bare() else { return };
    builder.write("context/tree/file", "text");
    builder.write(
        "context/Dockerfile",
        format!(
            "{BASE}FROM base\nWORKDIR /w\nCOPY tree /w/tree\n\
             RUN echo made >made && cp -R tree copied\n\
             RUN --mount=type=cache,target=/c cat made >more && ln more again\n"
        ),
    );
    let quiet = build_dated(&builder, "quiet-store", "quiet");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let pruner = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let mut prune = builder.command(&["prune", "-a", "-f"]);
                prune.env("MYBUILD_ROOT", builder.path("storm-store"));
                builder.run_command(&mut prune).success();
            }
        });
        let builders: Vec<_> = ["one", "two"]
            .into_iter()
            .map(|layout| {
                let builder = &builder;
                scope.spawn(move || {
                    let round = |_| build_dated(builder, "storm-store", layout);
                    (0..rounds()).map(round).collect::<Vec<_>>()
                })
            })
            .collect();
        let built: Vec<_> = builders.into_iter().map(|builder| builder.join()).collect();
        stop.store(true, Ordering::Relaxed);
        pruner.join().expect("prunes succeed");
        for image in built.into_iter().flat_map(|images| images.expect("builds succeed")) {
            assert_eq!(image, quiet);
        }
    });
    let mut fsck = builder.command(&["fsck", "--full"]);
    builder.run_command(fsck.env("MYBUILD_ROOT", builder.path("storm-store"))).success();
}

fn build_dated(builder: &Builder, store: &str, layout: &str) -> Image {
    let mut command = builder.command(&[]);
    command.env("MYBUILD_ROOT", builder.path(store)).env("SOURCE_DATE_EPOCH", EPOCH);
    build_as(builder, command, &[], layout)
}

#[test]
fn privileged_what_was_made_without_an_epoch_is_the_same_image_under_one() {
    let Some(builder) = Builder::bare() else { return };
    builder.write("context/tree/sub/file", "text");
    set_time(&builder.path("context/tree/sub"), 999);
    let tar = Command::new("tar")
        .args(["-cf", "archive.tar", "-C", "tree", "sub/file"])
        .current_dir(builder.path("context"))
        .status();
    assert!(tar.expect("tar runs").success());
    builder.write(
        "context/Dockerfile",
        format!(
            "{BASE}FROM base AS other\nCOPY tree /a/b/tree\n\
             FROM base\nCOPY tree /a/b/tree\nCOPY --from=other /a /c/d/e\nCOPY --from=other /a/b /f\n\
             ADD archive.tar /unpacked/\nCOPY <<END /g/document\ntext\nEND\nWORKDIR /w/d\n\
             RUN mkdir /h; echo made >/h/made\n"
        ),
    );
    let cold = build_dated(&builder, "cold", "layout");
    let mut undated = builder.command(&[]);
    undated.env("MYBUILD_ROOT", builder.path("warm"));
    assert_ne!(build_as(&builder, undated, &[], "layout"), cold);
    assert_eq!(build_dated(&builder, "warm", "layout"), cold);
}

#[test]
fn privileged_where_all_times_are_set_the_same_sources_are_the_same_image() {
    let Some(builder) = Builder::bare() else { return };
    builder.write("context/tree/sub/file", "text");
    builder.write(
        "context/Dockerfile",
        format!(
            "{BASE}FROM scratch\nCOPY --from=0 / /\nCOPY tree /made/here/\nADD archive.tar /unpacked/\n\
             COPY <<END /document\ntext\nEND\nWORKDIR /w\n\
             RUN touch -d @5 ancient; date +%Z >/dev/null; mkdir private; echo text >private/file\n\
             RUN rm -r /made/here/sub\n"
        ),
    );
    let tar = Command::new("tar")
        .args(["-cf", "archive.tar", "--mtime=@77", "-C", "tree", "."])
        .current_dir(builder.path("context"))
        .status();
    assert!(tar.expect("tar runs").success());
    // The clocks of the files: older than the epoch on one machine, newer on the other.
    let image = |store: &str, clock: u64, umask: u32, locale: &str, epoch: Option<&str>| {
        for name in ["tree/sub/file", "tree/sub", "tree", "busybox", "archive.tar"] {
            set_time(&builder.path(&format!("context/{name}")), clock);
        }
        let mut command = builder.command(&[]);
        command.env("MYBUILD_ROOT", builder.path(store)).env("TZ", locale).env("LC_ALL", locale);
        command.envs(epoch.map(|epoch| ("SOURCE_DATE_EPOCH", epoch)));
        let command = with_umask(command, umask);
        let words: &[&str] =
            if epoch.is_some() { &["-o", "type=image,rewrite-timestamp=all"] } else { &[] };
        build_as(&builder, command, words, "layout")
    };
    let cold = image("one", 400_000_000, 0o022, "C", Some(EPOCH));
    let cold_elsewhere = image("two", 1_700_000_000, 0o002, "Asia/Tokyo", Some(EPOCH));
    assert_eq!(cold, cold_elsewhere);
    // A store that has the steps with times of their own.
    image("three", 500_000_000, 0o022, "C", None);
    let warm = image("three", 600_000_000, 0o022, "C", Some(EPOCH));
    assert_eq!(cold, warm);
    image("one", 1_800_000_000, 0o022, "C", Some("1600000000"));
    let again = image("one", 700_000_000, 0o022, "C", Some(EPOCH));
    assert_eq!(cold, again);
    for number in 0..again.manifest["layers"].as_array().expect("a list").len() {
        for (path, time) in again.times(&builder, "layout", number) {
            assert_eq!(time, 1_000_000_000, "{path}");
        }
    }
}

/// The same program, started with this mask.
fn with_umask(command: Command, umask: u32) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("umask {umask:o}; exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args()).env_clear();
    for (name, value) in command.get_envs() {
        shell.env(name, value.unwrap_or_default());
    }
    shell.current_dir(command.get_current_dir().expect("one was given"));
    shell
}

#[test]
fn privileged_an_epoch_changes_nothing_of_the_base() {
    let Some(builder) = Builder::bare() else { return };
    builder.write("context/Dockerfile", BASE);
    let base = build(&builder, &[], "base");
    builder.write("context/new", "text");
    set_time(&builder.path("context/new"), 999);
    builder.write("context/Dockerfile", "FROM base\nCOPY new /new\nRUN echo >/made\nLABEL a=b\n");
    let context = "base=oci-layout://base";
    let dated = |words: &[&str]| {
        let mut command = builder.command(&[]);
        command.env("SOURCE_DATE_EPOCH", EPOCH);
        let words = [&["--build-context", context][..], words].concat();
        build_as(&builder, command, &words, "layout")
    };
    let image = dated(&[]);
    let length = base.manifest["layers"].as_array().expect("a list").len();
    let layers = image.manifest["layers"].as_array().expect("a list");
    assert_eq!(layers[..length], base.manifest["layers"].as_array().expect("a list")[..]);
    assert_eq!(image.history()[..length], base.history()[..]);
    assert_eq!(image.history()[length..], [EPOCH_TEXT; 3]);
    assert_eq!(image.config["created"], EPOCH_TEXT);
    assert_eq!(image.descriptor["annotations"]["org.opencontainers.image.created"], EPOCH_TEXT);
    assert_eq!(image.descriptor["platform"]["os"], "linux");
    // Earlier times stay, later ones become the epoch; or all do; or none.
    let epoch = 1_000_000_000;
    assert_eq!(image.times(&builder, "layout", length), [("new".to_owned(), 999)]);
    assert_eq!(image.times(&builder, "layout", length + 1), [("made".to_owned(), epoch)]);
    let all = dated(&["-o", "type=image,rewrite-timestamp=all"]);
    assert_eq!(all.times(&builder, "layout", length), [("new".to_owned(), epoch)]);
    assert_eq!(all.manifest["layers"][0], base.manifest["layers"][0]);
    let none = dated(&["-o", "type=image,rewrite-timestamp=false"]);
    let [(_, made)] = &none.times(&builder, "layout", length + 1)[..] else { panic!("one name") };
    assert!(*made > epoch, "{made}");
    assert_eq!(none.config["created"], EPOCH_TEXT);
    let buildkit = dated(&["-o", "type=image,rewrite-timestamp=true"]);
    assert_eq!(buildkit, image);
}

#[test]
fn privileged_files_that_are_written_out_have_the_epoch() {
    let Some(builder) = Builder::bare() else { return };
    builder.write("context/Dockerfile", BASE);
    build(&builder, &[], "base");
    builder.write("context/new", "text");
    set_time(&builder.path("context/new"), 999);
    builder.write("context/Dockerfile", "FROM base\nCOPY new /new\nRUN ln -s new /link\n");
    let export = |output: &str, epoch: &str| {
        let mut command = builder.command(&["build", "-q", "-o", output]);
        command.args(["--build-context", "base=oci-layout://base", "context"]);
        builder.run_command(command.env("SOURCE_DATE_EPOCH", epoch)).success()
    };
    export("out", EPOCH);
    for name in ["new", "link", "old", "old/file", "bin/busybox", "bin"] {
        let found = builder.path(&format!("out/{name}")).symlink_metadata().expect(name);
        assert_eq!((found.mtime(), found.mtime_nsec()), (1_000_000_000, 0), "{name}");
    }
    let times = |output: &str, epoch: &str| {
        export(output, epoch);
        let times = times_in(File::open(builder.path("out.tar")).expect("a tar"));
        assert!(times.len() > 10);
        times.into_iter().map(|(_, time)| time).collect::<std::collections::BTreeSet<_>>()
    };
    let set = |time| std::collections::BTreeSet::from([time]);
    assert_eq!(times("type=tar,dest=out.tar", EPOCH), set(1_000_000_000));
    assert_eq!(times("type=tar,dest=out.tar,source-date-epoch=5", EPOCH), set(5));
    assert!(times("type=tar,dest=out.tar,source-date-epoch=", EPOCH).len() > 1);
    // Without a time files keep theirs.
    assert!(times("type=tar,dest=out.tar", "").len() > 1);
    export("plain", "");
    assert_eq!(builder.path("plain/new").symlink_metadata().expect("a file").mtime(), 999);
}

#[test]
fn privileged_an_empty_epoch_takes_the_one_of_the_dockerfile_away() {
    let Some(builder) = Builder::bare() else { return };
    let dockerfile = format!("ARG SOURCE_DATE_EPOCH={EPOCH}\nFROM scratch\nCOPY busybox /\n");
    builder.write("context/Dockerfile", dockerfile);
    let created = |words: &[&str], environment: &str| {
        let mut command = builder.command(&[]);
        command.env("SOURCE_DATE_EPOCH", environment);
        build_as(&builder, command, words, "layout").config["created"].clone()
    };
    let argument = "--build-arg=SOURCE_DATE_EPOCH=";
    assert_eq!(created(&[], ""), EPOCH_TEXT, "as if it were not set");
    assert_eq!(created(&[], "5"), "1970-01-01T00:00:05Z");
    assert_eq!(created(&["--build-arg", "SOURCE_DATE_EPOCH=7"], "5"), "1970-01-01T00:00:07Z");
    let output = |value: &str| format!("type=image,source-date-epoch={value}");
    assert_eq!(created(&["-o", &output("9")], "5"), "1970-01-01T00:00:09Z");
    let today = |created: Value| {
        let year: i64 = created.as_str().expect("a time")[..4].parse().expect("a year");
        assert!(year > 2020, "{created}");
    };
    today(created(&[argument], ""));
    today(created(&[argument], "5"));
    today(created(&["--build-arg", "SOURCE_DATE_EPOCH"], ""));
    today(created(&["-o", &output("")], "5"));
}

#[test]
fn privileged_what_a_build_makes_is_dated_when_it_is_made() {
    let Some(builder) = Builder::bare() else { return };
    builder.write("context/tree/file", "text");
    for name in ["tree/file", "tree"] {
        set_time(&builder.path(&format!("context/{name}")), 999);
    }
    let tar = Command::new("tar")
        .args(["-cf", "archive.tar", "--transform=s,^,deep/,", "-C", "tree", "file"])
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
    let made = ["a/", "unpacked/", "unpacked/deep/", "document", "w/", "w/d/"];
    let first = times(&image);
    for name in made {
        assert!((before..=after).contains(&first[name]), "{name}: {first:?}");
    }
    for name in ["a/b/", "a/b/file", "unpacked/deep/file"] {
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

#[test]
fn privileged_a_compressed_copy_does_not_become_the_layer_of_an_image() {
    let Some(builder) = Builder::bare() else { return };
    builder.write("context/Dockerfile", BASE);
    let id = |words: &[&str]| {
        let mut command = builder.command(&["build", "-t", "app", "--metadata-file", "meta.json"]);
        command.args(words).arg("context").env("SOURCE_DATE_EPOCH", EPOCH);
        builder.run_command(&mut command).success();
        let meta: Value = serde_json::from_str(&builder.read("meta.json")).expect("JSON");
        meta["containerimage.digest"].clone()
    };
    let first = id(&[]);
    id(&["-o", "type=oci,dest=image.tar"]);
    assert_eq!(id(&[]), first);
}
