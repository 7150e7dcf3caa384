//! Common mistakes: each is told with its cause, its place and a next step, in at most three lines
//! beside the lines of the Dockerfile.

use std::os::unix::fs::symlink;

use super::builder::Builder;

/// One mistake.
struct Mistake {
    /// The Dockerfile; behind `FROM busybox`, unless it has a `FROM` itself. Empty for one that is
    /// good.
    dockerfile: &'static str,
    /// The command line.
    words: &'static str,
    /// What is told: the cause, the place, the next step.
    told: [&'static str; 3],
}

const fn mistake(
    dockerfile: &'static str,
    words: &'static str,
    told: [&'static str; 3],
) -> Mistake {
    Mistake { dockerfile, words, told }
}

/// They end the program before anything is built: exit code 2.
const OF_USAGE: &[Mistake] = &[
    mistake("", "bild .", ["there is no command", "`bild`", "did you mean `build`?"]),
    mistake("", "pusj app", ["there is no command", "`pusj`", "did you mean `push`?"]),
    mistake("", "nosuch", ["no command and no directory", "`nosuch`", "`mybuild --help` lists"]),
    mistake("", "compose up", ["there is no command", "`compose`", "build each image with"]),
    mistake("", "compose", ["there is no command", "`compose`", "the directory is `./compose`"]),
    mistake("", "compose --help", ["there is no command", "`compose`", "build each image with"]),
    mistake("", "help compose", ["there is no command", "`compose`", "build each image with"]),
    mistake("", "image import app", ["there is no command", "`image import`", "a Dockerfile of"]),
    mistake("", "-D compose up", ["there is no command", "`compose`", "build each image with"]),
    mistake("", "push app@sha256:", ["`app@sha256:` is not a valid image name", "", ""]),
    mistake("", "push -a app:1", ["`--all-tags` takes a name without a tag", "`app:1`", ""]),
    mistake("", "exec x sh", ["there is no command", "`exec`", "mybuild run IMAGE COMMAND"]),
    mistake(
        "",
        "manifest create a b",
        ["there is no command", "`manifest create`", "imagetools create"],
    ),
    mistake(
        "",
        "imagetools creat",
        ["there is no command", "`imagetools creat`", "`imagetools create`?"],
    ),
    mistake("", "imagetools create a", ["has no name", "new image", "--dry-run"]),
    mistake("", "imagetools create -t a", ["nothing to make", "an image of", "SOURCE"]),
    mistake(
        "",
        "imagetools create -t a b --prefer-index=no",
        ["want true or false", "--prefer-index=no", "true"],
    ),
    mistake("", "login r.example/team", ["names a repository", "`r.example/team`", "`r.example`"]),
    mistake("", "login -u a --password-stdin -p b", ["do not go together", "--password", "-stdin"]),
    mistake("", "login --password-stdin", ["needs `--username`", "--password-stdin", "--username"]),
    mistake(
        "",
        "logout a_b",
        ["is not the host of a registry", "`a_b`", "write `registry.example"],
    ),
    mistake("", "compose up", ["there is no command", "`compose`", "mybuild -t NAME DIR"]),
    mistake("", "buildx bake", ["there is no command", "`buildx bake`", "mybuild -t NAME DIR"]),
    mistake("", "image lst", ["there is no command", "`image lst`", "did you mean `image list`?"]),
    mistake("", "image --what", ["needs a command", "`image`", "`image` has build, "]),
    mistake("", "version", ["there is no command", "`version`", "mybuild --version"]),
    mistake("", "build srcc", ["no such directory", "context `srcc`", "did you mean `src`?"]),
    mistake("", "-t app nosuch", ["no such directory", "context `nosuch`", "directory to build"]),
    mistake("", "-t App .", ["must be lowercase", "`App`", "did you mean `app`?"]),
    mistake("", "-t app:1:2 .", ["is not a valid image name", "`app:1:2`", "NAME:TAG"]),
    mistake("", "--platform linux/amd46 .", ["unknown architecture", "--platform", "mean amd64?"]),
    mistake("", "--platform linx/amd64 .", ["unknown system", "--platform", "mean linux?"]),
    mistake(
        "",
        "--annotation manifst:a=b .",
        ["unknown level `manifst`", "--annotation", "did you mean manifest?"],
    ),
    mistake(
        "",
        "--iidfile no/id .",
        ["directory `no` does not exist", "--iidfile no/id", "`mkdir -p no`"],
    ),
    mistake("", "--iidfile src .", ["is a directory", "--iidfile src", "name a file"]),
    mistake(
        "",
        "--metadata-file no/m .",
        ["directory `no` does not exist", "--metadata-file no/m", "mkdir"],
    ),
    mistake(
        "",
        "-o type=tar,dest=no/t .",
        ["directory `no` does not exist", "dest=no/t", "`mkdir -p no`"],
    ),
    mistake("", "-o type=oci,dest=src .", ["is a directory", "dest=src", "name a file"]),
    mistake("", "-o package.json .", ["not a directory", "package.json", "type=tar,dest="]),
    mistake(
        "",
        "save -o no/t busybox",
        ["directory `no` does not exist", "--output no/t", "`mkdir -p no`"],
    ),
    mistake("", "--bild-arg A=1 .", ["unexpected argument", "'--bild-arg'", "'--build-arg'"]),
    mistake("", "--progress plian .", ["unknown kind", "--progress=plian", "kinds are auto"]),
    mistake("", "-o type=oic,dest=x .", ["unknown type `oic`", "--output", "types are image"]),
    mistake("", "--secret id=k,src=nofile .", ["no file `nofile`", "--secret", "src=nofile"]),
    mistake(
        "",
        "--build-context l=srcc .",
        ["no such directory", "`--build-context l=srcc`", "`src`?"],
    ),
    mistake("", "--build-context lib .", ["want NAME=SOURCE", "--build-context lib", "NAME"]),
    mistake("", "--push .", ["a push needs a name", "", "`-t HOST/NAME:TAG`"]),
    mistake("", "--push --offline -t a .", ["`--offline` and a push", "do not go together", ""]),
    mistake(
        "",
        "--cache-to type=gha .",
        ["`url` is missing", "type=gha", "jobs of GitHub Actions"],
    ),
    mistake(
        "",
        "--build-arg BUILDKIT_INLINE_CACHE=what .",
        ["want `true` or `false`", "BUILDKIT_INLINE_CACHE=what", ""],
    ),
];

/// They end the build: exit code 1.
const OF_BUILD: &[Mistake] = &[
    // Files.
    mistake(
        "COPY pakage.json /",
        ".",
        ["\"/pakage.json\": not found in the build context", "Dockerfile:2", "`package.json`?"],
    ),
    mistake(
        "ADD htp://example.com/x /x",
        ".",
        ["not found in the build context", "Dockerfile:2", "`htp://` is not fetched"],
    ),
    mistake(
        "COPY Package.json /",
        ".",
        ["\"/Package.json\": not found", "Dockerfile:2", "did you mean `package.json`?"],
    ),
    mistake(
        "COPY ap/main.c /",
        ".",
        ["\"/ap/main.c\": not found", "Dockerfile:2", "did you mean `app/main.c`?"],
    ),
    mistake(
        "COPY main.c /",
        ".",
        ["\"/main.c\": not found", "Dockerfile:2", "did you mean `app/main.c`?"],
    ),
    mistake(
        "COPY qqqqqqqqq /",
        ".",
        ["\"/qqqqqqqqq\": not found", "Dockerfile:2", "relative to the context"],
    ),
    mistake(
        "COPY srcc/*.c /",
        ".",
        ["lstat /srcc: no such file or directory", "Dockerfile:2", "did you mean `src`?"],
    ),
    mistake(
        "COPY secret.env /",
        ".",
        ["\"/secret.env\": not found", "Dockerfile:2", "the pattern `*.env` of the ignore file"],
    ),
    mistake(
        "COPY ../elsewhere /",
        ".",
        ["\"/elsewhere\": not found", "Dockerfile:2", "`../elsewhere` cannot leave the context"],
    ),
    mistake(
        "COPY dead /",
        ".",
        ["\"/dead\": not found", "Dockerfile:2", "`dead` is a link to `/nonexistent`"],
    ),
    mistake(
        "COPY out /",
        ".",
        ["\"/out\": not found", "Dockerfile:2", "`out` is a link to `../elsewhere`"],
    ),
    mistake(
        "RUN --mount=type=bind,source=pakage.json,target=/p true",
        ".",
        ["\"/pakage.json\": not found", "Dockerfile:2", "did you mean `package.json`?"],
    ),
    mistake(
        "COPY --chmod=rwx src /",
        ".",
        ["invalid chmod parameter: 'rwx'", "Dockerfile:2:1", "u=rwX,go=rX"],
    ),
    mistake(
        "ADD http://127.0.0.1:1/x.tar.gz /",
        ".",
        ["failed to fetch `http://127.0.0.1:1/x.tar.gz`", "Dockerfile:2", "HTTPS_PROXY"],
    ),
    mistake(
        "ADD http://127.0.0.1:1/x.git /",
        ".",
        [
            "failed to fetch `http://127.0.0.1:1/x.git`: unable to access",
            "Dockerfile:2",
            "HTTPS_PROXY",
        ],
    ),
    // Stages and images.
    mistake(
        "FROM busybox AS build\nFROM scratch\nCOPY --from=biuld /a /",
        ".",
        ["no stage is called `biuld`", "Dockerfile:3", "did you mean `build`?"],
    ),
    mistake(
        "FROM busybox AS build\nFROM busybox\nRUN --mount=from=biuld,target=/x true",
        ".",
        ["no stage is called `biuld`", "Dockerfile:3", "did you mean `build`?"],
    ),
    mistake(
        "FROM busybox\nCOPY --from=lib a /",
        "--build-context lbi=src .",
        ["no stage is called `lib`", "Dockerfile:2", "did you mean `lbi`?"],
    ),
    mistake(
        "FROM busybox AS build\nFROM scratch\nCOPY --from=build /bin/bsybox /",
        ".",
        ["not found in stage `build`", "Dockerfile:3", "did you mean `bin/busybox`?"],
    ),
    mistake(
        "FROM busybox AS a\nCOPY --from=b /x /\nFROM busybox AS b\nFROM a",
        ".",
        ["needs to be defined before", "Dockerfile:2:1", "move the stage above"],
    ),
    mistake(
        "COPY --from=3 /x /",
        ".",
        ["invalid stage index 3", "Dockerfile:2:1", "numbered from 0 to 0"],
    ),
    mistake(
        "FROM busybox AS production\nFROM busybox AS dev",
        "--target prod .",
        ["target stage \"prod\" could not be found", "Dockerfile", "stages are production, dev"],
    ),
    mistake(
        "FROM Busybox",
        ".",
        ["must be lowercase", "Dockerfile:1:1", "did you mean `busybox`?"],
    ),
    mistake("FROM busybox:", ".", ["invalid reference format", "Dockerfile:1:1", "NAME:TAG"]),
    mistake("FROM 127.0.0.1:1/app", ".", ["127.0.0.1:1/app", "Dockerfile:1", "hint: "]),
    mistake(
        "FROM busybox AS base\nFROM bases",
        "--pull=never .",
        ["`bases:latest` is not in the store", "Dockerfile:2", "did you mean `base`?"],
    ),
    mistake(
        "FROM busybox:latst",
        "--pull=never .",
        ["`busybox:latst` is not in the store", "Dockerfile:1", "busybox:latest"],
    ),
    // Mounts, instructions, words.
    mistake(
        "RUN --mount=type=cache true",
        ".",
        ["invalid mount target \"/\"", "Dockerfile:2:1", "target=/"],
    ),
    mistake(
        "RUN --mount=type=cach,target=/x true",
        ".",
        ["unsupported mount type \"cach\"", "Dockerfile:2:1", "did you mean cache?"],
    ),
    mistake(
        "RUN --mount=type=cache,traget=/x true",
        ".",
        ["unexpected key 'traget'", "Dockerfile:2:1", "did you mean target?"],
    ),
    mistake(
        "RUN --mount=type=secret,id=k,required true",
        ".",
        ["secret k: not found", "Dockerfile:2", "--secret id=k,src=FILE"],
    ),
    mistake("CPOY a b", ".", ["unknown instruction: CPOY", "Dockerfile:2:1", "mean COPY?"]),
    mistake(
        "COPY --chmode=1 a b",
        ".",
        ["unknown flag: --chmode", "Dockerfile:2:6", "mean chmod?"],
    ),
    mistake("COPY a", ".", ["requires at least two arguments", "Dockerfile:2:1", "usage: COPY"]),
    mistake("WORKDIR", ".", ["requires exactly one argument", "Dockerfile:2:1", "usage: WORKDIR"]),
    mistake(
        "HEALTHCHECK --interval=5 CMD x",
        ".",
        ["missing unit in duration", "Dockerfile:2:24", "`30s`"],
    ),
    mistake("RUN <<EOF\nx", ".", ["unterminated heredoc", "Dockerfile:2:5", "a line of `EOF`"]),
    mistake(
        "RUN [\"nosuch\"]",
        ".",
        ["`nosuch` not found in the image", "Dockerfile:2", "is it installed"],
    ),
    mistake(
        "# syntax=ghcr.io/org/other:1\nFROM busybox",
        ".",
        [
            "frontend \"ghcr.io/org/other:1\" is not supported",
            "Dockerfile:1:10",
            "BUILDKIT_SYNTAX=",
        ],
    ),
    mistake(
        "COPY passwd group /etc/\nUSER rooot\nRUN true",
        ".",
        ["no user `rooot`", "Dockerfile:4", "did you mean `root`?"],
    ),
    mistake("USER nobodyx\nRUN true", ".", ["no user `nobodyx`", "Dockerfile:3", "`RUN useradd"]),
    mistake(
        "COPY passwd group /etc/\nUSER 0:rooot\nRUN true",
        ".",
        ["no group `rooot`", "Dockerfile:4", "did you mean `root`?"],
    ),
    mistake("EXPOSE x", ".", ["invalid containerPort: x", "Dockerfile:2:1", "PORT/udp"]),
    mistake("EXPOSE 80/tpc", ".", ["invalid proto: tpc", "Dockerfile:2:1", "PORT/udp"]),
    mistake(
        "FROM ${BASE}",
        ".",
        ["`BASE` is not declared", "Dockerfile:1:1", "`ARG BASE=VALUE` before the first"],
    ),
    mistake(
        "ARG BASE\nFROM ${BASE}",
        ".",
        ["`BASE` has no value", "Dockerfile:2:1", "`--build-arg BASE=VALUE`"],
    ),
    mistake(
        "FROM busybox:${TAG}",
        ".",
        ["`TAG` is not declared", "Dockerfile:1:1", "`ARG TAG=VALUE` before the first"],
    ),
    // The command line's files.
    mistake("", "-f Dockerfle .", ["no Dockerfile", "`Dockerfle`", "did you mean `Dockerfile`?"]),
    mistake("", "-f qqqqqqqqqq .", ["no Dockerfile", "`qqqqqqqqqq`", "`-f FILE`"]),
    mistake(
        "",
        "-f main.c app",
        ["no Dockerfile", "`main.c`", "relative to the working directory"],
    ),
    mistake("", "app", ["no Dockerfile", "/app`", "web.Dockerfile"]),
    mistake("", "src", ["no Dockerfile", "/src`", "-f FILE"]),
    mistake(
        "",
        "package.json",
        ["failed to unpack", "package.json", "name a Dockerfile with `-f`"],
    ),
    mistake("", "dead-ignore", ["is a link to `/nonexistent`", ".dockerignore", "remove the link"]),
    mistake("", "bad-ignore", ["syntax error in pattern: `b[`", ".dockerignore:3", "bracket"]),
];

/// The build goes on, with a warning.
const WARNED_OF: &[Mistake] = &[
    mistake(
        "ARG VERSION",
        "--build-arg VERSOIN=1 .",
        ["is not used: no `ARG` has that name", "build argument `VERSOIN`", "mean VERSION?"],
    ),
    mistake(
        "FROM busybox AS lib",
        "--build-context lbi=src .",
        ["is not used", "build context `lbi`", "did you mean lib?"],
    ),
    mistake(
        "FROM busybox AS test",
        "--no-cache-filter tset .",
        ["no stage has that name", "--no-cache-filter tset", "did you mean test?"],
    ),
    mistake(
        "COPY <<EOF /script\r\necho\r\nEOF",
        ".",
        ["end with CR LF", "line 2", "save the Dockerfile with LF alone"],
    ),
    mistake(
        "CMD ['sh', '-c', 'x']",
        ".",
        ["JSONArgsRecommended", "Dockerfile:2:1", "strings of JSON have double quotes"],
    ),
    mistake(
        "COPY passwd /etc/\nCOPY --chown=rooot src /",
        ".",
        ["no user `rooot`", "root owns what is written", "did you mean `root`?"],
    ),
    mistake(
        "COPY --chown=nouser src /",
        ".",
        ["no user `nouser`", "/etc/passwd", "root owns what is written"],
    ),
    mistake(
        "",
        "--build-arg BUILDKIT_SYNTAKS=x .",
        ["is not a setting of BuildKit's", "BUILDKIT_SYNTAKS=x", "did you mean BUILDKIT_SYNTAX?"],
    ),
    mistake("", "--rm .", ["has no effect", "`--rm`", "steps leave no containers behind"]),
    mistake(
        "",
        "--build-arg BUILDKIT_BUILD_NAME=x .",
        ["is not used", "BUILDKIT_BUILD_NAME", "no history of builds"],
    ),
];

/// A directory with a good Dockerfile and what the mistakes are about.
fn prepare(builder: &Builder) {
    for file in
        ["package.json", "app/main.c", "app/web.Dockerfile", "src/a", "compose/a", "secret.env"]
    {
        builder.write(&format!("context/{file}"), "text");
    }
    builder.write("context/.dockerignore", "# secrets\n*.env\n!good.env\n");
    builder.write("context/passwd", "root:x:0:0::/root:/bin/sh\n");
    builder.write("context/group", "root:x:0:\n");
    builder.write("elsewhere", "outside");
    for name in ["dead-ignore", "bad-ignore"] {
        builder.write(&format!("context/{name}/Dockerfile"), "FROM busybox\n");
    }
    builder.write("context/bad-ignore/.dockerignore", "a\n# b\nb[\n");
    let link = |target: &str, name: &str| {
        symlink(target, builder.path(&format!("context/{name}"))).expect("a link");
    };
    link("/nonexistent", "dead");
    link("../elsewhere", "out");
    link("/nonexistent", "dead-ignore/.dockerignore");
}

/// What the program says to a mistake.
fn run(builder: &Builder, mistake: &Mistake, progress: &str, code: i32) -> String {
    let begins = ["FROM", "ARG", "#"].iter().any(|word| mistake.dockerfile.starts_with(word));
    let first = if begins && mistake.dockerfile.contains("FROM") { "" } else { "FROM busybox\n" };
    builder.write("context/Dockerfile", format!("{first}{}\n", mistake.dockerfile));
    let words: Vec<&str> = mistake.words.split_whitespace().collect();
    let mut command = builder.command(&words);
    command.env("BUILDKIT_PROGRESS", progress).current_dir(builder.path("context"));
    let outcome = builder.run_command(&mut command);
    let about = format!("`{}` with `{}`", mistake.words, mistake.dockerfile);
    assert_eq!(outcome.code, Some(code), "{about}: {}", outcome.stderr);
    for words in mistake.told {
        assert!(
            outcome.stderr.contains(words),
            "{about} says nothing of `{words}`:\n{}",
            outcome.stderr
        );
    }
    outcome.stderr
}

/// The lines that are neither empty nor show the Dockerfile.
fn lines(said: &str) -> Vec<&str> {
    let is_excerpt = |line: &str| {
        let line = line.trim_start();
        let number = line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
        number.starts_with('|')
            || line.starts_with("--")
            || line.starts_with("Dockerfile:")
            || line.starts_with("Usage: ")
            || line.starts_with("For more information")
    };
    let of_warning = |line: &str| line.starts_with("warning[");
    let shown = said.lines().filter(|line| !line.trim().is_empty());
    shown.filter(|line| !is_excerpt(line) && !of_warning(line)).collect()
}

#[test]
fn privileged_each_mistake_is_told_with_its_cause_its_place_and_a_next_step() {
    let Some(builder) = Builder::new() else { return };
    prepare(&builder);
    let ends = OF_USAGE.iter().map(|mistake| (mistake, 2));
    for (mistake, code) in ends.chain(OF_BUILD.iter().map(|mistake| (mistake, 1))) {
        let said = run(&builder, mistake, "none", code);
        assert!(lines(&said).len() <= 3, "`{}` is told at length:\n{said}", mistake.words);
    }
    for mistake in WARNED_OF {
        let said = run(&builder, mistake, "plain", 0);
        let warnings = said.lines().filter(|line| line.starts_with("warning: "));
        assert!(warnings.count() <= 1, "`{}` is told more than once:\n{said}", mistake.words);
    }
    let count = OF_USAGE.len() + OF_BUILD.len() + WARNED_OF.len();
    assert!(count >= 80, "{count} mistakes");
}

#[test]
fn privileged_a_word_is_a_command_before_it_is_a_directory() {
    let Some(builder) = Builder::new() else { return };
    for directory in ["push", "plain"] {
        builder.write(&format!("{directory}/Dockerfile"), "FROM busybox\n");
    }
    builder.run(&["push"]).fails_with(2);
    builder.run(&["./push"]).success();
    builder.run(&["build", "push"]).success();
    builder.run(&["plain"]).success();
}

/// A program that reads events gets warnings about the command line among them.
#[test]
fn privileged_a_warning_is_an_event_where_events_are_asked_for() {
    let Some(builder) = Builder::new() else { return };
    let mut command = builder.command(&["--rm", "--progress", "json", "context"]);
    builder.write("context/Dockerfile", "FROM busybox\n");
    let outcome = builder.run_command(command.env("BUILDKIT_HOST", "tcp://elsewhere")).success();
    assert_eq!(outcome.words(), "", "{}", outcome.stderr);
    for about in ["BUILDKIT_HOST", "`--rm` has no effect"] {
        let is_it = |line: &&str| line.contains("\"warning\"") && line.contains(about);
        assert_eq!(outcome.stderr.lines().filter(is_it).count(), 1, "{}", outcome.stderr);
    }
}

/// A dead link, or a link out of the context, is not what an ignore file hides; and what an
/// exception lets in is not left out.
#[test]
fn privileged_a_pattern_is_named_only_where_it_excludes() {
    let Some(builder) = Builder::new() else { return };
    prepare(&builder);
    let said = |dockerfile: &str| {
        builder.write("context/Dockerfile", dockerfile);
        builder.run(&["--progress", "plain", "context"])
    };
    for source in ["dead", "out", "nosuch.file"] {
        let outcome = said(&format!("FROM busybox\nCOPY {source} /\n")).fails_with(1);
        assert!(!outcome.stderr.contains("pattern"), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("CopyIgnoredFile"), "{}", outcome.stderr);
    }
    // The file has an exception, too.
    let ignored = said("FROM busybox\nCOPY secret.env /\n").fails_with(1);
    assert!(ignored.stderr.contains("CopyIgnoredFile"), "{}", ignored.stderr);
    builder.write("context/good.env", "x");
    let good = said("FROM busybox\nCOPY good.env src *.json /\n").success();
    assert!(!good.stderr.contains("CopyIgnoredFile"), "{}", good.stderr);
}

#[test]
fn privileged_a_check_tells_what_it_found_without_the_images() {
    let Some(builder) = Builder::bare() else { return };
    builder.write("context/Dockerfile", "FROM 127.0.0.1:1/none:1 AS b\nMAINTAINER me\n");
    for words in [&["--check"][..], &["--check", "--offline"], &["--call", "check,format=sarif"]] {
        let outcome = builder.run(&[words, &["context"]].concat()).fails_with(1);
        let (told, error) = (String::from_utf8_lossy(&outcome.stdout), &outcome.stderr);
        assert!(told.contains("MaintainerDeprecated"), "{words:?}: {told}");
        assert!(!told.contains("complete"), "{words:?}: {told}");
        assert!(error.contains("127.0.0.1:1/none"), "{words:?}: {error}");
    }
}
