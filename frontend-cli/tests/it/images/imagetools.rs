//! Images in registries, looked at and put together where they are.

use expect_test::expect;
use oci::{Digest, Platform};
use serde_json::{Value, json};

use super::registry::Registry;
use super::world::{Layout, World, config, small_layer, stderr, stdout};
use crate::e2e::web::Web;
use crate::plain_registry::PlainRegistry;
use crate::server::Reply;

const AMD: &str = "linux/amd64";
const ARM: &str = "linux/arm64";

fn platform(text: &str) -> Platform {
    text.parse().expect("a platform")
}

/// Pushes an image of one layer for a platform.
fn push(world: &World, registry: &PlainRegistry, name: &str, of: &str) -> (String, Value) {
    let directory = of.replace('/', "-");
    let mut layout = Layout::new(&world.path(&directory));
    let image = layout.image(&small_layer(), config(), &platform(of));
    layout.name("pushed:1", image);
    layout.write();
    world.ok(&["load", "-q", "-i", &directory]);
    let full = registry.name(name);
    world.ok(&["tag", "pushed:1", &full]);
    world.ok(&["push", "-q", "--platform", of, &full]);
    let (repository, tag) = name.split_once(':').expect("a tag");
    registry.manifest(repository, tag)
}

/// The blobs and manifests of an index are in the repository.
#[track_caller]
fn assert_whole(registry: &PlainRegistry, repository: &str, index: &Value) {
    for entry in index["manifests"].as_array().expect("an index") {
        let digest = entry["digest"].as_str().expect("text");
        let (_, manifest) = registry.manifest(repository, digest);
        let layers = manifest["layers"].as_array().expect("an image");
        for part in layers.iter().chain([&manifest["config"]]) {
            let digest = part["digest"].as_str().expect("text");
            let answer = registry.get(&format!("{repository}/blobs/{digest}"));
            assert_eq!(Digest::of(&answer.body).as_str(), digest);
        }
    }
}

#[test]
fn privileged_images_of_a_registry_become_one_index() {
    let (Some(world), Some(registry)) = (World::new(), PlainRegistry::start()) else { return };
    let (amd, _) = push(&world, &registry, "team/app:amd64", AMD);
    let (arm, _) = push(&world, &registry, "team/app:arm64", ARM);
    let name = |image: &str| registry.name(image);
    let create = |words: &[&str]| world.run(&[&["imagetools", "create"], words].concat(), "");
    let (both, two) = (name("team/app:both"), name("team/app:two"));
    let (of_amd, of_arm) = (name("team/app:amd64"), name("team/app:arm64"));
    let words = [
        &["-t", &both, "-t", &two, "--annotation", "index:k=v"][..],
        &["--annotation", "manifest-descriptor[linux/arm64]:d=e"],
        &[&of_amd, &of_arm],
    ]
    .concat();
    let made = create(&words);
    let (digest, index) = registry.manifest("team/app", "both");
    assert_eq!(stdout(&made), format!("{both}\n{two}\n"), "{}", stderr(&made));
    let told = |name: &str| format!("digest: {digest}\npushed {name}\n");
    assert_eq!(stderr(&made), told(&both) + &told(&two));
    assert_eq!(registry.manifest("team/app", "two").0, digest);
    assert_eq!(index["annotations"], json!({"k": "v"}));
    let entries = index["manifests"].as_array().expect("an index");
    let shown: Vec<Value> = entries
        .iter()
        .map(|e| json!([e["digest"], e["platform"]["architecture"], e["annotations"]]))
        .collect();
    assert_eq!(shown, [json!([amd, "amd64", null]), json!([arm, "arm64", {"d": "e"}])]);
    // What is only shown is to the byte what would be pushed.
    let dry = world.ok(&[&["imagetools", "create", "--dry-run"], &words[..]].concat());
    assert_eq!(Digest::of(dry.trim_end().as_bytes()).as_str(), digest);
    // Another name for the same, by the way of buildx.
    world.ok(&["buildx", "imagetools", "create", "-t", &name("team/app:again"), &both]);
    assert_eq!(registry.manifest("team/app", "again").0, digest);
    create(&["--prefer-index=false", "-t", &name("team/app:one"), &name("team/app:arm64")]);
    assert_eq!(registry.manifest("team/app", "one").0, arm);
    // By digest, and added to what is there.
    let appended = create(&["--append", "-t", &name("team/app:amd64"), &arm]);
    assert!(appended.status.success(), "{}", stderr(&appended));
    let (_, appended) = registry.manifest("team/app", "amd64");
    assert_eq!(appended["manifests"][0]["digest"], amd.as_str());
    assert_eq!(appended["manifests"][1]["digest"], arm.as_str());
    // A descriptor may say something else, but for what can be seen to be wrong.
    let said = json!({"digest": arm, "platform": {"os": "linux", "architecture": "riscv64"}});
    std::fs::write(world.path("said.json"), said.to_string()).expect("written");
    create(&["-t", &name("team/app:said"), "-f", "said.json"]);
    let (_, index) = registry.manifest("team/app", "said");
    assert_eq!(index["manifests"][0]["platform"]["architecture"], "riscv64");
    let wrong = json!({"digest": arm, "size": 5}).to_string();
    let refused = world.fails(&["imagetools", "create", "-t", &both, &wrong], 1);
    assert!(refused.contains("bytes, not 5"), "{refused}");
    let refused =
        world.fails(&["imagetools", "create", "-t", &both, "--annotation", "k=v", &two], 1);
    assert!(refused.contains("hint: write `index:KEY=VALUE`"), "{refused}");
    world.fails(&["imagetools", "create", "-t", &both, &name("team/app:nosuch")], 1);
    assert_eq!(registry.manifest("team/app", "both").0, digest);
}

#[test]
fn privileged_an_image_goes_to_another_repository_with_all_it_refers_to() {
    let (Some(world), Some(registry)) = (World::new(), PlainRegistry::start()) else { return };
    let Some(other) = PlainRegistry::start() else { return };
    let (amd, arm) = (registry.name("team/app:amd64"), registry.name("team/app:arm64"));
    push(&world, &registry, "team/app:amd64", AMD);
    push(&world, &registry, "team/app:arm64", ARM);
    let both = registry.name("team/app:both");
    world.ok(&["imagetools", "create", "-t", &both, &amd, &arm]);
    let (digest, index) = registry.manifest("team/app", "both");
    // Two configs and the layer that both have.
    let copied = |to: &str| stderr(&world.run(&["imagetools", "create", "-t", to, &both], ""));
    let told = copied(&registry.name("else/where:1"));
    assert!(told.contains("(3 blobs mounted)"), "{told}");
    let told = copied(&other.name("x/y:1"));
    assert!(told.contains("(3 blobs sent)"), "{told}");
    for (registry, repository) in [(&registry, "else/where"), (&other, "x/y")] {
        assert_eq!(registry.manifest(repository, "1").0, digest);
        assert_whole(registry, repository, &index);
    }
    let told = copied(&other.name("x/y:2"));
    assert!(!told.contains("blobs"), "{told}");
    let pulled = world.with_root("second", &["pull", "--platform", ARM, &other.name("x/y:1")], b"");
    assert!(pulled.status.success(), "{}", stderr(&pulled));
}

/// A registry that has other bytes than it should is caught on the way, and the tag does not come to be.
#[test]
fn privileged_wrong_bytes_are_not_passed_on() {
    let (Some(world), Some(to)) = (World::new(), PlainRegistry::start()) else { return };
    let from = Registry::start();
    let mut layout = Layout::new(&world.path("small"));
    let image = layout.image(&small_layer(), config(), &platform(AMD));
    from.serve(&world.path("small"), "small", "1", &image);
    let layer = Digest::of(&small_layer());
    from.damage("small", &layer);
    let words = ["imagetools", "create", "-t", &to.name("small:1"), &from.name("small:1")];
    let told = world.fails(&words, 1);
    assert!(told.contains("failed to fetch the blob") && told.contains(layer.as_str()), "{told}");
    assert!(to.tags("small").is_empty());
}

#[test]
fn a_new_name_moves_nothing_but_the_manifest() {
    let Some(world) = World::new() else { return };
    let mut layout = Layout::new(&world.path("small"));
    let image = layout.image(&small_layer(), config(), &platform(AMD));
    let index = layout.index_of(vec![image]);
    let served = std::fs::read(world.path("small/blobs/sha256").join(index.digest.hex()));
    let served = served.expect("read");
    let web = Web::start(move |seen| match seen.method.as_str() {
        "PUT" => Reply::new(201, ""),
        _ if seen.path() == "/v2/team/app/manifests/1" => {
            Reply::ok(served.clone()).with("Content-Type", oci::media_type::INDEX)
        }
        _ => Reply::ok("{}"),
    });
    let name = |tag: &str| format!("{}/team/app:{tag}", web.host());
    let words = ["imagetools", "create", "-t", &name("2"), "-t", &name("3"), &name("1")];
    world.ok(&words);
    let lines = [
        "GET /v2/team/app/manifests/1",
        "PUT /v2/team/app/manifests/2",
        "PUT /v2/team/app/manifests/3",
    ];
    assert_eq!(web.take_lines(), lines);
}

#[test]
fn privileged_images_are_looked_at_where_they_are() {
    let (Some(world), Some(registry)) = (World::new(), PlainRegistry::start()) else { return };
    let (amd, _) = push(&world, &registry, "app:amd64", AMD);
    let (arm, _) = push(&world, &registry, "app:arm64", ARM);
    let (one, other) = (registry.name("app:amd64"), registry.name("app:arm64"));
    let both = registry.name("app:both");
    let note = ["--annotation", "manifest-descriptor[linux/arm64]:note=what it is"];
    world.ok(&[&["imagetools", "create", "-t", &both, &one, &other], &note[..]].concat());
    let (digest, _) = registry.manifest("app", "both");
    let raw = world.run(&["imagetools", "inspect", "--raw", &both], "");
    assert_eq!(Digest::of(&raw.stdout).as_str(), digest);
    let hide = |text: String| {
        let text = text.replace(&registry.host, "HOST").replace(&amd, "AMD").replace(&arm, "ARM");
        text.replace(&digest, "INDEX")
    };
    expect![[r#"
        Name:      HOST/app:both
        MediaType: application/vnd.oci.image.index.v1+json
        Digest:    INDEX

        Manifests:
          Name:       HOST/app:both@AMD
          MediaType:  application/vnd.oci.image.manifest.v1+json
          Platform:   linux/amd64

          Name:       HOST/app:both@ARM
          MediaType:  application/vnd.oci.image.manifest.v1+json
          Platform:   linux/arm64
          Annotations:
            note: what it is
    "#]]
    .assert_eq(&hide(world.ok(&["buildx", "imagetools", "inspect", &both])));
    for (format, name, wanted) in [
        ("{{.Name}} {{.Manifest.Digest}}", &both, "HOST/app:both INDEX"),
        ("{{range .Manifest.Manifests}}{{.Platform.OS}} {{end}}", &both, "linux linux "),
        ("{{json .Manifest.Annotations}}", &both, "{}"),
        ("{{with index .Image \"linux/arm64\"}}{{.Architecture}}{{end}}", &both, "arm64"),
        (
            "{{.Image.Architecture}} {{json .Image.Config.Cmd}}",
            &one,
            "amd64 [\"sh\",\"-c\",\"echo default command\"]",
        ),
        ("{{.Manifest.MediaType}}", &one, oci::media_type::MANIFEST),
    ] {
        let shown = world.ok(&["imagetools", "inspect", "--format", format, name]);
        assert_eq!(hide(shown), format!("{wanted}\n"), "{format}");
    }
    let shown: Value = serde_json::from_str(&world.ok(&[
        "imagetools",
        "inspect",
        "--format",
        "{{json .}}",
        &both,
    ]))
    .expect("JSON");
    assert_eq!(shown["manifest"]["manifests"][1]["platform"]["architecture"], "arm64");
    assert_eq!(shown["image"]["linux/amd64"]["rootfs"]["type"], "layers");
    let wrong = world.fails(&["imagetools", "inspect", "--format", "{{.SBOM}}", &both], 1);
    assert!(wrong.contains("no field `SBOM`"), "{wrong}");
    // Docker's `manifest inspect` has the document, and with `-v` where it comes from.
    let index = world.ok(&["manifest", "inspect", &both]);
    let parsed: Value = serde_json::from_str(&index).expect("JSON");
    assert_eq!(parsed["manifests"][0]["digest"], amd.as_str());
    assert!(index.starts_with("{\n   \"schemaVersion\": 2,\n"), "{index}");
    let shown: Value =
        serde_json::from_str(&world.ok(&["manifest", "inspect", "-v", &one])).expect("JSON");
    assert_eq!(shown["Ref"], one.as_str());
    assert_eq!(shown["Descriptor"]["platform"]["architecture"], "amd64");
    let raw = data_encoding::BASE64.decode(shown["Raw"].as_str().expect("text").as_bytes());
    assert_eq!(Digest::of(&raw.expect("base64")).as_str(), amd);
    assert_eq!(shown["OCIManifest"]["schemaVersion"], 2);
    let all: Value =
        serde_json::from_str(&world.ok(&["manifest", "inspect", "-v", &both])).expect("JSON");
    assert_eq!(all[1]["Descriptor"]["digest"], arm.as_str());
    assert_eq!(all.as_array().map(Vec::len), Some(2));
}
