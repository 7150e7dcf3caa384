//! What the caller has set for itself (umask, limits, view of the machine) reaches what is given to
//! the caller, and neither steps nor layers.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::builder::Builder;

/// As another user than root, on a root that nothing was made in before.
const DOCKERFILE: &str = r#"FROM scratch AS made
COPY busybox /bin/
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN echo "app:x:1000:1000::/:/bin/sh" >/etc-passwd; mkdir /new; echo x >/new/file
WORKDIR /home/dir
COPY busybox /copied/deep/
USER 1000
RUN --mount=type=cache,target=/cache/deep --mount=type=bind,target=/bound/deep,rw \
    --mount=type=tmpfs,target=/memory/deep --mount=type=secret,id=none,target=/s/deep \
    stat -c '%a %n' / /proc /dev /dev/null /sys /cache /cache/deep /bound /bound/deep /memory \
        /home /home/dir /copied /copied/deep; \
    umask; uname -m; ulimit -Sc; ulimit -Ss; ulimit -Sn; ulimit -St
"#;

/// The same words as `command`, from a shell that has run `script` before.
pub(super) fn from_shell(command: &Command, script: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", &format!("{script}; exec \"$@\""), "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .current_dir(command.get_current_dir().expect("the builder's"));
    shell
}

#[test]
fn privileged_nothing_of_the_callers_gets_into_a_layer() {
    let results = [
        "umask 022",
        "umask 077; ulimit -Sc unlimited; ulimit -Ss 4096; ulimit -St 3000; \
         exec setarch i686 sh -c 'exec \"$@\"' sh \"$@\"",
        "umask 000; ulimit -Ss unlimited",
    ]
    .map(|script| {
        let builder = Builder::bare()?;
        builder.write("context/Dockerfile", DOCKERFILE);
        let words = ["build", "--progress", "json", "--iidfile", "id", "context"];
        let built =
            builder.run_command(&mut from_shell(&builder.command(&words), script)).success();
        builder.assert_nothing_left();
        Some((built.log(), builder.read("id")))
    });
    let [Some(usual), ..] = &results else { return };
    let modes = usual.0.lines().map(|line| line.split_once(' ').map_or(line, |(mode, _)| mode));
    assert_eq!(
        modes.collect::<Vec<_>>().join(" "),
        "755 555 755 666 555 755 755 755 755 755 755 755 755 755 0022 x86_64 0 8192 1024 unlimited",
        "{}",
        usual.0
    );
    for result in &results {
        assert_eq!(result.as_ref(), Some(usual));
    }
}

#[test]
fn privileged_the_callers_own_files_follow_the_callers_umask() {
    let Some(builder) = Builder::bare() else { return };
    builder.write("context/Dockerfile", "FROM scratch\nCOPY busybox /bin/\n");
    for (umask, file, directory) in [("077", 0o600, 0o700), ("002", 0o664, 0o775)] {
        let name = |what: &str| format!("{umask}-{what}");
        let [id, meta, tar] = ["id", "meta", "tar"].map(name);
        let [tree, layout] = ["tree/below", "layout/below"].map(name);
        let (tar_to, layout_to) =
            (format!("type=tar,dest={tar}"), format!("type=oci,tar=false,dest={layout}"));
        let words = ["build", "--iidfile", &id, "--metadata-file", &meta, "-o", &tree];
        let words = [&words[..], &["-o", &tar_to, "-o", &layout_to, "context"]].concat();
        let command = builder.command(&words);
        builder.run_command(&mut from_shell(&command, &format!("umask {umask}"))).success();
        let mode = |name: &str| {
            let metadata = std::fs::metadata(builder.path(name)).expect(name);
            metadata.permissions().mode() & 0o7777
        };
        for made in [&id, &meta, &tar, &format!("{layout}/index.json")] {
            assert_eq!(mode(made), file, "{made}");
        }
        let blobs = format!("{layout}/blobs/sha256");
        for made in [&name("tree"), &name("layout"), &layout, &blobs] {
            assert_eq!(mode(made), directory, "{made}");
        }
        // What is in the image keeps its mode.
        assert_eq!(mode(&format!("{tree}/bin/busybox")), 0o755);
    }
}
