//! The commands on images, by the real program against a store of their own.

mod archives;
mod containers;
mod diff;
mod hostile;
mod imagetools;
mod login;
mod offline;
mod prune;
mod pull;
mod push;
mod registry;
mod room;
mod run;
mod why;
mod world;

use expect_test::expect;
use world::{Layout, World, config, host, small_layer, small_layout, stderr, stdout};

/// The id of `small:1` or `app:1`.
fn id(world: &World, name: &str) -> String {
    world.ok(&["inspect", "-f", "{{.Id}}", name]).trim_end().to_owned()
}

#[test]
fn privileged_images_are_listed_as_by_docker() {
    let Some(world) = World::with_small_image() else { return };
    world.ok(&["tag", "small:1", "127.0.0.1:5000/other/name:2"]);
    let id = id(&world, "small:1");
    let short = &id["sha256:".len()..][..12];
    let table = world.ok(&["images"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert_eq!(lines[0], "REPOSITORY                  TAG       IMAGE ID       CREATED       SIZE");
    assert!(
        lines[1].starts_with(&format!("127.0.0.1:5000/other/name   2         {short}   ")),
        "{table}"
    );
    assert!(
        lines[2].starts_with(&format!("small                       1         {short}   ")),
        "{table}"
    );
    assert!(lines[2].ends_with("   13B"), "{table}");
    assert_eq!(world.ok(&["image", "ls", "-q"]), format!("{short}\n{short}\n"));
    assert_eq!(world.ok(&["images", "-q", "--no-trunc", "small"]), format!("{id}\n"));
    for (words, wanted) in [
        (&["--format", "{{.Repository}}:{{.Tag}}"][..], "127.0.0.1:5000/other/name:2\nsmall:1\n"),
        (&["--format", "{{.Size}}", "small:1"], "13B\n"),
        (
            &["--format", "{{.Platforms}} {{.CreatedAt}}", "sm*"],
            "linux/amd64 2024-05-01 00:00:00 +0000 UTC\n",
        ),
        (&["--format", r"table {{.Tag}}\t{{.Size}}", "small"], "TAG       SIZE\n1         13B\n"),
        (&["-q", "--filter", "dangling=true"], ""),
        (&["--format", "{{.Tag}}", "--filter", "label=x=1", "--filter", "reference=small"], "1\n"),
        (&["--format", "{{.Tag}}", "--filter", "label=x=2"], ""),
        (&["--format", "{{.Tag}}", "--filter", "before=small:1"], ""),
        (&["-q", "nosuch"], ""),
    ] {
        let words = [&["images"], words].concat();
        let wanted = wanted.replace("linux/amd64", &host().to_string());
        assert_eq!(world.ok(&words), wanted, "{words:?}");
    }
    let digests = world.ok(&["images", "--digests", "--format", "json", "small"]);
    let row: serde_json::Value = serde_json::from_str(&digests).expect("JSON");
    assert_eq!(row["ID"], short);
    let digest = row["Digest"].as_str().expect("a digest");
    assert_eq!(world.ok(&["inspect", "-f", "{{.Id}}", &format!("small@{digest}")]).trim_end(), id);
}

#[test]
fn privileged_images_have_many_names() {
    let Some(world) = World::with_small_image() else { return };
    world.ok(&["tag", "small:1", "small"]);
    let id = id(&world, "small:1");
    let hex = &id["sha256:".len()..];
    for name in [
        "small",
        "small:latest",
        "docker.io/library/small:1",
        &id,
        hex,
        &hex[..12],
        &hex[..6],
        &id[..20],
    ] {
        assert_eq!(world.ok(&["inspect", "-f", "{{.Id}}", name]).trim_end(), id, "{name}");
    }
    // An image without a name is there until the next prune.
    world.ok(&["rmi", "small:1", "small"]);
    assert_eq!(world.ok(&["images", "-q"]), "");
    world.ok(&["tag", &hex[..12], "again"]);
    assert_eq!(self::id(&world, "again"), id);
}

#[test]
fn privileged_inspect_shows_dockers_json() {
    let Some(world) = World::with_small_image() else { return };
    let shown: serde_json::Value =
        serde_json::from_str(&world.ok(&["inspect", "small:1"])).expect("JSON");
    let image = &shown[0];
    assert_eq!(image["RepoTags"], serde_json::json!(["small:1"]));
    assert_eq!(image["Config"]["Cmd"], serde_json::json!(["sh", "-c", "echo default command"]));
    assert_eq!(image["Config"]["Entrypoint"], serde_json::Value::Null);
    assert_eq!(image["RootFS"]["Layers"][0], format!("{}", oci::Digest::of(&small_layer())));
    assert_eq!(image["Architecture"], host().architecture);
    assert_eq!(image["Size"], 13);
    for (format, wanted) in [
        ("{{.Config.Cmd}}", "[sh -c echo default command]"),
        ("{{json .Config.Env}}", r#"["PATH=/bin","FROM_IMAGE=yes"]"#),
        ("{{index .Config.Labels \"with.dots\"}}", "2"),
        ("{{index .Config.Labels \"nosuch\"}}", ""),
        ("{{json .Config.Labels}}", r#"{"with.dots":"2","x":"1"}"#),
        ("{{.Config.ExposedPorts}} {{json .Config.Entrypoint}}", "map[] null"),
        ("{{.Os}} {{len .RootFS.Layers}} {{.Author}}", "linux 1 somebody"),
        ("{{range .RepoTags}}", "`range` without `end`"),
        ("{{.Nosuch}}", "no field `Nosuch`"),
    ] {
        let output =
            world.run(&["image", "inspect", "--type=image", "--format", format, "small:1"], "");
        let told = stdout(&output) + &stderr(&output);
        assert!(told.contains(wanted), "{format}: {told}");
        assert_eq!(output.status.success(), told == format!("{wanted}\n"), "{format}: {told}");
    }
    // What is there is shown, what is not is told.
    let output = world.run(&["inspect", "-f", "{{.Author}}", "nosuch", "small:1"], "");
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), "somebody\n"));
    assert!(stderr(&output).contains("no image `nosuch` in the store"));
    assert_eq!(stdout(&world.run(&["inspect", "nosuch"], "")), "[]\n");
}

#[test]
fn privileged_history_has_an_entry_an_instruction() {
    let Some(world) = World::with_small_image() else { return };
    let told =
        world.ok(&["history", "--format", "{{.CreatedBy}}|{{.Size}}|{{.Comment}}", "small:1"]);
    assert_eq!(told, "CMD [\"sh\"]|0B|by hand\nADD rootfs.tar /|13B|\n");
    let id = id(&world, "small:1");
    assert_eq!(world.ok(&["history", "-q", "--no-trunc", "small:1"]), format!("{id}\n<missing>\n"));
    let numbers = world.ok(&["history", "--human=false", "small:1"]);
    expect![[r#"
        IMAGE          CREATED AT             CREATED BY         SIZE      COMMENT
        ID   2024-05-01T00:00:00Z   CMD ["sh"]         0         by hand
        <missing>      2024-05-01T00:00:00Z   ADD rootfs.tar /   13        
    "#]]
    .assert_eq(&numbers.replace(&id["sha256:".len()..][..12], "ID"));
}

#[test]
fn privileged_history_knows_how_long_the_steps_took() {
    let Some(world) = World::with_busybox() else { return };
    let dockerfile = "FROM app:1\nRUN sleep 1.2; echo >/file\nLABEL a=b\n";
    std::fs::write(world.path("Dockerfile"), dockerfile).expect("written");
    let history = || {
        world.ok(&["build", "-q", "-t", "built:1", "."]);
        let format = "{{.Duration}}";
        world.ok(&["history", "--human=false", "--format", format, "built:1"])
    };
    let told = history();
    let lines: Vec<&str> = told.lines().collect();
    // The label has no layer, the base no record.
    let millis: u64 = lines[1].parse().expect("a number");
    assert!((1200..60_000).contains(&millis), "{told}");
    assert!(lines.iter().enumerate().all(|(at, line)| at == 1 || line.is_empty()), "{told}");
    // A step that need not run again took what it took.
    assert_eq!(history(), told);
    let shown = world.ok(&["history", "--format", "{{.Duration}}", "built:1"]);
    assert_eq!(shown.trim(), format!("{:.1}s", millis as f64 / 1000.0));
}

#[test]
fn privileged_names_are_given_and_taken_away() {
    let Some(world) = World::with_small_image() else { return };
    let id = id(&world, "small:1");
    for name in ["a", "b:2"] {
        world.ok(&["tag", "small:1", name]);
    }
    let refused = world.fails(&["rmi", &id[7..19]], 1);
    assert!(refused.contains("has several names: a:latest, b:2, small:1"), "{refused}");
    assert_eq!(world.ok(&["rmi", "a", "b:2"]), "Untagged: a:latest\nUntagged: b:2\n");
    assert_eq!(world.ok(&["image", "rm", &id]), format!("Untagged: small:1\nDeleted: {id}\n"));
    assert!(world.fails(&["rmi", "small:1"], 1).contains("no image `small:1`"));
    // With force, a missing image is reported and not a failure.
    assert!(stderr(&world.run(&["rmi", "-f", "small:1"], "")).contains("no image `small:1`"));
    world.ok(&["rmi", "--force", "small:1"]);
}

#[test]
fn privileged_several_platforms_are_one_image() {
    let Some(world) = World::new() else { return };
    let mut layout = Layout::new(&world.path("both"));
    let foreign = oci::Platform::new(
        "linux",
        if host().architecture == "s390x" { "amd64" } else { "s390x" },
        "",
    );
    let own = layout.image(&small_layer(), config(), &host());
    let other = layout.image(&small_layer(), config(), &foreign);
    let index = layout.index_of(vec![other.clone(), own.clone()]);
    layout.name("both:1", index.clone());
    layout.write();
    world.ok(&["load", "-i", "both"]);
    let told = world.ok(&[
        "images",
        "--no-trunc",
        "--format",
        "{{.ID}} {{.Digest}} {{.Platforms}} {{.Size}}",
    ]);
    let digest = &index.digest;
    assert_eq!(told, format!("{digest} {digest} {foreign},{} 13B\n", host()));
    let architecture = |words: &[&str]| {
        let words = [&["inspect", "-f", "{{.Architecture}}"], words].concat();
        world.ok(&words).trim_end().to_owned()
    };
    assert_eq!(architecture(&["both:1"]), host().architecture);
    assert_eq!(architecture(&["--platform", &foreign.to_string(), "both:1"]), foreign.architecture);
    let wrong = world.fails(&["inspect", "--platform", "linux/riscv64", "both:1"], 1);
    assert!(wrong.contains("is not there for linux/riscv64"), "{wrong}");
    // An archive of one platform is an image of one platform.
    world.ok(&["save", "--platform", &foreign.to_string(), "-o", "one.tar", "both:1"]);
    let loaded = world.with_root("second", &["load", "-i", "one.tar"], b"");
    assert_eq!(stdout(&loaded), "Loaded image: both:1\n", "{}", stderr(&loaded));
    let told =
        world.with_root("second", &["images", "--format", "{{.Digest}} {{.Platforms}}"], b"");
    assert_eq!(stdout(&told), format!("{} {foreign}\n", other.digest));
    // So is what is whole of an index of which only a part came along.
    for entry in std::fs::read_dir(world.path("both/blobs/sha256")).expect("listed").flatten() {
        if entry.file_name().to_str() == Some(other.digest.hex()) {
            std::fs::remove_file(entry.path()).expect("removed");
        }
    }
    let loaded = world.with_root("third", &["load", "-i", "both"], b"");
    assert_eq!(stdout(&loaded), "Loaded image: both:1\n", "{}", stderr(&loaded));
    let told = world.with_root("third", &["images", "--format", "{{.Digest}}"], b"");
    assert_eq!(stdout(&told), format!("{}\n", own.digest));
}

#[test]
fn privileged_wrong_words_are_told_by_name() {
    let Some(world) = World::with_small_image() else { return };
    for (words, code, wanted) in [
        (&["images", "--format", "{{.Nosuch}}"][..], 2, "no field `Nosuch`"),
        (&["images", "--filter", "color=red"], 2, "`--filter color=red` is not a filter"),
        (&["images", "--tree"], 2, "--tree"),
        (&["inspect", "--type", "volume", "small:1"], 2, "`--type volume` is not supported"),
        (&["inspect", "-f", "{{", "small:1"], 2, "`{{` without `}}`"),
        (&["history", "nosuch"], 1, "no image `nosuch`"),
        (&["tag", "nosuch", "a"], 1, "no image `nosuch`"),
        (&["tag", "small:1", "Upper"], 2, "must be lowercase"),
        (
            &[
                "tag",
                "small:1",
                "a@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            ],
            2,
            "cannot have a digest",
        ),
        (&["save", "nosuch", "-o", "x.tar"], 1, "no image `nosuch`"),
        (&["load", "-i", "nosuch"], 1, "failed to open `nosuch`"),
        (&["pull", "--all-tags", "x"], 2, "`--all-tags` is not supported"),
        (&["pull", "UPPER"], 2, "must be lowercase"),
        (&["prune"], 1, "nothing was removed: there was no answer"),
        (&["prune", "-f", "--filter", "until=soon"], 2, "neither a duration nor a time"),
        (&["du", "--format", "{{.Nope}}"], 2, "no field `Nope`"),
        (&["run", "-d", "small:1"], 125, "`--detach` is not supported"),
        (&["run", "--cap-drop", "ALL", "small:1"], 125, "`--cap-drop` is not supported"),
        (&["run", "--nosuch", "small:1"], 125, "--nosuch"),
        (&["run", "-v", "name:/x", "small:1"], 125, "would be a named volume"),
        (&["run", "--network=mine", "small:1"], 125, "`--network=mine` is not supported"),
        (&["run", "--network=host", "-p", "80", "small:1"], 125, "do not go together"),
        (&["run", "-w", "relative", "small:1"], 125, "must be absolute"),
        (&["run", "--pull=never", "nosuch"], 125, "no image `nosuch`"),
        (&["run"], 125, "IMAGE"),
    ] {
        let told = world.fails(words, code);
        assert!(told.contains(wanted), "{words:?}: {told}");
    }
}

#[test]
fn privileged_the_store_is_measured_checked_and_pruned() {
    let Some(world) = World::with_small_image() else { return };
    assert_eq!(world.ok(&["fsck", "--full"]), "the store is whole\n");
    let usage: serde_json::Value =
        serde_json::from_str(&world.ok(&["du", "--format=json"])).expect("JSON");
    assert!(
        usage["images"].as_u64() > Some(0) && usage["total"].as_u64() >= usage["images"].as_u64()
    );
    assert!(world.ok(&["du", "-v"]).contains("small:1"));
    world.ok(&["prune", "--all", "--force"]);
    assert_eq!(world.ok(&["history", "--format", "{{.Size}}", "small:1"]), "0B\n13B\n");
    // Without a name the image is garbage.
    let id = id(&world, "small:1");
    world.ok(&["rmi", "small:1"]);
    assert!(world.ok(&["prune", "-f"]).contains("Total reclaimed space: "));
    world.fails(&["inspect", &id], 1);
    assert_eq!(world.ok(&["fsck"]), "the store is whole\n");
    // Damage is found.
    small_layout(&world.path("small")).write();
    world.ok(&["load", "-i", "small"]);
    let layer = oci::Digest::of(&small_layer());
    std::fs::write(world.path("store/blobs/sha256").join(layer.hex()), "x").expect("written");
    let output = world.run(&["fsck"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stdout(&output).contains("blob-size") && stdout(&output).contains("image-incomplete"),
        "{}",
        stdout(&output)
    );
}
