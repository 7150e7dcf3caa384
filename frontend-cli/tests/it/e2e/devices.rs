//! `RUN --device`: what descriptions of devices (CDI) give a step.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;

use super::builder::Builder;
use super::skip;

/// A builder that finds its descriptions in a directory of its own.
fn described() -> Option<Builder> {
    let builder = Builder::new()?;
    let place = builder.path("cdi").display().to_string();
    builder.write("empty.toml", format!("[cdi]\nspecDirs = [\"{place}\", \"{place}/none\"]\n"));
    builder.write("host/file", "from the host");
    let host = builder.path("host").display().to_string();
    builder.write(
        "cdi/vendor.yaml",
        format!(
            "cdiVersion: 0.6.0
kind: vendor.com/thing
containerEdits:
  env: [CLASS=thing, PATH=/mine:/bin]
devices:
- name: one
  containerEdits:
    env: [ONE=1]
    deviceNodes:
    - {{path: /dev/thing/one, hostPath: /dev/null, fileMode: 416, uid: 7, gid: 8}}
    mounts:
    - {{hostPath: {host}, containerPath: /host, options: [ro, nosuid, nodev, rbind]}}
- name: two
  containerEdits:
    deviceNodes:
    - {{path: /dev/two, type: c, major: 1, minor: 5}}
- name: hooked
  containerEdits:
    hooks: [{{hookName: createContainer, path: /bin/hook}}]
"
        ),
    );
    builder.write(
        "cdi/other.json",
        r#"{"cdiVersion": "0.6.0", "kind": "other.com/c", "devices": [{"name": "x"}]}"#,
    );
    builder.write("cdi/ignored.txt", "nothing");
    Some(builder)
}

fn step(device: &str, command: &str) -> String {
    format!("FROM busybox\nRUN --device={device} {command}\n")
}

#[test]
fn privileged_a_step_has_the_devices_it_asks_for() {
    let Some(builder) = described() else { return };
    let allow = ["--allow", "device", "-o", "out"];
    let told = |device: &str, command: &str| {
        builder.build(&step(device, &format!("({command}) >/told 2>&1")), &allow).success();
        builder.read("out/told")
    };
    let all = "stat -c '%F %a %u %g %t:%T' /dev/thing/one; echo x >/dev/thing/one && cat /host/file; \
               touch /host/new 2>/dev/null || echo read-only; echo $CLASS $ONE $PATH";
    assert_eq!(
        told("vendor.com/thing=one,required", all),
        "character special file 640 7 8 1:3\nfrom the hostread-only\nthing 1 /mine:/bin\n"
    );
    // What the step does to the node is not done to the host's.
    told("vendor.com/thing=one", "chmod 777 /dev/thing/one");
    let host = std::fs::metadata("/dev/null").expect("a device");
    assert_ne!(host.mode() & 0o7777, 0o777);
    let two = "head -c 2 /dev/two | od -An -tx1; ls /dev/thing 2>&1; echo $ONE";
    let expected = " 00 00\nls: /dev/thing: No such file or directory\n\n";
    assert_eq!(told("vendor.com/thing=two", two), expected);
    // Without a name the first of the class; one that there is not is left out.
    assert_eq!(told("other.com/c", "echo ${CLASS-none}"), "none\n");
    assert_eq!(told("vendor.com/thing=three", "echo ${CLASS-none}"), "none\n");
    // Its description is no part of the key, its name is.
    let again = builder.build(&step("other.com/c", "(echo ${CLASS-none}) >/told 2>&1"), &allow);
    assert_eq!(again.success().ran(), [""; 0]);
    let left = builder.build(&step("vendor.com/thing=two", "true"), &allow).success();
    drop(left);
    builder
        .build("FROM busybox\nRUN ls /dev/two /host >/told 2>&1; true\n", &["-o", "out"])
        .success();
    assert_eq!(builder.read("out/told").lines().count(), 2);
}

#[test]
fn privileged_devices_are_allowed_known_and_supported_or_refused() {
    let Some(builder) = described() else { return };
    for (device, allowed, expected) in [
        ("vendor.com/thing=one", "", "device vendor.com/thing=one is not allowed"),
        ("vendor.com/thing=one", "device=vendor.com/thing=two", "is not allowed"),
        ("vendor.com/thing=one", "device=vendor.com/thin", "is not allowed"),
        ("vendor.com/thing=one", "device=vendor.com/thing=one", ""),
        ("vendor.com/thing=one", "device=vendor.com/thing", ""),
        ("vendor.com/thing=one", "device=vendor.com/thing=*", ""),
        (
            "vendor.com/thing=three,required",
            "device",
            "required device \"vendor.com/thing=three\" is not registered",
        ),
        ("vendor.com/thing=*,required", "device", "asks for hook `/bin/hook` (createContainer)"),
        ("vendor.com/thing=hooked", "device", "asks for hook `/bin/hook` (createContainer)"),
        ("thing,required", "device", "invalid device \"thing\""),
    ] {
        let allow = format!("--allow={allowed}");
        let words: &[&str] = if allowed.is_empty() { &[] } else { &[&allow] };
        let outcome = builder.build(&step(device, "true"), words);
        if expected.is_empty() {
            outcome.success();
        } else {
            let words = outcome.fails_with(1).words();
            assert!(words.contains(expected), "{device} with `{allowed}`: {words}");
        }
    }
    builder.write("cdi/bad.json", "{\"cdiVersion\": \"0.6.0\", \"kind\": \"bad\"}");
    let outcome = builder.build(&step("other.com/c", "true"), &["--allow", "device"]);
    let words = outcome.fails_with(1).words();
    assert!(words.contains("bad.json` does not describe devices: `kind` is `bad`"), "{words}");
}

/// One that no step may open, unless it is given to it.
#[test]
fn privileged_the_guard_lets_a_step_open_what_it_is_given() {
    let Some(builder) = described() else { return };
    let usable = ["/dev/fuse", "/dev/loop-control", "/dev/kmsg", "/dev/kvm"];
    let Some(device) = usable.into_iter().find(|path| File::open(path).is_ok()) else {
        return skip("there is no device to give here");
    };
    let number = std::fs::metadata(device).expect("a device").rdev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    builder.write(
        "cdi/real.yaml",
        format!(
            "cdiVersion: 0.6.0
kind: real.com/c
devices:
- name: all
  containerEdits: {{deviceNodes: [{{path: {device}}}]}}
- name: write
  containerEdits: {{deviceNodes: [{{path: {device}, permissions: w}}]}}
"
        ),
    );
    let open = format!(
        "mknod /node c {major} {minor}; (exec 3<{device}) 2>/dev/null && echo read >/told; \
         (exec 3<>/node) 2>/dev/null && echo made >>/told; touch /told"
    );
    for (name, expected) in [("all", "read\nmade\n"), ("write", ""), ("none", "")] {
        let dockerfile = step(&format!("real.com/c={name}"), &open);
        builder.build(&dockerfile, &["--allow", "device", "-o", "out"]).success();
        assert_eq!(builder.read("out/told"), expected, "{name}");
    }
}
