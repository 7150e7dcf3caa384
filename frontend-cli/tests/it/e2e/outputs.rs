//! The forms in which a build's result leaves.

use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::builder::Builder;

const DOCKERFILE: &str = "FROM busybox AS made
RUN mkdir -p /tree/sub && echo content >/tree/sub/file && chmod 640 /tree/sub/file && \\
    ln -s sub/file /tree/link && ln /tree/sub/file /tree/hard
FROM scratch
COPY --from=made /tree /
CMD [\"/program\"]
";

#[test]
fn privileged_the_same_files_come_out_of_every_form() {
    let Some(builder) = Builder::new() else { return };
    let outputs =
        ["local,dest=local", "tar,dest=files.tar", "oci,dest=oci.tar", "docker,dest=docker.tar"];
    let outputs: Vec<String> = outputs
        .into_iter()
        .flat_map(|output| ["-o".to_owned(), format!("type={output}")])
        .collect();
    let mut words: Vec<&str> = outputs.iter().map(String::as_str).collect();
    words.extend(["-t", "form:1", "-o", "type=oci,dest=layout,tar=false"]);
    builder.build(DOCKERFILE, &words).success();

    let directory = builder.path("");
    let tree = |at: &str| {
        sh(
            &directory,
            &format!(
                "cd {at} && find . -mindepth 1 | sort | while read -r f; do stat -c '%n %F %a' $f; done; \
         cat link sub/file hard"
            ),
        )
    };
    sh(
        &directory,
        "mkdir files oci docker of-oci of-docker && tar -C files -xf files.tar && \
                    tar -C oci -xf oci.tar && tar -C docker -xf docker.tar",
    );
    let expected = "./hard regular file 640\n./link symbolic link 777\n./sub directory 755\n\
                    ./sub/file regular file 640\ncontent\ncontent\ncontent\n";
    assert_eq!(tree("local"), expected);
    assert_eq!(tree("files"), expected);

    for (layout, unpacked) in [("oci", "of-oci"), ("layout", "of-layout")] {
        sh(&directory, &format!("mkdir -p {unpacked}"));
        let manifest = manifest(&builder, layout);
        for layer in manifest["layers"].as_array().expect("layers") {
            unpack(&directory, &blob(layout, &layer["digest"]), unpacked);
        }
        assert_eq!(tree(unpacked), expected, "{layout}");
    }
    let archive: Value = serde_json::from_str(&builder.read("docker/manifest.json")).expect("JSON");
    assert_eq!(archive[0]["RepoTags"], serde_json::json!(["form:1"]));
    for layer in archive[0]["Layers"].as_array().expect("layers") {
        unpack(&directory, &format!("docker/{}", layer.as_str().expect("a path")), "of-docker");
    }
    assert_eq!(tree("of-docker"), expected);
    let config = archive[0]["Config"].as_str().expect("a path");
    let config: Value =
        serde_json::from_str(&builder.read(&format!("docker/{config}"))).expect("JSON");
    assert_eq!(config["config"]["Cmd"], serde_json::json!(["/program"]));
    // Other programs read the layout, where they are installed.
    if Path::new("/usr/bin/skopeo").exists() {
        let inspected = sh(&directory, "skopeo inspect --config oci:layout:1");
        let inspected: Value = serde_json::from_str(&inspected).expect("JSON");
        assert_eq!(inspected["config"]["Cmd"], config["config"]["Cmd"]);
    }
}

#[test]
fn privileged_a_tar_goes_through_a_pipe() {
    let Some(builder) = Builder::new() else { return };
    for form in ["-", "type=tar,dest=-", "type=oci,dest=-", "type=docker,dest=-"] {
        let outcome = builder.build(DOCKERFILE, &["-o", form]).success();
        std::fs::write(builder.path("piped.tar"), &outcome.stdout).expect("written");
        let list = sh(&builder.path(""), "tar -tf piped.tar");
        let name =
            if form.contains("oci") || form.contains("docker") { "blobs/" } else { "sub/file" };
        assert!(list.contains(name), "{form}: {list}");
    }
}

#[test]
fn privileged_a_layout_whose_index_does_not_read_is_left_alone() {
    let Some(builder) = Builder::bare() else { return };
    builder.write("context/Dockerfile", "FROM scratch\nCOPY busybox /\n");
    builder.write("layout/index.json", "{ damaged");
    let words = ["build", "-q", "-o", "type=oci,tar=false,dest=layout", "context"];
    let outcome = builder.run(&words).fails_with(1);
    assert!(outcome.words().contains("layout/index.json` is not an image index"), "{outcome:?}");
    assert_eq!(builder.read("layout/index.json"), "{ damaged");
}

#[test]
fn privileged_two_machines_build_the_same_image() {
    let digest = |parallel: &str| {
        let builder = Builder::bare()?;
        let dockerfile = "FROM scratch AS base\nCOPY busybox /bin/\n\
             RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n\
             FROM base AS one\nRUN date >/dated; mkdir /z /a /m; touch /z/1 /a/2 /m/3\n\
             FROM base AS two\nRUN mkdir -p /b/c && chown 12:34 /b/c && mkfifo /b/fifo\n\
             FROM base\nCOPY --from=one /z /a /m /one/\nCOPY --from=two /b /two\n\
             COPY --chmod=600 busybox /copied\nRUN rm -r /one/1 && echo text >/two/c/file\n\
             LABEL b=2 a=1\nWORKDIR /made/here\n";
        let words =
            ["--metadata-file", "meta.json", "--jobs", parallel, "-o", "type=oci,dest=image.tar"];
        builder.write("Dockerfile", dockerfile);
        let mut command =
            builder.command(&[&["-f", "Dockerfile"], &words[..], &["context"]].concat());
        builder.run_command(command.env("SOURCE_DATE_EPOCH", "1000000000")).success();
        let meta: Value = serde_json::from_str(&builder.read("meta.json")).expect("JSON");
        sh(&builder.path(""), "mkdir layout && tar -C layout -xf image.tar");
        let config =
            builder.read(&blob("layout", &manifest(&builder, "layout")["config"]["digest"]));
        Some((meta["containerimage.digest"].as_str().expect("a digest").to_owned(), config))
    };
    let (Some(one), Some(other)) = (digest("1"), digest("4")) else { return };
    assert_eq!(one, other);
    assert!(one.1.contains("2001-09-09T01:46:40Z"), "{}", one.1);
}

/// The one manifest of a layout.
fn manifest(builder: &Builder, layout: &str) -> Value {
    let index = builder.read(&format!("{layout}/index.json"));
    let index: Value = serde_json::from_str(&index).expect("JSON");
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(1), "{index}");
    let manifest = builder.read(&blob(layout, &index["manifests"][0]["digest"]));
    serde_json::from_str(&manifest).expect("JSON")
}

fn blob(layout: &str, digest: &Value) -> String {
    let digest = digest.as_str().expect("a digest");
    format!("{layout}/blobs/{}", digest.replace(':', "/"))
}

fn unpack(directory: &Path, layer: &str, into: &str) {
    sh(directory, &format!("tar -C {into} -xf {layer}"));
}

fn sh(directory: &Path, script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).current_dir(directory).output();
    let output = output.expect("sh runs");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// A large disk image with little in it is a small file.
#[test]
fn privileged_holes_stay_holes_in_files_that_leave() {
    let Some(builder) = Builder::new() else { return };
    let dockerfile = "FROM busybox AS made\n\
        RUN mkdir /tree && truncate -s 64M /tree/hole && for at in 0 30 63; do \
        echo $at | dd of=/tree/sparse bs=1M seek=$at conv=notrunc 2>/dev/null; done; \
        truncate -s 64M /tree/sparse; head -c 1000000 /dev/urandom >/tree/full\n\
        FROM made\n";
    builder.build(dockerfile, &["-o", "type=local,dest=out"]).success();
    let metadata = |name: &str| {
        std::fs::metadata(builder.path("out/tree").join(name)).expect("it has come out")
    };
    for (name, most) in [("hole", 1 << 16), ("sparse", 1 << 20)] {
        let metadata = metadata(name);
        assert_eq!(metadata.len(), 64 << 20, "{name}");
        assert!(metadata.blocks() * 512 <= most, "{name}: {} blocks", metadata.blocks());
    }
    assert_eq!(metadata("full").len(), 1_000_000);
    let file = std::fs::File::open(builder.path("out/tree/sparse")).expect("it has come out");
    for at in [0_u64, 30, 63] {
        let mut bytes = [0; 5];
        file.read_exact_at(&mut bytes, at << 20).expect("within the file");
        assert_eq!(String::from_utf8_lossy(&bytes).trim_end_matches('\0'), format!("{at}\n"));
    }
}
