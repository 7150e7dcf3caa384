//! Registries that lie, through whole commands. What the protocol itself can tell is tested in `registry`.

use oci::{Descriptor, DiffId, Digest, Manifest, media_type};
use serde_json::{Value, json};

use super::registry::Registry;
use super::world::{Layout, World, config, host, small_layer, stderr};
use crate::e2e::web::Web;
use crate::server::Reply;

/// An image with this config and these layers.
fn image(layout: &Layout, config: &[u8], layers: Vec<Descriptor>) -> Descriptor {
    let manifest = Manifest {
        schema_version: 2,
        media_type: media_type::MANIFEST.to_owned(),
        config: layout.blob(media_type::CONFIG, config),
        layers,
        annotations: Default::default(),
    };
    let manifest = serde_json::to_vec(&manifest).expect("plain data");
    layout.blob(media_type::MANIFEST, &manifest)
}

/// A config of this machine's platform with these layers.
fn config_of(diff_ids: &[&Digest]) -> Value {
    let mut config = config();
    (config.os, config.architecture) = (host().os, host().architecture);
    config.rootfs.diff_ids = diff_ids.iter().map(|digest| DiffId((*digest).clone())).collect();
    serde_json::to_value(config).expect("plain data")
}

/// What a pull, and a build that unpacks the image, say to `image`; nothing may be left that names it.
fn told(world: &World, registry: &Registry, layout: &str, image: &Descriptor) -> String {
    registry.serve(&world.path(layout), "app", "1", image);
    let name = registry.name("app:1");
    let dockerfile = format!("FROM {name} AS base\nFROM scratch\nCOPY --from=base /hello /\n");
    std::fs::write(world.path("Dockerfile"), dockerfile).expect("written");
    let started = std::time::Instant::now();
    let pulled = world.run(&["pull", &name], "");
    let built = world.run(&["build", "--pull", "."], "");
    assert!(started.elapsed().as_secs() < 30);
    assert_ne!((pulled.status.code(), built.status.code()), (Some(0), Some(0)));
    assert_eq!(built.status.code(), Some(1), "{}", stderr(&built));
    format!("{}\n{}", stderr(&pulled), stderr(&built))
}

#[test]
fn privileged_r8_an_image_that_is_not_what_its_config_says_is_refused() {
    let Some(world) = World::new() else { return };
    let registry = Registry::start();
    let layout = Layout::new(&world.path("layout"));
    let digest = Digest::of(&small_layer());
    let layer = || vec![layout.blob(media_type::LAYER, &small_layer())];
    let good = config_of(&[&digest]);
    let with = |key: &str, value: Value| {
        let mut config = good.clone();
        config[key] = value;
        config.to_string()
    };
    let many = vec![json!({"created_by": "x"}); 1_000_000];
    for (config, wanted) in [
        (config_of(&[&Digest::of(b"other")]).to_string(), "the image's config wants"),
        (config_of(&[&digest, &digest]).to_string(), "names 2 layers, its manifest 1"),
        (config_of(&[]).to_string(), "names 0 layers, its manifest 1"),
        (with("history", json!(many)), "larger than"),
        (with("history", json!(vec![json!({}); 20_000])), "more than"),
        (with("rootfs", json!("x")), "invalid image config"),
        (with("config", json!([1])), "invalid image config"),
        ("[]".to_owned(), "invalid image config"),
        ("null".to_owned(), "invalid image config"),
        ("{".to_owned(), "invalid image config"),
    ] {
        let image = image(&layout, config.as_bytes(), layer());
        let told = told(&world, &registry, "layout", &image);
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    assert_eq!(world.ok(&["fsck", "--full"]), "the store is whole\n");
}

#[test]
fn privileged_r9_odd_layers_are_what_the_specification_makes_of_them() {
    let Some(world) = World::new() else { return };
    let registry = Registry::start();
    let layout = Layout::new(&world.path("layout"));
    let (digest, nothing) = (Digest::of(&small_layer()), Digest::of(b""));
    let layer = || layout.blob(media_type::LAYER, &small_layer());
    // The same layer twice is two layers.
    let config = config_of(&[&digest, &digest]).to_string();
    let twice = image(&layout, config.as_bytes(), vec![layer(), layer()]);
    registry.serve(&world.path("layout"), "twice", "1", &twice);
    let name = registry.name("twice:1");
    let dockerfile = format!("FROM {name} AS base\nFROM scratch\nCOPY --from=base /hello /\n");
    std::fs::write(world.path("Dockerfile"), dockerfile).expect("written");
    world.ok(&["build", "-q", "."]);
    // No bytes are an archive of nothing, as for tar.
    let config = config_of(&[&digest, &nothing]).to_string();
    let empty = layout.blob(media_type::LAYER, b"");
    let hollow = image(&layout, config.as_bytes(), vec![layer(), empty]);
    registry.serve(&world.path("layout"), "twice", "1", &hollow);
    world.ok(&["build", "-q", "--pull", "."]);
    // Other kinds of layers are named.
    let image_of = |kind: &str| {
        let odd = Descriptor { media_type: kind.to_owned(), ..layer() };
        image(&layout, config_of(&[&digest]).to_string().as_bytes(), vec![odd])
    };
    let unknown = "application/vnd.example.layer.v1.tar+rar";
    for (odd, wanted) in [(image_of(unknown), unknown), (image_of("text/plain"), "text/plain")] {
        let told = told(&world, &registry, "layout", &odd);
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    assert_eq!(world.ok(&["fsck", "--full"]), "the store is whole\n");
}

/// A registry of one index that lists itself is impossible by digest; one that answers every digest with an
/// index is not.
#[test]
fn privileged_r5_indexes_do_not_nest_for_ever() {
    let Some(world) = World::new() else { return };
    let mut layout = Layout::new(&world.path("layout"));
    let registry = Registry::start();
    let mut top = layout.image(&small_layer(), config(), &host());
    for _ in 0..1000 {
        let entry = Descriptor { platform: Some(host()), ..top };
        top = layout.index_of(vec![entry]);
    }
    let told = told(&world, &registry, "layout", &top);
    assert!(told.contains("nest more than"), "{told}");
    let copied = format!("{}/copy:1", registry.name("x").trim_end_matches("/x"));
    let words = ["imagetools", "create", "-t", &copied, &registry.name("app:1")];
    let told = world.fails(&words, 1);
    assert!(told.contains("nest too deep"), "{told}");
    assert!(registry.asked() < 100, "{}", registry.asked());
}

/// The tag moves while the build runs: every platform and step gets what it was at first.
#[test]
fn privileged_r10_a_tag_that_moves_is_one_image_for_the_whole_build() {
    let Some(world) = World::new() else { return };
    let blobs = world.path("layout/blobs/sha256");
    let mut layout = Layout::new(&world.path("layout"));
    let old = layout.image(&small_layer(), config(), &host());
    let mut config = config();
    config.author = "another".to_owned();
    let new = layout.image(&small_layer(), config, &host());
    let tagged = std::sync::atomic::AtomicUsize::new(0);
    let (old_digest, new_digest) = (old.digest.clone(), new.digest);
    let web = Web::start(move |seen| {
        let name = seen.path().rsplit('/').next().unwrap_or_default();
        let digest = match name {
            "" => return Reply::ok("{}"),
            "1" if tagged.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 => &old_digest,
            "1" => &new_digest,
            other => match &other.parse() {
                Ok(digest) => return blob(&blobs, digest, seen.path().contains("/manifests/")),
                Err(_) => return Reply::not_found(),
            },
        };
        blob(&blobs, digest, true).with("Docker-Content-Digest", digest.as_str())
    });
    let name = format!("{}/app:1", web.host());
    let dockerfile =
        format!("FROM {name} AS one\nFROM {name}\nCOPY --from=one /hello /again\nWORKDIR /new\n");
    std::fs::write(world.path("Dockerfile"), dockerfile).expect("written");
    world.ok(&["build", "-q", "-t", "built:1", "."]);
    assert_eq!(world.ok(&["inspect", "-f", "{{.Author}}", "built:1"]), "somebody\n");
    let tag = web.take_lines().iter().filter(|line| line.ends_with("/manifests/1")).count();
    assert_eq!(tag, 1);
}

fn blob(blobs: &std::path::Path, digest: &Digest, is_manifest: bool) -> Reply {
    match std::fs::read(blobs.join(digest.hex())) {
        Ok(bytes) if is_manifest => Reply::ok(bytes).with("Content-Type", media_type::MANIFEST),
        Ok(bytes) => Reply::ok(bytes),
        Err(_) => Reply::not_found(),
    }
}
