//! Lowering: what a Dockerfile becomes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use expect_test::{Expect, expect};
use llb::print;
use oci::{ImageConfig, Platform};
use parser::lower::{
    BaseImage, Dated, ImageRequest, Lowered, MainContext, NamedContext, NoCache, Options, Outcome,
    RequestedImage, SourceTime, asked, epoch_source, lower,
};

use crate::conformance;

/// An image with one layer and the given `config` object.
fn image(name: &str, config: &str) -> BaseImage {
    let text = format!(
        r#"{{"architecture": "amd64", "os": "linux", "config": {config},
            "rootfs": {{"type": "layers", "diff_ids": ["{}"]}},
            "history": [{{"created_by": "{name}"}}]}}"#,
        oci::Digest::of(name.as_bytes())
    );
    let config = ImageConfig::parse(text.as_bytes()).expect("a config");
    BaseImage { digest: oci::Digest::of(b"index"), config }
}

/// The name of an image that is asked for; layouts have tags alone.
fn name(request: &ImageRequest) -> oci::Reference {
    match &request.image {
        RequestedImage::Named(name) => name.clone(),
        RequestedImage::InLayout { reference, .. } => reference.parse().expect("a reference"),
    }
}

/// The images that tests build on, by their short names.
fn known_image(reference: &str) -> Option<BaseImage> {
    let config = match reference {
        "busybox" | "alpine" => r#"{"Env": ["PATH=/bin"], "Cmd": ["sh"]}"#,
        "onbuild" => {
            r#"{"OnBuild": ["ENV TRIGGERED=1", "COPY --from=alpine /a /b"], "User": "me",
                "WorkingDir": "/home", "Entrypoint": ["/init"], "Labels": {"a": "base"}}"#
        }
        _ => return None,
    };
    Some(image(reference, config))
}

fn options() -> Options {
    Options {
        build_platform: Platform::new("linux", "amd64", ""),
        target_platform: Platform::new("linux", "amd64", ""),
        ..Options::default()
    }
}

/// Lowers with all the images there are; an unknown one is an error.
fn lower_with(text: &str, options: &Options) -> Result<Lowered, String> {
    let parse = parser::parse(text);
    if let Some(error) = parse.errors().next() {
        return Err(format!("syntax: {}", error.message));
    }
    let mut images: BTreeMap<ImageRequest, BaseImage> = BTreeMap::new();
    loop {
        match lower(&parse.dockerfile, options, &images) {
            Ok(Outcome::Lowered(lowered)) => return Ok(*lowered),
            Ok(Outcome::NeedImages(requests)) => {
                for request in requests {
                    let name = name(&request);
                    let image = known_image(&name.familiar_name());
                    let image = image.ok_or_else(|| format!("no image {name}"))?;
                    assert!(images.insert(request, image).is_none(), "asked for twice");
                }
            }
            Err(diagnostics) => {
                return Err(diagnostics.last().expect("a reason").message.clone());
            }
        }
    }
}

fn lowered(text: &str, options: &Options) -> Lowered {
    lower_with(text, options).unwrap_or_else(|message| panic!("{message}\nin:\n{text}"))
}

/// The steps of a lowered file without digests, in order.
fn steps(lowered: &Lowered) -> String {
    let targets: Vec<_> = lowered.target.iter().map(|input| input.vertex).collect();
    let text = print::text(&lowered.definition, &targets, &print::no_label);
    let without_digest = text.lines().map(|line| {
        let mut words: Vec<&str> = line.split(' ').collect();
        words.remove(1);
        let line = words.join(" ");
        match line.split_once("@sha256:") {
            Some((before, after)) => format!("{before}{}\n", &after[64..]),
            None => line + "\n",
        }
    });
    without_digest.collect()
}

fn check_steps(text: &str, options: &Options, want: Expect) {
    want.assert_eq(&steps(&lowered(text, options)));
}

/// The ops of a lowered file, as they are printed.
fn ops(text: &str, options: &Options) -> String {
    let lowered = lowered(text, options);
    let targets: Vec<_> = lowered.target.iter().map(|input| input.vertex).collect();
    let value = print::json(&lowered.definition, &targets, &print::no_label);
    let vertices = value["vertices"].as_array().expect("a list");
    vertices.iter().map(|vertex| format!("{}\n", vertex["op"])).collect()
}

fn check_errors(cases: &[(&str, &str)]) {
    for (text, want) in cases {
        let error = lower_with(text, &options()).expect_err(text);
        assert_eq!(&error, want, "in:\n{text}");
    }
}

fn config(text: &str, options: &Options) -> oci::ContainerConfig {
    lowered(text, options).config.config
}

fn history(text: &str, options: &Options) -> Vec<String> {
    lowered(text, options).config.history.into_iter().map(|entry| entry.created_by).collect()
}

#[test]
fn steps_are_named_after_their_stage() {
    check_steps(
        "FROM busybox AS build
         WORKDIR src
         COPY a b* .
         RUN make
         FROM alpine
         COPY --link --from=build /src/out /out
         ENV A=1
         RUN echo $A $B",
        &options(),
        expect![[r#"
            #0 source [build 1/4] FROM docker.io/library/busybox:latest
            #1 source [stage-1 1/3] FROM docker.io/library/alpine:latest
            #2 file [build 2/4] WORKDIR src <- #0
            #3 source [internal] load build context
            #4 file [build 3/4] COPY a b* . <- #2 #3
            #5 exec [build 4/4] RUN make <- #4
            #6 file [stage-1 2/3] COPY --link --from=build /src/out /out <- #5
            #7 merge [stage-1 2/3] LINK COPY --link --from=build /src/out /out <- #1 #6
            #8 exec [stage-1 3/3] RUN echo 1 $B <- #7
        "#]],
    );
}

#[test]
fn stages_that_nobody_needs_are_not_touched() {
    let text = "FROM missing AS unused\nRUN a\nFROM busybox AS used\nRUN b\nFROM used\nRUN c";
    check_steps(
        text,
        &options(),
        expect![[r#"
        #0 source [used 1/2] FROM docker.io/library/busybox:latest
        #1 exec [used 2/2] RUN b <- #0
        #2 exec [stage-2 1/1] RUN c <- #1
    "#]],
    );
    let error = lower_with(text, &Options { all_stages: true, ..options() });
    assert_eq!(error.expect_err("all stages"), "no image docker.io/library/missing:latest");
}

#[test]
fn stages_are_found_by_name_in_any_case_and_by_number() {
    let text =
        "FROM busybox AS Build\nRUN a\nFROM scratch\nCOPY --from=BUILD /a /\nCOPY --from=0 /b /";
    let found = steps(&lowered(text, &options()));
    assert_eq!(found.matches(" <- ").count(), 3, "{found}");
    for target in ["build", "BUILD", "0"] {
        let options = Options { target: Some(target.to_owned()), ..options() };
        assert!(steps(&lowered(text, &options)).ends_with("RUN a <- #0\n"), "{target}");
    }
}

#[test]
fn mistakes_about_stages_are_explained() {
    check_errors(&[
        ("ARG A=1", "dockerfile contains no stages to build"),
        ("FROM scratch\nCOPY --from=7 a b", "invalid stage index 7"),
        ("FROM $NONE", "base name ($NONE) should not be blank"),
        (
            "FROM a AS x\nCOPY --from=y a b\nFROM a AS y\nCOPY --from=x a b",
            "circular dependency detected on stage: x",
        ),
        ("FROM scratch AS x\nCOPY --from=x a b", "circular dependency detected on stage: x"),
        (
            "FROM scratch AS x\nCOPY --from=y a b\nFROM scratch AS y\nFROM x",
            "cannot copy from stage \"y\", it needs to be defined before current stage \"x\"",
        ),
        (
            "FROM busybox AS x\nRUN --mount=from=y,target=/m a\nFROM scratch AS y\nFROM x",
            "cannot mount from stage \"y\" to \"/m\", stage needs to be defined before current command",
        ),
        (
            "ARG IMG=busybox\nFROM scratch\nCOPY --from=$IM a b",
            "\"$IM\" in `from` has no value (did you mean IMG?)",
        ),
        (
            "FROM scratch AS x\nENV I=x\nRUN --mount=from=a$I,target=/m a",
            "\"$I\" in `from` has no value",
        ),
        ("FROM scratch\nARG I=\nCOPY --from=$I a b", "\"$I\" in `from` is empty"),
        ("FROM scratch\nARG I=3\nCOPY --from=$I a b", "invalid stage index 3"),
        (
            "FROM lower/UPPER",
            "failed to parse stage name \"lower/UPPER\": invalid reference format: repository \
             name (lower/UPPER) must be lowercase",
        ),
        ("FROM --platform=$NO scratch", "empty platform value from expression $NO"),
    ]);
    let options = Options { target: Some("bulid".to_owned()), ..options() };
    let error = lower_with("FROM scratch AS build", &options).expect_err("no such stage");
    assert_eq!(error, "target stage \"bulid\" could not be found (did you mean build?)");
}

#[test]
fn mistakes_in_instructions_are_explained() {
    let in_stage = |line: &str| format!("FROM busybox\n{line}");
    let cases = [
        (
            "COPY --chmod=9 a b",
            "invalid chmod parameter: '9'. it should be octal string and between 0 and 07777",
        ),
        ("ADD --checksum=x a b", "checksum requires HTTP(S) or Git sources"),
        ("COPY https://example.org/a b", "source can't be a URL for COPY"),
        ("COPY https://example.org/a.git b", "source can't be a git ref for COPY"),
        ("EXPOSE 80/http", "invalid port: \"80/http\": invalid proto: http"),
        ("STOPSIGNAL HUPP", "invalid signal: HUPP"),
        ("VOLUME $NONE", "VOLUME specified can not be an empty string"),
        ("RUN []", "failed to marshal LLB definition: arguments are required"),
        ("RUN --mount=target=/ a", "invalid mount target \"/\""),
        ("RUN --mount=type=ssh,source=a a", "ssh does not support source"),
        ("RUN --security=insecure a", "security.insecure is not allowed"),
        ("RUN --network=host a", "network.host is not allowed"),
        ("ENV A=${A:?none}", "failed to process \"${A:?none}\": A: none"),
        ("ADD https://example.org/a.git?lfs=perhaps b", "invalid lfs value: \"perhaps\""),
    ];
    for (line, want) in cases {
        check_errors(&[(&in_stage(line), want)]);
    }
}

#[test]
fn errors_stand_at_their_instruction() {
    let parse = parser::parse("FROM scratch\n\nCOPY --chmod=9 a \\\n  b\n");
    let error = lower(&parse.dockerfile, &options(), &BTreeMap::new()).expect_err("a bad mode");
    let [error] = error.as_slice() else { panic!("{error:?}") };
    assert_eq!((error.lines.start, error.lines.end), (3, 4));
}

#[test]
fn images_that_onbuild_brings_are_asked_for_when_they_are_known() {
    let parse = parser::parse("FROM onbuild\nRUN a");
    let mut images = BTreeMap::new();
    let mut rounds = Vec::new();
    loop {
        match lower(&parse.dockerfile, &options(), &images).expect("a valid file") {
            Outcome::Lowered(_) => break,
            Outcome::NeedImages(requests) => {
                let names = requests.iter().map(|request| name(request).to_string());
                rounds.push(names.collect::<Vec<_>>());
                for request in requests {
                    let image =
                        known_image(&name(&request).familiar_name()).expect("a known image");
                    images.insert(request, image);
                }
            }
        }
    }
    assert_eq!(rounds, [["docker.io/library/onbuild:latest"], ["docker.io/library/alpine:latest"]]);
}

#[test]
fn onbuild_runs_first_and_does_not_carry_over() {
    let text = "FROM onbuild AS a\nONBUILD RUN later\nFROM a\nRUN last";
    check_steps(
        text,
        &options(),
        expect![[r#"
            #0 source [a 1/1] FROM docker.io/library/onbuild:latest
            #1 source FROM docker.io/library/alpine:latest
            #2 file [a 2/3] ONBUILD COPY --from=alpine /a /b <- #0 #1
            #3 exec [stage-1 1/2] ONBUILD RUN later <- #2
            #4 exec [stage-1 2/2] RUN last <- #3
        "#]],
    );
    let config = config(text, &options());
    assert_eq!(config.on_build, [] as [String; 0]);
    assert!(config.env.contains(&"TRIGGERED=1".to_owned()));
}

#[test]
fn arguments_are_seen_where_they_are_declared() {
    let text =
        "ARG V=global\nARG ONLY=top\nFROM busybox AS a\nARG V\nARG D=${V}-d\nRUN a $V $D $ONLY
        FROM busybox AS b\nRUN b $V\nFROM a\nENV D=env\nRUN c $V $D";
    assert_eq!(
        history(text, &options()),
        [
            "busybox",
            "ARG V=global",
            "ARG D=global-d",
            "RUN |2 V=global D=global-d /bin/sh -c a $V $D $ONLY # buildkit",
            "ENV D=env",
            "RUN |2 V=global D=env /bin/sh -c c $V $D # buildkit",
        ]
    );
    let given = BTreeMap::from([("V".to_owned(), "cli".to_owned())]);
    let options = Options { build_args: given, target: Some("b".to_owned()), ..options() };
    assert_eq!(history(text, &options), ["busybox", "RUN /bin/sh -c b $V # buildkit"]);
}

#[test]
fn platforms_and_target_are_predefined() {
    let text = "FROM --platform=$BUILDPLATFORM busybox AS out
        ARG TARGETPLATFORM
        ARG TARGETVARIANT
        ARG BUILDARCH
        ARG TARGETSTAGE
        RUN a";
    let options = Options {
        target_platform: Platform::new("linux", "arm", "v7"),
        platform_requested: true,
        ..options()
    };
    let found = history(text, &options);
    let want = "RUN |4 TARGETPLATFORM=linux/arm/v7 TARGETVARIANT=v7 BUILDARCH=amd64 TARGETSTAGE=out \
                /bin/sh -c a # buildkit";
    assert_eq!(found.last().map(String::as_str), Some(want));
    let lowered = lowered(text, &Options { multi_platform: true, ..options });
    assert!(steps(&lowered).contains("[linux/amd64->arm/v7 2/2] RUN a"), "{}", steps(&lowered));
    assert_eq!(
        (lowered.config.architecture.as_str(), lowered.config.variant.as_str()),
        ("arm", "v7")
    );
}

#[test]
fn proxies_reach_processes_but_no_keys() {
    let with = |text: &str, args: &[(&str, &str)]| {
        let build_args = args.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        lowered(text, &Options { build_args, ..options() })
    };
    let exec = |lowered: &Lowered| {
        let vertex = lowered.definition.vertex(lowered.target.expect("a tree").vertex);
        match &vertex.op {
            llb::Op::Exec(exec) => (exec.clone(), vertex.digest.clone()),
            other => panic!("{other:?}"),
        }
    };
    let text = "FROM busybox\nRUN a";
    let (plain, plain_digest) = exec(&with(text, &[]));
    let (proxied, digest) = exec(&with(text, &[("HTTP_PROXY", "p")]));
    assert!(plain.proxy_env.is_empty());
    let names: Vec<&String> = proxied.proxy_env.keys().collect();
    assert_eq!(names, ["HTTP_PROXY", "http_proxy"]);
    assert_eq!(digest, plain_digest);
    // Once declared, it is an argument like any other.
    let declared = "FROM busybox\nARG HTTP_PROXY\nRUN a";
    let (declared, digest) = exec(&with(declared, &[("HTTP_PROXY", "p")]));
    assert_eq!(declared.proxy_env.keys().collect::<Vec<_>>(), ["http_proxy"]);
    assert!(declared.env.contains(&"HTTP_PROXY=p".to_owned()));
    assert_ne!(digest, plain_digest);
}

#[test]
fn the_config_follows_the_instructions() {
    let text = "FROM onbuild
        LABEL a=file b=$USER
        EXPOSE 80 53/udp 9000-9001
        VOLUME /data
        ENTRYPOINT [\"run\"]
        USER you
        WORKDIR sub
        STOPSIGNAL SIGINT
        SHELL [\"/bin/bash\", \"-c\"]
        HEALTHCHECK --interval=1m30s CMD check it
        MAINTAINER somebody";
    let options =
        Options { labels: BTreeMap::from([("a".to_owned(), "cli".to_owned())]), ..options() };
    let lowered = lowered(text, &options);
    let value = serde_json::to_value(&lowered.config.config).expect("JSON");
    expect![[r#"
        {
          "Entrypoint": [
            "run"
          ],
          "Env": [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "TRIGGERED=1"
          ],
          "ExposedPorts": {
            "53/udp": {},
            "80/tcp": {},
            "9000/tcp": {},
            "9001/tcp": {}
          },
          "Healthcheck": {
            "Interval": 90000000000,
            "Test": [
              "CMD-SHELL",
              "check it"
            ]
          },
          "Labels": {
            "a": "cli",
            "b": ""
          },
          "Shell": [
            "/bin/bash",
            "-c"
          ],
          "StopSignal": "SIGINT",
          "User": "you",
          "Volumes": {
            "/data": {}
          },
          "WorkingDir": "/home/sub"
        }"#]]
    .assert_eq(&format!("{value:#}"));
    assert_eq!(lowered.config.author, "somebody");
    let history: Vec<String> =
        lowered.config.history.iter().map(|entry| entry.created_by.clone()).collect();
    expect![[r#"
        onbuild
        ENV TRIGGERED=1
        COPY /a /b # buildkit
        LABEL a=file b=
        EXPOSE [53/udp 80/tcp 9000/tcp 9001/tcp]
        VOLUME [/data]
        ENTRYPOINT ["run"]
        USER you
        WORKDIR /home/sub
        STOPSIGNAL SIGINT
        SHELL [/bin/bash -c]
        HEALTHCHECK {Test:[CMD-SHELL check it] Interval:1m30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}
        MAINTAINER somebody"#]].assert_eq(&history.join("\n"));
    assert_eq!(lowered.base_history, 1);
    assert_eq!(lowered.stages, [] as [String; 0]);
}

#[test]
fn entrypoint_clears_the_command_of_the_base_only() {
    let cmd = |text: &str| config(text, &options()).cmd;
    assert_eq!(cmd("FROM busybox\nENTRYPOINT [\"a\"]"), None);
    let kept = cmd("FROM busybox\nCMD [\"c\"]\nENTRYPOINT [\"a\"]");
    assert_eq!(kept, Some(vec!["c".to_owned()]));
    let other_stage = cmd("FROM busybox AS a\nCMD [\"c\"]\nFROM a\nENTRYPOINT [\"a\"]");
    assert_eq!(other_stage, None);
}

#[test]
fn copies_become_file_actions() {
    let text = "FROM busybox
        WORKDIR /w
        USER me:us
        COPY --chown=you --chmod=u+x --exclude=*.o a b* dir/
        COPY --parents x/./y/*.c z /
        COPY --link a /
        ADD --unpack=false a.tar https://example.org/f?x=1 /
        ADD --checksum=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef \
            https://example.org/g /g
        ADD https://example.org/r.git#main:sub /r
        COPY <<one <<-\"two\" /docs/
$HOME $PATH
one
\t$PATH
two
        WORKDIR sub";
    let ops = ops(text, &options());
    expect![[r#"
        {"source":{"image":"docker.io/library/busybox:latest@sha256:1bc04b5291c26a46d918139138b992d2de976d6851d0893b0476b85bfbdfc6e6","platform":"linux/amd64"}}
        {"file":[{"mkdir":{"mode":"755","owner":null,"parents":true,"path":"/w"},"on":{"input":0},"output":0}]}
        {"source":{"exclude":[],"local":"context"}}
        {"file":[{"copy":{"contents":true,"dest":"/w/dir/","exclude":["*.o"],"follow_symlink":true,"mode":"u+x","owner":{"group":null,"user":"you"},"src":"/a","wildcard":true},"from":{"input":1},"on":{"input":0}},{"copy":{"contents":true,"dest":"/w/dir/","exclude":["*.o"],"follow_symlink":true,"mode":"u+x","owner":{"group":null,"user":"you"},"src":"/b*","wildcard":true},"from":{"input":1},"on":{"action":0},"output":0}]}
        {"file":[{"copy":{"contents":true,"dest":"/","follow_symlink":true,"parents":true,"src":"/x/./y/*.c","wildcard":true},"from":{"input":1},"on":{"input":0}},{"copy":{"contents":true,"dest":"/","follow_symlink":true,"parents":true,"src":"/z","wildcard":true},"from":{"input":1},"on":{"action":0},"output":0}]}
        {"file":[{"copy":{"contents":true,"dest":"/","follow_symlink":true,"src":"/a","wildcard":true},"from":{"input":0},"on":"scratch","output":0}]}
        {"merge":{}}
        {"source":{"checksum":null,"filename":"f","http":"https://example.org/f?x=1","mode":"600","owner":[0,0]}}
        {"file":[{"copy":{"contents":true,"dest":"/","follow_symlink":true,"src":"/a.tar","wildcard":true},"from":{"input":1},"on":{"input":0}},{"copy":{"dest":"/","src":"/f"},"from":{"input":2},"on":{"action":0},"output":0}]}
        {"source":{"checksum":"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","filename":"g","http":"https://example.org/g","mode":"600","owner":[0,0]}}
        {"file":[{"copy":{"dest":"/g","src":"/g"},"from":{"input":1},"on":{"input":0},"output":0}]}
        {"source":{"checksum":null,"fetch_by_commit":false,"git":"https://example.org/r.git","keep_git_dir":false,"lfs":false,"reference":"main","subdirectory":"sub","submodules":true,"times":"checkout"}}
        {"file":[{"copy":{"contents":true,"dest":"/r","src":"/"},"from":{"input":1},"on":{"input":0},"output":0}]}
        {"file":[{"mkfile":{"mode":"644","owner":null,"path":"/one","size":6},"on":"scratch","output":0}]}
        {"file":[{"mkfile":{"mode":"644","owner":null,"path":"/two","size":6},"on":"scratch","output":0}]}
        {"file":[{"copy":{"dest":"/docs/","src":"/one"},"from":{"input":1},"on":{"input":0}},{"copy":{"dest":"/docs/","src":"/two"},"from":{"input":2},"on":{"action":0},"output":0}]}
        {"file":[{"mkdir":{"mode":"755","owner":{"group":"us","user":"me"},"parents":true,"path":"/w/sub"},"on":{"input":0},"output":0}]}
    "#]].assert_eq(&ops);
}

#[test]
fn mounts_have_their_defaults() {
    let text = "FROM busybox AS b
        FROM busybox
        WORKDIR /w
        ARG ID=5
        RUN --mount=target=in \
            --mount=from=b,source=/etc,target=/etc,rw \
            --mount=type=cache,target=/root/.cache \
            --mount=type=cache,id=x,target=c,sharing=locked,uid=$ID \
            --mount=type=tmpfs,target=/t,size=1m \
            --mount=type=secret,id=s \
            --mount=type=secret,id=t,env=TOKEN,required \
            --mount=type=ssh \
            make $TOKEN";
    let options = Options { shm_size: 4096, ..options() };
    expect![[r#"
        {"source":{"image":"docker.io/library/busybox:latest@sha256:1bc04b5291c26a46d918139138b992d2de976d6851d0893b0476b85bfbdfc6e6","platform":"linux/amd64"}}
        {"file":[{"mkdir":{"mode":"755","owner":null,"parents":true,"path":"/w"},"on":{"input":0},"output":0}]}
        {"source":{"exclude":[],"local":"context"}}
        {"file":[{"mkdir":{"mode":"755","owner":{"group":"0","user":"5"},"parents":false,"path":"/cache"},"on":"scratch","output":0}]}
        {"exec":{"args":["/bin/sh","-c","make $TOKEN"],"cwd":"/w","env":["PATH=/bin","ID=5","SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0"],"mounts":[{"dest":"/","input":0,"output":0,"readonly":false,"type":"bind"},{"dest":"/dev/shm","readonly":false,"size":4096,"type":"tmpfs"},{"dest":"/etc","input":1,"readonly":false,"selector":"/etc","type":"bind"},{"dest":"/root/.cache","id":"//root/.cache","readonly":false,"sharing":"shared","type":"cache"},{"dest":"/t","readonly":false,"size":1048576,"type":"tmpfs"},{"dest":"/w/c","id":"/x","input":2,"readonly":false,"selector":"/cache","sharing":"locked","type":"cache"},{"dest":"/w/in","input":3,"readonly":true,"type":"bind"},{"dest":"/run/secrets/s","id":"s","mode":"400","optional":true,"owner":[0,0],"readonly":false,"type":"secret"},{"dest":"/run/buildkit/ssh_agent.0","id":"default","mode":"600","optional":true,"owner":[0,0],"readonly":false,"type":"ssh"}],"secrets":[{"env":"TOKEN","id":"t","optional":false}],"user":""}}
    "#]].assert_eq(&ops(text, &options));
    let found = steps(&lowered(text, &options));
    assert!(found.contains("make ****"), "{found}");
}

#[test]
fn sources_may_be_named_by_arguments() {
    let options =
        Options { build_args: [("GIVEN".to_owned(), "b".to_owned())].into(), ..options() };
    let start = "FROM busybox AS b\nRUN b\nFROM busybox AS c\nRUN c\n";
    let copy = format!("{start}FROM busybox\nCOPY --from=b /x /y");
    let mount = format!("{start}FROM busybox\nRUN --mount=from=b,target=/m a");
    for (text, same) in [
        (format!("ARG S=b\n{start}FROM busybox\nCOPY --from=$S /x /y"), &copy),
        (format!("{start}FROM busybox\nARG N=0\nCOPY --from=${{N}} /x /y"), &copy),
        (format!("{start}FROM busybox\nARG N\nCOPY --from=${{N:-b}} /x /y"), &copy),
        (format!("{start}FROM busybox\nARG GIVEN=c\nCOPY --from=$GIVEN /x /y"), &copy),
        (format!("ARG S=c\n{start}FROM busybox\nARG S=b\nCOPY --from=$S /x /y"), &copy),
        (format!("{start}FROM busybox AS i\nARG S=b\nFROM i\nCOPY --from=$S /x /y"), &copy),
        (format!("ARG S=b\n{start}FROM busybox\nRUN --mount=from=$S,target=/m a"), &mount),
        (format!("ARG S=b\n{start}FROM busybox\nRUN --mount=target=/m,FROM=$S a"), &mount),
    ] {
        assert_eq!(ops(&text, &options), ops(same, &options), "{text}");
    }
}

#[test]
fn here_documents_run_in_the_shell_or_as_scripts() {
    let run = |text: &str| {
        let lowered = lowered(text, &options());
        let vertex = lowered.definition.vertex(lowered.target.expect("a tree").vertex);
        let llb::Op::Exec(exec) = &vertex.op else { panic!("{vertex:?}") };
        (exec.args.clone(), exec.mounts.len(), vertex.metadata.name.clone())
    };
    let shell = |script: &str| ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let (args, mounts, name) = run("FROM busybox\nRUN <<EOF\necho $A\nls\nEOF");
    assert_eq!((args, mounts), (shell("echo $A\nls\n"), 1));
    assert_eq!(name, "[2/2] RUN <<EOF (echo $A...)");
    let (args, mounts, _) = run("FROM busybox\nRUN <<-EOF\n\t#!/bin/awk -f\n\t{}\nEOF");
    assert_eq!((args, mounts), (shell("/dev/pipes/EOF"), 2));
    let (args, _, _) = run("FROM busybox\nRUN cat <<A - <<B\n1\nA\n2\nB");
    assert_eq!(args, shell("cat <<A - <<B\n1\nA\n2\nB"));
}

#[test]
fn named_contexts_stand_in_for_stages_and_images() {
    let local =
        |name: &str| NamedContext::Local { name: name.to_owned(), exclude_patterns: Vec::new() };
    let contexts = BTreeMap::from([
        ("src".to_owned(), local("dir0")),
        ("build".to_owned(), NamedContext::Image("alpine".to_owned())),
        ("missing:1".to_owned(), NamedContext::Scratch),
        ("app::linux/amd64".to_owned(), NamedContext::Http("https://example.org/a".to_owned())),
    ]);
    let options = Options { named_contexts: contexts, ..options() };
    let text = "FROM busybox AS build\nRUN never
        FROM missing:1\nCOPY --from=build a b\nCOPY --from=src a b\nCOPY --from=app a b";
    check_steps(
        text,
        &options,
        expect![[r#"
            #0 source [context build] alpine
            #1 source [context src] load from client
            #2 source [context app::linux/amd64] https://example.org/a
            #3 file [stage-1 1/4] COPY --from=build a b <- #0
            #4 file [stage-1 2/4] COPY --from=src a b <- #3 #1
            #5 file [stage-1 3/4] COPY --from=app a b <- #4 #2
        "#]],
    );
    assert_eq!(lowered(text, &options).contexts_used, BTreeSet::from(["dir0".to_owned()]));
}

#[test]
fn the_main_context_may_be_remote_or_nothing() {
    let with = |main_context| {
        steps(&lowered("FROM scratch\nCOPY a b", &Options { main_context, ..options() }))
    };
    expect![[r#"
        #0 source [internal] load remote build context https://example.org/a.tar
        #1 file [internal] copy remote build context <- #0
        #2 file [1/1] COPY a b <- #1
    "#]]
    .assert_eq(&with(MainContext::Http {
        url: "https://example.org/a.tar".to_owned(),
        is_archive: true,
    }));
    let git = MainContext::Git {
        url: "https://example.org/a.git#v1:dir".to_owned(),
        keep_git_dir: false,
    };
    expect![[r#"
        #0 source [internal] load git source https://example.org/a.git#v1:dir
        #1 file [1/1] COPY a b <- #0
    "#]]
    .assert_eq(&with(git));
    expect![[r#"
        #0 file [1/1] COPY a b
    "#]]
    .assert_eq(&with(MainContext::Empty));
}

#[test]
fn no_cache_marks_the_steps_of_its_stages() {
    let marked = |no_cache| {
        let text = "FROM busybox AS a\nWORKDIR /w\nRUN a\nFROM a AS b\nCOPY a b";
        steps(&lowered(text, &Options { no_cache, ..options() })).matches(" no-cache").count()
    };
    assert_eq!(marked(NoCache::Never), 0);
    assert_eq!(marked(NoCache::Always), 2);
    assert_eq!(marked(NoCache::Stages(vec!["A".to_owned()])), 1);
}

#[test]
fn a_date_is_taken_from_arguments() {
    let of = |value: &str| {
        let build_args = BTreeMap::from([("SOURCE_DATE_EPOCH".to_owned(), value.to_owned())]);
        let options = Options { build_args, ..options() };
        lower_with("FROM busybox\nARG SOURCE_DATE_EPOCH\nRUN a", &options)
    };
    let lowered = of("12").expect("a date");
    assert_eq!(lowered.source_date_epoch, Some(12));
    assert!(lowered.config.history.iter().any(|e| e.created_by == "ARG SOURCE_DATE_EPOCH=12"));
    let lowered = of("context").expect("a directory has no date");
    assert_eq!(lowered.source_date_epoch, None);
    assert!(lowered.config.history.iter().any(|e| e.created_by == "ARG SOURCE_DATE_EPOCH"));
    for text in ["soon", "-1", "253402300800", "99999999999999999"] {
        let error = of(text).expect_err("not a date");
        assert_eq!(error, format!("invalid SOURCE_DATE_EPOCH: {text}"));
    }
}

#[test]
fn what_dates_a_build_can_be_asked_for() {
    let text = |add: &str| {
        format!(
            "ARG SOURCE_DATE_EPOCH=src\nFROM scratch AS src\nARG V=1\n{add}\nFROM busybox\nRUN a"
        )
    };
    let source = |text: &str| epoch_source(&parser::parse(text).dockerfile, &options());
    let http = text("ADD https://example.org/$V.tar /");
    let found = source(&http).expect("a stage that fetches");
    let Dated::Source(found) = found else { panic!("{found:?}") };
    let llb::SourceOp::Http(llb::HttpSource { url, filename, .. }) = *found else {
        panic!("{found:?}")
    };
    assert_eq!((url.as_str(), filename.as_str()), ("https://example.org/1.tar", "1.tar"));
    let resolved = Options { source_time: SourceTime::At(7), ..options() };
    assert_eq!(lowered(&http, &resolved).source_date_epoch, Some(7));
    let without = Options { source_time: SourceTime::Unknown, ..options() };
    assert_eq!(lowered(&http, &without).source_date_epoch, None);
    assert!(lower_with(&http, &options()).expect_err("not resolved").contains("is not known"));
    let cases = [
        ("", "SOURCE_DATE_EPOCH stage must contain exactly one remote ADD"),
        ("ADD a b", "SOURCE_DATE_EPOCH stage source must be a single HTTP(S) or Git ADD"),
        ("ADD a b c", "SOURCE_DATE_EPOCH stage must contain exactly one remote ADD source"),
        (
            "RUN a",
            "SOURCE_DATE_EPOCH stage does not meet source-only requirements: unsupported RUN instruction",
        ),
    ];
    for (add, want) in cases {
        assert_eq!(source(&text(add)).expect_err(add).message, want);
    }
    assert_eq!(source("ARG SOURCE_DATE_EPOCH=5\nFROM scratch"), Ok(Dated::Never));
}

#[test]
fn the_same_file_lowers_to_the_same_graph() {
    let text = "FROM busybox AS a\nARG X=1\nRUN --mount=type=cache,target=/c a\nFROM alpine\nCOPY --from=a /x /y";
    let digest = || {
        let lowered = lowered(text, &options());
        lowered.definition.vertex(lowered.target.expect("a tree").vertex).digest.clone()
    };
    assert_eq!(digest(), digest());
}

#[test]
fn values_that_grow_without_end_are_refused() {
    let doubling = "ENV A=$A$A\n".repeat(40);
    let error = lower_with(&format!("FROM scratch\nENV A=aaaaaaaa\n{doubling}"), &options());
    let error = error.expect_err("too large");
    assert!(error.contains("grow by more than"), "{}", &error[error.len().saturating_sub(100)..]);

    let large = format!("ARG A={}\n", "a".repeat(60_000));
    let error = lower_with(&format!("FROM busybox\n{large}{}", "RUN a\n".repeat(600)), &options());
    assert!(error.expect_err("too large").contains("variables and arguments of all steps"));

    let ports = "EXPOSE 1-65535/tcp 1-65535/udp 1-65535/sctp\n".repeat(100);
    let error = lower_with(&format!("FROM scratch\n{ports}"), &options());
    assert!(error.expect_err("too large").contains("variables and arguments of all steps"));
}

#[test]
fn stages_that_share_a_base_share_nothing_else() {
    let text = "FROM scratch AS base\nENV A=1\nLABEL base=1\n\
                FROM base AS first\nENV A=2\nLABEL first=1\nCOPY $A /\n\
                FROM base AS second\nLABEL second=$A\nCOPY --from=first / /\n";
    let lowered = lowered(text, &options());
    let labels: Vec<_> = lowered.config.config.labels.iter().collect();
    assert_eq!(format!("{labels:?}"), r#"[("base", "1"), ("second", "1")]"#);
    assert!(lowered.config.config.env.contains(&"A=1".to_owned()));
}

/// Only one of them has a config at any time: a copy for each would take gigabytes.
#[test]
fn a_long_chain_of_stages_lowers_in_little_memory() {
    let mut text = "FROM scratch AS s0\n".to_owned();
    for stage in 1..20_000 {
        text += &format!("FROM s{} AS s{stage}\nLABEL l{stage}=x\n", stage - 1);
    }
    assert_eq!(lowered(&text, &options()).config.config.labels.len(), 19_999);
}

/// Time for one lowering, the best of three.
fn time(text: &str, options: &Options) -> Duration {
    let parse = parser::parse(text);
    let mut images = BTreeMap::new();
    let mut once = || {
        let start = Instant::now();
        match lower(&parse.dockerfile, options, &images).expect("a valid file") {
            Outcome::Lowered(_) => {}
            Outcome::NeedImages(requests) => {
                let known =
                    requests.into_iter().map(|r| (r, known_image("busybox").expect("it is known")));
                images.extend(known);
            }
        }
        start.elapsed()
    };
    once();
    (0..3).map(|_| once()).min().expect("three times")
}

/// Generous bounds: they tell a wrong order of growth, not a slow machine.
#[test]
fn long_files_lower_in_linear_time() {
    let steps: String = (0..600).map(|n| format!("RUN step {n}\nENV V{n}=1\n")).collect();
    let long = time(&format!("FROM busybox\n{steps}"), &options());
    let unused: String = (0..1_000).map(|n| format!("FROM busybox AS s{n}\nRUN a\n")).collect();
    let wide = time(&format!("{unused}FROM s7\nCOPY --from=s3 a b\n"), &options());
    let chain: String =
        (1..10_000).map(|n| format!("FROM s{} AS s{n}\nRUN a\nLABEL a=b\n", n - 1)).collect();
    let deep = time(&format!("FROM busybox AS s0\n{chain}"), &options());
    println!(
        "600 steps: {long:?}; 1000 stages, 3 needed: {wide:?}; 10000 stages in a chain: {deep:?}"
    );
    assert!(long < Duration::from_secs(5), "{long:?}");
    assert!(wide < Duration::from_secs(2), "{wide:?}");
    assert!(deep < Duration::from_secs(20), "{deep:?}");
}

/// Whatever people have written: an answer, and the same one every time.
#[test]
fn every_dockerfile_of_the_corpus_gets_an_answer() {
    let Some(cases) = conformance::cases("dockerfile_corpus.json") else { return };
    let options = Options {
        entitlements: ["network.host", "security.insecure"].map(str::to_owned).into(),
        ..options()
    };
    let (mut good, mut bad) = (0, BTreeMap::<String, usize>::new());
    for case in &cases {
        let text = case["dockerfile"].as_str().expect("a Dockerfile");
        let parse = parser::parse(text);
        if parse.has_errors() {
            continue;
        }
        let mut images = BTreeMap::new();
        // Each round may bring images of ONBUILD instructions; these images have none.
        for round in 0.. {
            assert!(round < 2, "{text}");
            match lower(&parse.dockerfile, &options, &images) {
                Ok(Outcome::NeedImages(requests)) => {
                    let some = known_image("busybox").expect("it is known");
                    images.extend(requests.into_iter().map(|request| (request, some.clone())));
                }
                Ok(Outcome::Lowered(lowered)) => {
                    let layers = lowered.config.history.iter().filter(|entry| !entry.empty_layer);
                    assert_eq!(layers.count() > 0, lowered.target.is_some(), "{text}");
                    good += 1;
                    break;
                }
                Err(diagnostics) => {
                    let error = diagnostics.last().expect("a reason");
                    *bad.entry(error.message.chars().take(40).collect()).or_default() += 1;
                    break;
                }
            }
        }
    }
    println!("{good} lowered; not lowered: {bad:#?}");
    assert!(good > 500, "{good}");
}

#[test]
fn what_was_asked_for_and_does_nothing_is_noted() {
    let notes = |text: &str, change: &dyn Fn(&mut Options)| {
        let mut options = options();
        change(&mut options);
        lowered(text, &options).notes
    };
    let none: [&str; 0] = [];
    let arguments = |names: &'static [&str]| {
        move |options: &mut Options| {
            let values = names.iter().map(|name| ((*name).to_owned(), "1".to_owned()));
            options.build_args.extend(values);
        }
    };
    // Of an argument: in another stage, before the first FROM, in ONBUILD of the file or the base.
    let used = "ARG A\nFROM busybox AS x\nARG B=1 C\nONBUILD ARG D\nFROM busybox\nRUN true";
    assert_eq!(notes(used, &arguments(&["A", "B", "C", "D"])), none);
    let known = &["HTTP_PROXY", "no_proxy", "SOURCE_DATE_EPOCH", "TARGETARCH", "BUILDKIT_X"];
    assert_eq!(notes("FROM busybox", &arguments(known)), none);
    assert_eq!(
        notes("FROM busybox\nARG VERSION", &arguments(&["VERSOIN", "Q"])),
        [
            "build argument `Q` is not used: no `ARG` has that name",
            "build argument `VERSOIN` is not used: no `ARG` has that name (did you mean VERSION?)",
        ]
    );

    let contexts = |names: &'static [&str]| {
        move |options: &mut Options| {
            let scratch = || NamedContext::Scratch;
            options.named_contexts.extend(names.iter().map(|name| ((*name).to_owned(), scratch())));
        }
    };
    let used =
        "FROM alpine:3 AS s\nFROM busybox\nCOPY --from=lib a b\nRUN --mount=from=m,target=/m true";
    let names = &["alpine:3", "s", "lib", "m", "busybox::linux/arm64"];
    assert_eq!(notes(used, &contexts(names)), none);
    assert_eq!(
        notes("FROM busybox AS lib\nFROM busybox", &contexts(&["lbi::linux/amd64"])),
        ["build context `lbi` is not used: nothing has that name (did you mean lib?)"]
    );
    assert_eq!(
        notes("FROM scratch\nCOPY --from=scratch a b", &contexts(&["scratch"])),
        ["build context `scratch` is not used: `scratch` is always empty"]
    );

    let uncached = |options: &mut Options| {
        options.no_cache = NoCache::Stages(vec!["LIB".into(), "lbi".into()]);
    };
    assert_eq!(
        notes("FROM busybox AS lib", &uncached),
        ["`--no-cache-filter lbi` does nothing: no stage has that name (did you mean lib?)"]
    );

    let dos = "FROM busybox\r\nRUN <<EOF\r\ntrue\r\nEOF\r\nRUN true\r\n";
    assert_eq!(
        notes(dos, &|_| {}),
        ["lines of the here-document `EOF` end with CR LF, and the CR stays (line 2); \
          save the Dockerfile with LF alone"]
    );
}

#[test]
fn an_image_is_asked_for_somewhere() {
    let text = "FROM busybox AS build\nFROM bsybox\nRUN true\nCOPY --from=biuld a b";
    let parse = parser::parse(text);
    let images = BTreeMap::new();
    let told = |options: &Options| {
        let Ok(Outcome::NeedImages(requests)) = lower(&parse.dockerfile, options, &images) else {
            panic!("the images are not known")
        };
        let asked = requests.iter().map(|request| {
            asked(&parse.dockerfile, options, &images, request).expect("it is there")
        });
        let told = asked.map(|asked| {
            format!("{} {} {:?} {}", asked.name, asked.is_base, asked.near, asked.lines.start)
        });
        told.collect::<Vec<_>>()
    };
    assert_eq!(told(&options()), ["biuld false Some(\"build\") 4", "bsybox true None 2"]);
}
