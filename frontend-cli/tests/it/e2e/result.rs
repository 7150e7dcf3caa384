//! What the image is made of: inherited configuration that is reset, layers that become one.

use serde_json::Value;

use super::builder::Builder;

/// The config of an image in the store.
fn config(builder: &Builder, name: &str) -> Value {
    let layout = format!("type=oci,dest={name}-layout,tar=false,name={name}");
    builder.build(&format!("FROM {name}\n"), &["-o", &layout]).success();
    let read = |digest: &Value| {
        let digest = digest["digest"].as_str().expect("a digest").replace(':', "/");
        serde_json::from_str::<Value>(&builder.read(&format!("{name}-layout/blobs/{digest}")))
            .expect("JSON")
    };
    let index: Value =
        serde_json::from_str(&builder.read(&format!("{name}-layout/index.json"))).expect("JSON");
    read(&read(&index["manifests"][0])["config"])
}

#[test]
fn privileged_inherited_configuration_is_reset() {
    let Some(builder) = Builder::new() else { return };
    let base = "FROM busybox
ENV A=1 B=2
LABEL a=1 b=2
VOLUME /a /b
EXPOSE 80 53/udp
";
    builder.build(base, &["-t", "base"]).success();
    let dockerfile = "FROM base
ENV C=3
LABEL c=3
EXPOSE 90
RUN echo $A $C >/told
";
    let words = [
        "--unset-env=A",
        "--unset-env=C",
        "--unset-label=a",
        "--unset-label=c",
        "--label=c=mine",
        "--unset-volume=/b",
        "--unset-expose=53/udp",
        "--unset-expose=90",
        "--unset-expose=91",
        "--unset-env=BB",
    ];
    let outcome =
        builder.build(dockerfile, &[&words[..], &["-t", "app", "-o", "out", "--load"]].concat());
    let outcome = outcome.success();
    for note in [
        "`--unset-expose 91/tcp` does nothing: the image has no port `91/tcp`",
        "`--unset-env BB` does nothing: the image has no variable `BB`",
    ] {
        assert!(outcome.stderr.contains(note), "{}", outcome.stderr);
    }
    // The steps still have it, and do not run again for it.
    assert_eq!(builder.read("out/told"), "1 3\n");
    let plain = builder.build(dockerfile, &["-t", "plain"]).success();
    assert_eq!(plain.ran(), [""; 0]);
    let config = &config(&builder, "app")["config"];
    let names = |key: &str| -> Vec<String> {
        config[key].as_object().expect("an object").keys().cloned().collect()
    };
    let env: Vec<&str> =
        config["Env"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert_eq!(env[1..], ["B=2"]);
    assert_eq!(config["Labels"], serde_json::json!({"b": "2", "c": "mine"}));
    assert_eq!(names("Volumes"), ["/a"]);
    assert_eq!(names("ExposedPorts"), ["80/tcp"]);
}

#[test]
fn privileged_layers_become_one() {
    let Some(builder) = Builder::new() else { return };
    builder.build("FROM busybox\nRUN mkdir /d && touch /d/old /base\n", &["-t", "base"]).success();
    builder.write("context/file", "file");
    let dockerfile = "FROM base
RUN echo secret >/secret && echo one >/kept && ln /kept /link
ENV A=1
RUN rm /secret /base && rm -r /d && mkdir /d && touch /d/new
COPY --link file /linked
RUN chmod 700 /kept
";
    let layers = |name: &str| config(&builder, name)["rootfs"]["diff_ids"].clone();
    let count = |name: &str| layers(name).as_array().expect("a list").len();
    builder.build(dockerfile, &["-t", "plain", "-o", "plain-files", "--load"]).success();
    let squash = |name: &str, words: &[&str]| {
        let output = ["--squash", "-t", name, "-o", name, "--load"];
        builder.build(dockerfile, &[&output[..], words].concat()).success()
    };
    let outcome = squash("squashed", &[]);
    assert_eq!(outcome.ran(), [""; 0]);
    assert_eq!(count("plain"), count("base") + 4);
    assert_eq!(count("squashed"), count("base") + 1);
    // The base's layers are its own, and the files are those of the plain build.
    let (below, whole) = (layers("base"), layers("squashed"));
    assert_eq!(below.as_array().unwrap()[..], whole.as_array().unwrap()[..count("base")]);
    let listed = |files: &str| {
        let find = "find . -mindepth 1 -printf '%P %y %m %U %G %s %n %T@ %l\\n' | sort";
        let output = std::process::Command::new("sh")
            .args(["-c", find])
            .current_dir(builder.path(files))
            .output();
        String::from_utf8(output.expect("find runs").stdout).expect("text")
    };
    builder.build("FROM squashed\n", &["-o", "squashed-files"]).success();
    assert_eq!(listed("squashed-files"), listed("plain-files"));
    let output = builder.run(&["save", "squashed"]).success();
    assert!(!output.text().contains("secret\n"), "it is in no layer");
    // What was deleted of the base is marked as such.
    assert!(output.text().contains(".wh.base") && output.text().contains(".wh.old"));
    // The steps are told, without layers, and then the one that has it.
    let config = config(&builder, "squashed");
    let history = config["history"].as_array().expect("a list").clone();
    let own = &history[history.len() - 6..];
    assert!(own[..5].iter().all(|entry| entry["empty_layer"] == true), "{own:?}");
    assert_eq!(own[5]["comment"], "merge of 4 layers");
    assert_eq!(own[5].get("empty_layer"), None);
    // The same layers give the same one.
    assert_eq!(squash("again", &[]).ran(), [""; 0]);
    assert_eq!(layers("again"), layers("squashed"));
    builder
        .build("FROM scratch\nCOPY file /a\nCOPY file /b\n", &["--squash", "-t", "flat"])
        .success();
    assert_eq!(count("flat"), 1);
    builder.build("FROM base\nENV A=1\n", &["--squash", "-t", "same"]).success();
    assert_eq!(layers("same"), layers("base"));
}

/// With the times of the sources the one layer is the same in any store.
#[test]
fn privileged_a_squashed_layer_is_the_same_in_another_store() {
    let manifest = || {
        let builder = Builder::bare()?;
        let dockerfile = "FROM scratch
COPY busybox /bin/
RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]
RUN mkdir /d && touch /d/a /d/b && ln /d/a /d/c
RUN rm /d/b && chmod 700 /d
";
        let output = "type=oci,dest=layout,tar=false,rewrite-timestamp=all";
        let words = ["--squash", "--build-arg", "SOURCE_DATE_EPOCH=1000", "-o", output];
        builder.build(dockerfile, &words).success();
        let index: Value = serde_json::from_str(&builder.read("layout/index.json")).expect("JSON");
        Some(index["manifests"][0]["digest"].clone())
    };
    let Some(first) = manifest() else { return };
    assert_eq!(Some(first), manifest());
}
