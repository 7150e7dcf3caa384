//! Commands on cache mounts: which there are, what is in them, removing them, copying to and from them.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Stdio;

use serde_json::Value;

use super::builder::Builder;

const DOCKERFILE: &str = "FROM busybox\n\
     RUN --mount=type=cache,target=/root/.npm mkdir -p /root/.npm/d/e; cd /root/.npm; echo one >d/one; echo top >top; \
     ln -s /d/one link; ln -s d way; chmod 640 d/one; chown 7:8 d/one; dd if=/dev/zero of=d/e/big bs=1M count=2\n\
     RUN --mount=type=cache,id=two,target=/two,uid=1 echo two >/two/two\n\
     RUN --mount=type=cache,id=two,target=/two,uid=2 echo too >/two/two\n";

fn world() -> Option<Builder> {
    let builder = Builder::new()?;
    builder.build(DOCKERFILE, &["-t", "app"]).success();
    Some(builder)
}

/// All mounts: id, bytes, whether in use, and name, by id.
fn mounts(builder: &Builder) -> Vec<(String, u64, bool, String)> {
    let listed = builder.run(&["cache-mount", "ls", "--format", "json"]).success().text();
    let mount = |line: &str| {
        let value: Value = serde_json::from_str(line).expect("a line is JSON");
        let text = |field: &str| value[field].as_str().expect("a text").to_owned();
        (text("MountID"), text("Bytes").parse().unwrap(), text("InUse") == "yes", text("ID"))
    };
    let mut mounts: Vec<_> = listed.lines().map(mount).collect();
    mounts.sort();
    mounts
}

#[test]
fn privileged_mounts_are_listed_with_their_sizes_and_removed_by_their_ids() {
    let Some(builder) = world() else { return };
    let all = mounts(&builder);
    let ids: Vec<&str> = all.iter().map(|(id, ..)| id.as_str()).collect();
    assert_eq!(ids, ["/root/.npm", "two", "two"]);
    assert!(
        all[0].1 > 2 << 20 && all[1].1 < 1 << 20 && all.iter().all(|mount| !mount.2),
        "{all:?}"
    );
    let table = builder.run(&["cache-mount", "ls"]).success().text();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect())
        .collect();
    assert_eq!(rows[0], ["ID", "MOUNT ID", "SIZE", "LAST USED", "IN USE"]);
    assert_eq!(rows.len(), 4);
    let names = builder.run(&["cache-mount", "ls", "-q"]).success().text();
    assert!(all.iter().all(|mount| names.lines().any(|name| name == mount.3)), "{names}");
    let total = builder.run(&["cache-mount", "du"]).success().text();
    assert!(total.lines().nth(1).unwrap().ends_with("/root/.npm"), "{total}");
    assert!(total.lines().last().unwrap().ends_with("total"), "{total}");
    let inside = ["cache-mount", "du", "/root/.npm", "--format", "{{.Name}}"];
    assert_eq!(builder.run(&inside).success().text(), "d\ntop\nlink\nway\n");

    // One by its own name, the others by their id.
    builder.run(&["cache-mount", "rm", &all[1].3]).success();
    assert_eq!(mounts(&builder).len(), 2);
    let removed = builder.run(&["cache-mount", "rm", "nosuch", "two"]).fails_with(1);
    assert!(removed.words().contains("no cache mount `nosuch`"), "{}", removed.words());
    assert_eq!(removed.text(), format!("{}\n", all[2].3));
    assert_eq!(mounts(&builder).len(), 1);
    builder.run(&["cache-mount", "rm", "-f", "nosuch"]).success();
    // It is made again.
    builder.build(DOCKERFILE, &["--no-cache"]).success();
    assert_eq!(mounts(&builder).len(), 3);
}

#[test]
fn privileged_a_mount_in_use_is_neither_removed_nor_written_to() {
    let Some(builder) = world() else { return };
    let dockerfile = "FROM busybox\nRUN --mount=type=cache,target=/root/.npm echo begun; \
                      while [ ! -e /root/.npm/go ]; do sleep 0.1; done\n";
    builder.write("context/Dockerfile", dockerfile);
    let mut command = builder.command(&["build", "--progress", "plain", "context"]);
    let mut child = builder.spawn(command.stderr(Stdio::piped()));
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut lines = lines.map(Result::unwrap);
    assert!(lines.any(|line| line.ends_with(" begun")), "the step ran");
    assert!(mounts(&builder)[0].2);
    builder.write("go", "");
    for words in [["rm", "/root/.npm"].as_slice(), &["cp", "go", "/root/.npm:/"]] {
        let refused = builder.run(&[&["cache-mount"], words].concat()).fails_with(1);
        assert!(refused.words().contains("`/root/.npm` is in use"), "{}", refused.words());
    }
    // Who shares it may be looked at.
    builder.run(&["cache-mount", "cp", "/root/.npm:top", "seen"]).success();
    assert_eq!(builder.read("seen"), "top\n");
    let slot = fs::read_dir(builder.store().join("mounts-v1")).unwrap().map(|e| e.unwrap().path());
    for slot in slot.filter(|slot| fs::read_to_string(slot.join("id")).unwrap() == "//root/.npm") {
        fs::write(slot.join("0/go"), "").unwrap();
    }
    assert!(child.wait().unwrap().success(), "{:?}", lines.collect::<Vec<_>>());
}

#[test]
fn privileged_files_are_copied_as_docker_cp_does() {
    let Some(builder) = world() else { return };
    let copy = |words: &[&str]| builder.run(&[&["cache-mount", "cp"], words].concat());
    let read = |name: &str| fs::read_to_string(builder.path(name)).unwrap();
    // A file: to a new name, over a file, into a directory.
    for (to, made) in
        [("new", "new"), ("new", "new"), ("context", "context/one"), ("./context/", "context/one")]
    {
        copy(&["/root/.npm:/d/one", to]).success();
        assert_eq!(read(made), "one\n", "{to}");
    }
    let mode = |name: &str| fs::metadata(builder.path(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("new"), 0o640);
    let owner = |name: &str| {
        let found = fs::metadata(builder.path(name)).unwrap();
        (std::os::unix::fs::MetadataExt::uid(&found), std::os::unix::fs::MetadataExt::gid(&found))
    };
    assert_eq!(owner("new"), owner("context"), "what is copied is the user's");
    // A directory: to a new name, into one that is there, and what is in it.
    copy(&["/root/.npm:d", "made"]).success();
    copy(&["/root/.npm:d", "made"]).success();
    copy(&["/root/.npm:/d/.", "made/e"]).success();
    assert_eq!(["made/one", "made/d/one", "made/e/one"].map(read), ["one\n"; 3]);
    // All of it, links as links; and what a link leads to, which is never outside.
    copy(&["/root/.npm:", "all"]).success();
    assert_eq!(fs::read_link(builder.path("all/link")).unwrap().to_str(), Some("/d/one"));
    copy(&["-L", "/root/.npm:link", "followed"]).success();
    copy(&["/root/.npm:way/one", "through"]).success();
    assert_eq!(["followed", "through", "all/d/one"].map(read), ["one\n"; 3]);
    // And there: into the mount, below links of its own, and nowhere else.
    builder.write("canary", "alive");
    let outside = builder.path("");
    builder.write("tree/way/in", "in\n");
    builder.write("tree/deep/file", "file\n");
    symlink(&outside, builder.path("tree/deep/out")).unwrap();
    copy(&["tree/deep", "/root/.npm:"]).success();
    copy(&["canary", "/root/.npm:deep/out/canary2"]).fails_with(1);
    copy(&["./new", "/root/.npm:way/copied"]).success();
    let refused = copy(&["tree/.", "/root/.npm:/"]).fails_with(1);
    assert!(refused.words().contains("way"), "{}", refused.words());
    let archive = copy(&["/root/.npm:/deep", "-"]).success().stdout;
    let mut archive = tar::Archive::new(&archive[..]);
    let names =
        archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string());
    assert_eq!(names.collect::<Vec<_>>(), ["deep/", "deep/file", "deep/out"]);
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o600);
    archive.append_data(&mut header, "from/tar", &b"tar"[..]).unwrap();
    let archive = archive.into_inner().unwrap();
    builder.run_with_input(&["cache-mount", "cp", "-", "/root/.npm:/way"], &archive).success();
    let look = "FROM busybox\nRUN --mount=type=cache,target=/root/.npm cd /root/.npm; \
                stat -c '%n %u:%g %a' d/copied d/from/tar deep/file deep/out\n";
    let seen = builder
        .build(look, &["--progress", "json", "--no-cache", "--keep-cache-mounts"])
        .success()
        .log();
    let wanted = "d/copied 0:0 640\nd/from/tar 0:0 600\ndeep/file 0:0 644\ndeep/out 0:0 777\n";
    assert_eq!(seen, wanted);
    assert_eq!(read("canary"), "alive");
    assert!(!builder.path("canary2").exists());
}

#[test]
fn privileged_copies_that_cannot_be_are_refused_by_name() {
    let Some(builder) = world() else { return };
    builder.write("file", "kept\n");
    builder.write("tree/one", "");
    builder.write("over/top/kept", "kept\n");
    for (words, code, said) in [
        (["/root/.npm:nosuch", "x"], 1, "`nosuch` does not exist"),
        (["/root/.npm:top", "no/such/x"], 1, "no/such"),
        (["/root/.npm:top", "nosuch/"], 1, "nosuch/` does not exist"),
        (["/root/.npm:d", "file"], 1, "is a file"),
        (["/root/.npm:top/", "x"], 1, "Not a directory"),
        (["/root/.npm:/.", "over"], 1, "top"),
        (["nosuch", "/root/.npm:x"], 1, "nosuch` does not exist"),
        (["file", "/root/.npm:no/such"], 1, "no/` does not exist"),
        (["tree", "/root/.npm:top"], 1, "is a file"),
        (["file", "two:x"], 1, "several cache mounts"),
        (["file", "three:x"], 1, "no cache mount `three`"),
        (["file", "tree"], 2, "MOUNT:PATH"),
        (["two:x", "/root/.npm:y"], 2, "from one cache mount to another"),
    ] {
        let refused = builder.run(&[&["cache-mount", "cp"], &words[..]].concat()).fails_with(code);
        assert!(refused.words().contains(said), "{words:?}: {}", refused.words());
    }
    assert_eq!(
        (builder.read("file"), builder.read("over/top/kept")),
        ("kept\n".into(), "kept\n".into())
    );
}
