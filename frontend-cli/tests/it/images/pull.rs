//! Images from a registry.

use super::registry::Registry;
use super::world::{Layout, World, config, host, small_layer, small_layout, stderr, stdout};

#[test]
fn privileged_a_pulled_image_has_the_name_and_digest_of_its_registry() {
    let Some(world) = World::new() else { return };
    let registry = Registry::start();
    let mut layout = Layout::new(&world.path("both"));
    let foreign = oci::Platform::new(
        "linux",
        if host().architecture == "s390x" { "amd64" } else { "s390x" },
        "",
    );
    let own = layout.image(&small_layer(), config(), &host());
    let other = layout.image(&small_layer(), config(), &foreign);
    let index = layout.index_of(vec![other, own.clone()]);
    registry.serve(&world.path("both"), "team/both", "1", &index);
    let name = registry.name("team/both:1");
    let pulled = world.run(&["pull", &name], "");
    assert_eq!(stdout(&pulled), format!("{name}\n"), "{}", stderr(&pulled));
    let told = stderr(&pulled);
    assert!(
        told.contains(&format!("digest: {}\n", index.digest)) && told.contains("pulled "),
        "{told}"
    );
    assert!(stderr(&world.run(&["pull", &name], "")).contains("the image is up to date for"));
    let listed = world.ok(&["images", "--format", "{{.Digest}} {{.Platforms}} {{.Size}}", &name]);
    assert_eq!(listed, format!("{} {} 13B\n", index.digest, host()));
    // By the digest of the index, and by that of the platform's manifest.
    for digest in [&index.digest, &own.digest] {
        let pinned = registry.name(&format!("team/both@{digest}"));
        assert_eq!(world.ok(&["inspect", "-f", "{{.Os}}", &pinned]), "linux\n");
        assert_eq!(world.ok(&["pull", "-q", &pinned]), format!("{pinned}\n"));
    }
    let other = registry.name("team/both:1");
    assert_eq!(
        world.ok(&["pull", "-q", "--platform", &foreign.to_string(), &other]),
        format!("{other}\n")
    );
    assert_eq!(
        world.ok(&["inspect", "-f", "{{.Architecture}}", &other]).trim_end(),
        foreign.architecture
    );
    assert_eq!(world.ok(&["fsck", "--full"]), "the store is whole\n");
}

#[test]
fn privileged_what_cannot_be_pulled_has_no_name() {
    let Some(world) = World::new() else { return };
    let registry = Registry::start();
    let layout = small_layout(&world.path("small"));
    registry.serve(&world.path("small"), "small", "1", &layout.index.manifests[0]);
    let missing = world.fails(&["pull", &registry.name("nosuch:1")], 1);
    assert!(missing.contains("nosuch"), "{missing}");
    let wrong = world.fails(&["pull", "--platform", "linux/riscv64", &registry.name("small:1")], 1);
    assert!(wrong.contains("riscv64"), "{wrong}");
    registry.damage("small", &oci::Digest::of(&small_layer()));
    world.fails(&["pull", &registry.name("small:1")], 1);
    assert_eq!(world.ok(&["images", "-q"]), "");
}

#[test]
fn privileged_run_pulls_what_is_missing_unless_told_not_to() {
    let Some(world) = World::with_busybox() else { return };
    // The image of the store, as a registry would have it.
    world.ok(&["save", "-o", "app.tar", "app:1"]);
    let registry = Registry::start();
    let manifest = world.ok(&["images", "--format", "{{.Digest}}", "app:1"]);
    let top = oci::Descriptor::new("", manifest.trim_end().parse().expect("a digest"), 0);
    registry.serve(&world.path("busybox"), "app", "1", &top);
    let name = registry.name("app:1");
    let refused = world.fails(&["run", "--pull=never", &name, "true"], 125);
    assert!(refused.contains("no image"), "{refused}");
    let run = world.run(&["run", "-q", &name], "");
    assert_eq!(
        (stdout(&run).as_str(), run.status.code()),
        ("default command\n", Some(0)),
        "{}",
        stderr(&run)
    );
    let again = world.run(&["run", &name], "");
    assert!(!stderr(&again).contains("load metadata"), "{}", stderr(&again));
    let always = world.run(&["run", "--pull", "always", &name], "");
    assert!(stderr(&always).contains("load metadata"), "{}", stderr(&always));
    world.fails(&["run", "-q", &registry.name("nosuch:1")], 125);
    world.assert_nothing_left();
}

/// What is unpacked is told by the step that waits for it, with its bytes.
#[test]
fn privileged_a_base_that_is_unpacked_says_so() {
    let Some(world) = World::with_busybox() else { return };
    let registry = Registry::start();
    let manifest = world.ok(&["images", "--format", "{{.Digest}}", "app:1"]);
    let top = oci::Descriptor::new("", manifest.trim_end().parse().expect("a digest"), 0);
    registry.serve(&world.path("busybox"), "app", "1", &top);
    std::fs::create_dir(world.path("context")).expect("made");
    let (name, words) =
        (registry.name("app:1"), ["build", "--progress=plain", "-f", "-", "context"]);
    let dockerfile = format!("FROM {name}\nRUN true\n");
    let build = |root| stderr(&world.with_root(root, &words, dockerfile.as_bytes()));
    // From the store, and while it arrives.
    let pulled = world.with_root("pulled", &["pull", "-q", &name], b"");
    assert!(pulled.status.success(), "{}", stderr(&pulled));
    for root in ["pulled", "fresh"] {
        let told = build(root);
        let line = told.lines().find(|line| line.contains("extracting sha256:")).expect(&told);
        assert!(line.contains("MB / ") && line.ends_with("MB done"), "{line}");
        let again = build(root);
        assert!(!again.contains("extracting"), "{again}");
    }
}
