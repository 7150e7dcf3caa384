//! Builds that ask nothing of the network.

use super::registry::Registry;
use super::world::{Layout, World, config, host, small_layer, stderr, stdout};

/// A registry with one image, `NAME:1`, and its name.
fn registry(world: &World, name: &str) -> (Registry, String) {
    let registry = Registry::start();
    let mut layout = Layout::new(&world.path(name));
    let image = layout.image(&small_layer(), config(), &host());
    registry.serve(&world.path(name), name, "1", &image);
    let name = registry.name(&format!("{name}:1"));
    (registry, name)
}

fn dockerfile(world: &World, base: &str) {
    let text = format!("FROM {base}\nCOPY empty.toml /\nWORKDIR /new\n");
    std::fs::write(world.path("Dockerfile"), text).expect("written");
}

#[test]
fn privileged_a_build_that_is_cached_asks_nothing_of_the_network() {
    let Some(world) = World::new() else { return };
    let (registry, base) = registry(&world, "base");
    dockerfile(&world, &base);
    let told = world.fails(&["build", "--offline", "."], 1);
    let expected = format!(
        "error: offline: `{base}` is not in the store, and would have to be pulled from {}\n",
        registry.name("").trim_end_matches('/')
    );
    assert!(told.contains(&expected), "{told}");
    assert!(told.contains("hint: build once without `--offline`"), "{told}");
    assert_eq!(registry.asked(), 0, "offline, the registry was asked");

    let first = world.ok(&["build", "-q", "."]);
    let asked = registry.asked();
    assert!(asked > 0);
    for words in [
        &["build", "-q", "."][..],
        &["build", "-q", "--offline", "."],
        &["build", "-q", "--offline", "--pull=never", "."],
        &["build", "-q", "--offline", "--pull=newer", "."],
    ] {
        assert_eq!(world.ok(words), first, "{words:?}");
        assert_eq!(registry.asked(), asked, "{words:?}");
    }
    // Steps may run; only what is fetched must be there.
    world.ok(&["build", "--offline", "--no-cache", "."]);
    assert_eq!(registry.asked(), asked);
    world.ok(&["build", "--pull=newer", "."]);
    assert!(registry.asked() > asked, "`newer` asks where there is a network");
}

#[test]
fn privileged_offline_says_which_image_is_not_whole() {
    let Some(world) = World::new() else { return };
    let (registry, base) = registry(&world, "parts");
    dockerfile(&world, &base);
    // Looks at the image's config and fetches no layer.
    world.ok(&["build", "--print", "dag", "."]);
    let asked = registry.asked();
    let told = world.fails(&["build", "--offline", "."], 1);
    let expected = format!("offline: parts of `{base}` are not in the store, and would have");
    assert!(told.contains(&expected), "{told}");
    assert_eq!(registry.asked(), asked);
    // Another platform of a name that the store has.
    let other = if host().architecture == "s390x" { "linux/amd64" } else { "linux/s390x" };
    world.ok(&["build", "-t", &base, "."]);
    let told = world.run(&["build", "--offline", "--platform", other, "."], "");
    let told = (told.status.code(), stdout(&told), stderr(&told));
    assert_eq!(told.0, Some(1), "{told:?}");
    assert!(told.2.contains(&format!("`{base}` is in the store for {}, not for", host())));
}
