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
