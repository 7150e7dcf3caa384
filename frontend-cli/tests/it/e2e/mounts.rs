//! `RUN --mount` of each type, as steps see it.

use std::time::{Duration, Instant};

use super::builder::{Builder, wait_for};

/// What each mount shows, its mode and owner, and whether it can be written.
const LOOK: &str =
    "look() { stat -c '%n %a %u %g' $1; touch $1/new 2>/dev/null && echo written; true; }; ";

/// Builds steps on `busybox`; what the last one wrote to `/told`.
fn told(builder: &Builder, steps: &str, words: &[&str]) -> String {
    let dockerfile = format!("FROM busybox\n{steps}\n");
    builder.build(&dockerfile, &[words, &["-o", "out"]].concat()).success();
    builder.read("out/told")
}

#[test]
fn privileged_mounts_have_the_modes_and_owners_that_are_asked_for() {
    let Some(builder) = Builder::new() else { return };
    builder.write("context/dir/file", "context");
    builder.write("key", "secret");
    for (mount, expected) in [
        ("type=cache,target=/m", "/m 755 0 0\nwritten\n"),
        ("type=cache,target=/m,id=a,mode=0701,uid=7,gid=8", "/m 701 7 8\nwritten\n"),
        ("type=cache,target=/m,id=a,mode=0701,uid=7,gid=8,ro", "/m 701 7 8\n"),
        ("type=bind,source=dir,target=/m", "/m 755 0 0\n"),
        ("source=dir,target=/m,rw", "/m 755 0 0\nwritten\n"),
        ("type=tmpfs,target=/m", "/m 1777 0 0\nwritten\n"),
        ("type=secret,id=key,target=/m,mode=0440,uid=7,gid=8", "/m 440 7 8\n"),
        ("type=secret,id=key,target=/m", "/m 400 0 0\n"),
    ] {
        let steps = format!("RUN --mount={mount} {LOOK} look /m >/told");
        let words = ["--secret", "id=key,src=key"];
        assert_eq!(told(&builder, &steps, &words), expected, "{mount}");
    }
    // What was written to a bind mount is nowhere, what was written to a cache is there again.
    let steps = "RUN --mount=source=dir,target=/m,rw rm /m/file && touch /m/made
RUN --mount=source=dir,target=/m ls /m >/told
RUN --mount=type=cache,target=/m ls /m >>/told; ls / | grep -c '^m$' >>/told; ls -d /m >>/told; true
RUN ls /m >>/told 2>&1; true";
    let expected = "file\nnew\n1\n/m\nls: /m: No such file or directory\n";
    assert_eq!(told(&builder, steps, &[]), expected);
}

#[test]
fn privileged_a_cache_mount_begins_with_what_it_is_given() {
    let Some(builder) = Builder::new() else { return };
    let steps = "FROM busybox AS seed
RUN mkdir -p /seed/part && echo one >/seed/part/file
FROM busybox
RUN --mount=type=cache,id=c,target=/m,from=seed,source=/seed ls /m >/told; echo two >/m/part/file
RUN --mount=type=cache,id=c,target=/m,from=seed,source=/seed cat /m/part/file >>/told
RUN --mount=type=cache,id=d,target=/m mkdir -p /m/a/b && echo three >/m/a/b/file
RUN --mount=type=cache,id=d,target=/m,source=a/b cat /m/file >>/told
RUN --mount=type=cache,id=e,target=/m touch /m/f; ls /m >>/told
RUN --mount=type=cache,id=e,target=/other ls /other >>/told
RUN --mount=type=cache,target=/m/ ls /m >>/told";
    assert_eq!(told(&builder, steps, &[]), "part\ntwo\nthree\nf\nf\n");
    // A link in a cache leads nowhere else.
    let steps = "FROM busybox
RUN --mount=type=cache,id=l,target=/m ln -s /etc /m/link
RUN --mount=type=cache,id=l,target=/victim,source=link cat /victim/passwd";
    let failed = builder.build(steps, &[]).fails_with(1);
    assert!(failed.words().contains("for the mount at `/victim`"), "{}", failed.words());
}

#[test]
fn privileged_a_memory_mount_holds_as_much_as_it_may() {
    let Some(builder) = Builder::new() else { return };
    let step = |size: &str| {
        format!(
            "RUN --mount=type=tmpfs,target=/m,size={size} dd if=/dev/zero of=/m/f bs=1M count=4 \
             2>/dev/null; du -k /m/f | cut -f 1 >/told; df -k /m | awk 'END {{ print $2 }}' >>/told"
        )
    };
    assert_eq!(told(&builder, &step("1m"), &[]), "1024\n1024\n");
    assert_eq!(told(&builder, &step("8m"), &[]), "4096\n8192\n");
}

#[test]
fn privileged_a_mount_may_hide_all_devices() {
    let Some(builder) = Builder::bare() else { return };
    builder.write("context/files/file", "");
    let dockerfile = "FROM scratch\nCOPY busybox /bin/\n\
         RUN --mount=type=bind,source=files,target=/dev [\"/bin/busybox\", \"sh\", \"-c\", \"read line; ls /dev >/told\"]\n";
    builder.build(dockerfile, &["-o", "out"]).success();
    assert_eq!(builder.read("out/told"), "file\n");
}

#[test]
fn privileged_secrets_in_variables_are_set_or_left_out() {
    let Some(builder) = Builder::new() else { return };
    builder.write("key", "secret");
    let both = "RUN --mount=type=secret,id=key,env=A --mount=type=secret,id=key,env=B,target=/b \
                --mount=type=secret,id=none,env=C echo $A $(cat /b) $B ${C-unset} >/told; \
                ls /run/secrets >>/told 2>&1; true";
    let expected = "secret secret secret unset\nls: /run/secrets: No such file or directory\n";
    assert_eq!(told(&builder, both, &["--secret", "id=key,src=key"]), expected);
    for mount in ["id=none,required", "id=none,required=true,env=C", "required,target=/none"] {
        let dockerfile = format!("FROM busybox\nRUN --mount=type=secret,{mount} true\n");
        let failed = builder.build(&dockerfile, &[]).fails_with(1);
        assert!(failed.words().contains("secret none: not found"), "{}", failed.words());
    }
}

/// Two processes of the program, each with a step that takes a second: how long both take together, and
/// what the second one finds of the first.
fn race(builder: &Builder, sharing: &str) -> (Duration, String) {
    let dockerfile = format!(
        "FROM busybox\nARG WHO\nRUN --mount=type=cache,id={sharing},target=/m,sharing={sharing} \
         echo in >>/m/log; sleep 2; wc -l </m/log >/told; echo $WHO >/dev/null\n"
    );
    builder.write("Dockerfile", &dockerfile);
    let start = Instant::now();
    let mut children = ["one", "two"].map(|who| {
        let (who, out) = (format!("WHO={who}"), format!("out-{who}"));
        let words = ["build", "-f", "Dockerfile", "--build-arg", &who, "-o", &out, "context"];
        builder.spawn(builder.command(&words).stderr(std::process::Stdio::null()))
    });
    for child in &mut children {
        assert!(wait_for(child, 120).success());
    }
    let mut counts = ["out-one/told", "out-two/told"].map(|file| builder.read(file));
    counts.sort();
    (start.elapsed(), counts.concat())
}

#[test]
fn privileged_two_builds_share_a_cache_mount_as_they_are_told() {
    let Some(builder) = Builder::new() else { return };
    let (_, shared) = race(&builder, "shared");
    assert_eq!(shared, "2\n2\n");
    let (_, private) = race(&builder, "private");
    assert_eq!(private, "1\n1\n");
    let (time, locked) = race(&builder, "locked");
    assert_eq!(locked, "1\n2\n");
    assert!(time >= Duration::from_secs(4), "{time:?}");
}

#[test]
fn privileged_what_a_step_may_do_beyond_is_allowed_or_refused() {
    let Some(builder) = Builder::new() else { return };
    let step = |flag: &str| {
        format!(
            "FROM busybox\nRUN {flag} grep CapEff /proc/self/status >/told; \
             ls /sys/class/net | wc -l >>/told; ls -l /proc/self/ns/net | sed 's/.*> //' >>/told\n"
        )
    };
    for (flag, entitlement) in
        [("--security=insecure", "security.insecure"), ("--network=host", "network.host")]
    {
        let failed = builder.build(&step(flag), &[]).fails_with(1);
        let words = failed.words();
        assert!(words.contains(&format!("{entitlement} is not allowed")), "{words}");
        assert!(words.contains(&format!("allow it with `--allow {entitlement}`")), "{words}");
        builder.build(&step(flag), &["--allow", entitlement, "-o", "out"]).success();
        let told = builder.read("out/told");
        let host = std::fs::read_link("/proc/self/ns/net").expect("a network namespace");
        let host = host.display().to_string();
        assert_eq!(told.contains(&host), flag == "--network=host", "{told}");
        let few = told.contains("CapEff:\t00000000a80425fb");
        assert_eq!(few, flag == "--network=host", "{told}");
    }
    builder.build(&step("--network=none"), &["-o", "out"]).success();
    assert!(builder.read("out/told").contains("\n1\n"));
}
