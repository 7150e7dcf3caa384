//! What we write is as the image specification of the OCI wants it (version 1.1): `descriptor.md`, `manifest.md`,
//! `image-index.md`, `config.md`, `image-layout.md`. Its rules are here as data, the rules of its own JSON schemas and those that its text
//! adds about images.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::builder::Builder;
use crate::plain_registry::PlainRegistry;

/// What a value has to be.
enum Rule {
    /// Text of which this holds.
    Text(fn(&str) -> bool),
    /// A whole number of this range.
    Number(u64, u64),
    Flag,
    /// This value.
    Is(&'static str),
    List(&'static Self),
    /// An object whose values are so, under names that are not empty.
    Map(&'static Self),
    /// An object with these fields; others may be there.
    Fields(&'static [Field]),
    /// This, or `null`.
    OrNull(&'static Self),
}

/// A field's name, whether it has to be there, and what it is.
type Field = (&'static str, bool, &'static Rule);

use Rule::{Fields, Flag, Is, List, Map, Number, OrNull, Text};

const ANY: Rule = Text(|_| true);
const TEXTS: Rule = Map(&ANY);
const WORDS: Rule = List(&ANY);
/// A set is an object of empty objects.
const SET: Rule = Map(&Fields(&[]));
const DIGEST: Rule = Text(is_digest);
const MEDIA_TYPE: Rule = Text(is_media_type);
const TIME: Rule = Text(|text| text.parse::<jiff::Timestamp>().is_ok());
const VERSION: Rule = Number(2, 2);
const PLATFORM: Rule = Fields(&[
    ("architecture", true, &ANY),
    ("os", true, &ANY),
    ("os.version", false, &ANY),
    ("os.features", false, &WORDS),
    ("variant", false, &ANY),
]);
const DESCRIPTOR: Rule = Fields(&[
    ("mediaType", true, &MEDIA_TYPE),
    ("digest", true, &DIGEST),
    ("size", true, &Number(0, i64::MAX as u64)),
    ("urls", false, &WORDS),
    ("annotations", false, &TEXTS),
    ("data", false, &ANY),
    ("artifactType", false, &MEDIA_TYPE),
    ("platform", false, &PLATFORM),
]);
const MANIFEST: Rule = Fields(&[
    ("schemaVersion", true, &VERSION),
    ("mediaType", true, &Is("application/vnd.oci.image.manifest.v1+json")),
    ("artifactType", false, &MEDIA_TYPE),
    ("config", true, &DESCRIPTOR),
    ("layers", true, &List(&DESCRIPTOR)),
    ("subject", false, &DESCRIPTOR),
    ("annotations", false, &TEXTS),
]);
const INDEX: Rule = Fields(&[
    ("schemaVersion", true, &VERSION),
    ("mediaType", true, &Is("application/vnd.oci.image.index.v1+json")),
    ("artifactType", false, &MEDIA_TYPE),
    ("manifests", true, &List(&DESCRIPTOR)),
    ("subject", false, &DESCRIPTOR),
    ("annotations", false, &TEXTS),
]);
const CONFIG: Rule = Fields(&[
    ("created", false, &TIME),
    ("author", false, &ANY),
    ("architecture", true, &ANY),
    ("os", true, &ANY),
    ("os.version", false, &ANY),
    ("os.features", false, &WORDS),
    ("variant", false, &ANY),
    (
        "config",
        false,
        &Fields(&[
            ("User", false, &ANY),
            ("ExposedPorts", false, &SET),
            ("Env", false, &List(&Text(|text| text.find('=').is_some_and(|at| at > 0)))),
            ("Entrypoint", false, &OrNull(&WORDS)),
            ("Cmd", false, &OrNull(&WORDS)),
            ("Volumes", false, &OrNull(&SET)),
            ("WorkingDir", false, &ANY),
            ("Labels", false, &OrNull(&TEXTS)),
            ("StopSignal", false, &ANY),
            ("ArgsEscaped", false, &Flag),
        ]),
    ),
    ("rootfs", true, &Fields(&[("type", true, &Is("layers")), ("diff_ids", true, &List(&DIGEST))])),
    (
        "history",
        false,
        &List(&Fields(&[
            ("created", false, &TIME),
            ("author", false, &ANY),
            ("created_by", false, &ANY),
            ("comment", false, &ANY),
            ("empty_layer", false, &Flag),
        ])),
    ),
]);
const LAYOUT: Rule = Fields(&[("imageLayoutVersion", true, &Is("1.0.0"))]);

/// `sha256` and 64 digits, the one algorithm that we write.
fn is_digest(text: &str) -> bool {
    let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.chars().all(is_hex))
}

/// A type and a subtype (RFC 6838, section 4.2).
fn is_media_type(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "!#$&-^_.+".contains(c);
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.len() <= 127
            && name.chars().all(is_plain)
    };
    text.split_once('/').is_some_and(|(kind, subtype)| is_name(kind) && is_name(subtype))
}

/// What is wrong with `value`, with its place in the document.
fn faults(rule: &Rule, value: &Value, at: &str) -> Vec<String> {
    let holds = match (rule, value) {
        (OrNull(_), Value::Null) => true,
        (OrNull(rule), value) => return faults(rule, value, at),
        (Text(holds), Value::String(text)) => holds(text),
        (Is(expected), Value::String(text)) => text == expected,
        (Number(least, most), value) => {
            value.as_u64().is_some_and(|n| (*least..=*most).contains(&n))
        }
        (Flag, value) => value.is_boolean(),
        (List(rule), Value::Array(list)) => {
            let each = list.iter().enumerate();
            return each.flat_map(|(n, value)| faults(rule, value, &format!("{at}/{n}"))).collect();
        }
        (Map(rule), Value::Object(map)) => {
            let each = map.iter().flat_map(|(name, value)| match name.is_empty() {
                true => vec![format!("{at}: an empty name")],
                false => faults(rule, value, &format!("{at}/{name}")),
            });
            return each.collect();
        }
        (Fields(fields), Value::Object(map)) => {
            let each = fields.iter().flat_map(|(name, is_needed, rule)| match map.get(*name) {
                Some(value) => faults(rule, value, &format!("{at}/{name}")),
                None if *is_needed => vec![format!("{at}/{name} is missing")],
                None => Vec::new(),
            });
            return each.collect();
        }
        _ => false,
    };
    if holds { Vec::new() } else { vec![format!("{at}: {value}")] }
}

#[test]
fn documents_that_break_a_rule_are_found() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let descriptor = |kind: &str| json!({"mediaType": kind, "digest": digest, "size": 1});
    let layer = descriptor("application/vnd.oci.image.layer.v1.tar+gzip");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json"), "layers": [layer],
        "annotations": {"a": "b"},
    });
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": "2020-01-01T00:00:00Z",
        "config": {"Env": ["A=b"], "Cmd": null, "ExposedPorts": {"80/tcp": {}}, "Labels": {}},
        "rootfs": {"type": "layers", "diff_ids": [digest]},
        "history": [{"created": "2020-01-01T00:00:00Z", "empty_layer": false}],
    });
    for (rule, good, pointer, bad) in [
        (&MANIFEST, &manifest, "/schemaVersion", json!(1)),
        (&MANIFEST, &manifest, "/schemaVersion", json!("2")),
        (&MANIFEST, &manifest, "/mediaType", json!("application/json")),
        (&MANIFEST, &manifest, "/config/digest", json!("sha256:xyz")),
        (&MANIFEST, &manifest, "/config/size", json!(-1)),
        (&MANIFEST, &manifest, "/layers", Value::Null),
        (&MANIFEST, &manifest, "/layers/0/mediaType", json!("gzip")),
        (&MANIFEST, &manifest, "/annotations/a", json!(1)),
        (&CONFIG, &config, "/created", json!("yesterday")),
        (&CONFIG, &config, "/os", Value::Null),
        (&CONFIG, &config, "/config/Env/0", json!("=b")),
        (&CONFIG, &config, "/config/Cmd", json!("sh")),
        (&CONFIG, &config, "/config/ExposedPorts/80~1tcp", json!(true)),
        (&CONFIG, &config, "/rootfs/type", json!("tar")),
        (&CONFIG, &config, "/history/0/empty_layer", json!("no")),
    ] {
        assert_eq!(faults(rule, good, ""), [""; 0]);
        let mut wrong = good.clone();
        *wrong.pointer_mut(pointer).expect("it is there") = bad;
        let found = faults(rule, &wrong, "");
        let place = pointer.replace("~1", "/");
        assert!(found.len() == 1 && found[0].starts_with(&place), "{pointer}: {found:?}");
    }
    let mut without = manifest.clone();
    without.as_object_mut().expect("an object").remove("layers");
    assert_eq!(faults(&MANIFEST, &without, ""), ["/layers is missing"]);
}

/// All documents of images from an index down.
struct Walk<'a> {
    layout: &'a Path,
    seen: BTreeSet<String>,
    configs: usize,
}

impl Walk<'_> {
    /// Checks a whole layout; how many images it has.
    fn layout(path: &Path) -> usize {
        let read = |name: &str| -> Value {
            let bytes = std::fs::read(path.join(name)).expect(name);
            serde_json::from_slice(&bytes).expect(name)
        };
        assert_eq!(faults(&LAYOUT, &read("oci-layout"), ""), [""; 0]);
        let mut walk = Walk { layout: path, seen: BTreeSet::new(), configs: 0 };
        walk.index(&read("index.json"));
        walk.configs
    }

    fn index(&mut self, index: &Value) {
        assert_eq!(faults(&INDEX, index, ""), [""; 0], "{index}");
        for descriptor in index["manifests"].as_array().expect("a list") {
            let document = self.blob(descriptor);
            match descriptor["mediaType"].as_str().expect("text") {
                "application/vnd.oci.image.index.v1+json" => self.index(&document),
                "application/vnd.oci.image.manifest.v1+json" => self.manifest(&document),
                other => panic!("{other} in an index"),
            }
        }
    }

    fn manifest(&mut self, manifest: &Value) {
        assert_eq!(faults(&MANIFEST, manifest, ""), [""; 0], "{manifest}");
        let config = self.blob(&manifest["config"]);
        assert_eq!(faults(&CONFIG, &config, ""), [""; 0], "{config}");
        let layers = manifest["layers"].as_array().expect("a list");
        for layer in layers {
            let kind = layer["mediaType"].as_str().expect("text");
            let form = kind.strip_prefix("application/vnd.oci.image.layer.v1.tar");
            assert!(matches!(form, Some("" | "+gzip" | "+zstd")), "{kind}");
            self.bytes(layer);
        }
        // One id of a layer for each, and one line of the history for each that made one.
        let ids = config["rootfs"]["diff_ids"].as_array().expect("a list");
        assert_eq!(ids.len(), layers.len(), "{config}");
        let history = config["history"].as_array().cloned().unwrap_or_default();
        let makes_one = |line: &&Value| line["empty_layer"] != true;
        assert_eq!(history.iter().filter(makes_one).count(), layers.len(), "{config}");
        self.configs += 1;
    }

    fn blob(&mut self, descriptor: &Value) -> Value {
        serde_json::from_slice(&self.bytes(descriptor)).expect("JSON")
    }

    /// The bytes that a descriptor is of.
    fn bytes(&mut self, descriptor: &Value) -> Vec<u8> {
        let digest = descriptor["digest"].as_str().expect("a digest");
        let path = self.layout.join("blobs").join(digest.replace(':', "/"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(descriptor["size"], bytes.len(), "{digest}");
        if self.seen.insert(digest.to_owned()) {
            assert_eq!(oci::Digest::of(&bytes).as_str(), digest);
        }
        bytes
    }
}

/// All that a config can say.
const DOCKERFILE: &str = "FROM scratch AS plain\nENV A=b\nLABEL one=1\n\
    FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"touch\", \"/a\"]\nENV A=b C=\nUSER 1:1\nWORKDIR /w\n\
    EXPOSE 80 53/udp\nVOLUME /v /w\nLABEL one=1 two=\nSTOPSIGNAL SIGINT\nHEALTHCHECK CMD true\nSHELL [\"/bin/busybox\", \"sh\"]\n\
    ONBUILD ENV D=e\nMAINTAINER me\nENTRYPOINT [\"/bin/busybox\"]\nCMD echo\n";

#[test]
fn privileged_layouts_are_as_the_specification_says() {
    let Some(builder) = Builder::bare() else { return };
    let annotated = [
        "--annotation",
        "index,manifest,manifest-descriptor,index-descriptor:a=b",
        "--platform",
        "linux/amd64,linux/arm64/v8",
        "-o",
        "type=oci,dest=two,tar=false",
    ];
    let out = |dest: &str, more: &str| format!("type=oci,dest={dest},tar=false{more}");
    for (words, dest, images) in [
        (vec!["-t", "app:1"], "one", 1),
        (vec!["-t", "app:1", "-t", "other", "--squash"], "one", 2),
        (vec!["--target", "plain"], "none", 1),
        (annotated[..4].to_vec(), "two", 2),
    ] {
        let output = out(dest, "");
        let words = [&words[..], &["-o", &output]].concat();
        builder.build(DOCKERFILE, &words).success();
        let found = Walk::layout(&builder.path(dest));
        assert!(found >= images, "{words:?}: {found}");
    }
    for form in ["uncompressed", "gzip", "zstd", "zstd:chunked", "estargz"] {
        let dest = format!("form-{}", form.replace(':', "-"));
        let output = out(&dest, &format!(",compression={form},force-compression=true"));
        builder.build(DOCKERFILE, &["-t", "app", "-o", &output]).success();
        assert_eq!(Walk::layout(&builder.path(&dest)), 1);
    }
    // The store itself, with all of that in it, what is saved, and an image of a container.
    builder.build(DOCKERFILE, &["-t", "app"]).success();
    builder.run(&["run", "--name", "changed", "--user", "0", "app", "touch", "/b"]).success();
    builder.run(&["commit", "-c", "CMD [\"x\"]", "changed", "committed"]).success();
    assert!(Walk::layout(builder.store()) >= 2);
    builder.run(&["save", "-o", "saved.tar", "app", "committed"]).success();
    builder.make_directory("saved");
    let mut tar = std::process::Command::new("tar");
    tar.args(["-xf", "saved.tar", "-C", "saved"]).current_dir(builder.path(""));
    assert!(tar.status().expect("tar runs").success());
    assert_eq!(Walk::layout(&builder.path("saved")), 2);
    // An image without layers has a list of none, as BuildKit's.
    let manifest = layers_of(&builder.path("none"));
    assert_eq!(manifest, json!([]));
}

/// The layers of the first image of a layout.
fn layers_of(layout: &Path) -> Value {
    let read = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(layout.join(name)).expect(name)).expect(name)
    };
    let digest = read("index.json")["manifests"][0]["digest"].as_str().expect("text").to_owned();
    read(&format!("blobs/{}", digest.replace(':', "/")))["layers"].clone()
}

#[test]
fn privileged_what_registries_get_is_as_the_specification_says() {
    let (Some(builder), Some(registry)) = (Builder::bare(), PlainRegistry::start()) else { return };
    let name = |image: &str| format!("{}/{image}", registry.host);
    let cache = format!("type=registry,ref={},mode=max", name("cache:own"));
    let foreign = format!("type=registry,ref={},mode=max,format=buildkit", name("cache:buildkit"));
    let (app, two) = (name("app:1"), name("two:1"));
    let words = ["-t", app.as_str(), "--push", "--cache-to", &cache, "--cache-to", &foreign];
    builder.build(DOCKERFILE, &words).success();
    let platforms = ["--platform", "linux/amd64,linux/arm64", "-t", two.as_str(), "--push"];
    builder.build(DOCKERFILE, &platforms).success();
    builder.run(&["imagetools", "create", "-t", &name("both:1"), &app, &two]).success();
    for (repository, tag, rule) in [
        ("app", "1", &MANIFEST),
        ("two", "1", &INDEX),
        ("both", "1", &INDEX),
        ("cache", "own", &MANIFEST),
        ("cache", "buildkit", &MANIFEST),
    ] {
        let document = registry.manifest(repository, tag).1;
        assert_eq!(faults(rule, &document, ""), [""; 0], "{repository}:{tag} {document}");
    }
}
