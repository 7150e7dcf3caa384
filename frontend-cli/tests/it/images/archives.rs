//! Images to archives and back.

use std::process::Command;

use oci::Digest;

use super::id;
use super::world::{World, header, small_layer, small_layout, stderr, stdout};

/// Names, ids and digests of a store.
fn listing(world: &World, root: &str) -> String {
    let format = "{{.Repository}}:{{.Tag}} {{.ID}} {{.Digest}} {{.Size}}";
    stdout(&world.with_root(root, &["images", "--no-trunc", "--format", format], b""))
}

#[test]
fn privileged_what_is_saved_and_loaded_is_the_same_image() {
    let Some(world) = World::with_small_image() else { return };
    world.ok(&["tag", "small:1", "localhost/other:2"]);
    let before = listing(&world, "store");
    world.ok(&["save", "-o", "a.tar", "small:1", "localhost/other:2"]);
    let loaded = world.with_root("second", &["load", "-i", "a.tar"], b"");
    assert_eq!(
        stdout(&loaded),
        "Loaded image: small:1\nLoaded image: localhost/other:2\n",
        "{}",
        stderr(&loaded)
    );
    assert_eq!(listing(&world, "second"), before);
    // Through pipes, twice the same bytes.
    let piped = world.run(&["save", "small:1", "localhost/other:2"], "");
    assert_eq!(piped.stdout, std::fs::read(world.path("a.tar")).expect("read"));
    let loaded = world.with_root("third", &["load", "-q"], &piped.stdout);
    assert_eq!(stdout(&loaded), "small:1\nlocalhost/other:2\n", "{}", stderr(&loaded));
    assert_eq!(listing(&world, "third"), before);
    // An image that is saved by its id has no name in the archive.
    let id = id(&world, "small:1");
    world.ok(&["save", "-o", "b.tar", &id]);
    let loaded = world.with_root("fourth", &["load", "-i", "b.tar"], b"");
    assert_eq!(stdout(&loaded), format!("Loaded image ID: {id}\n"), "{}", stderr(&loaded));
    assert_eq!(listing(&world, "fourth"), "");
    let found = world.with_root("fourth", &["inspect", "-f", "{{.Id}}", &id], b"");
    assert_eq!(stdout(&found), format!("{id}\n"));
}

#[test]
fn privileged_a_damaged_list_of_names_beside_an_index_is_refused() {
    let Some(world) = World::new() else { return };
    let layout = small_layout(&world.path("small"));
    layout.write();
    for (manifest, told) in [
        ("[", "manifest.json: "),
        (r#"[{"Config": "blobs/sha256/0", "RepoTags": ["a:1"]}]"#, "lacks `blobs/sha256/0`"),
    ] {
        std::fs::write(world.path("small/manifest.json"), manifest).expect("written");
        let loaded = world.run(&["load"], layout.to_tar());
        assert_eq!(loaded.status.code(), Some(1));
        assert!(stderr(&loaded).contains(told), "{}", stderr(&loaded));
    }
    assert_eq!(listing(&world, "store"), "");
}

/// Docker's archive as it was before it was an OCI layout: names without `blobs/`, one layer by a
/// symbolic link.
fn docker_archive(config: &[u8], layer: &[u8], manifest: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut file = |path: &str, content: &[u8]| {
        let mut header = header(tar::EntryType::Regular, 0o644, content.len() as u64);
        tar.append_data(&mut header, path, content).expect("written");
    };
    file("config.json", config);
    file("first.tar", layer);
    file("manifest.json", manifest.as_bytes());
    file("repositories", b"{}");
    let mut link = header(tar::EntryType::Symlink, 0o777, 0);
    tar.append_link(&mut link, "abc/layer.tar", "../first.tar").expect("written");
    tar.into_inner().expect("written")
}

fn small_config(world: &World) -> Vec<u8> {
    let id: Digest = id(world, "small:1").parse().expect("a digest");
    std::fs::read(world.path("store/blobs/sha256").join(id.hex())).expect("read")
}

#[test]
fn privileged_old_archives_of_docker_are_loaded() {
    let Some(world) = World::with_small_image() else { return };
    let config = small_config(&world);
    let manifest =
        r#"[{"Config":"config.json","RepoTags":["old:1","old:2"],"Layers":["abc/layer.tar"]}]"#;
    let archive = docker_archive(&config, &small_layer(), manifest);
    let loaded = world.with_root("second", &["load"], &archive);
    assert_eq!(
        stdout(&loaded),
        "Loaded image: old:1\nLoaded image: old:2\n",
        "{}",
        stderr(&loaded)
    );
    let found = world.with_root("second", &["inspect", "-f", "{{.Id}}", "old:2"], b"");
    assert_eq!(stdout(&found).trim_end(), Digest::of(&config).as_str());
    let whole = world.with_root("second", &["fsck", "--full"], b"");
    assert_eq!(stdout(&whole), "the store is whole\n");
}

#[test]
fn privileged_what_is_no_image_is_refused_and_leaves_no_name() {
    let Some(world) = World::with_small_image() else { return };
    let config = small_config(&world);
    let good = r#"[{"Config":"config.json","RepoTags":["bad:1"],"Layers":["first.tar"]}]"#;
    let archive = |manifest: &str| docker_archive(&config, &small_layer(), manifest);
    let layout = small_layout(&world.path("other")).to_tar();
    let cut = |bytes: &[u8], length: usize| bytes[..length].to_vec();
    let with_link = |target: &str| {
        let mut tar = tar::Builder::new(Vec::new());
        let mut link = header(tar::EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut link, "first.tar", target).expect("written");
        let manifest = good.as_bytes();
        let mut file = header(tar::EntryType::Regular, 0o644, manifest.len() as u64);
        tar.append_data(&mut file, "manifest.json", manifest).expect("written");
        let mut file = header(tar::EntryType::Regular, 0o644, config.len() as u64);
        tar.append_data(&mut file, "config.json", config.as_slice()).expect("written");
        tar.into_inner().expect("written")
    };
    let mut flipped = layout.clone();
    let at =
        flipped.windows(12).position(|bytes| bytes == b"hello, world").expect("it is in there");
    flipped[at] ^= 1;
    let name = good.replace("bad:1", "Not A Name");
    for (what, archive, wanted) in [
        ("nothing", Vec::new(), "the archive has no images"),
        ("text", b"no archive at all\n".to_vec(), "failed to read the archive"),
        ("cut in the middle", cut(&archive(good), 1500), "unexpected end"),
        ("another layer", docker_archive(&config, b"", good), "has the content"),
        (
            "no layers",
            archive(&good.replace("\"first.tar\"", "")),
            "names 1 layers, its manifest 0",
        ),
        (
            "a missing layer",
            archive(&good.replace("first.tar", "second.tar")),
            "lacks `second.tar`",
        ),
        ("a missing config", archive(&good.replace("config.json", "x.json")), "lacks `x.json`"),
        (
            "a layer outside",
            archive(&good.replace("first.tar", "../../etc/passwd")),
            "lacks `../../etc/passwd`",
        ),
        ("a link outside", with_link("../../../../etc/passwd"), "lacks `first.tar`"),
        ("a link to itself", with_link("first.tar"), "lacks `first.tar`"),
        ("no JSON", archive("{"), "manifest.json"),
        ("no images", archive("[]"), "the archive has no images"),
        ("no name", archive(&name), "invalid reference format"),
        ("wrong bytes", flipped, "has the content of sha256:"),
    ] {
        let output = world.with_root("second", &["load"], &archive);
        assert_eq!(output.status.code(), Some(1), "{what}: {}", stdout(&output));
        assert!(stderr(&output).contains(wanted), "{what}: {}", stderr(&output));
        assert_eq!(listing(&world, "second"), "", "{what}");
    }
    // The archives they were made from are good.
    for archive in [archive(good), layout] {
        let output = world.with_root("second", &["load"], &archive);
        assert!(output.status.success(), "{}", stderr(&output));
    }
}

#[test]
fn privileged_a_tar_of_several_platforms_has_a_folder_for_each() {
    let Some(world) = World::new() else { return };
    std::fs::create_dir(world.path("context")).expect("made");
    std::fs::write(world.path("context/file"), "content\n").expect("written");
    std::fs::hard_link(world.path("context/file"), world.path("context/link")).expect("linked");
    std::fs::write(
        world.path("Dockerfile"),
        "FROM scratch\nARG TARGETARCH\nCOPY . /$TARGETARCH/\n",
    )
    .expect("written");
    let names = |platforms: &str| {
        let words = ["build", "-q", "-f", "Dockerfile", "--platform", platforms];
        world.ok(&[&words[..], &["-o", "type=tar,dest=out.tar", "context"]].concat());
        let file = std::fs::File::open(world.path("out.tar")).expect("written");
        let mut archive = tar::Archive::new(file);
        let entries = archive.entries().expect("a tar").map(|entry| {
            let entry = entry.expect("an entry");
            String::from_utf8_lossy(&entry.path_bytes()).trim_end_matches('/').to_owned()
        });
        entries.collect::<Vec<_>>()
    };
    assert_eq!(names("linux/amd64"), ["amd64", "amd64/file", "amd64/link"]);
    assert_eq!(
        names("linux/amd64,linux/arm64"),
        [
            "linux_amd64",
            "linux_amd64/amd64",
            "linux_amd64/amd64/file",
            "linux_amd64/amd64/link",
            "linux_arm64",
            "linux_arm64/arm64",
            "linux_arm64/arm64/file",
            "linux_arm64/arm64/link",
        ]
    );
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn privileged_skopeo_reads_the_store_and_we_read_what_it_writes() {
    let Some(world) = World::with_small_image() else { return };
    let skopeo = |words: &[&str]| {
        let output = Command::new("skopeo").args(words).current_dir(world.path("")).output();
        output.map(|output| {
            assert!(output.status.success(), "{words:?}: {}", stderr(&output));
            stdout(&output)
        })
    };
    if skopeo(&["--version"]).is_err() {
        eprintln!("SKIPPED: there is no skopeo");
        return;
    }
    let told =
        skopeo(&["inspect", "--format", "{{.Digest}}", "oci:store:small:1"]).expect("it runs");
    assert_eq!(told, world.ok(&["images", "--format", "{{.Digest}}", "small:1"]));
    let id = id(&world, "small:1");
    for (number, target) in
        ["docker-archive:a.tar:copy:1", "oci-archive:b.tar:copy:1", "oci:c:copy:1"]
            .iter()
            .enumerate()
    {
        skopeo(&["copy", "-q", "--insecure-policy", "oci:store:small:1", target]).expect("it runs");
        let file = target.split(':').nth(1).expect("a path");
        let root = format!("second{number}");
        let loaded = world.with_root(&root, &["load", "-i", file], b"");
        assert_eq!(stdout(&loaded), "Loaded image: copy:1\n", "{target}: {}", stderr(&loaded));
        let found = world.with_root(&root, &["images", "-q", "--no-trunc"], b"");
        assert_eq!(stdout(&found).trim_end(), id, "{target}");
    }
    // Docker's tools load what we save.
    world.ok(&["save", "-o", "saved.tar", "small:1"]);
    skopeo(&["inspect", "docker-archive:saved.tar:small:1"]).expect("it runs");
}
