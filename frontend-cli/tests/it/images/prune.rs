//! Freeing room: each of Docker's words has its own scope, and what is in use stays.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use super::registry::Registry;
use super::world::{World, small_layout, stderr, stdout};

/// With `built:1`, whose cache has more than the image, and a cache mount.
fn world() -> Option<World> {
    let world = World::with_busybox()?;
    build(&world, "built:1", "one");
    Some(world)
}

fn dockerfile(content: &str) -> String {
    format!(
        "FROM app:1 AS other\nRUN echo only for a copy > /made\nFROM app:1\nCOPY --from=other /made /\n\
         RUN --mount=type=cache,target=/cache echo kept > /cache/file; echo {content} > /run\n"
    )
}

fn build(world: &World, name: &str, content: &str) {
    build_as(world, &["-q", "-t", name], content);
}

fn build_as(world: &World, words: &[&str], content: &str) -> String {
    std::fs::create_dir_all(world.path("context")).expect("made");
    std::fs::write(world.path("context/Dockerfile"), dockerfile(content)).expect("written");
    world.ok(&[&["build", "--network", "none"], words, &["context"]].concat())
}

fn usage(world: &World) -> Value {
    serde_json::from_str(&world.ok(&["du", "--format", "json"])).expect("JSON")
}

/// The names of images, the number of steps, and whether there are cache mounts.
fn state(world: &World) -> (Vec<String>, u64, bool) {
    let images = world.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let mut images: Vec<String> = images.lines().map(str::to_owned).collect();
    images.sort();
    let usage = usage(world);
    (images, usage["steps"].as_u64().expect("a number"), usage["mounts"].as_u64() > Some(0))
}

#[test]
fn privileged_each_prune_has_its_own_scope() {
    let Some(world) = world() else { return };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let (images, steps, mounts) = state(&world);
    assert_eq!((&images, mounts), (&names(&["app:1", "built:1"]), true));
    let as_it_was = (images.clone(), steps, true);

    world.ok(&["image", "prune", "-f"]);
    assert_eq!(state(&world), as_it_was, "no image is without a name");
    assert_eq!(world.ok(&["container", "prune", "-f"]), "Total reclaimed space: 0B\n");
    world.ok(&["prune", "-f"]);
    assert_eq!(state(&world), as_it_was, "nothing is garbage");

    let told = world.ok(&["image", "prune", "-a", "-f", "--filter", "label=nosuch"]);
    assert!(!told.contains("built"), "{told}");
    let told = world.ok(&["image", "prune", "-a", "-f"]);
    for wanted in ["untagged: app:1\n", "untagged: built:1\n", "Total reclaimed space: "] {
        assert!(told.contains(wanted), "{told}");
    }
    assert_eq!(state(&world), (Vec::new(), steps, true), "the cache is another matter");

    // The cache still makes the image, so it was not touched. Its base came from an archive.
    let Some(world) = self::world() else { return };
    world.ok(&["builder", "prune", "-f"]);
    let (left, shared, mounts) = state(&world);
    assert_eq!((&left, mounts), (&images, false));
    assert!((1..steps).contains(&shared), "{shared} of {steps} steps");
    assert_eq!(world.ok(&["run", "built:1", "cat", "/made"]), "only for a copy\n");
    world.ok(&["buildx", "prune", "--all", "-f"]);
    assert_eq!(state(&world), (images.clone(), 0, false));
    assert_eq!(world.ok(&["run", "built:1", "cat", "/run"]), "one\n");

    build(&world, "built:2", "two");
    world.ok(&["system", "prune", "-f"]);
    let (left, _, mounts) = state(&world);
    assert_eq!((left, mounts), (names(&["app:1", "built:1", "built:2"]), false));
    world.ok(&["system", "prune", "-a", "-f", "--volumes"]);
    assert_eq!(state(&world), (Vec::new(), 0, false));
    assert_eq!(world.ok(&["fsck", "--full"]), "the store is whole\n");
}

#[test]
fn privileged_what_a_dry_run_lists_is_what_goes() {
    let Some(world) = world() else { return };
    for words in [
        &["prune", "--filter", "type=exec.cachemount"][..],
        &["builder", "prune"],
        &["prune", "--all", "--max-used-space", "1"],
        &["prune", "--all"],
    ] {
        let there = |world: &World| {
            let usage = usage(world);
            let parts = ["blobs", "layers", "mounts", "images"].map(|part| usage[part].clone());
            (state(world), parts)
        };
        let before = there(&world);
        // Nothing is asked.
        let would = world.ok(&[words, &["--dry-run"]].concat());
        assert_eq!(there(&world), before, "{words:?}");
        let does = world.ok(&[words, &["--force", "--verbose"]].concat());
        let parts = |text: &str| {
            let (table, end) = text.split_once("removed: ").expect("what went");
            let mut ids: Vec<String> = table
                .lines()
                .filter_map(|line| line.split(' ').next().map(str::to_owned))
                .collect();
            ids.retain(|id| id != "would" && !id.is_empty());
            ids.sort();
            (ids, end.lines().next().map(str::to_owned))
        };
        let would = would.replace("would be removed", "removed");
        assert_eq!(parts(&would), parts(&does), "{words:?}");
    }
}

#[test]
fn privileged_an_answer_may_come_from_a_pipe() {
    let Some(world) = world() else { return };
    let before = state(&world);
    for answer in ["", "n\n", "no\n", "\n"] {
        let output = world.run(&["prune", "--all"], answer);
        assert_eq!(output.status.code(), Some(1), "{answer:?}");
        assert!(stderr(&output).contains("nothing was removed"), "{}", stderr(&output));
        assert_eq!(state(&world), before, "{answer:?}");
    }
    let output = world.run(&["prune", "--all"], "y\n");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("Total reclaimed space: "));
    assert_eq!(state(&world).1, 0);
}

#[test]
fn privileged_what_du_shows_is_what_is_there_and_what_prune_frees() {
    let Some(world) = world() else { return };
    let check = || {
        let (usage, found) = (usage(&world), on_disk(&world.path("store")));
        let total = usage["total"].as_u64().expect("a number");
        let parts =
            ["images", "blobs", "layers", "mounts", "mirrors", "logs", "records", "temporary"];
        let parts = parts
            .iter()
            .chain(&["ballast", "containers"])
            .map(|part| usage[part].as_u64().expect("one"));
        assert_eq!(total, parts.sum::<u64>());
        // Directories of buckets count for nothing there.
        assert!(total.abs_diff(found) < found / 20 + 100_000, "{total} of {found}: {usage}");
        usage
    };
    let before = check();
    let part = |usage: &Value, name: &str| usage[name].as_u64().expect("a number");
    assert!(part(&before, "layers") > 0 && part(&before, "images") > 0);
    let listed = world.ok(&["du", "--verbose", "--filter", "type=exec.cachemount"]);
    let rows: Vec<&str> = listed.lines().filter(|line| line.contains("exec.cachemount")).collect();
    // As the Dockerfile has it.
    assert!(rows.len() == 1 && rows[0].ends_with(" /cache"), "{listed}");
    let counted = |what: &str| {
        let row = listed.lines().find_map(|line| line.strip_prefix(what)).expect("a row");
        row.split_whitespace().next().expect("a number").to_owned()
    };
    assert_eq!((&*counted("images"), &*counted("cache mounts")), ("2", "1"), "{listed}");
    assert_eq!((part(&before, "image_count"), part(&before, "mount_count")), (2, 1));
    let told = world.ok(&["prune", "--force", "--verbose", "--filter", "type=exec.cachemount"]);
    assert!(told.contains("exec.cachemount") && told.contains(" 1 cache mount\n"), "{told}");
    world.ok(&["prune", "--all", "--force"]);
    let after = check();
    for name in ["layers", "blobs", "mounts"] {
        assert_eq!(part(&after, name), 0, "{name}: {after}");
    }
    assert_eq!(part(&after, "images"), part(&before, "images"));
    world.ok(&["image", "prune", "--all", "--force"]);
    assert_eq!(part(&check(), "images"), 0);
}

#[test]
fn privileged_what_the_builder_makes_beside_steps_is_not_a_step() {
    let Some(world) = World::with_busybox() else { return };
    std::fs::create_dir(world.path("context")).expect("made");
    std::fs::write(
        world.path("context/Dockerfile"),
        "FROM app:1\nCOPY Dockerfile /\nRUN --mount=type=bind,target=/mnt cat /mnt/Dockerfile > /copy\n",
    )
    .expect("written");
    world.ok(&["build", "-q", "--network", "none", "--build-arg=SOURCE_DATE_EPOCH=1", "context"]);
    assert_eq!(state(&world).1, 2, "COPY and RUN");
    let listed = |kind: &str| {
        let text = world.ok(&["du", "--format", "json", "--filter", kind]);
        let mut names: Vec<String> = (text.lines())
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
            .filter(|item| item["Type"] != "tar")
            .map(|item| item["Description"].as_str().expect("text").to_owned())
            .collect();
        names.sort();
        names
    };
    let expected = ["context snapshot", "layer with other times", "layer with other times"];
    assert_eq!(listed("type=internal"), expected);
    let steps = listed("type=regular");
    let steps: Vec<&str> = steps.iter().filter_map(|name| name.split(' ').nth(2)).collect();
    assert_eq!(steps, ["COPY", "RUN"]);
    let steps = world.ok(&[
        "du",
        "--filter",
        "type=regular",
        "--format",
        "table {{.Type}}\t{{.Reclaimable}}\t{{.InUse}}",
    ]);
    let steps: Vec<Vec<&str>> =
        steps.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(steps[0], ["TYPE", "RECLAIMABLE", "IN", "USE"], "{steps:?}");
    assert!(
        steps[1..]
            .iter()
            .all(|row| ["regular", "tar"].contains(&row[0]) && row[1..] == ["true", "false"]),
        "{steps:?}"
    );
    assert!(steps.len() > 2, "{steps:?}");
    let all = world.ok(&["du", "--format", "{{.ID}} {{.Size}}"]);
    assert!(all.lines().count() > steps.len(), "{all}");
    let refused = world.run(&["du", "--format", "{{.Mutable}}"], "");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no field `Mutable`"));
    let told = world.ok(&["prune", "--all", "--force"]);
    assert!(told.contains("removed: 2 steps, "), "{told}");
}

/// Room that everything below a directory takes.
fn on_disk(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut linked = std::collections::BTreeSet::new();
    let mut total = 0;
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("listed") {
            let entry = entry.expect("listed");
            let found = entry.metadata().expect("found");
            if found.is_dir() {
                directories.push(entry.path());
            }
            if found.is_dir() || linked.insert(found.ino()) {
                total += found.blocks() * 512;
            }
        }
    }
    total
}

#[test]
fn privileged_a_tar_that_a_tree_gives_back_is_made_again_when_it_is_needed() {
    let Some(world) = world() else { return };
    let blobs = || {
        let entries = std::fs::read_dir(world.path("store/blobs/sha256")).expect("listed");
        entries.count()
    };
    let id = |name: &str| world.ok(&["images", "-q", "--no-trunc", name]);
    let manifest = |name: &str| world.ok(&["images", "--format", "{{.Digest}}", name]);
    let first = (id("built:1"), manifest("built:1"));
    // Another image takes the name; what the first one had is garbage but for its base.
    build(&world, "built:1", "two");
    let many = blobs();
    world.ok(&["prune", "--force"]);
    assert!(blobs() <= many - 3, "{} of {many} blobs: manifest, config and a tar go", blobs());
    build(&world, "again:1", "one");
    assert_eq!((id("again:1"), manifest("again:1")), first);
    assert_eq!(world.ok(&["fsck", "--full"]), "the store is whole\n");
    world.ok(&["save", "-o", "again.tar", "again:1"]);
    // From a store that has nothing else.
    assert!(world.with_root("other", &["load", "-i", "again.tar"], b"").status.success());
    let told = world.with_root("other", &["run", "again:1", "cat", "/run"], b"");
    assert_eq!(stdout(&told), "one\n");
}

#[test]
fn privileged_an_image_that_a_container_uses_stays() {
    let Some(world) = world() else { return };
    let mut running = world.spawn(&["run", "-i", "built:1", "sh", "-c", "echo up; cat"]);
    let mut line = String::new();
    let mut output = std::io::BufReader::new(running.stdout.take().expect("a pipe"));
    std::io::BufRead::read_line(&mut output, &mut line).expect("read");
    assert_eq!(line, "up\n");
    let refused = world.fails(&["rmi", "built:1"], 1);
    assert!(refused.contains("is used by a running container"), "{refused}");
    let id = world.ok(&["images", "-q", "built:1"]);
    world.fails(&["rmi", "--force", id.trim_end()], 1);
    world.ok(&["tag", "built:1", "more:1"]);
    world.ok(&["rmi", "more:1"]);
    let told = world.ok(&["image", "prune", "--all", "--force"]);
    assert!(told.contains("untagged: app:1") && !told.contains("built:1"), "{told}");
    // Everything that the container does not use is free at once.
    let told = world.ok(&["prune", "--all", "--force"]);
    assert!(!told.contains("more when"), "{told}");
    drop(running.stdin.take());
    assert!(running.wait().expect("it ends").success());
    world.ok(&["rmi", "built:1"]);
}

#[test]
fn privileged_the_store_keeps_to_its_limit() {
    const LIMIT: u64 = 24 << 20;
    let Some(world) = World::with_busybox() else { return };
    std::fs::write(
        world.path("empty.toml"),
        format!("[gc]\nreservedSpace = 0\nmaxUsedSpace = {LIMIT}"),
    )
    .expect("written");
    let mut running =
        world.command(&["run", "-i", "app:1", "sh", "-c", "echo up; cat; cat /bin/script"]);
    let mut running = running.stdin(Stdio::piped()).spawn().expect("mybuild runs");
    let mut output = std::io::BufReader::new(running.stdout.take().expect("a pipe"));
    std::io::BufRead::read_line(&mut output, &mut String::new()).expect("read");
    std::fs::create_dir(world.path("context")).expect("made");
    for round in 0..12 {
        let content: Vec<u8> =
            (0..4_u32 << 20).map(|n| (n.wrapping_mul(round) >> 7) as u8).collect();
        std::fs::write(world.path("context/file"), content).expect("written");
        std::fs::write(world.path("context/Dockerfile"), "FROM app:1\nCOPY file /\nRUN true\n")
            .expect("written");
        world.ok(&["build", "-q", "--network", "none", "context"]);
        let usage = usage(&world);
        let used: u64 =
            ["layers", "blobs"].iter().map(|part| usage[part].as_u64().expect("one")).sum();
        assert!(used <= LIMIT + LIMIT / 20, "{used} bytes in round {round}: {usage}");
    }
    drop(running.stdin.take());
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut output, &mut rest).expect("read");
    assert!(running.wait().expect("it ends").success() && rest == "not executable\n", "{rest}");
    assert_eq!(world.ok(&["fsck", "--full"]), "the store is whole\n");
    for (text, wanted) in
        [("maxUsed = 1", "unknown field `maxUsed`"), ("maxUsedSpace = \"x\"", "`x`")]
    {
        std::fs::write(world.path("empty.toml"), format!("[gc]\n{text}")).expect("written");
        let told = world.fails(&["images"], 1);
        assert!(told.contains(wanted), "{told}");
    }
}

/// Room that layers and blobs take, in bytes.
fn used(world: &World) -> u64 {
    let usage = usage(world);
    ["layers", "blobs"].iter().map(|part| usage[part].as_u64().expect("one")).sum()
}

#[test]
fn privileged_what_comes_in_makes_room_first() {
    const LIMIT: u64 = 8 << 20;
    let Some(world) = World::with_small_image() else { return };
    let registry = Registry::start();
    let layout = small_layout(&world.path("served"));
    registry.serve(&world.path("served"), "small", "1", &layout.index.manifests[0]);
    std::fs::create_dir(world.path("context")).expect("made");
    std::fs::write(world.path("context/Dockerfile"), "FROM scratch\nCOPY file /\n")
        .expect("written");
    let name = registry.name("small:1");
    for words in [&["load", "-q", "-i", "small"][..], &["pull", "-q", &name]] {
        std::fs::write(world.path("empty.toml"), "").expect("written");
        for round in 0..4_u32 {
            let content: Vec<u8> =
                (0..4_u32 << 20).map(|n| (n.wrapping_mul(round + 3) >> 7) as u8).collect();
            std::fs::write(world.path("context/file"), content).expect("written");
            world.ok(&["build", "-q", "context"]);
        }
        assert!(used(&world) > LIMIT, "{words:?}");
        let limit = format!("[gc]\nreservedSpace = 0\nmaxUsedSpace = {LIMIT}");
        std::fs::write(world.path("empty.toml"), limit).expect("written");
        world.ok(words);
        let used = used(&world);
        assert!(used <= LIMIT + LIMIT / 20, "{words:?}: {used}");
    }
}

#[test]
fn privileged_what_cannot_be_read_of_an_image_is_told() {
    let Some(world) = World::with_small_image() else { return };
    let manifest = world.ok(&["images", "--format", "{{.Digest}}"]);
    let manifest = manifest.trim().strip_prefix("sha256:").expect("a digest");
    let path = world.path("store/blobs/sha256").join(manifest);
    let length = path.metadata().expect("a blob").len() as usize;
    std::fs::write(&path, vec![b'x'; length]).expect("written");
    let listed = world.run(&["images", "--format", "{{.Repository}}"], "");
    assert_eq!((listed.status.code(), stdout(&listed).as_str()), (Some(0), ""));
    let told = stderr(&listed);
    assert!(told.contains("image `small:1` is not listed: its manifest or config"), "{told}");
    world.ok(&["rmi", "small:1"]);
    assert_eq!(stderr(&world.run(&["images"], "")), "");
    std::fs::write(world.path("store/index.json"), "{").expect("written");
    let told = stderr(&world.run(&["prune", "-a", "-f"], ""));
    assert!(told.contains("the store's index.json is damaged"), "{told}");
}

#[test]
fn privileged_a_repository_is_saved_with_all_its_tags() {
    let Some(world) = World::with_small_image() else { return };
    world.ok(&["tag", "small:1", "small:2"]);
    world.ok(&["tag", "small:1", "other:1"]);
    world.ok(&["save", "-o", "small.tar", "small"]);
    let loaded = world.with_root("other", &["load", "-i", "small.tar"], b"");
    assert!(loaded.status.success(), "{}", stderr(&loaded));
    let listed = world.with_root("other", &["images", "--format", "{{.Repository}}:{{.Tag}}"], b"");
    let listed = stdout(&listed);
    let mut names: Vec<&str> = listed.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["small:1", "small:2"]);
}
