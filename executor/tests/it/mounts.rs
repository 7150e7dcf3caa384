//! Roots of layers, further mounts, and what is made to mount on.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use executor::{
    BindSource, Mount, MountSource, Process, Root, Scratch, Secret, Tmpfs, open_overlay,
};

use crate::Test;
use crate::fixture::{Fixture, listing};

pub(crate) const TESTS: &[Test] = &[
    ("privileged_a_step_writes_to_its_upper_directory_only", writes_go_to_the_upper_directory),
    ("privileged_three_hundred_layers_mount", three_hundred_layers_mount),
    ("privileged_too_many_layers_are_refused", too_many_layers_are_refused),
    ("privileged_a_directory_can_be_the_root", a_directory_can_be_the_root),
    ("privileged_bind_mounts_show_what_was_selected", bind_mounts),
    ("privileged_layers_can_be_mounted_and_written_to_no_effect", layers_as_mounts),
    ("privileged_secrets_are_files_in_memory", secrets_are_files_in_memory),
    ("privileged_tmpfs_and_readonly_root", tmpfs_and_readonly_root),
    ("privileged_mount_points_do_not_stay", mount_points_do_not_stay),
    ("privileged_used_mount_points_stay", used_mount_points_stay),
    ("privileged_a_scratch_image_gets_system_directories_only", a_scratch_image_stays_empty),
    ("privileged_open_overlay_merges_layers", open_overlay_merges_layers),
];

fn bind(target: &str, dir: &Path, selector: &str, readonly: bool) -> Mount {
    let source = BindSource::Path { dir: dir.to_owned(), selector: selector.to_owned() };
    Mount { target: target.to_owned(), source: MountSource::Bind(source), readonly }
}

fn secret(target: &str, content: &str, mode: u32) -> Mount {
    let content = Secret(content.as_bytes().to_vec());
    let source = MountSource::File { content, mode, uid: 0, gid: 0 };
    Mount { target: target.to_owned(), source, readonly: true }
}

fn with_mounts(mut process: Process, mounts: Vec<Mount>) -> Process {
    process.mounts = mounts;
    process
}

fn writes_go_to_the_upper_directory(fixture: &Fixture) {
    let before = listing(&fixture.root());
    fixture.output(
        "echo new > /new; echo more >> /etc/passwd; rm /etc/group; mv /var/deep /var/deeper",
    );
    assert_eq!(listing(&fixture.root()), before);
    let upper = fixture.upper();
    assert_eq!(fs::read_to_string(upper.join("new")).unwrap(), "new\n");
    assert!(upper.join("var/deeper/er").is_dir(), "a renamed directory is a copy, not a reference");
    use std::os::unix::fs::FileTypeExt;
    let whiteout = fs::symlink_metadata(upper.join("etc/group")).unwrap();
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
}

fn three_hundred_layers_mount(fixture: &Fixture) {
    let mut lowers = vec![fixture.root()];
    for number in 0..300 {
        let layer = fixture.directory(&format!("layer-with-a-rather-long-name-{number}"));
        fs::write(layer.join("top"), number.to_string()).unwrap();
        fs::write(layer.join(format!("only-{number}")), "").unwrap();
        lowers.push(layer);
    }
    let process = fixture.process_on(lowers, &["sh", "-c", "cat /top; ls / | grep -c only"]);
    assert_eq!(fixture.output_of(process), "299300\n");
}

fn too_many_layers_are_refused(fixture: &Fixture) {
    let layers = (0..401).map(|number| fixture.directory(&format!("layer{number}"))).collect();
    let process = fixture.process_on(layers, &["true"]);
    let expected = "failed to mount the root file system: 401 layers are more than the 400 that can be mounted";
    assert_eq!(fixture.refusal(process), expected);
    let missing = fixture.root().join("missing");
    let process = fixture.process_on(vec![missing], &["true"]);
    assert!(fixture.refusal(process).contains("failed to open the layer"));
}

fn a_directory_can_be_the_root(fixture: &Fixture) {
    let mut process = fixture.shell("echo kept > /kept");
    process.root = Root::Directory(fixture.root());
    fixture.output_of(process);
    assert_eq!(fs::read_to_string(fixture.root().join("kept")).unwrap(), "kept\n");
    assert!(!fixture.root().join("etc/hosts").exists());
}

fn bind_mounts(fixture: &Fixture) {
    let dir = fixture.directory("data");
    fs::create_dir_all(dir.join("sub/dir")).unwrap();
    fs::write(dir.join("sub/file"), "content").unwrap();
    symlink("/sub", dir.join("link")).unwrap();
    let mounts = vec![
        bind("/mnt/all", &dir, "", true),
        bind("/mnt/part", &dir, "link/dir", false),
        bind("/mnt/one", &dir, "/sub/file", true),
        bind("relative/target", &dir, "/", true),
    ];
    let script = "cat /mnt/all/sub/file /mnt/one; touch /mnt/part/made; \
                  touch /mnt/all/x 2>/dev/null || echo ro; ls /relative/target";
    let process = with_mounts(fixture.shell(script), mounts);
    assert_eq!(fixture.output_of(process), "contentcontentro\nlink\nsub\n");
    assert!(dir.join("sub/dir/made").exists());
    let fd = fs::File::open(dir.join("sub")).unwrap().into();
    let source = MountSource::Bind(BindSource::Fd(fd));
    let mount = Mount { target: "/fd".to_owned(), source, readonly: true };
    assert_eq!(
        fixture.output_of(with_mounts(fixture.shell("cat /fd/file"), vec![mount])),
        "content"
    );
    let missing = with_mounts(fixture.shell("true"), vec![bind("/x", &dir, "nothing", true)]);
    let expected =
        format!("failed to open `{}` for the mount at `/x`", dir.join("nothing").display());
    assert!(fixture.refusal(missing).starts_with(&expected));
    let onto_file = with_mounts(fixture.shell("true"), vec![bind("/etc/passwd", &dir, "", true)]);
    assert!(
        fixture.refusal(onto_file).starts_with("failed to mount `/etc/passwd`: Not a directory")
    );
}

fn layers_as_mounts(fixture: &Fixture) {
    let (one, two) = (fixture.directory("one"), fixture.directory("two"));
    fs::create_dir(one.join("d")).unwrap();
    fs::create_dir(two.join("d")).unwrap();
    fs::write(one.join("d/a"), "one").unwrap();
    fs::write(two.join("d/b"), "two").unwrap();
    let mount = |target: &str, scratch: Option<Scratch>, selector: &str| Mount {
        target: target.to_owned(),
        source: MountSource::Overlay {
            lowers: vec![one.clone(), two.clone()],
            scratch,
            selector: selector.to_owned(),
        },
        readonly: false,
    };
    let scratch =
        Scratch { upper: fixture.directory("s/upper"), work: fixture.directory("s/work") };
    let mounts =
        vec![mount("/ro", None, ""), mount("/part", None, "d"), mount("/rw", Some(scratch), "/d")];
    let script =
        "cat /ro/d/a /part/b; echo x > /rw/a; cat /rw/a; touch /ro/x 2>/dev/null || echo ro";
    let process = with_mounts(fixture.shell(script), mounts);
    assert_eq!(fixture.output_of(process), "onetwox\nro\n");
    assert_eq!(fs::read_to_string(one.join("d/a")).unwrap(), "one");
}

fn secrets_are_files_in_memory(fixture: &Fixture) {
    let script = "cat /run/secrets/key; stat -c '%a %u:%g' /run/secrets/key; \
                  grep /run/secrets/key /proc/mounts | cut -d' ' -f3 || true; \
                  (echo x > /run/secrets/key) 2>/dev/null || echo ro";
    let process = with_mounts(
        fixture.shell(&script.replace("cut -d' ' -f3", "grep -o ' tmpfs ro'")),
        vec![secret("/run/secrets/key", "hush-hush\n", 0o400)],
    );
    assert_eq!(fixture.output_of(process), "hush-hush\n400 0:0\n tmpfs ro\nro\n");
    assert!(!fixture.upper().join("run").exists(), "{:?}", listing(&fixture.upper()));
    // The command cannot look into the process that put it there, though it knows how to.
    let spy = "secret=$(cat /s); memory() { while read -r range mode rest; do \
               first=$((0x${range%-*} / 4096)); last=$((0x${range#*-} / 4096)); \
               dd if=/proc/$1/mem bs=4096 skip=$first count=$((last - first)) 2>/dev/null; \
               done < /proc/$1/maps; cat /proc/$1/environ /proc/$1/task/*/fd/* 2>/dev/null; }; \
               memory $$ </dev/null 2>/dev/null | grep -q 'hush-[h]ush' && echo $$ is seen; \
               memory 1 </dev/null 2>/dev/null | grep -q 'hush-[h]ush' && echo 1 is seen";
    let process = with_mounts(fixture.shell(spy), vec![secret("/s", "hush-hush\n", 0o400)]);
    assert_eq!(fixture.run(process).stdout, "2 is seen\n");
}

fn tmpfs_and_readonly_root(fixture: &Fixture) {
    let mounts = vec![Mount {
        target: "/scratch".to_owned(),
        source: MountSource::Tmpfs(Tmpfs { size: 64 << 10, ..Tmpfs::default() }),
        readonly: false,
    }];
    let script = "echo x > /scratch/x && cat /scratch/x; \
                  dd if=/dev/zero of=/scratch/big bs=1024 count=100 2>/dev/null || echo full; \
                  touch /y 2>/dev/null || echo ro";
    let mut process = with_mounts(fixture.shell(script), mounts);
    process.readonly_root = true;
    assert_eq!(fixture.output_of(process), "x\nfull\nro\n");
    let left = listing(&fixture.upper());
    let names: Vec<&str> = left.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["etc"], "places to mount on go, on a read-only root, too: {left:?}");
}

fn mount_points_do_not_stay(fixture: &Fixture) {
    let dir = fixture.directory("data");
    let mounts = vec![
        bind("/var/new/deep/dir", &dir, "", true),
        bind("/etc/dir", &dir, "", true),
        secret("/var/other/secret", "s", 0o400),
    ];
    fixture.output_of(with_mounts(fixture.shell("ls /var/new/deep/dir"), mounts));
    let upper = fixture.upper();
    let left: Vec<_> = listing(&upper);
    let names: Vec<&str> = left.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["etc", "var"], "only directories that were there before: {left:?}");
    assert_eq!(fs::metadata(&upper).unwrap().permissions().mode() & 0o777, 0o755);
}

fn used_mount_points_stay(fixture: &Fixture) {
    let dir = fixture.directory("data");
    let mounts = vec![bind("/var/new/dir", &dir, "", true)];
    fixture.output_of(with_mounts(fixture.shell("echo mine > /var/new/file"), mounts));
    let names: Vec<String> = listing(&fixture.upper());
    let names: Vec<&str> = names.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["etc", "var", "var/new", "var/new/file"]);
}

fn a_scratch_image_stays_empty(fixture: &Fixture) {
    let layer = fixture.directory("scratch");
    fs::copy(fixture.root().join("bin/busybox"), layer.join("busybox")).unwrap();
    let process = fixture.process_on(vec![layer], &["/busybox", "true"]);
    fixture.output_of(process);
    let left = listing(&fixture.upper());
    assert_eq!(left, ["dev 40755 0 ", "proc 40755 0 ", "sys 40755 0 "], "as BuildKit leaves them");
}

fn open_overlay_merges_layers(fixture: &Fixture) {
    let (one, two) = (fixture.directory("one"), fixture.directory("two"));
    fs::write(one.join("a"), "one").unwrap();
    fs::write(two.join("a"), "two").unwrap();
    let host = fixture.executor.host();
    for (lowers, expected) in [(vec![one.clone()], "one"), (vec![one.clone(), two.clone()], "two")]
    {
        let tree = open_overlay(host, &lowers).unwrap();
        let file = rustix::fs::openat(
            tree.as_fd(),
            "a",
            rustix::fs::OFlags::RDONLY,
            rustix::fs::Mode::empty(),
        );
        let text = std::io::read_to_string(fs::File::from(file.unwrap())).unwrap();
        assert_eq!(text, expected);
        let write = rustix::fs::openat(
            tree.as_fd(),
            "a",
            rustix::fs::OFlags::WRONLY,
            rustix::fs::Mode::empty(),
        );
        assert_eq!(write.unwrap_err(), rustix::io::Errno::ROFS);
    }
    assert!(host.supports_overlay(&fixture.directory("probe")).is_ok());
    assert_eq!(listing(&fixture.directory("probe")), [""; 0]);
}
