//! Contexts from elsewhere, and named ones.

use std::path::Path;
use std::process::Command;

use super::builder::Builder;
use super::outcome::Outcome;
use super::web::{Page, Site, Web};

/// A tar of the directory `name` of the builder.
fn tar(builder: &Builder, name: &str, compression: &str) -> Vec<u8> {
    let mut tar = Command::new("tar");
    tar.args(["-c", "--sort=name", "--format=gnu"]);
    tar.args((!compression.is_empty()).then(|| format!("--{compression}")));
    let output = tar.args(["-C", name, "."]).current_dir(builder.path("")).output();
    let output = output.expect("tar runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn build(builder: &Builder, words: &[&str]) -> Outcome {
    builder.run(&[&["build", "--progress", "json", "-o", "out"], words].concat())
}

#[test]
fn privileged_a_context_comes_over_http() {
    let Some(builder) = Builder::bare() else { return };
    builder.write("packed/Dockerfile", "FROM scratch\nCOPY . /all/\n");
    builder.write("packed/sub/other", "FROM scratch\nCOPY file /of-other\n");
    builder.write("packed/file", "packed");
    // What is ignored in a directory is not in an archive, as for BuildKit.
    builder.write("packed/.dockerignore", "file\n");
    let site = Site::default();
    for compression in ["", "gzip", "bzip2", "xz", "zstd"] {
        let page = Page::new(tar(&builder, "packed", compression)).with_etag("a");
        site.put(&format!("/{compression}"), page);
    }
    site.put("/Dockerfile", Page::new("FROM scratch\nCOPY context /dockerfile\n").with_etag("b"));
    site.put("/text", Page::new("no Dockerfile"));
    let web = Web::serve(&site);
    for compression in ["", "gzip", "bzip2", "xz", "zstd"] {
        let url = web.url(&format!("/{compression}"));
        build(&builder, &[&url]).success();
        assert_eq!(builder.read("out/all/file"), "packed", "{compression}");
        build(&builder, &["-f", "sub/other", &url]).success();
        assert_eq!(builder.read("out/of-other"), "packed", "{compression}");
        // Each build asks once.
        assert_eq!(web.take_lines().len(), 2, "{compression}");
    }
    // Nothing is done again, and each step is shown once.
    let url = web.url("/gzip");
    let again = build(&builder, &[&url]).success();
    assert_eq!(again.ran(), [""; 0]);
    let loads = again.steps().into_iter().filter(|step| step.name.contains("] load remote"));
    assert_eq!(loads.map(|step| step.end).collect::<Vec<_>>(), ["cached"]);
    assert_eq!(web.take_lines(), ["GET /gzip if-none-match: \"a\""]);

    // A Dockerfile alone is all the context there is, whatever it is called.
    build(&builder, &["-f", "what.ever", &web.url("/Dockerfile")]).success();
    let only = "FROM scratch\nCOPY context /dockerfile\n";
    assert_eq!(builder.read("out/dockerfile"), only);
    // A Dockerfile of one's own goes with any of them.
    builder.write("own.Dockerfile", "FROM scratch\nCOPY file /own\n");
    let own = builder.path("own.Dockerfile");
    build(&builder, &["-f", own.to_str().expect("text"), &url]).success();
    assert_eq!(builder.read("out/own"), "packed");
    let words = ["build", "-o", "out", "-f", "-", &url];
    builder.run_with_input(&words, b"FROM scratch\nCOPY file /piped\n").success();
    assert_eq!(builder.read("out/piped"), "packed");
    // So does one at a URL.
    site.put("/own", Page::new("FROM scratch\nCOPY file /far\n").with_etag("c"));
    builder.write("here/file", "here");
    for (context, expected) in [(url.as_str(), "packed"), ("here", "here")] {
        build(&builder, &["-f", &web.url("/own"), context]).success();
        assert_eq!(builder.read("out/far"), expected);
    }

    web.take_lines();
    build(&builder, &["--offline", &url]).success();
    build(&builder, &["--offline", "-f", &web.url("/own"), "here"]).success();
    let unknown = build(&builder, &["--offline", &web.url("/text")]).fails_with(1);
    assert!(unknown.stderr.contains("offline: `http://"), "{}", unknown.words());
    assert_eq!(web.take_lines(), [""; 0]);

    for (words, told) in [
        (&["-f", "sub/gone", url.as_str()][..], "failed to read `sub/gone`"),
        (&[web.url("/gone").as_str()], "invalid response status 404"),
        (&[web.url("/text").as_str()], "unknown instruction: no"),
        (&["--ignorefile", "own.Dockerfile", &url], "needs a directory as context"),
        (&["-f", web.url("/gone").as_str(), "here"], "invalid response status 404"),
    ] {
        let failed = build(&builder, words).fails_with(1);
        assert!(failed.stderr.contains(told), "{words:?}: {}", failed.words());
    }
    site.put("/empty", Page::new(tar(&builder, "here", "")));
    let failed = build(&builder, &[&web.url("/empty")]).fails_with(1);
    let told = format!("no Dockerfile in the context `{}`", web.url("/empty"));
    assert!(failed.stderr.contains(&told), "{}", failed.words());
}

#[test]
fn privileged_a_hostile_context_leads_nowhere() {
    let Some(builder) = Builder::bare() else { return };
    builder.write("secret/Dockerfile", "FROM scratch\nCOPY canary /leak\n");
    builder.write("secret/canary", "canary");
    let secret = builder.path("secret");
    let secret = secret.to_str().expect("text");
    let site = Site::default();
    let web = Web::serve(&site);
    let serve = |path: &str, archive: Vec<u8>| {
        site.put(path, Page::new(archive));
        web.url(path)
    };
    let packed = |members: &[(&str, &str)]| {
        let mut archive = ::tar::Builder::new(Vec::new());
        for (name, target) in members {
            let mut header = ::tar::Header::new_gnu();
            header.set_size(0);
            header.set_mode(0o644);
            match target.strip_prefix("text:") {
                Some(text) => {
                    header.set_size(text.len() as u64);
                    archive.append_data(&mut header, name, text.as_bytes()).expect("in memory");
                }
                None => {
                    header.set_entry_type(::tar::EntryType::Symlink);
                    archive.append_link(&mut header, name, target).expect("in memory");
                }
            }
        }
        archive.into_inner().expect("in memory")
    };
    let link = format!("{secret}/Dockerfile");
    // The file that a link names is looked for in the context.
    let linked = serve("/linked", packed(&[("Dockerfile", &link)]));
    let up = serve("/up", packed(&[("Dockerfile", "../../../../../../../../../../etc/passwd")]));
    let directory = serve("/directory", packed(&[("d", secret)]));
    let copies = serve(
        "/copies",
        packed(&[("d", secret), ("Dockerfile", "text:FROM scratch\nCOPY d /d\n")]),
    );
    for words in [
        &[linked.as_str()][..],
        &[&up],
        &["-f", "d/Dockerfile", &directory],
        &["-f", "../../../../../../../../etc/passwd", &directory],
        &[&copies],
    ] {
        let failed = build(&builder, words).fails_with(1);
        let is_told = failed.stderr.contains("canary") || failed.stderr.contains("root:x:");
        assert!(!is_told, "{words:?}: {}", failed.words());
    }
    // An archive that breaks off after it has planted a link writes through nothing.
    let planted = Path::new(secret).join("planted");
    let mut cut = packed(&[("Dockerfile", planted.to_str().expect("text"))]);
    cut.truncate(512);
    cut.extend_from_slice(b"FROM scratch\nCOPY canary /leak\n");
    let partial = serve("/partial", cut.clone());
    build(&builder, &[&partial]).fails_with(1);
    builder.run_with_input(&["build", "-o", "out", "-"], &cut).fails_with(1);
    assert!(!planted.exists());
    // A link that stays inside does what it says.
    let inside = packed(&[
        ("Dockerfile", "/sub/real"),
        ("sub/real", "text:FROM scratch\nCOPY sub/real /inside\n"),
    ]);
    build(&builder, &[&serve("/inside", inside)]).success();
    assert!(builder.read("out/inside").contains("COPY sub/real"));
    builder.assert_nothing_left();
}

#[test]
fn privileged_archives_on_standard_input_may_have_any_compression() {
    let Some(builder) = Builder::bare() else { return };
    builder.write("packed/Dockerfile", "FROM scratch\nCOPY file /file\n");
    for compression in ["", "gzip", "bzip2", "xz", "zstd"] {
        builder.write("packed/file", compression);
        let archive = tar(&builder, "packed", compression);
        builder.run_with_input(&["build", "-o", "out", "-"], &archive).success();
        assert_eq!(builder.read("out/file"), compression);
        builder.write("archive", archive);
        build(&builder, &["archive"]).success();
        assert_eq!(builder.read("out/file"), compression);
    }
}

#[test]
fn privileged_named_contexts_are_of_every_kind() {
    let Some(builder) = Builder::new() else { return };
    let site = Site::default();
    site.put("/page", Page::new("of the web").with_etag("a"));
    let web = Web::serve(&site);
    builder.write("lib/file", "of a directory");
    builder.write("lib/hidden", "hidden");
    builder.write("lib/.dockerignore", "hidden\n.dockerignore\n");
    builder.write("context/file", "of the main context");
    let image = "FROM busybox\nRUN echo -n of an image >/file\n";
    builder.build(image, &["-t", "base:1", "-o", "type=image"]).success();
    builder
        .build("FROM base:1\n", &["-t", "base:1", "-o", "type=oci,dest=layout,tar=false"])
        .success();
    let page = format!("c={}", web.url("/page"));
    for (context, file, expected) in [
        ("c=lib", "file", "of a directory"),
        ("c=docker-image://base:1", "file", "of an image"),
        ("c=oci-layout://layout", "file", "of an image"),
        ("c=oci-layout://layout:1", "file", "of an image"),
        (page.as_str(), "context", "of the web"),
    ] {
        let dockerfile = format!(
            "FROM busybox AS c\nRUN false\n\
             FROM c AS base\nFROM busybox AS run\nRUN --mount=from=c,target=/c cp /c/{file} /mounted\n\
             FROM scratch\nCOPY --from=c {file} /copied\nCOPY --from=run /mounted /\n\
             COPY --from=base {file} /based\nCOPY --from=c . /all/\n"
        );
        builder.build(&dockerfile, &["--build-context", context, "-o", "out"]).success();
        for name in ["copied", "mounted", "based"] {
            assert_eq!(builder.read(&format!("out/{name}")), expected, "{context} {name}");
        }
        assert!(!builder.path("out/all/hidden").exists(), "{context}");
        std::fs::remove_dir_all(builder.path("out")).expect("an own directory");
    }
    // It stands in for an image of its name, however that is written.
    for (name, from) in [
        ("alpine", "alpine"),
        ("docker.io/library/alpine:latest", "alpine:latest"),
        ("alpine:3", "docker.io/library/alpine:3"),
        ("example.org/a/b", "example.org/a/b"),
    ] {
        let context = format!("{name}=docker-image://base:1");
        let dockerfile = format!("FROM {from}\nRUN cat /file\n");
        let words = ["--no-cache", "--build-context", &context];
        assert_eq!(builder.build(&dockerfile, &words).success().log(), "of an image", "{name}");
    }
    // One for a platform goes before one for all.
    let words =
        ["--build-context", "c::linux/amd64=lib", "--build-context", "c=context", "-o", "out"];
    builder.build("FROM scratch\nCOPY --from=c file /\n", &words).success();
    assert_eq!(builder.read("out/file"), "of a directory");
    let words =
        ["--build-context", "c::linux/s390x=lib", "--build-context", "c=context", "-o", "out"];
    builder.build("FROM scratch\nCOPY --from=c file /\n", &words).success();
    assert_eq!(builder.read("out/file"), "of the main context");
    for (context, told) in [
        ("c=target:other", "names a target of a bake file"),
        ("c=ftp://example.org/x", "`ftp://` sources are not supported"),
        ("UPPER=lib", "invalid context name `UPPER`"),
        ("c::what/ever/it/is=lib", "invalid context name"),
    ] {
        let words = ["--build-context", context];
        let failed = builder.build("FROM scratch\nCOPY --from=c file /\n", &words).fails_with(1);
        assert!(failed.stderr.contains(told), "{context}: {}", failed.words());
    }
    let gone = builder.build("FROM scratch\n", &["--build-context", "c=gone"]).fails_with(2);
    assert!(gone.stderr.contains("`--build-context c=gone`: no such directory"), "{gone:?}");
}

#[test]
fn privileged_an_ignore_file_can_be_named() {
    let Some(builder) = Builder::bare() else { return };
    builder.write("context/one", "1");
    builder.write("context/two", "2");
    builder.write("context/.dockerignore", "one\n");
    builder.write("other", "two\n");
    let built = |words: &[&str]| {
        let _ = std::fs::remove_dir_all(builder.path("out"));
        builder.build("FROM scratch\nCOPY . /\n", &[&["-o", "out"], words].concat()).success();
        [builder.path("out/one").exists(), builder.path("out/two").exists()]
    };
    assert_eq!(built(&[]), [false, true]);
    assert_eq!(built(&["--ignorefile", "other"]), [true, false]);
    let words = ["--ignorefile", "gone"];
    let failed = builder.build("FROM scratch\nCOPY . /\n", &words).fails_with(1);
    assert!(failed.stderr.contains("failed to read `gone`"), "{}", failed.words());
}

#[test]
fn privileged_a_source_dates_what_is_built() {
    let Some(builder) = Builder::bare() else { return };
    const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    builder.write("packed/Dockerfile", "FROM scratch\nARG SOURCE_DATE_EPOCH\nCOPY . /\n");
    builder.write("packed/new", "");
    for (name, time) in [("packed/Dockerfile", "@500000000"), ("packed/new", "@600000000")] {
        let mut touch = Command::new("touch");
        touch.args(["-d", time, name]).current_dir(builder.path(""));
        assert!(touch.status().expect("touch runs").success());
    }
    let site = Site::default();
    let archive = tar(&builder, "packed", "gzip");
    site.put("/dated", Page::new(archive.clone()).with_time(THEN));
    site.put("/archive", Page::new(archive.clone()));
    site.put("/text", Page::new("no archive"));
    let web = Web::serve(&site);
    let created = |outcome: Outcome| {
        outcome.success();
        let about = builder.run(&["inspect", "--format", "{{.Created}}", "dated"]).success();
        about.text().trim().to_owned()
    };
    let built = |words: &[&str]| {
        let words = [&["build", "-t", "dated"], words].concat();
        created(builder.run(&words))
    };
    let (of_server, of_archive) = ("1994-11-06T08:49:37Z", "1989-01-05T10:40:00Z");
    let dated = ["--build-arg", "SOURCE_DATE_EPOCH=context"];
    let url = |path: &str| web.url(path);
    assert_eq!(built(&[&dated[..], &[&url("/dated")]].concat()), of_server);
    assert_eq!(built(&[&dated[..], &[&url("/archive")]].concat()), of_archive);
    let by_environment = |words: &[&str], name: &str| {
        let mut command = builder.command(&[&["build", "-t", "dated"], words].concat());
        builder.run_command(command.env("SOURCE_DATE_EPOCH", name))
    };
    assert_eq!(created(by_environment(&[&url("/dated")], "context")), of_server);
    let mut piped = builder.command(&["build", "-t", "dated", dated[0], dated[1], "-"]);
    builder.write("archive.tar.gz", archive);
    let input = std::fs::File::open(builder.path("archive.tar.gz")).expect("a file");
    assert_eq!(created(builder.run_command(piped.stdin(input))), of_archive);
    // Named contexts, and stages that only fetch.
    let named = |path: &str| {
        builder.write(
            "here/Dockerfile",
            "ARG SOURCE_DATE_EPOCH=src\nFROM scratch\nCOPY Dockerfile /\n",
        );
        let context = format!("src={}", url(path));
        built(&["--build-context", &context, "here"])
    };
    assert_eq!(named("/dated"), of_server);
    assert_eq!(named("/archive"), of_archive);
    builder.write("here/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let context = format!("src={}", url("/dated"));
    let words = ["--build-context", &context, "here"];
    assert_eq!(created(by_environment(&words, "src")), of_server);
    let unknown = by_environment(&words, "yesterday").fails_with(1).words();
    for said in ["invalid SOURCE_DATE_EPOCH: yesterday", "seconds since 1970", "environment"] {
        assert!(unknown.contains(said), "{unknown}");
    }
    let fetched = |add: &str| {
        let dockerfile = format!(
            "ARG SOURCE_DATE_EPOCH=src\nFROM scratch AS src\nADD {add} /x\n\
             FROM scratch\nCOPY Dockerfile /\n"
        );
        builder.write("here/Dockerfile", dockerfile);
        built(&["here"])
    };
    assert_eq!(fetched(&url("/dated")), of_server);
    assert_eq!(fetched(&url("/archive")), of_archive);
    // What has no time gives none: the image is as old as it is.
    for now in [named("/text"), fetched(&url("/text"))] {
        assert!(now.as_str() > "2020", "{now}");
    }
}
