//! What an output can say of its image, and of the place it goes to.

use std::process::Command;

use serde_json::{Value, json};

use super::builder::Builder;
use super::skip;

const DOCKERFILE: &str = "FROM scratch\nCOPY busybox /bin/busybox\nCMD [\"/bin/busybox\"]\n";

/// The documents of a layout, from the first image of its index down.
struct Layout<'a> {
    builder: &'a Builder,
    directory: &'a str,
}

impl Layout<'_> {
    fn images(&self) -> Vec<Value> {
        let index = self.builder.read(&format!("{}/index.json", self.directory));
        let index: Value = serde_json::from_str(&index).expect("JSON");
        index["manifests"].as_array().expect("images").clone()
    }

    fn document(&self, descriptor: &Value) -> Value {
        let digest = descriptor["digest"].as_str().expect("a digest").replace(':', "/");
        let text = self.builder.read(&format!("{}/blobs/{digest}", self.directory));
        serde_json::from_str(&text).expect("JSON")
    }
}

#[test]
fn privileged_each_of_several_outputs_is_as_it_asks() {
    let Some(builder) = Builder::bare() else { return };
    let words = [
        "-t",
        "app",
        "--annotation",
        "all=1",
        "-o",
        "type=oci,dest=plain,tar=false,name=other:2,compression=uncompressed,annotation.own=2",
        "-o",
        "type=oci,dest=zstd,tar=false,compression=zstd,annotation-manifest-descriptor.at=3",
        "-o",
        "type=image,name=kept,compression=gzip,name-canonical=true,unpack=true",
        "--metadata-file",
        "meta.json",
    ];
    builder.build(DOCKERFILE, &words).success();
    let plain = Layout { builder: &builder, directory: "plain" };
    let [app, other] = &plain.images()[..] else { panic!("{:?}", plain.images()) };
    let name = |image: &Value| image["annotations"]["io.containerd.image.name"].clone();
    assert_eq!(
        [name(app), name(other)],
        ["docker.io/library/app:latest", "docker.io/library/other:2"]
    );
    let manifest = plain.document(app);
    assert_eq!(manifest["annotations"], json!({"all": "1", "own": "2"}));
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar");

    let zstd = Layout { builder: &builder, directory: "zstd" };
    let [image] = &zstd.images()[..] else { panic!("{:?}", zstd.images()) };
    assert_eq!(image["annotations"]["at"], "3");
    let manifest = zstd.document(image);
    assert_eq!(manifest["annotations"], json!({"all": "1"}));
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");

    // The last one is what the metadata tells of, and it is in the store.
    let meta: Value = serde_json::from_str(&builder.read("meta.json")).expect("JSON");
    let digest = meta["containerimage.digest"].as_str().expect("a digest").to_owned();
    let names = "docker.io/library/app:latest,docker.io/library/kept:latest";
    let with_digest = |name: &str| format!("docker.io/library/{name}@{digest}");
    let names = format!("{names},{},{}", with_digest("app"), with_digest("kept"));
    assert_eq!(meta["image.name"], names);
    let store = builder.store().to_str().expect("a name").to_owned();
    let stored = Layout { builder: &builder, directory: &store };
    let manifest = stored.document(&json!({ "digest": digest }));
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    assert_eq!(manifest["config"]["digest"], meta["containerimage.config.digest"]);
    let ran = builder.run(&["run", "kept", "/bin/busybox", "echo", "it runs"]).success();
    assert_eq!(ran.stdout, b"it runs\n");
}

#[test]
fn privileged_docker_media_types_are_everywhere() {
    let Some(builder) = Builder::bare() else { return };
    let output = "type=oci,dest=out,tar=false,oci-mediatypes=false";
    let platforms = "linux/amd64,linux/arm64";
    builder.build(DOCKERFILE, &["--platform", platforms, "-t", "app", "-o", output]).success();
    let layout = Layout { builder: &builder, directory: "out" };
    let [image] = &layout.images()[..] else { panic!("{:?}", layout.images()) };
    let index = layout.document(image);
    let list = "application/vnd.docker.distribution.manifest.list.v2+json";
    assert_eq!([&image["mediaType"], &index["mediaType"]], [list, list]);
    for entry in index["manifests"].as_array().expect("two") {
        let manifest = layout.document(entry);
        let kinds = [&entry["mediaType"], &manifest["mediaType"], &manifest["config"]["mediaType"]];
        let of_manifest = "application/vnd.docker.distribution.manifest.v2+json";
        let of_config = "application/vnd.docker.container.image.v1+json";
        assert_eq!(kinds, [of_manifest, of_manifest, of_config]);
        let layer = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        assert_eq!(manifest["layers"][0]["mediaType"], layer);
    }
}

/// Layers with a table of contents are layers to those who know nothing of it.
#[test]
fn privileged_layers_that_can_be_fetched_in_part_are_ordinary_ones_too() {
    let Some(builder) = Builder::bare() else { return };
    let dockerfile = "FROM scratch\nCOPY busybox /bin/busybox\n\
                      RUN [\"/bin/busybox\", \"ln\", \"/bin/busybox\", \"/bin/hard\"]\n";
    for (compression, kind, annotation, tool_files) in [
        ("estargz", "gzip", "containerd.io/snapshot/stargz/toc.digest", true),
        ("zstd:chunked", "zstd", "io.github.containers.zstd-chunked.manifest-checksum", false),
    ] {
        let output = format!("type=oci,dest=out,tar=false,name=app:1,compression={compression}");
        let built = builder.build(dockerfile, &["-o", &output, "-o", "type=image,name=app"]);
        built.success();
        // The second time it is known, down to the annotations.
        let again = output.replace("dest=out", "dest=again");
        builder.build(dockerfile, &["-o", &again]).success();
        let layout = Layout { builder: &builder, directory: "out" };
        let [image] = &layout.images()[..] else { panic!("{:?}", layout.images()) };
        let second = Layout { builder: &builder, directory: "again" };
        assert_eq!(second.images()[0]["digest"], image["digest"]);
        let manifest = layout.document(image);
        let diff_ids = layout.document(&manifest["config"])["rootfs"]["diff_ids"].clone();
        let layers = manifest["layers"].as_array().expect("layers");
        assert_eq!(layers.len(), 2);
        for (layer, diff_id) in layers.iter().zip(diff_ids.as_array().expect("ids")) {
            let suffix = format!("tar+{kind}");
            assert!(layer["mediaType"].as_str().expect("text").ends_with(&suffix), "{layer}");
            assert!(layer["annotations"][annotation].is_string(), "{layer}");
            let digest = layer["digest"].as_str().expect("a digest").replace(':', "/");
            let script = format!("{kind} -dc <out/blobs/{digest} | sha256sum");
            let digest = shell(&builder, &script);
            assert!(diff_id.as_str().expect("text")[7..] == digest[..64], "{digest} {diff_id}");
        }
        for (tool, script) in [
            ("skopeo", "skopeo copy -q oci:out:1 dir:copied && rm -r copied"),
            (
                "umoci",
                "umoci raw unpack --rootless --image out:1 root && \
                       cmp root/bin/busybox root/bin/hard && rm -r root",
            ),
        ] {
            if Command::new(tool).arg("--version").output().is_err() {
                skip(&format!("no {tool} to ask"));
            } else if !(tool == "umoci" && kind == "zstd") {
                shell(&builder, script);
            }
        }
        // And so is what we make of them.
        builder.run(&["load", "-i", "out"]).success();
        let ran = builder.run(&["run", "app:1", "/bin/busybox", "ls", "-a", "/"]).success();
        let listed = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert_eq!(listed.contains("stargz.index.json"), tool_files, "{listed}");
        std::fs::remove_dir_all(builder.path("out")).expect("removed");
        std::fs::remove_dir_all(builder.path("again")).expect("removed");
    }
}

fn shell(builder: &Builder, script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).current_dir(builder.path("")).output();
    let output = output.expect("sh runs");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn privileged_cacheonly_keeps_the_steps_and_no_image() {
    let Some(builder) = Builder::bare() else { return };
    let build = || builder.build(DOCKERFILE, &["-t", "app", "-o", "type=cacheonly"]).success();
    let built = build();
    assert!(built.stderr.contains("`--tag` has no effect"), "{}", built.stderr);
    let images = builder.run(&["images", "-q"]).success();
    assert_eq!(String::from_utf8_lossy(&images.stdout), "");
    assert_eq!(build().ran(), [""; 0]);
}

#[test]
fn privileged_a_directory_is_made_equal_to_the_result() {
    let Some(builder) = Builder::bare() else { return };
    let dockerfile = "FROM scratch\nCOPY tree /\n";
    for (name, content) in
        [("kept", "new"), ("sub/file", "new"), ("was-directory", "now a file"), ("was-file/a", "")]
    {
        builder.write(&format!("context/tree/{name}"), content);
        builder.write("elsewhere/precious", "still there");
    }
    for name in ["kept", "gone", "sub/gone", "was-directory/x", "was-file", "gone-too/deep/file"] {
        builder.write(&format!("out/{name}"), "old");
    }
    let link = |name: &str| {
        std::os::unix::fs::symlink("../elsewhere", builder.path(name)).expect("a link");
    };
    link("out/link");
    builder.build(dockerfile, &["-o", "type=local,dest=out"]).success();
    assert_eq!(builder.read("out/gone"), "old", "without `mode=delete` files stay");

    std::fs::remove_dir_all(builder.path("out/was-file")).expect("removed");
    builder.write("out/was-file", "old");
    std::fs::remove_file(builder.path("out/was-directory")).expect("removed");
    link("out/was-directory");
    builder.build(dockerfile, &["-o", "type=local,dest=out,mode=delete"]).success();
    assert_eq!(
        files(&builder, "out"),
        ["kept", "sub", "sub/file", "was-directory", "was-file", "was-file/a"]
    );
    assert_eq!(builder.read("out/was-directory"), "now a file");
    assert_eq!(builder.read("elsewhere/precious"), "still there");

    // A folder a platform: what else is there goes, too.
    let two = ["--platform", "linux/amd64,linux/arm64", "-o", "type=local,dest=out,mode=delete"];
    builder.build("FROM scratch\nCOPY tree/kept /\n", &two).success();
    let expected = ["linux_amd64", "linux_amd64/kept", "linux_arm64", "linux_arm64/kept"];
    assert_eq!(files(&builder, "out"), expected);

    // Where nobody means it, nothing is removed.
    let outside = ["build", "-o", "type=local,dest=../x,mode=delete", "context"];
    let refused = builder.run(&outside).fails_with(2);
    assert!(refused.words().contains("not a directory below the working directory"), "{refused:?}");
}

/// All names below a directory, sorted.
fn files(builder: &Builder, directory: &str) -> Vec<String> {
    let listed = Command::new("find")
        .args([".", "-mindepth", "1", "-printf", "%P\\n"])
        .current_dir(builder.path(directory))
        .output()
        .expect("find runs");
    let mut names: Vec<String> =
        String::from_utf8(listed.stdout).expect("text").lines().map(str::to_owned).collect();
    names.sort();
    names
}
