//! Where a build takes its files and images from.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;

use super::builder::Builder;

/// The files of an image or of a build's output, and what is in them.
fn files(builder: &Builder, directory: &str) -> String {
    let script = "find . -type f ! -path './bin/*' | sort | while read -r file; do \
                  echo \"$file: $(cat \"$file\")\"; done";
    let directory = builder.path(directory);
    let output = Command::new("sh").args(["-c", script]).current_dir(directory).output();
    String::from_utf8(output.expect("sh runs").stdout).expect("text")
}

/// Builds what is in `context` and gives the files back.
fn result(builder: &Builder, dockerfile: &str) -> String {
    builder.build(dockerfile, &["-o", "out"]).success();
    let files = files(builder, "out");
    std::fs::remove_dir_all(builder.path("out")).expect("an own directory");
    files
}

#[test]
fn privileged_a_dockerfile_comes_alone_or_in_an_archive() {
    let Some(builder) = Builder::new() else { return };
    let alone = b"FROM busybox\nRUN echo alone\n";
    let outcome = builder.run_with_input(&["--progress", "json", "-"], alone).success();
    assert_eq!(outcome.log(), "alone\n");

    builder.write("packed/sub/Dockerfile", "FROM busybox\nCOPY file /\nRUN cat /file\n");
    builder.write("packed/file", "packed\n");
    for (compress, name) in [("", "plain"), ("--gzip", "gzip"), ("--zstd", "zstd")] {
        let mut tar = Command::new("tar");
        tar.args(["-C", "packed", "-c", "."]).args((!compress.is_empty()).then_some(compress));
        let archive = tar.current_dir(builder.path("")).output().expect("tar runs").stdout;
        let words = ["--progress", "json", "--no-cache", "-f", "sub/Dockerfile", "-"];
        let outcome = builder.run_with_input(&words, &archive).success();
        assert_eq!(outcome.log(), "packed\n", "{name}");
    }
}

#[test]
fn privileged_ignored_files_are_not_there() {
    let Some(builder) = Builder::new() else { return };
    for name in ["a.txt", "b.txt", "keep/a.txt", "sub/deep/c.log", "sub/deep/d.md", "other.md"] {
        builder.write(&format!("context/{name}"), name);
    }
    builder.write(
        "context/.dockerignore",
        "busybox\n*.txt\n!b.txt\n**/*.log\nother.md\n.dockerignore\n",
    );
    assert_eq!(
        result(&builder, "FROM scratch\nCOPY . /\n"),
        "./b.txt: b.txt\n./keep/a.txt: keep/a.txt\n./sub/deep/d.md: sub/deep/d.md\n"
    );
    // What is ignored can change without anything being run again.
    builder.build("FROM busybox\nCOPY . /all\nRUN true\n", &[]).success();
    builder.write("context/a.txt", "changed");
    let again = builder.build("FROM busybox\nCOPY . /all\nRUN true\n", &[]).success();
    assert_eq!(again.ran(), [""; 0]);
    let missing = builder.build("FROM scratch\nCOPY a.txt /\n", &[]).fails_with(1);
    assert!(missing.stderr.contains("a.txt"), "{}", missing.stderr);
    // An ignore file of the Dockerfile's own goes before the general one.
    builder.write("context/web.Dockerfile", "FROM scratch\nCOPY . /\n");
    builder.write("context/web.Dockerfile.dockerignore", "*\n!a.txt\n");
    builder.run(&["-f", "context/web.Dockerfile", "-o", "out", "context"]).success();
    assert_eq!(files(&builder, "out"), "./a.txt: changed\n");
}

#[test]
fn privileged_wildcards_and_documents_in_place_become_files() {
    let Some(builder) = Builder::new() else { return };
    for name in ["one.c", "two.c", "two.h", "sub/three.c", "[x].c"] {
        builder.write(&format!("context/{name}"), name);
    }
    let dockerfile = "FROM busybox AS made
ARG WHO=nobody
COPY *.c /all/
COPY t?o.[ch] /some/
COPY sub/* /deep/
COPY [[]x].c /escaped/
COPY <<EOF <<-'LITERAL' /here/
for $WHO
EOF
	not for $WHO
LITERAL
RUN <<EOF
echo first >/ran
echo second >>/ran
EOF
RUN <<EOF cat >/fed
fed
EOF
RUN <<SCRIPT
#!/bin/env ash
readlink /proc/$$/exe >/interpreter
SCRIPT
FROM scratch
COPY --from=made /all /all
COPY --from=made /some /some
COPY --from=made /deep /deep
COPY --from=made /escaped /escaped
COPY --from=made /here /here
COPY --from=made /ran /fed /interpreter /
";
    assert_eq!(
        result(&builder, dockerfile),
        "./all/[x].c: [x].c\n./all/one.c: one.c\n./all/two.c: two.c\n\
         ./deep/three.c: sub/three.c\n./escaped/[x].c: [x].c\n./fed: fed\n./here/EOF: for nobody\n\
         ./here/LITERAL: not for $WHO\n./interpreter: /bin/busybox\n./ran: first\nsecond\n./some/two.c: two.c\n./some/two.h: two.h\n"
    );
    // A pattern may match nothing, a name may not.
    assert_eq!(result(&builder, "FROM scratch\nCOPY *.nothing one.c /\n"), "./one.c: one.c\n");
    let missing = builder.build("FROM scratch\nCOPY missing one.c /\n", &[]).fails_with(1);
    assert!(missing.stderr.contains("missing"), "{}", missing.stderr);
}

#[test]
fn privileged_triggers_of_a_base_image_run_in_its_children_alone() {
    let Some(builder) = Builder::new() else { return };
    let base = "FROM busybox\nONBUILD COPY file /src/\nONBUILD RUN cat /src/file\n";
    let built = builder.build(base, &["-t", "base-image"]).success();
    assert_eq!(built.log(), "");
    builder.write("context/file", "of the child\n");
    let child = builder.build("FROM base-image\nRUN echo after\n", &["-t", "child"]).success();
    assert_eq!(child.log(), "of the child\nafter\n");
    let grandchild = builder.build("FROM child\nRUN echo grandchild\n", &[]).success();
    assert_eq!(grandchild.log(), "grandchild\n");
}

#[test]
fn privileged_images_come_from_the_store_and_from_layouts() {
    let Some(builder) = Builder::new() else { return };
    builder.build("FROM busybox\nRUN echo 1 >/version\n", &["-t", "app:1"]).success();
    // The tag's own image under the same tag.
    for expected in ["1\n2\n", "1\n2\n2\n"] {
        builder.build("FROM app:1\nRUN echo 2 >>/version\n", &["-t", "app:1"]).success();
        let outcome = builder.build("FROM app:1\nRUN cat /version\n", &[]).success();
        assert_eq!(outcome.log(), expected);
    }
    for (output, context) in [
        ("type=oci,dest=layout,tar=false", "oci-layout://layout"),
        ("type=oci,dest=tagged,tar=false", "oci-layout://tagged:1"),
    ] {
        builder.build("FROM app:1\n", &["-t", "app:1", "-o", output]).success();
        let base = format!("base={context}");
        let dockerfile = "FROM base\nRUN cat /version\nCOPY --from=base /version /copied\n";
        let outcome =
            builder.build(dockerfile, &["--no-cache", "--build-context", &base]).success();
        assert_eq!(outcome.log(), "1\n2\n2\n", "{context}");
    }
    // Another context stands in for a stage, too.
    let outcome = builder.build(
        "FROM busybox AS app\nRUN false\nFROM app\nRUN cat /version\n",
        &["--no-cache", "--build-context", "app=docker-image://app:1"],
    );
    assert_eq!(outcome.success().log(), "1\n2\n2\n");
    builder.write("other/file", "of the other directory");
    let outcome = builder.build(
        "FROM scratch\nCOPY --from=other file /\n",
        &["--build-context", "other=other", "-o", "out"],
    );
    outcome.success();
    assert_eq!(builder.read("out/file"), "of the other directory");
}

#[test]
fn privileged_a_step_without_a_network_has_none() {
    let Some(builder) = Builder::new() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    // Whoever reaches it is let go at once.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let script = format!(
        "ls /sys/class/net; cat /etc/resolv.conf; wc -l </proc/net/route; \
         nc -w 2 127.0.0.1 {port} </dev/null 2>/dev/null || echo unreachable"
    );
    // The kernel lists a header over no routes.
    let alone = "lo\n1\nunreachable\n";
    let outcome = builder.build(&format!("FROM busybox\nRUN --network=none {script}\n"), &[]);
    assert_eq!(outcome.success().log(), alone);
    let dockerfile = format!("FROM busybox\nRUN {script}\n");
    let outcome = builder.build(&dockerfile, &["--no-cache", "--network=none"]).success();
    assert_eq!(outcome.log(), alone);
    // The host's network is granted, never taken.
    let host = format!("FROM busybox\nRUN --network=host {script}\n");
    let refused = builder.build(&host, &[]).fails_with(1);
    assert!(refused.stderr.contains("network.host"), "{}", refused.stderr);
}

/// Tells every client `of the host`, on the loopback; gives the port.
fn loopback_service() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            // The client closes first: helpers of old lose the end of a connection that both end
            // at once. One that has gone already is no reason to stop.
            let _ = client.write_all(b"of the host\n").and_then(|()| client.read(&mut [0]));
        }
    });
    port
}

#[test]
fn privileged_host_gateway_leads_to_the_hosts_loopback() {
    let Some(builder) = Builder::new() else { return };
    if !builder.has_own_network() {
        return;
    }
    let port = loopback_service();
    let ask = |host: &str| {
        let told = "sh -c 'head -n 1 >&3' 3>&1 2>/dev/null";
        format!("nc -w 3 {host} {port} -e {told} || echo nobody")
    };
    let gateway = ask(r"$(ip route | sed -n 's/^default via \([^ ]*\).*/\1/p')");
    let dockerfile = format!("FROM busybox\nRUN {}; {gateway}\n", ask("up"));
    let by_name = &["--add-host", "up=host-gateway"][..];
    let by_loopback = [by_name, &["--network=host", "--allow=network.host"]].concat();
    for (words, wanted) in [
        // What is not asked for is as closed as ever, and another result.
        (&[][..], "nobody\nnobody\n"),
        (by_name, "of the host\nof the host\n"),
        (&[], ""),
        (&["--no-cache"], "nobody\nnobody\n"),
    ] {
        assert_eq!(builder.build(&dockerfile, words).success().log(), wanted, "{words:?}");
    }
    let dockerfile = format!("FROM busybox\nRUN {}; grep up$ /etc/hosts\n", ask("up"));
    let outcome = builder.build(&dockerfile, &by_loopback).success();
    assert_eq!(outcome.log(), "of the host\n127.0.0.1\tup\n");
    let alone = "FROM busybox\nRUN --network=none grep up /etc/hosts\n";
    let outcome = builder.build(alone, by_name).success();
    assert_eq!(outcome.log(), "# up (host-gateway) cannot be reached without a network\n");
    for (words, script, wanted) in [
        (&["--add-host", "up:host-gateway"][..], ask("up"), "of the host\n"),
        (&[], gateway, "nobody\n"),
        (&["--network=host", "--add-host", "up:host-gateway"], ask("up"), "of the host\n"),
    ] {
        let words = [&["run"], words, &["busybox", "sh", "-c", &script]].concat();
        let outcome = builder.run(&words).success();
        assert_eq!(String::from_utf8_lossy(&outcome.stdout), wanted, "{words:?}");
    }
    builder.assert_nothing_left();
}

#[test]
fn privileged_run_hands_the_proxies_of_dockers_configuration_on() {
    let Some(builder) = Builder::new() else { return };
    let run = |words: &[&str]| {
        let script = "echo $HTTP_PROXY $http_proxy $NO_PROXY $no_proxy $FTP_PROXY";
        let outcome =
            builder.run(&[&["run"], words, &["busybox", "sh", "-c", script]].concat()).success();
        (String::from_utf8_lossy(&outcome.stdout).into_owned(), outcome.stderr)
    };
    assert_eq!(run(&[]).0, "\n");
    let config = r#"{"proxies": {"default": {"httpProxy": "http://p:1", "noProxy": "a,b"}}}"#;
    builder.write("home/.docker/config.json", config);
    assert_eq!(run(&[]).0, "http://p:1 http://p:1 a,b a,b\n");
    // What is typed counts.
    assert_eq!(run(&["-e", "HTTP_PROXY=mine"]).0, "mine http://p:1 a,b a,b\n");
    builder.write("home/.docker/config.json", "not JSON");
    let (said, warned) = run(&[]);
    assert_eq!(said, "\n");
    assert!(warned.contains("the proxies in `") && warned.contains("are not used"), "{warned}");
}

#[test]
fn privileged_a_step_runs_where_there_are_no_files_yet() {
    let Some(builder) = Builder::new() else { return };
    let dockerfile = "FROM scratch\n\
                      RUN --mount=target=/bin [\"/bin/busybox\", \"mkdir\", \"/made\"]\n\
                      RUN --mount=target=/bin [\"/bin/busybox\", \"cp\", \"/bin/file\", \"/made/\"]\n";
    builder.write("context/file", "taken");
    assert_eq!(result(&builder, dockerfile), "./made/file: taken\n");
    let outcome = builder.build("FROM scratch\nRUN true\n", &[]).fails_with(1);
    assert!(outcome.stderr.contains("`/bin/sh` not found in the image"), "{}", outcome.stderr);
    builder.assert_nothing_left();
}

#[test]
fn privileged_an_archive_keeps_what_it_says_of_its_files() {
    let Some(builder) = Builder::new() else { return };
    let look = "find . | sort | while read -r n; do stat -c '%n %u:%g %a %Y %h' \"$n\"; \
                [ ! -L \"$n\" ] || readlink \"$n\"; done";
    builder.write("packed/Dockerfile", format!("FROM busybox\nCOPY . /x\nRUN cd /x && {look}\n"));
    builder.write("packed/.dockerignore", "f\nDockerfile\n");
    builder.write("packed/d/f", "f");
    let script = "chmod 600 Dockerfile .dockerignore; chmod 4755 d/f; ln -s f d/link; ln d/f d/second; \
                  chmod 711 d; chmod 750 .; find . -exec touch -h -d @1500000000 {} +";
    let status =
        Command::new("sh").args(["-c", script]).current_dir(builder.path("packed")).status();
    assert!(status.expect("sh runs").success());
    let expected = |owner: &str, time: &str| {
        format!(
            "./.dockerignore {owner} 600 {time} 1\n./Dockerfile {owner} 600 {time} 1\n\
             ./d {owner} 711 {time} 2\n./d/f {owner} 4755 {time} 2\n\
             ./d/link {owner} 777 {time} 1\nf\n./d/second {owner} 4755 {time} 2\n"
        )
    };
    let time = "1500000000";
    // What `tar` is told, whose the files are, and when they were changed.
    for (words, owner, time) in [
        ("--owner=123 --group=45 -c .", "123:45", time),
        ("--owner=0 --group=0 --mtime=@1400000000.5 --format=pax -c .", "0:0", "1400000000"),
        ("--owner=someone:3000000 --group=some:4000000 --format=pax -c .", "3000000:4000000", time),
        ("--owner=3000000 --group=0 --format=gnu -c .", "3000000:0", time),
        // A global header says nothing of the files, as in archives of git.
        ("--owner=1 --group=2 --format=pax --pax-option=comment=x,uid=9,mtime=7 -c .", "1:2", time),
    ] {
        let mut tar = Command::new("tar");
        let tar = tar.args(words.split(' ')).current_dir(builder.path("packed")).output();
        let outcome = builder.run_with_input(&["--progress", "json", "-"], &tar.unwrap().stdout);
        let log = outcome.success().log();
        // What is said of the root is not the context's, as for BuildKit.
        let (root, files) = log.split_once('\n').expect("lines");
        assert!(root.starts_with(". 0:0 755 "), "{words}: {root}");
        assert_eq!(files, expected(owner, time), "{words}");
    }
    let mut tar = Command::new("tar");
    let tar = tar.args(["--owner=5", "--group=6", "-c", "Dockerfile", "d"]);
    let tar = tar.current_dir(builder.path("packed")).output().expect("tar runs").stdout;
    let log = builder.run_with_input(&["--progress", "json", "-"], &tar).success().log();
    assert!(log.starts_with(". 0:0 755 "), "{log}");
    assert!(log.contains("\n./Dockerfile 5:6 600 1500000000 1\n./d 5:6 711 "), "{log}");
}

#[test]
fn privileged_a_directory_is_a_base() {
    let Some(builder) = Builder::new() else { return };
    builder.copy_busybox("based/bin/busybox");
    builder.write("based/data/of-base", "base\n");
    builder.write("context/file", "file\n");
    let run = "RUN [\"/bin/busybox\", \"sh\", \"-c\", \"cat /data/* > /ran\"]\n";
    let all = "./data/of-base: base\n";
    let with_file = format!("./data/file: file\n{all}");
    for (dockerfile, expected) in [
        ("FROM base\n".to_owned(), all.to_owned()),
        ("FROM base\nCOPY file /data/\n".to_owned(), with_file.clone()),
        (format!("FROM base\nCOPY file /data/\n{run}"), format!("{with_file}./ran: file\nbase\n")),
        (format!("FROM base\n{run}COPY file /data/\n"), format!("{with_file}./ran: base\n")),
        ("FROM base\nCOPY <<EOF /data/x\nx\nEOF\n".to_owned(), format!("{all}./data/x: x\n")),
        ("FROM base\nCOPY --link file /data/\n".to_owned(), with_file.clone()),
        (
            "FROM base AS one\nCOPY file /data/\nFROM scratch\nCOPY --from=one /data /data\n"
                .to_owned(),
            with_file.clone(),
        ),
        ("FROM scratch\nCOPY --from=base /data /data\n".to_owned(), all.to_owned()),
    ] {
        let words = ["--build-context", "base=based", "-o", "out"];
        builder.build(&dockerfile, &words).success();
        assert_eq!(files(&builder, "out"), expected, "{dockerfile}");
        std::fs::remove_dir_all(builder.path("out")).expect("an own directory");
        let again = builder.build(&dockerfile, &["--build-context", "base=based"]).success();
        assert_eq!(again.ran().join(" ").replace("context base", ""), "", "{dockerfile}");
    }
    builder.write("based/data/of-base", "edited\n");
    let words = ["--build-context", "base=based", "-o", "out"];
    builder.build(&format!("FROM base\n{run}"), &words).success();
    assert_eq!(builder.read("out/ran"), "edited\n");
}

#[test]
fn privileged_a_platform_that_is_named_twice_is_there_twice() {
    let Some(builder) = Builder::new() else { return };
    builder.write("context/file", "file\n");
    let words = ["--platform", "linux/amd64,linux/amd64", "-o", "type=oci,tar=false,dest=image"];
    let outcome = builder.build("FROM scratch\nCOPY file /\n", &words).success();
    let word = "Duplicate platform result requested \\\"linux/amd64\\\"";
    assert_eq!(outcome.stderr.matches(word).count(), 1, "{}", outcome.stderr);
    let json = |name: &str| -> serde_json::Value {
        serde_json::from_str(&builder.read(&format!("image/{name}"))).expect("JSON")
    };
    let digest = json("index.json")["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    assert_eq!(json(&format!("blobs/{digest}"))["manifests"].as_array().unwrap().len(), 2);
    let words = ["--platform", "linux/amd64,linux/amd64", "-o", "out"];
    builder.build("FROM scratch\nCOPY file /\n", &words).success();
    assert_eq!(builder.read("out/linux_amd64/file"), "file\n");
}

#[test]
fn privileged_owners_may_be_a_group_alone_and_no_larger_than_ids_are() {
    let Some(builder) = Builder::new() else { return };
    builder.write("context/file", "");
    for (flags, expected) in [
        ("--chown=:7", "0:7"),
        ("--link --chown=:7", "0:7"),
        ("--link --chown=7:", "7:7"),
        ("--chown=7:", "7:7"),
        ("--chown=2147483647:8", "2147483647:8"),
    ] {
        let dockerfile = format!("FROM busybox\nCOPY {flags} file /x\nRUN stat -c %u:%g /x\n");
        assert_eq!(builder.build(&dockerfile, &[]).success().log().trim_end(), expected, "{flags}");
    }
    for owner in ["2147483648", "0:4294967295"] {
        let dockerfile = format!("FROM busybox\nCOPY --chown={owner} file /x\n");
        let outcome = builder.build(&dockerfile, &[]).fails_with(1);
        let id = owner.trim_start_matches("0:");
        let error = format!("`{id}` is not a user or group id: ids go from 0 to 2147483647");
        assert!(outcome.words().contains(&error), "{}", outcome.words());
    }
}

#[test]
fn privileged_the_same_files_from_another_place_are_not_copied_again() {
    let Some(builder) = Builder::new() else { return };
    for name in ["a/f", "b/f", "b/h", "a/d/x", "b/e/x", "b/e/y"] {
        builder.write(&format!("context/{name}"), "the same");
    }
    let build = |copy: &str| {
        let outcome = builder.build(&format!("FROM busybox\n{copy} /to/\nRUN ls -R /to\n"), &[]);
        outcome.success().ran().len()
    };
    for (first, second, ran) in [
        ("COPY a/f", "COPY b/f", 0),
        ("COPY --link a/f", "COPY --link ./b/*f", 0),
        ("COPY a/d", "COPY --exclude=y b/e", 0),
        ("COPY --chmod=600 a/f", "COPY --chmod=640 b/f", 2),
        // The name at the destination counts.
        ("COPY --chmod=700 a/f", "COPY --chmod=700 b/h", 2),
        ("COPY --parents a/f", "COPY --parents b/f", 2),
    ] {
        assert!(build(first) >= 2, "{first}");
        assert_eq!(build(second), ran, "{first}, then {second}");
    }
}
