//! `COPY` and `ADD` by their flags, as they come out.

use std::process::Command;

use serde_json::Value;

use super::builder::Builder;
use super::outcome::Outcome;

/// Paths, kinds and modes below `files`, sorted.
fn listed(builder: &Builder, files: &str) -> String {
    let find = "find . -mindepth 1 -printf '%P %y %m\\n' | LC_ALL=C sort";
    let output = Command::new("sh").args(["-c", find]).current_dir(builder.path(files)).output();
    String::from_utf8(output.expect("find runs").stdout).expect("text")
}

/// What the instruction copies from a context of a few files into nothing.
fn copied(builder: &Builder, instruction: &str) -> String {
    let _ = std::fs::remove_dir_all(builder.path("out"));
    builder.build(&format!("FROM scratch\n{instruction}\n"), &["-o", "out"]).success();
    listed(builder, "out")
}

#[test]
fn privileged_copies_take_what_their_flags_say() {
    let Some(builder) = Builder::bare() else { return };
    for (file, mode) in
        [("a/b/one.c", 0o644), ("a/b/two.h", 0o640), ("a/c/one.c", 0o755), ("top.c", 0o600)]
    {
        let file = format!("context/{file}");
        builder.write(&file, "x");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(builder.path(&file), mode).expect("an own file");
    }
    let tar = "mkdir -p t/d && echo x >t/d/f && tar -C t -czf context/t.tgz d && rm -r t";
    let status = Command::new("sh").args(["-c", tar]).current_dir(builder.path("")).status();
    assert!(status.expect("tar runs").success());
    for (instruction, expected) in [
        ("COPY --parents a/b/one.c top.c /", "a d 755\na/b d 755\na/b/one.c f 644\ntop.c f 600\n"),
        ("COPY --parents a/./b/one.c /x/", "x d 755\nx/b d 755\nx/b/one.c f 644\n"),
        ("COPY --parents ./a/b/./*.? /x/", "x d 755\nx/one.c f 644\nx/two.h f 640\n"),
        (
            "COPY --parents **/one.c /",
            "a d 755\na/b d 755\na/b/one.c f 644\na/c d 755\na/c/one.c f 755\n",
        ),
        ("COPY --exclude=*/*.h --exclude=c a /", "b d 755\nb/one.c f 644\n"),
        ("COPY --exclude=**/*.c a /", "b d 755\nb/two.h f 640\nc d 755\n"),
        ("ADD --exclude=b a /", "c d 755\nc/one.c f 755\n"),
        (
            "COPY --chmod=u=rwX,go=rX a /",
            "b d 755\nb/one.c f 644\nb/two.h f 644\nc d 755\nc/one.c f 755\n",
        ),
        ("COPY --chmod=g+w,o-r top.c a/b/one.c /", "one.c f 660\ntop.c f 620\n"),
        ("COPY --chmod=0701 top.c /", "top.c f 701\n"),
        ("ADD t.tgz /", "d d 755\nd/f f 644\n"),
        ("ADD --unpack=true t.tgz /", "d d 755\nd/f f 644\n"),
        ("ADD --unpack=false t.tgz /", "t.tgz f 644\n"),
        ("COPY t.tgz /", "t.tgz f 644\n"),
    ] {
        assert_eq!(copied(&builder, instruction), expected, "{instruction}");
    }
    for (flag, word) in [("--chmod=u~x", "u~x"), ("--chmod=0888", "0888")] {
        let failed = builder.build(&format!("FROM scratch\nCOPY {flag} top.c /\n"), &[]);
        let failed = failed.fails_with(1);
        assert!(failed.words().contains(word), "{}", failed.words());
    }
}

/// The digests of an image's layers.
fn layers(builder: &Builder, out: &str) -> Vec<String> {
    let document = |path: &str| -> Value {
        serde_json::from_str(&builder.read(&format!("{out}/{path}"))).expect("JSON")
    };
    let blob = |digest: &Value| {
        let digest = digest["digest"].as_str().expect("a digest");
        document(&format!("blobs/{}", digest.replace(':', "/")))
    };
    let manifest = blob(&document("index.json")["manifests"][0]);
    let layers = manifest["layers"].as_array().expect("a list");
    layers.iter().map(|layer| layer["digest"].to_string()).collect()
}

/// The instructions that were carried out: to put layers on top of others is none.
fn ran(outcome: &Outcome) -> Vec<String> {
    let ran = outcome.steps().into_iter().filter(|step| step.end != "cached");
    let instructions = ran.filter(|step| step.number().is_some()).map(|step| step.name);
    instructions.filter(|name| !name.contains("] FROM ") && !name.contains("] LINK ")).collect()
}

/// Another base, and only the base is another: what is linked neither runs nor changes.
#[test]
fn privileged_what_is_linked_moves_onto_another_base_as_it_is() {
    let Some(builder) = Builder::new() else { return };
    builder.write("context/app/file", "app");
    builder.write("context/more", "more");
    let dockerfile = "FROM busybox AS made
RUN echo made >/made
FROM base
COPY --link app /opt/app
COPY --link --chown=7:8 more /opt/
ADD --link more /etc/more
COPY --link --from=made /made /opt/app/
";
    let build = |base: &str, out: &str| {
        builder.build(&format!("FROM busybox\nRUN {base}\n"), &["-t", "base"]).success();
        let output = format!("type=oci,dest={out},tar=false");
        builder.build(dockerfile, &["-o", &output]).success()
    };
    build("echo 1 >/base", "first");
    let again = build("echo 2 >/base", "second");
    assert_eq!(ran(&again), [""; 0]);
    let linked = again.steps().iter().filter(|step| step.name.contains("--link")).count();
    assert_eq!(linked, 8, "each copy and its link are told");
    let (first, second) = (layers(&builder, "first"), layers(&builder, "second"));
    assert_eq!(first.len(), second.len());
    let own = first.len() - 4;
    assert_ne!(first[..own], second[..own]);
    assert_eq!(first[own..], second[own..]);
    // Without it all of them depend on the base.
    let unlinked = dockerfile.replace(" --link", "");
    builder.build(&unlinked, &[]).success();
    builder.build("FROM busybox\nRUN echo 4 >/base\n", &["-t", "base"]).success();
    assert_eq!(ran(&builder.build(&unlinked, &[]).success()).len(), 4);
    assert_eq!(ran(&builder.build(dockerfile, &[]).success()), [""; 0]);
}
