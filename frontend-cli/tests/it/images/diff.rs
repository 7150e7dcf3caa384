//! `mybuild diff`: images, layers and directories beside each other.

use serde_json::Value;

use super::{World, stderr};

/// A layer that has one of each, one that changes them, and one that takes something away.
const DOCKERFILE: &str = "FROM app:1
RUN mkdir -p /d/sub && echo hello >/d/content && echo 12 >/d/size && touch /d/mode /d/owner /d/gone && \
    ln -s content /d/link && echo 1234567 >/d/sub/file
RUN echo hullo >/d/content && echo 1 >>/d/size && chmod 4750 /d/mode && chown 3:4 /d/owner && \
    ln -sfn mode /d/link && rm /d/gone && mkdir /d/new && echo new >/d/new/file && touch -d 2001-01-01 /etc/group
RUN rm -r /d/sub && echo file >/d/sub && mkdir /d/last
";

const SECOND: &str = "C /d
C /d/content (content)
D /d/gone
C /d/link (target content -> mode)
C /d/mode (mode 644 -> 4750)
A /d/new
A /d/new/file
C /d/owner (owner 0:0 -> 3:4)
C /d/size (size 3 -> 5)
";
const LAST: &str = "C /d
A /d/last
C /d/sub (type directory -> file, mode 755 -> 644)
";

fn world() -> Option<World> {
    let world = World::with_busybox()?;
    std::fs::create_dir(world.path("context")).expect("made");
    std::fs::write(world.path("context/Dockerfile"), DOCKERFILE).expect("written");
    world.ok(&["build", "-q", "-t", "changed", "context"]);
    Some(world)
}

#[test]
fn privileged_images_and_layers_differ_in_what_an_image_can_hold() {
    let Some(world) = world() else { return };
    let layers = world.ok(&["history", "--format", "{{.Layer}}", "changed"]);
    let layers: Vec<&str> = layers.lines().collect();
    let (last, second, first) = (layers[0], &layers[1][..20], layers[2]);
    let items = world.ok(&["du", "--filter", "description~=hullo", "--format", "json"]);
    let item: Value = serde_json::from_str(items.trim()).expect("one layer");
    let id = item["ID"].as_str().expect("an id");
    for (words, expected) in [
        (&["changed"][..], LAST),
        (&["changed~1", "changed"], LAST),
        (&["changed~"], SECOND),
        (&[last], LAST),
        (&[second], SECOND),
        (&[id], SECOND),
        (&[first, id], SECOND),
        (&["changed~2", "changed~1"], SECOND),
        (&["changed", "changed"], ""),
        (&["app:1", "changed~3"], ""),
    ] {
        assert_eq!(world.ok(&[&["diff"], words].concat()), expected, "{words:?}");
    }
    let all = world.ok(&["diff", "app:1", "changed"]);
    // With where the first `RUN` has mounted the kernel's file systems.
    assert_eq!(all.lines().count(), 13, "{all}");
    assert!(all.lines().all(|line| line.starts_with("A /")), "{all}");
    assert_eq!(world.ok(&["diff", "changed", "app:1"]), "D /d\nD /dev\nD /proc\nD /sys\n");
    world.assert_no_mounts();
}

#[test]
fn privileged_differences_are_told_in_bytes_json_and_by_the_exit_code() {
    let Some(world) = world() else { return };
    let told = |words: &[&str], code: i32| {
        let output = world.run(&[&["diff"], words].concat(), "");
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", stderr(&output));
        stderr(&output)
    };
    assert_eq!(
        told(&["changed", "app:1"], 0),
        "0 added (+0B), 0 changed (+0B), 4 removed (-20B)\n"
    );
    assert_eq!(told(&["changed~"], 0), "2 added (+4B), 6 changed (+2B), 1 removed (-0B)\n");
    assert_eq!(told(&["changed"], 0), "1 added (+0B), 2 changed (-3B), 0 removed (-0B)\n");
    assert_eq!(told(&["--exit-code", "app:1", "app:1"], 0), "no differences\n");
    told(&["--exit-code", "app:1", "changed"], 1);
    for (words, wanted) in [
        (&["--exit-code", "app:1", "nosuch"][..], "no image `nosuch` in the store"),
        (&["--exit-code", "changed~9"], "`changed` has only 4 layers"),
        (&["--exit-code", "./context"], "a directory alone"),
        (&["--exit-code", "app:1", "./nosuch"], "failed to open `./nosuch`"),
        (&["--format", "{{.Nosuch}}", "app:1"], "no field `Nosuch`"),
    ] {
        let told = told(words, 2);
        assert!(told.contains(wanted), "{words:?}: {told}");
    }
    let json = world.ok(&["diff", "--format", "json", "changed~"]);
    let mode = json.lines().find(|line| line.contains("/d/mode")).expect("a line");
    assert_eq!(
        serde_json::from_str::<Value>(mode).expect("JSON"),
        serde_json::json!({
            "Kind": "C", "Path": "/d/mode", "Type": "file", "SizeBefore": 0, "SizeAfter": 0,
            "Differences": [{"Name": "mode", "Before": "644", "After": "4750"}],
        })
    );
    assert_eq!(
        world.ok(&["diff", "--format", "{{.Kind}}{{.Path}} {{.SizeAfter}}", "changed"]),
        "C/d 0\nA/d/last 0\nC/d/sub 5\n"
    );
}

#[test]
fn privileged_a_directory_is_compared_with_an_image() {
    let Some(world) = World::with_busybox() else { return };
    let words = ["build", "-q", "-o", "out", "-"];
    let built = world.run(&words, "FROM app:1");
    assert!(built.status.success(), "{}", stderr(&built));
    assert_eq!(world.ok(&["diff", "app:1", "./out"]), "");
    let out = |name: &str| world.path(&format!("out/{name}"));
    std::fs::write(out("data/from-image"), "kopt\n").expect("written");
    std::fs::write(out("data/own"), "").expect("written");
    std::fs::remove_file(out("bin/env")).expect("removed");
    let _socket = std::os::unix::net::UnixListener::bind(out("socket")).expect("bound");
    let expected = "C /bin\nD /bin/env\nC /data\nC /data/from-image (content)\nA /data/own\n";
    assert_eq!(world.ok(&["diff", "app:1", "dir:out"]), expected);
    let backward = "C /bin\nA /bin/env\nC /data\nC /data/from-image (content)\nD /data/own\n";
    assert_eq!(world.ok(&["diff", "./out", "app:1"]), backward);
}
