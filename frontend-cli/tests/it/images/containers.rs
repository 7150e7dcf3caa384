//! Containers that stay: what they have left, images of it, and what keeps it.

use std::io::{BufRead as _, BufReader};

use serde_json::Value;

use super::{World, id, stderr};

/// Leaves the container `web`, which has done `script`.
fn leave(world: &World, name: &str, script: &str) {
    let ran = world.run(&["run", "--name", name, "app:1", "sh", "-c", script], "");
    assert!(matches!(ran.status.code(), Some(0..=3)), "{}", stderr(&ran));
}

const CHANGES: &str = "echo new >/new; echo x >>/etc/group; touch /data/volume; exit 3";
const CHANGED: &str = "C /etc\nC /etc/group (size 22 -> 24)\nA /new\n";

#[test]
fn privileged_a_container_with_a_name_stays_until_it_is_removed() {
    let Some(world) = World::with_busybox() else { return };
    leave(&world, "web", CHANGES);
    leave(&world, "web2", "true");
    let shown =
        world.ok(&["ps", "-a", "--format", "{{.Names}} {{.Image}} {{.ExitCode}} {{.State}}"]);
    assert_eq!(shown, "web app:1 3 exited\nweb2 app:1 0 exited\n");
    assert_eq!(world.ok(&["ps", "-q"]), "");
    assert_eq!(world.ok(&["diff", "web"]), CHANGED);
    assert_eq!(world.ok(&["container", "diff", "web2"]), "");
    assert_eq!(world.ok(&["diff", "web2", "web"]), CHANGED);
    let ids = world.ok(&["ps", "-aq"]);
    let (first, _) = ids.split_once('\n').expect("two ids");
    let all: Value = serde_json::from_str(&world.ok(&["du", "--format", "json"])).expect("JSON");
    assert_eq!(all["container_count"], 2);
    assert!(all["containers"].as_u64() > Some(0), "{all}");

    assert_eq!(world.ok(&["rm", first]), format!("{first}\n"));
    let told = world.fails(&["rm", first, "web2"], 1);
    assert!(told.contains("no container"), "{told}");
    assert_eq!(world.ok(&["rm", "--force", "nosuch"]), "");
    assert_eq!(world.ok(&["ps", "-aq"]), "");
    // What never ran is not there, either.
    world.fails(&["run", "--name", "web", "app:1", "nosuch"], 127);
    world.ok(&["run", "--name", "web", "--rm", "app:1", "true"]);
    world.assert_nothing_left();
}

#[test]
fn privileged_an_image_is_made_of_what_a_container_has_left() {
    let Some(world) = World::with_busybox() else { return };
    let words =
        ["run", "--name", "web", "-e", "A=1", "-w", "/made/here", "-u", "0:0", "-i", "app:1"];
    let script = "echo new >/new; rm /etc/group; mkdir /made/dir; chown 3:4 /made/dir; pwd";
    let ran = world.run(&[&words[..], &["sh", "-c", script]].concat(), "");
    assert_eq!(ran.stdout, b"/made/here\n");
    let change = ["-c", "ENV B=$A-2", "--change", "CMD [\"cat\", \"/new\"]"];
    let words = ["commit", "-a", "Ada", "-m", "by hand", "web", "saved:1"];
    let committed = world.ok(&[&words[..1], &change, &words[1..]].concat());
    assert_eq!(committed.trim_end(), id(&world, "saved:1"));

    assert_eq!(world.ok(&["run", "saved:1"]), "new\n");
    let all = "{{.CreatedBy}}|{{.Comment}}";
    let history = world.ok(&["history", "--no-trunc", "--format", all, "saved:1"]);
    assert_eq!(history.lines().next(), Some(format!("sh -c {script}|by hand").as_str()));
    let inspected = world.ok(&["inspect", "saved:1"]);
    let image: Value = serde_json::from_str(&inspected).expect("JSON");
    let (image, config) = (&image[0], &image[0]["Config"]);
    assert_eq!(image["Author"], "Ada");
    assert_eq!(config["Env"], serde_json::json!(["PATH=/bin", "FROM_IMAGE=yes", "A=1", "B=1-2"]));
    assert_eq!((&config["User"], &config["WorkingDir"]), (&"0:0".into(), &"/made/here".into()));
    assert_eq!(image["RootFS"]["Layers"].as_array().map(Vec::len), Some(2));
    let between = "C /etc\nD /etc/group\nA /made\nA /made/dir\nA /made/here\nA /new\n";
    assert_eq!(world.ok(&["diff", "saved:1"]), between);
    assert_eq!(world.ok(&["diff", "saved:1", "web"]), "");
    // What has changed nothing adds no layer.
    leave(&world, "idle", "true");
    let unnamed = world.ok(&["commit", "idle"]);
    let layers = world.ok(&["inspect", "-f", "{{len .RootFS.Layers}}", unnamed.trim_end()]);
    assert_eq!(layers, "1\n");
    for (words, wanted) in [
        (&["commit", "nosuch"][..], "no container `nosuch` in the store"),
        (&["commit", "-c", "RUN x", "web"], "`RUN` does not change a config alone"),
        (&["commit", "-c", "ENV", "web"], "ENV requires at least one argument"),
    ] {
        let told = world.fails(words, 1);
        assert!(told.contains(wanted), "{words:?}: {told}");
    }
    assert_eq!(world.ok(&["fsck", "--full"]), "the store is whole\n");
}

#[test]
fn privileged_what_a_container_needs_stays_as_long_as_it() {
    let Some(world) = World::with_busybox() else { return };
    let (base, dockerfile) = ("base", "FROM app:1\nRUN echo step >/step\n");
    std::fs::create_dir(world.path(base)).expect("made");
    std::fs::write(world.path("base/Dockerfile"), dockerfile).expect("written");
    world.ok(&["build", "-q", "-t", "base:1", base]);
    let ran = ["run", "--name", "web", "base:1", "sh", "-c", "echo new >>/step"];
    world.ok(&ran);
    let told = world.fails(&["rmi", "base:1"], 1);
    assert!(told.contains("image `base:1` is used by container `web`"), "{told}");
    world.ok(&["image", "prune", "--all", "--force"]);
    assert!(world.ok(&["images", "--format", "{{.Repository}}"]).contains("base"));
    world.ok(&["rmi", "--force", "base:1"]);
    world.ok(&["prune", "--all", "--force"]);
    world.ok(&["prune", "--force"]);
    assert_eq!(world.ok(&["diff", "web"]), "C /step (size 5 -> 9)\n");
    world.ok(&["commit", "web", "saved:1"]);
    assert_eq!(world.ok(&["run", "saved:1", "cat", "/step"]), "step\nnew\n");
    assert_eq!(world.ok(&["fsck", "--full"]), "the store is whole\n");

    let would = world.ok(&["container", "prune", "--dry-run"]);
    assert!(would.contains("would be removed:\nweb\n"), "{would}");
    let pruned = world.ok(&["container", "prune", "--force", "--filter", "until=1h"]);
    assert!(pruned.starts_with("Total reclaimed space: 0B"), "{pruned}");
    let pruned = world.ok(&["system", "prune", "--force"]);
    assert!(pruned.starts_with("Deleted Containers:\nweb\n"), "{pruned}");
    assert_eq!(world.ok(&["ps", "-aq"]), "");
}

#[test]
fn privileged_a_running_container_is_left_alone_and_a_killed_one_stays() {
    let Some(world) = World::with_busybox() else { return };
    let words =
        ["run", "-i", "--name", "web", "app:1", "sh", "-c", "echo new >/new; echo ready; cat"];
    let mut child = world.spawn(&words);
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    output.read_line(&mut line).expect("it writes");
    let states = || world.ok(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]);
    assert!(states().starts_with("web Up "), "{}", states());
    assert_eq!(world.ok(&["ps", "--format", "{{.Names}}"]), "web\n");
    for words in [&["rm", "web"][..], &["rm", "-f", "web"], &["commit", "web"]] {
        let told = world.fails(words, 1);
        assert!(told.contains("container `web` is running"), "{words:?}: {told}");
    }
    assert_eq!(world.ok(&["container", "prune", "--force"]), "Total reclaimed space: 0B\n");
    assert_eq!(world.ok(&["diff", "web"]), "A /new\n");
    child.kill().expect("an own child");
    child.wait().expect("it ends");
    assert_eq!(states(), "web Exited (137)\n");
    assert_eq!(world.ok(&["diff", "web"]), "A /new\n");
    world.ok(&["commit", "web", "saved:1"]);
    assert_eq!(world.ok(&["run", "saved:1", "cat", "/new"]), "new\n");
    world.ok(&["rm", "web"]);
    // One that was to go is not in the way of the next.
    let mut child =
        world.spawn(&["run", "-i", "--rm", "--name", "web", "app:1", "sh", "-c", "echo; cat"]);
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("it writes");
    child.kill().expect("an own child");
    child.wait().expect("it ends");
    world.ok(&["run", "--rm", "--name", "web", "app:1"]);
    assert_eq!(world.ok(&["ps", "-aq"]), "");
}
