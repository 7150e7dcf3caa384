//! One build for several platforms, and steps for another one than the machine's.

use std::process::Command;

use serde_json::Value;

use super::builder::{Builder, arm64_busybox};
use super::skip;

/// A base for every platform that the context has a busybox for.
const BASE: &str = "FROM scratch
ARG TARGETARCH
COPY $TARGETARCH/busybox /bin/busybox
RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]
RUN mkdir -m 1777 /tmp
CMD [\"sh\"]
";

const TWO: &str = "FROM --platform=$BUILDPLATFORM base AS build
ARG BUILDPLATFORM
RUN echo \"on $BUILDPLATFORM\" > /once; uname -m >> /once
FROM base
RUN uname -m > /machine; sh -c 'uname -m' >> /machine; id -u >> /machine
COPY --from=build /once /once
CMD [\"cat\", \"/machine\"]
";

const PLATFORMS: [&str; 2] = ["--platform", "linux/amd64,linux/arm64"];

/// With `base` in the store, for this machine and for arm64; nothing, and a word about it, where
/// programs for arm64 cannot be found or run.
fn builder() -> Option<Builder> {
    let builder = Builder::bare()?;
    let busybox = arm64_busybox()?;
    builder.copy_busybox("context/amd64/busybox");
    builder.write_program("context/arm64/busybox", busybox);
    let built = builder.build(BASE, &[&PLATFORMS[..], &["-t", "base"]].concat());
    if built.code != Some(0) && built.stderr.contains("nothing here runs programs for arm64") {
        skip(&format!("there is no emulator for arm64: {}", built.words()));
        return None;
    }
    built.success();
    Some(builder)
}

#[test]
fn privileged_a_build_for_two_platforms_is_one_index() {
    let Some(builder) = builder() else { return };
    let outputs = ["-o", "type=oci,dest=two.tar", "-o", "type=local,dest=out", "--load"];
    let built = builder.build(TWO, &[&PLATFORMS[..], &outputs, &["-t", "two:1"]].concat());
    let built = built.success();
    assert_eq!(
        built.ran(),
        [
            "linux/amd64 build 2/2",
            "linux/amd64 stage-1 2/3",
            "linux/amd64 stage-1 3/3",
            "linux/arm64 stage-1 2/3",
            "linux/arm64 stage-1 3/3",
        ],
        "what is said to run on the build's own platform runs once"
    );
    assert_eq!(builder.read("out/linux_amd64/machine"), "x86_64\nx86_64\n0\n");
    assert_eq!(builder.read("out/linux_arm64/machine"), "aarch64\naarch64\n0\n");
    for platform in ["linux_amd64", "linux_arm64"] {
        assert_eq!(builder.read(&format!("out/{platform}/once")), "on linux/amd64\nx86_64\n");
        assert_eq!(find(&builder, &format!("out/{platform}"), "*qemu*"), "", "{platform}");
    }
    assert_eq!(platforms_of_index(&builder, "two.tar"), ["linux/amd64", "linux/arm64"]);
    for (words, machine) in [
        (&["run", "two:1"][..], "x86_64\nx86_64\n0\n"),
        (&["run", "--platform", "linux/arm64", "two:1"], "aarch64\naarch64\n0\n"),
    ] {
        assert_eq!(builder.run(words).success().text(), machine, "{words:?}");
    }
}

#[test]
fn privileged_what_is_known_needs_no_emulator() {
    let Some(builder) = builder() else { return };
    let arm64 = ["--platform", "linux/arm64"];
    builder.build(TWO, &arm64).success();
    // One that is chosen and cannot be used is told, not passed over.
    builder.write("empty.toml", "[emulators]\narm64 = \"/nosuch/emulator\"\n");
    assert_eq!(builder.build(TWO, &arm64).success().ran(), Vec::<String>::new());
    let failed = builder.build(TWO, &["--platform", "linux/arm64", "--no-cache"]).fails_with(1);
    for words in [
        "programs for arm64 cannot be run: failed to read `/nosuch/emulator`: No such file",
        "hint: install QEMU's user-mode emulators (package `qemu-user-static`)",
    ] {
        assert!(failed.words().contains(words), "{}", failed.words());
    }
    builder.write("empty.toml", "[emulators]\naarch64 = \"/usr/bin/qemu\"\n");
    let failed = builder.build(TWO, &[]).fails_with(1);
    let expected = "`[emulators]`: `aarch64` is not an architecture that emulators are known for";
    assert!(failed.words().contains(expected), "{}", failed.words());
}

/// A machine that has registered `$EMULATOR` itself, and has none installed where we look: a user
/// namespace with a table of interpreters. 77 where there is no such table.
const MACHINE: &str = r#"
set -e
mount --bind /dev/null "$(command -v qemu-aarch64-static)"
mount -t binfmt_misc none /proc/sys/fs/binfmt_misc || exit 77
rule=':arm64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
rule="$rule"':\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
printf '%s:%s:%s' "$rule" "$EMULATOR" "$FLAGS" >/proc/sys/fs/binfmt_misc/register
"$@" build -q --platform linux/arm64 -t base -f Base.Dockerfile context
exec "$@" build --platform linux/arm64 -o "out$FLAGS" -f Two.Dockerfile context
"#;

#[test]
fn privileged_an_emulator_that_the_machine_has_registered_is_used() {
    let Some(builder) = builder() else { return };
    const INSTALLED: &str = "/usr/bin/qemu-aarch64-static";
    if !std::path::Path::new(INSTALLED).exists() {
        skip("there is no emulator to register");
        return;
    }
    builder.write("Base.Dockerfile", BASE);
    builder.write("Two.Dockerfile", TWO.replace("--platform=$BUILDPLATFORM ", ""));
    let emulator = builder.kept_program("emulator", INSTALLED);
    for flags in ["", "F"] {
        let mut command = Command::new("unshare");
        command.args(["-Urm", "sh", "-c", MACHINE, "sh"]).arg(builder.program());
        command.env("MYBUILD_ROOT", builder.path(&format!("store{flags}")));
        command.env("MYBUILD_CONFIG", builder.path("empty.toml"));
        command.env("EMULATOR", &emulator).env("FLAGS", flags);
        let output = command.current_dir(builder.path(".")).output().expect("unshare runs");
        if output.status.code() == Some(77) {
            skip("a user namespace has no table of interpreters here");
            break;
        }
        assert!(output.status.success(), "{flags}: {}", String::from_utf8_lossy(&output.stderr));
        let out = format!("out{flags}");
        assert_eq!(builder.read(&format!("{out}/machine")), "aarch64\naarch64\n0\n");
        assert_eq!(find(&builder, &out, "emulator"), "", "where it is looked for nothing stays");
    }
    let directory = emulator.parent().expect("it has one");
    std::fs::remove_dir_all(directory).expect("it was made");
}

/// Files alone: no step runs, so no emulator is needed.
const FILES: &str = "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /arch\n";

fn files() -> Option<Builder> {
    let builder = Builder::bare()?;
    for architecture in ["amd64", "arm64", "s390x"] {
        builder.write(&format!("context/{architecture}"), architecture);
    }
    Some(builder)
}

#[test]
fn privileged_annotations_are_put_where_they_are_asked_for() {
    let Some(builder) = files() else { return };
    let annotations = [
        "all=1",
        "manifest[linux/arm64]:all=arm",
        "manifest[linux/arm64],index:both=2",
        "index-descriptor:top=3",
        "manifest-descriptor[linux/amd64]:entry=4",
    ];
    let annotations: Vec<&str> = annotations.iter().flat_map(|a| ["--annotation", a]).collect();
    let output = ["-o", "type=oci,dest=out,tar=false", "--metadata-file", "meta"];
    let words = [&PLATFORMS[..], &annotations, &output].concat();
    builder.build(FILES, &words).success();
    let json = |path: &str| -> Value { serde_json::from_str(&builder.read(path)).expect("JSON") };
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().expect("a digest").replace(':', "/");
        json(&format!("out/blobs/{digest}"))
    };
    let top = &json("out/index.json")["manifests"][0];
    assert_eq!(top["annotations"]["top"], "3", "{top}");
    assert_eq!(json("meta")["containerimage.descriptor"]["annotations"]["top"], "3");
    let index = blob(top);
    assert_eq!(index["annotations"], serde_json::json!({"both": "2"}));
    let [amd64, arm64] = [0, 1].map(|number| &index["manifests"][number]);
    assert_eq!(
        (&amd64["annotations"]["entry"], &arm64["annotations"]),
        (&"4".into(), &Value::Null)
    );
    assert_eq!(blob(amd64)["annotations"], serde_json::json!({"all": "1"}));
    assert_eq!(blob(arm64)["annotations"], serde_json::json!({"all": "arm", "both": "2"}));
    for (annotation, expected) in [
        ("index:k=v", "index annotations not supported for single platform export"),
        ("manifest[linux/s390x]:k=v", "annotation `k`: nothing is built for linux/s390x"),
    ] {
        let words = ["--platform", "linux/amd64", "--annotation", annotation];
        let failed = builder.build(FILES, &words).fails_with(1);
        assert!(failed.words().contains(expected), "{}", failed.words());
    }
}

#[test]
fn privileged_one_platform_may_have_an_index() {
    let Some(builder) = files() else { return };
    let index = ["--build-arg", "BUILDKIT_MULTI_PLATFORM=1", "--platform", "linux/arm64"];
    let outputs = [
        "-o",
        "type=oci,dest=one.tar",
        "-o",
        "out",
        "-o",
        "type=tar,dest=files.tar",
        "-o",
        "type=tar,dest=flat.tar,platform-split=false",
        "--load",
    ];
    let files = ["-t", "one", "--iidfile", "id", "--metadata-file", "meta"];
    let built = builder.build(FILES, &[&index[..], &outputs, &files].concat()).success();
    assert!(!built.stderr.contains("BUILDKIT_MULTI_PLATFORM"), "{}", built.stderr);
    assert!(built.steps().iter().any(|step| step.name.starts_with("[linux/arm64 1/1]")));
    assert_eq!(platforms_of_index(&builder, "one.tar"), ["linux/arm64"]);
    assert_eq!(builder.read("out/linux_arm64/arch"), "arm64");
    let listed = |tar: &str| {
        let mut command = Command::new("tar");
        let output = command.args(["-tf", tar]).current_dir(builder.path("."));
        String::from_utf8(output.output().expect("tar runs").stdout).expect("UTF-8")
    };
    assert_eq!(listed("files.tar"), "linux_arm64/\nlinux_arm64/arch\n");
    assert_eq!(listed("flat.tar"), "arch\n");
    // Its id is that of the index, in which the image is found.
    let meta: Value = serde_json::from_str(&builder.read("meta")).expect("JSON");
    assert_eq!(meta["containerimage.digest"], builder.read("id"));
    assert_eq!(meta["containerimage.config.digest"], Value::Null);
    let of_image = builder.run(&["inspect", "-f", "{{.Architecture}}", "one"]).success();
    assert_eq!(of_image.text(), "arm64\n");
    let alone = builder.build(FILES, &["--platform", "linux/arm64", "-o", "flat"]).success();
    assert!(alone.steps().iter().any(|step| step.name.starts_with("[1/1]")));
    assert_eq!(builder.read("flat/arch"), "arm64");
}

#[test]
fn privileged_commands_on_images_know_indexes() {
    let Some(builder) = files() else { return };
    let platforms = "linux/amd64,linux/arm64,linux/s390x";
    builder.build(FILES, &["--platform", platforms, "-t", "many:1", "-t", "many:2"]).success();
    let listed = ["images", "--format", "{{.Tag}} {{.Platforms}}", "many"];
    let expected = "1 linux/amd64,linux/arm64,linux/s390x\n2 linux/amd64,linux/arm64,linux/s390x\n";
    assert_eq!(builder.run(&listed).success().text(), expected);
    let id = builder.run(&["images", "-q", "--no-trunc", "many:1"]).success().text();
    builder.run(&["save", "-o", "many.tar", "many:1"]).success();
    assert_eq!(platforms_of_index(&builder, "many.tar").len(), 3);
    let history = builder.run(&["history", "--no-trunc", "many:1"]).success().text();
    assert!(history.contains("COPY amd64 /arch"), "of the machine's own: {history}");
    builder.run(&["rmi", "many:1", "many:2"]).success();
    assert_eq!(builder.run(&["images", "-q"]).success().text(), "");
    builder.run(&["load", "-i", "many.tar"]).success();
    assert_eq!(builder.run(&["images", "-q", "--no-trunc", "many:1"]).success().text(), id);
    // Every platform's image can be built on.
    for architecture in ["amd64", "arm64", "s390x"] {
        let platform = format!("linux/{architecture}");
        builder
            .build("FROM many:1\nWORKDIR /x\n", &["--platform", &platform, "-o", "on"])
            .success();
        assert_eq!(builder.read("on/arch"), architecture);
    }
}

fn find(builder: &Builder, at: &str, name: &str) -> String {
    let mut command = Command::new("find");
    let output = command.args([at, "-name", name]).current_dir(builder.path("."));
    String::from_utf8(output.output().expect("find runs").stdout).expect("UTF-8")
}

/// The platforms of the one index that an archive holds, as another program reads it.
fn platforms_of_index(builder: &Builder, archive: &str) -> Vec<String> {
    let place = format!("oci-archive:{}", builder.path(archive).display());
    let output = Command::new("skopeo").args(["inspect", "--raw", &place]).output();
    let output = output.expect("skopeo is installed");
    assert!(output.status.success(), "{output:?}");
    let index: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json", "{index}");
    let manifests = index["manifests"].as_array().expect("manifests");
    let platform = |manifest: &Value| {
        let part = |name: &str| manifest["platform"][name].as_str().expect("text").to_owned();
        format!("{}/{}", part("os"), part("architecture"))
    };
    manifests.iter().map(platform).collect()
}
