//! Pushing, to Docker's own registry.

use std::process::Command;

use serde_json::Value;

use super::world::{World, stderr, stdout};
use crate::docker_registry::{Registry, certificate, has, with_tls};
use crate::plain_registry::PlainRegistry;

const DOCKERFILE: &str = "FROM scratch\nCOPY one /one\nCOPY two /two\nCMD [\"/one\"]\n";

/// A world with a context of two files, `.` the context.
fn world() -> Option<World> {
    let world = World::new()?;
    std::fs::create_dir(world.path("context")).expect("made");
    for (name, content) in [("Dockerfile", DOCKERFILE), ("one", "1\n"), ("two", "2\n")] {
        std::fs::write(world.path("context").join(name), content).expect("written");
    }
    Some(world)
}

/// The media types of a manifest's layers.
fn kinds(manifest: &Value) -> Vec<&str> {
    let layers = manifest["layers"].as_array().expect("an image");
    layers.iter().map(|layer| layer["mediaType"].as_str().expect("text")).collect()
}

/// Every blob is there, under its own digest.
#[track_caller]
fn assert_whole(registry: &PlainRegistry, repository: &str, manifest: &Value) {
    let layers = manifest["layers"].as_array().expect("an image");
    for part in layers.iter().chain([&manifest["config"]]) {
        let digest = part["digest"].as_str().expect("text");
        let answer = registry.get(&format!("{repository}/blobs/{digest}"));
        assert_eq!(answer.status, 200, "{digest}");
        assert_eq!(oci::Digest::of(&answer.body).as_str(), digest);
    }
}

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

#[test]
fn privileged_an_output_that_says_where_to_goes_nowhere_else() {
    let (Some(world), Some(registry)) = (world(), PlainRegistry::start()) else { return };
    let output = format!("type=image,name={},push=true", registry.name("app:1"));
    let built = world.run(&["build", "-t", "nowhere.invalid/app:2", "-o", &output, "context"], "");
    assert!(built.status.success(), "{}", stderr(&built));
    assert_eq!(registry.tags("app"), ["1"]);
    let listed = stdout(&world.run(&["images", "--format", "{{.Repository}}:{{.Tag}}"], ""));
    assert!(listed.contains("nowhere.invalid/app:2"), "{listed}");
}

#[test]
fn privileged_an_image_goes_to_its_registry_and_comes_back() {
    let (Some(world), Some(registry)) = (world(), PlainRegistry::start()) else { return };
    let name = registry.name("team/app:1");
    let build = ["build", "--push", "-t", &name, "--metadata-file", "meta.json", "context"];
    let built = world.run(&build, "");
    assert!(built.status.success(), "{}", stderr(&built));
    let (digest, manifest) = registry.manifest("team/app", "1");
    assert_eq!(kinds(&manifest), [GZIP, GZIP]);
    assert_whole(&registry, "team/app", &manifest);
    let told = stderr(&built);
    assert!(told.contains(&format!("pushing manifest for {name}@{digest}")), "{told}");
    assert!(told.ends_with(&format!("pushed {digest} as {name}\n")), "{told}");
    let metadata = std::fs::read(world.path("meta.json")).expect("read");
    let metadata: Value = serde_json::from_slice(&metadata).expect("JSON");
    assert_eq!(metadata["containerimage.digest"], digest.as_str());
    // What the store has is the same image, and is pushed as the same again.
    let pushed = world.run(&["push", &name, "--progress=plain"], "");
    assert_eq!(stdout(&pushed), format!("{name}\n"));
    let told = stderr(&pushed);
    assert_eq!(told.matches("already exists").count(), 3, "{told}");
    assert!(told.contains(&format!("digest: {digest}\n")), "{told}");
    assert_eq!(registry.manifest("team/app", "1").0, digest);
    let id = world.ok(&["inspect", "-f", "{{.Id}}", &name]);
    let pulled = world.with_root("other", &["pull", "-q", &name], b"");
    assert!(pulled.status.success(), "{}", stderr(&pulled));
    let inspected = world.with_root("other", &["inspect", "-f", "{{.Id}}", &name], b"");
    assert_eq!(stdout(&inspected), id);
    // What was pulled has the layers that the registry has.
    let again = world.with_root("other", &["push", "-q", &name], b"");
    assert_eq!(stdout(&again), format!("{name}\n"), "{}", stderr(&again));
    assert_eq!(registry.manifest("team/app", "1").0, digest);
}

#[test]
fn privileged_an_output_says_how_an_image_is_pushed() {
    let (Some(world), Some(registry)) = (world(), PlainRegistry::start()) else { return };
    let tar = "application/vnd.oci.image.layer.v1.tar";
    let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
    for (repository, attributes, kind) in [
        ("image", "type=image,push=true", GZIP),
        ("registry", "type=registry", GZIP),
        ("fast", "type=registry,compression=gzip,compression-level=1", GZIP),
        ("zstd", "type=image,push=true,compression=zstd", zstd),
        ("plain", "type=image,push=true,compression=uncompressed", tar),
        ("insecure", "type=registry,registry.insecure=true", GZIP),
    ] {
        let name = registry.name(&format!("{repository}:1"));
        world.ok(&["build", "-o", &format!("{attributes},name={name}"), "context"]);
        let (_, manifest) = registry.manifest(repository, "1");
        assert_eq!(kinds(&manifest), [kind, kind], "{attributes}");
        assert_whole(&registry, repository, &manifest);
        world.ok(&["inspect", &name]);
    }
    let names = format!("{},{}", registry.name("several:1"), registry.name("others:2"));
    world.ok(&["build", "-o", &format!("type=registry,store=false,\"name={names}\""), "context"]);
    assert_eq!(registry.manifest("several", "1").0, registry.manifest("others", "2").0);
    world.fails(&["inspect", &registry.name("several:1")], 1);
}

#[test]
fn privileged_a_push_by_digest_leaves_no_tag() {
    let (Some(world), Some(registry)) = (world(), PlainRegistry::start()) else { return };
    let output = "type=image,push-by-digest=true,name-canonical=true,push=true";
    let repository = registry.name("app");
    let words = ["build", "-o", output, "-t", &repository, "--metadata-file", "m", "context"];
    world.ok(&words);
    let metadata = std::fs::read(world.path("m")).expect("read");
    let metadata: Value = serde_json::from_slice(&metadata).expect("JSON");
    let digest = metadata["containerimage.digest"].as_str().expect("text");
    assert_eq!(registry.manifest("app", digest).0, digest);
    assert_eq!(registry.tags("app"), [""; 0]);
    world.ok(&["inspect", &format!("{repository}@{digest}")]);
    world.fails(&["inspect", &repository], 1);
}

#[test]
fn privileged_all_platforms_go_under_one_name() {
    let (Some(world), Some(registry)) = (world(), PlainRegistry::start()) else { return };
    let (name, second) = (registry.name("app:1"), registry.name("app:2"));
    world.ok(&[
        "build",
        "--platform=linux/amd64,linux/arm64",
        "-t",
        &name,
        "-t",
        &second,
        "context",
    ]);
    assert_eq!(world.ok(&["push", "-a", &registry.name("app")]), format!("{name}\n{second}\n"));
    let (digest, index) = registry.manifest("app", "1");
    assert_eq!(registry.manifest("app", "2").0, digest);
    let platforms: Vec<&Value> = index["manifests"]
        .as_array()
        .expect("an index")
        .iter()
        .map(|entry| &entry["platform"]["architecture"])
        .collect();
    assert_eq!(platforms, ["amd64", "arm64"]);
    for entry in index["manifests"].as_array().expect("an index") {
        let digest = entry["digest"].as_str().expect("text");
        assert_whole(&registry, "app", &registry.manifest("app", digest).1);
    }
    // A build that pushes gives the same.
    let third = registry.name("app:3");
    world.ok(&["build", "--push", "--platform=linux/amd64,linux/arm64", "-t", &third, "context"]);
    assert_eq!(registry.manifest("app", "3").0, digest);
    world.ok(&["push", "--platform=linux/arm64", &name]);
    assert_eq!(registry.manifest("app", "1").0, index["manifests"][1]["digest"]);
    let told = world.fails(&["push", "--platform=linux/s390x", &name], 1);
    assert!(told.contains("is not there for linux/s390x"), "{told}");
}

#[test]
fn privileged_layers_of_a_base_are_mounted_from_where_they_came() {
    let (Some(world), Some(registry)) = (world(), PlainRegistry::start()) else { return };
    let base = registry.name("base:1");
    world.ok(&["build", "--push", "-t", &base, "context"]);
    let (name, text) = (registry.name("app:1"), format!("FROM {base}\nCOPY one /three\n"));
    std::fs::write(world.path("context/Dockerfile"), text).expect("written");
    let words = ["build", "--push", "--progress=plain", "-t", &name, "context"];
    let built = world.with_root("other", &words, b"");
    let told = stderr(&built);
    assert!(built.status.success(), "{told}");
    assert_eq!(told.matches(" mounted ").count(), 2, "{told}");
    let ((_, base), (_, app)) = (registry.manifest("base", "1"), registry.manifest("app", "1"));
    assert_eq!(app["layers"][0], base["layers"][0]);
    assert_eq!(app["layers"][1], base["layers"][1]);
    assert_whole(&registry, "app", &app);
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn privileged_other_tools_take_what_was_pushed() {
    let (Some(world), Some(registry)) = (world(), PlainRegistry::start()) else { return };
    if !has("skopeo") || !has("umoci") {
        eprintln!("SKIPPED: skopeo or umoci is not installed");
        return;
    }
    let run = |program: &str, words: &[&str]| {
        let mut command = Command::new(program);
        let output = command.args(words).current_dir(world.path("")).output().expect("it runs");
        assert!(output.status.success(), "{program} {words:?}: {}", stderr(&output));
        stdout(&output)
    };
    for compression in ["gzip", "zstd", "uncompressed"] {
        let name = registry.name(&format!("app:{compression}"));
        let output = format!("type=registry,compression={compression}");
        world.ok(&["build", "-o", &output, "-t", &name, "context"]);
        let from = format!("docker://{name}");
        let inspected = run("skopeo", &["inspect", "--tls-verify=false", &from]);
        let inspected: Value = serde_json::from_str(&inspected).expect("JSON");
        assert_eq!(inspected["Digest"], registry.manifest("app", compression).0);
        let layout = format!("oci:{compression}:1");
        let copy = ["copy", "-q", "--insecure-policy", "--src-tls-verify=false", &from, &layout];
        run("skopeo", &copy);
        // umoci knows no zstd.
        if compression == "zstd" {
            continue;
        }
        let (image, bundle) = (format!("{compression}:1"), format!("{compression}-bundle"));
        run("umoci", &["unpack", "--rootless", "--image", &image, &bundle]);
        let file = world.path(&bundle).join("rootfs/two");
        assert_eq!(std::fs::read(file).expect("read"), b"2\n");
    }
}

#[test]
fn privileged_what_cannot_be_pushed_is_told() {
    let (Some(world), Some(registry)) = (world(), PlainRegistry::start()) else { return };
    let nowhere = registry.name("nosuch:1");
    let told = world.fails(&["push", &nowhere], 1);
    assert!(told.contains(&format!("no image `{nowhere}` in the store")), "{told}");
    let id = world.ok(&["build", "-q", "context"]);
    let id = &id["sha256:".len()..][..12];
    let told = world.fails(&["push", id], 1);
    assert!(told.contains(&format!("`{id}` is not the name of an image")), "{told}");
    let told = world.fails(&["push", "-a", &registry.name("nosuch")], 1);
    assert!(told.contains("the store has no tag of"), "{told}");
    // A layer that is gone is told before anything is named.
    let name = registry.name("app:1");
    world.ok(&["build", "-t", &name, "context"]);
    let layer = world.ok(&["inspect", "-f", "{{index .RootFS.Layers 0}}", &name]);
    let hex = layer.trim_end().strip_prefix("sha256:").expect("a digest");
    std::fs::remove_file(world.path("store/blobs/sha256").join(hex)).expect("it was there");
    let told = world.fails(&["push", &name], 1);
    assert!(told.contains("missing"), "{told}");
    assert_eq!(registry.tags("app"), [""; 0]);
}

/// What a push allows is allowed for that push alone.
#[test]
fn privileged_a_certificate_that_nobody_trusts_is_taken_where_the_push_says_so() {
    let Some(world) = world() else { return };
    let keys = world.path("keys");
    std::fs::create_dir(&keys).expect("made");
    if !certificate(&keys) {
        return;
    }
    let Some(registry) = Registry::start(|_| with_tls(&keys)) else { return };
    let name = format!("{}/app:1", registry.host);
    let output = format!("type=registry,name={name}");
    let told = world.fails(&["build", "-o", &output, "context"], 1);
    assert!(told.contains("the server's certificate is not trusted"), "{told}");
    assert!(told.contains("hint: name its certificate authority in mybuild.toml"), "{told}");
    let insecure = format!("{output},registry.insecure=true");
    world.ok(&["build", "-o", &insecure, "context"]);
    let told = world.fails(&["push", &name], 1);
    assert!(told.contains("the server's certificate is not trusted"), "{told}");
    let path = world.path("trusting.toml");
    let text = format!(
        "[registry.\"{}\"]\nca = [\"{}\"]\n",
        registry.host,
        keys.join("cert.pem").display()
    );
    std::fs::write(&path, text).expect("written");
    let mut command = world.command(&["push", &name, "--progress=plain"]);
    let pushed = command.env("MYBUILD_CONFIG", &path).output().expect("it runs");
    assert_eq!(stderr(&pushed).matches("already exists").count(), 3, "{}", stderr(&pushed));
}

/// The registry finds out; a build makes the layer again, and a push says how to go on.
#[test]
fn privileged_a_damaged_layer_is_not_pushed() {
    let (Some(world), Some(registry)) = (world(), PlainRegistry::start()) else { return };
    let build = |tag: &str| {
        let words = ["build", "--push", "-t", &registry.name(tag), "context"];
        world.run(&words, "")
    };
    assert!(build("first:1").status.success());
    let (digest, manifest) = registry.manifest("first", "1");
    let layer = manifest["layers"][0]["digest"].as_str().expect("text");
    let path = world.path("store/blobs/sha256").join(&layer["sha256:".len()..]);
    let damage = || {
        let mut bytes = std::fs::read(&path).expect("read");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).expect("written");
    };
    // The repository has nothing yet, and nowhere to mount it from.
    registry.forget(layer);
    damage();
    let built = build("second:1");
    assert!(built.status.success(), "{}", stderr(&built));
    assert_eq!(registry.manifest("second", "1").0, digest);
    assert_whole(&registry, "second", &manifest);
    registry.forget(layer);
    damage();
    let third = registry.name("third:1");
    world.ok(&["tag", &registry.name("first:1"), &third]);
    let told = world.fails(&["push", &third], 1);
    assert!(told.contains("is missing or damaged in the store"), "{told}");
    assert!(told.contains("hint: push it again"), "{told}");
    assert_eq!(registry.tags("third"), [""; 0]);
    world.ok(&["push", "-q", &third]);
    assert_whole(&registry, "third", &manifest);
}

/// The step ends when the registry has a layer of the step before, and not earlier.
#[test]
fn privileged_layers_are_pushed_while_later_steps_run() {
    let (Some(world), Some(registry)) = (World::with_busybox(), PlainRegistry::start()) else {
        return;
    };
    std::fs::create_dir(world.path("context")).expect("made");
    std::fs::write(world.path("context/one"), "1\n").expect("written");
    for (repository, last, code) in [("good", "true", 0), ("bad", "false", 1)] {
        let text = format!(
            "FROM app:1\nCOPY one /one\n\
             RUN i=0; until /bin/busybox wget -qO- http://{}/v2/_catalog | /bin/busybox grep -w {repository}; \
             do i=$((i+1)); [ $i -lt 200 ] || exit 1; /bin/busybox sleep 0.1; done\n\
             RUN {last}\n",
            registry.host
        );
        std::fs::write(world.path("context/Dockerfile"), text).expect("written");
        let name = registry.name(&format!("{repository}:1"));
        let words = ["build", "--push", "--no-cache", "--network=host", "--allow=network.host"];
        let words = [&words[..], &["-t", &name, "context", "--progress=plain"]].concat();
        let built = world.run(&words, "");
        assert_eq!(built.status.code(), Some(code), "{}", stderr(&built));
        let expected: &[&str] = if code == 0 { &["1"] } else { &[] };
        assert_eq!(registry.tags(repository), expected, "{}", stderr(&built));
    }
}
