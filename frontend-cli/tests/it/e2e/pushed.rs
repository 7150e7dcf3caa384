//! What a push asks of a registry: large layers go there while they are made.

use serde_json::Value;

use super::builder::Builder;
use crate::plain_registry::PlainRegistry;

/// A layer of 12 MiB that nothing makes smaller.
const SIZE: usize = 12 << 20;

fn world() -> Option<(Builder, PlainRegistry)> {
    let (builder, registry) = (Builder::bare()?, PlainRegistry::start()?);
    let mut state = 1_u64;
    let noise: Vec<u8> = (0..SIZE / 8)
        .flat_map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.swap_bytes().to_le_bytes()
        })
        .collect();
    builder.write("context/noise", noise);
    builder.write("Dockerfile", "FROM scratch\nCOPY noise /\nCOPY Dockerfile /\n");
    builder.write("context/Dockerfile", "small\n");
    Some((builder, registry))
}

/// The methods of the requests that change something, each with how often it came.
fn changes(registry: &PlainRegistry) -> String {
    let requests = registry.requests();
    let count = |method: &str| requests.iter().filter(|line| line.starts_with(method)).count();
    ["POST ", "PATCH ", "PUT ", "DELETE "].map(|m| format!("{m}{}", count(m))).join(" ")
}

/// Another store gets what was pushed.
fn assert_whole(builder: &Builder, registry: &PlainRegistry, name: &str) {
    let manifest = registry.manifest(name, "1").1;
    let sizes = |layer: &Value| layer["size"].as_u64().expect("a size");
    let layers: Vec<u64> =
        manifest["layers"].as_array().expect("a list").iter().map(sizes).collect();
    assert!(layers[0] >= SIZE as u64, "{layers:?}");
    let mut pull = builder.command(&["pull", &format!("{}/{name}:1", registry.host)]);
    builder.run_command(pull.env("MYBUILD_ROOT", builder.path(name))).success();
    let mut check = builder.command(&["fsck", "--full"]);
    builder.run_command(check.env("MYBUILD_ROOT", builder.path(name))).success();
}

#[test]
fn privileged_a_large_layer_is_sent_while_it_is_compressed() {
    let Some((builder, registry)) = world() else { return };
    let build = |words: &[&str]| {
        builder.run(&[&["build", "-f", "Dockerfile"], words, &["context"]].concat()).success()
    };
    let name = |name: &str| format!("{}/{name}:1", registry.host);
    build(&["--push", "-t", &name("built")]);
    // The large one is a PATCH and a PUT; the small one and the config a PUT each, as is the manifest.
    assert_eq!(changes(&registry), "POST 3 PATCH 1 PUT 4 DELETE 0");
    assert_whole(&builder, &registry, "built");

    // What is compressed only when it is pushed goes the same way.
    builder.write("context/Dockerfile", "another\n");
    builder.run(&["prune", "-a", "-f"]).success();
    build(&["-t", &name("kept")]);
    registry.requests();
    builder.run(&["push", &name("kept")]).success();
    assert_eq!(changes(&registry), "POST 3 PATCH 1 PUT 4 DELETE 0");
    assert_whole(&builder, &registry, "kept");
}

#[test]
fn privileged_what_the_registry_has_is_not_kept_twice() {
    let Some((builder, registry)) = world() else { return };
    let name = format!("{}/app:1", registry.host);
    let build = ["build", "-f", "Dockerfile", "--no-cache", "--push", "-t", &name, "context"];
    builder.run(&build).success();
    registry.requests();
    // Nobody knows before its end that it is the same layer.
    let again = builder.run(&build).success();
    assert!(again.stderr.contains("already exists"), "{}", again.stderr);
    let requests = registry.requests();
    let manifest = registry.manifest("app", "1").1;
    let layer = manifest["layers"][0]["digest"].as_str().expect("a digest").replace(':', "%3A");
    let is_kept = |request: &String| request.starts_with("PUT ") && request.contains(&layer);
    assert!(!requests.iter().any(is_kept), "{requests:#?}");
}
