//! Images from a registry.

use rustix::process::{Pid, Signal, kill_process};

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
    // As BuildKit says it.
    let layers = world.ok(&["du", "--format", "json", "--filter", "description~=pulled"]);
    let layer: serde_json::Value = serde_json::from_str(&layers).expect("one layer");
    let origin = format!("pulled from {}", registry.name("team/both"));
    assert_eq!(layer["Description"], origin.as_str());
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
    let nosuch = registry.name("nosuch:1");
    let told = world.fails(&["run", &nosuch, "true"], 125);
    let expected = format!("error: image `{nosuch}` is not in the store, and cannot be pulled: ");
    assert!(told.contains(&expected), "{told}");
    let missing = world.fails(&["pull", &registry.name("nosuch:1")], 1);
    assert!(missing.contains("nosuch"), "{missing}");
    let wrong = world.fails(&["pull", "--platform", "linux/riscv64", &registry.name("small:1")], 1);
    assert!(wrong.contains("riscv64"), "{wrong}");
    registry.damage("small", &oci::Digest::of(&small_layer()));
    world.fails(&["pull", &registry.name("small:1")], 1);
    assert_eq!(world.ok(&["images", "-q"]), "");
}

/// Nothing listens there.
const NOBODY: &str = "127.0.0.1:1";

#[test]
fn privileged_a_base_that_cannot_be_had_is_told_with_what_to_do() {
    let Some(world) = World::with_small_image() else { return };
    let stored = format!("{NOBODY}/small:1");
    world.ok(&["tag", "small:1", &stored]);
    let other = if host().architecture == "s390x" { "linux/amd64" } else { "linux/s390x" };
    let registry = Registry::start();
    let mut layout = Layout::new(&world.path("chart"));
    let mut image = layout.image(&small_layer(), config(), &host());
    let chart = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
    let bytes = std::fs::read(world.path("chart/blobs/sha256").join(image.digest.hex()));
    let text = String::from_utf8(bytes.expect("read")).expect("JSON");
    let text = text.replace(oci::media_type::LAYER, chart);
    image = layout.blob(oci::media_type::MANIFEST, text.as_bytes());
    registry.serve(&world.path("chart"), "chart", "1", &image);
    for (base, platform, expected) in [
        (
            &stored,
            other,
            &format!("`{stored}` is in the store for {}, not for {other}: ", host()) as &str,
        ),
        (&stored, other, "hint: take that one with `--platform "),
        (&format!("{NOBODY}/nosuch:1"), "", "cannot connect"),
        (&format!("{NOBODY}/nosuch:1"), "", "hint: check the network"),
        (&registry.name("nosuch:1"), "", "not found"),
        (&registry.name("nosuch:1"), "", "hint: check the name and tag"),
        (&registry.name("chart:1"), "", &format!("has the media type `{chart}`")),
    ] {
        std::fs::write(world.path("Dockerfile"), format!("FROM {base}\nWORKDIR /new\n"))
            .expect("written");
        let mut words = vec!["build", "."];
        if !platform.is_empty() {
            words.extend(["--platform", platform]);
        }
        let told = world.fails(&words, 1);
        assert!(told.contains(expected), "{base}, {platform}: {told}");
    }
    let told = world.fails(&["pull", &registry.name("chart:1")], 1);
    assert!(told.contains(chart), "{told}");
    let told = world.fails(&["run", "--platform", other, &stored], 125);
    assert!(told.contains("` is in the store for "), "{told}");
}

/// Bytes without a pattern, so that no part of them stands for another.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    });
    noise.take(length).collect()
}

/// What came is kept for the next time, and nothing else: no file, no lease, no name.
#[test]
fn privileged_an_interrupted_pull_goes_on_where_it_was() {
    const CAME: usize = 3 << 20;
    let Some(world) = World::new() else { return };
    let registry = Registry::start();
    let mut tar = tar::Builder::new(Vec::new());
    for name in ["one", "two"] {
        let content = noise(2 << 20);
        let mut header = super::world::header(tar::EntryType::Regular, 0o644, 2 << 20);
        tar.append_data(&mut header, name, content.as_slice()).expect("written");
    }
    let layer = tar.into_inner().expect("written");
    let digest = oci::Digest::of(&layer);
    let mut layout = Layout::new(&world.path("large"));
    let image = layout.image(&layer, config(), &host());
    registry.serve(&world.path("large"), "large", "1", &image);
    registry.stall("large", &digest, Some(CAME));
    let name = registry.name("large:1");
    std::fs::write(world.path("Dockerfile"), format!("FROM {name}\nWORKDIR /new\n"))
        .expect("written");
    let store = world.path("store");
    let names = |bucket: &str| -> Vec<String> {
        let entries = std::fs::read_dir(store.join(bucket)).expect("listed").flatten();
        entries.map(|entry| entry.file_name().into_string().expect("UTF-8")).collect()
    };
    let commands = [&["pull", &name][..], &["build", "-f", "Dockerfile", "."]];
    for (before, words) in commands.into_iter().enumerate() {
        let mut child = world.spawn(words);
        drop(child.stdin.take());
        wait_until(|| {
            let came = |name: &String| {
                if name.starts_with("partial-") {
                    return false;
                }
                let found = std::fs::metadata(store.join("tmp-v1").join(name));
                found.is_ok_and(|found| found.is_file() && found.len() == CAME as u64)
            };
            names("tmp-v1").iter().any(came) && registry.ranges().len() == before
        });
        kill_process(Pid::from_child(&child), Signal::INT).expect("an own child");
        let ended = child.wait_with_output().expect("it ends");
        assert_eq!(ended.status.code(), Some(130), "{}", stderr(&ended));
        assert_eq!(names("tmp-v1"), [format!("partial-{}", digest.hex())], "{words:?}");
        assert_eq!(names("leases-v1"), [""; 0], "{words:?}");
        assert_eq!(world.ok(&["images", "-q"]), "");
        // The next one asks for the rest only, and gets none of it either.
        registry.stall("large", &digest, Some(0));
    }
    registry.stall("large", &digest, None);
    world.ok(&["pull", "-q", &name]);
    let rest = format!("bytes={CAME}-{}", layer.len() - 1);
    assert_eq!(registry.ranges(), [rest.clone(), rest]);
    assert_eq!(names("tmp-v1"), [""; 0]);
    assert_eq!(world.ok(&["fsck", "--full"]), "the store is whole\n");
}

fn wait_until(is_so: impl Fn() -> bool) {
    let begin = std::time::Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < std::time::Duration::from_secs(120), "it never comes to that");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
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
