//! Manifests, indexes and image configs, ours and other people's.

use oci::manifest::{DESCRIPTORS_MAX, Document, Kind, SIZE_MAX, parse};
use oci::{Descriptor, Digest, ImageConfig, Index, Manifest, Platform, media_type};
use serde_json::{Value, json};

fn descriptor() -> Value {
    json!({"mediaType": media_type::CONFIG, "digest": Digest::of(b"").as_str(), "size": 0})
}

/// How a document is read: what it is, or the start of why not.
fn check(document: Value, content_type: Option<&str>, expected: &str) {
    let found = match parse(document.to_string().as_bytes(), content_type) {
        Ok(Document::Manifest(_)) => "manifest".to_owned(),
        Ok(Document::Index(_)) => "index".to_owned(),
        Err(error) => error.to_string(),
    };
    assert!(found.starts_with(expected), "{document} as {content_type:?}: {found}, not {expected}");
}

#[test]
fn documents_are_read_by_media_type_and_else_by_shape() {
    let manifest = json!({"schemaVersion": 2, "config": descriptor(), "layers": []});
    let index = json!({"schemaVersion": 2, "manifests": []});
    let typed = |mut document: Value, media_type: &str| {
        document["mediaType"] = media_type.into();
        document
    };
    check(manifest.clone(), None, "manifest");
    check(index.clone(), None, "index");
    check(index.clone(), Some("application/json; charset=utf-8"), "index");
    check(manifest.clone(), Some(media_type::DOCKER_MANIFEST), "manifest");
    check(index.clone(), Some("application/vnd.oci.image.index.v1+json; charset=utf-8"), "index");
    check(typed(manifest.clone(), media_type::MANIFEST), Some(media_type::MANIFEST), "manifest");
    check(typed(index.clone(), media_type::DOCKER_INDEX), None, "index");
    check(json!({"schemaVersion": 2, "config": descriptor(), "layers": null}), None, "manifest");
    check(
        typed(manifest, media_type::CONFIG),
        None,
        "media type `application/vnd.oci.image.config.v1+json` is",
    );
    check(index, Some("text/html"), "media type `text/html` is neither");
}

#[test]
fn documents_with_two_readings_are_refused() {
    let with = |key: &str, value: Value| {
        let mut document = json!({"schemaVersion": 2, "config": descriptor(), "layers": []});
        document[key] = value;
        document
    };
    check(with("manifests", json!([])), None, "the manifest is ambiguous");
    check(with("manifests", json!([])), Some(media_type::MANIFEST), "the manifest is ambiguous");
    check(with("manifests", json!([])), Some(media_type::INDEX), "the manifest is ambiguous");
    check(with("fsLayers", json!([])), None, "the manifest is ambiguous");
    check(with("Layers", json!([])), None, "the manifest is malformed");
    check(
        with("mediaType", media_type::MANIFEST.into()),
        Some(media_type::INDEX),
        "the manifest is ambiguous",
    );
    check(
        with("mediaType", media_type::MANIFEST.into()),
        Some(media_type::DOCKER_MANIFEST),
        "the manifest is ambig",
    );
    let index = json!({"schemaVersion": 2, "manifests": [], "layers": []});
    check(index, Some(media_type::INDEX), "the manifest is ambiguous");
    let twice = br#"{"schemaVersion":2,"manifests":[],"manifests":[]}"#;
    assert!(parse(twice, None).is_err());
}

#[test]
fn documents_beyond_the_caps_are_refused() {
    let index = |count: usize| json!({"schemaVersion": 2, "manifests": vec![descriptor(); count]});
    check(index(DESCRIPTORS_MAX), None, "index");
    check(index(DESCRIPTORS_MAX + 1), None, "the manifest lists 10001 descriptors");
    check(
        json!({"schemaVersion": 1, "fsLayers": []}),
        None,
        "manifest schema version 1 is not supported",
    );
    let large = vec![b' '; SIZE_MAX + 1];
    assert!(parse(&large, None).unwrap_err().to_string().contains("more than"));
    let deep = format!(
        "{{\"schemaVersion\":2,\"manifests\":{}{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert!(parse(deep.as_bytes(), None).is_err());
}

#[test]
fn descriptors_with_unsafe_digests_or_sizes_are_refused() {
    for (digest, size) in [
        ("sha256:../../x", json!(1)),
        ("sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855", json!(1)),
        ("md5:d41d8cd98f00b204e9800998ecf8427e", json!(1)),
        (Digest::of(b"").as_str(), json!(-1)),
        (Digest::of(b"").as_str(), json!("1")),
        (Digest::of(b"").as_str(), json!(1.5)),
    ] {
        let config = json!({"mediaType": media_type::CONFIG, "digest": digest, "size": size});
        check(
            json!({"schemaVersion": 2, "config": config, "layers": []}),
            None,
            "the manifest is malformed",
        );
    }
}

#[test]
fn manifests_are_written_in_one_order() {
    let mut manifest = Manifest {
        schema_version: 2,
        media_type: media_type::MANIFEST.to_owned(),
        config: Descriptor::new(media_type::CONFIG, Digest::of(b"config"), 6),
        layers: vec![Descriptor::new(media_type::LAYER_GZIP, Digest::of(b"layer"), 5)],
        annotations: Default::default(),
    };
    for key in ["b", "a", "c"] {
        manifest.annotations.insert(key.to_owned(), "1".to_owned());
    }
    let text = serde_json::to_string(&manifest).unwrap();
    let at = |key: &str| text.find(key).unwrap_or_else(|| panic!("no {key} in {text}"));
    let order = [
        "schemaVersion",
        "mediaType",
        "config",
        "layers",
        "annotations",
        "\"a\"",
        "\"b\"",
        "\"c\"",
    ];
    assert!(order.windows(2).all(|pair| at(pair[0]) <= at(pair[1])), "{text}");
    assert_eq!(
        parse(text.as_bytes(), Some(media_type::MANIFEST)).unwrap(),
        Document::Manifest(manifest)
    );
}

#[test]
fn indexes_name_their_platforms_without_attestations() {
    let entry = |platform: Platform| Descriptor {
        platform: Some(platform),
        ..Descriptor::new(media_type::MANIFEST, Digest::of(b""), 0)
    };
    let unknown =
        Platform { os: "unknown".into(), architecture: "unknown".into(), ..Platform::host() };
    let index = Index {
        manifests: vec![entry("linux/arm64".parse().unwrap()), entry(unknown)],
        ..Index::default()
    };
    assert_eq!(index.platforms(), ["linux/arm64".parse().unwrap()]);
}

#[test]
fn media_types_know_their_kind() {
    for (media_type, kind) in [
        (media_type::MANIFEST, Some(Kind::Manifest)),
        (media_type::DOCKER_MANIFEST, Some(Kind::Manifest)),
        (media_type::INDEX, Some(Kind::Index)),
        (media_type::DOCKER_INDEX, Some(Kind::Index)),
        ("application/vnd.oci.image.index.v1+json ; charset=utf-8", Some(Kind::Index)),
        (media_type::LAYER_GZIP, None),
        ("", None),
    ] {
        assert_eq!(Kind::of(media_type), kind, "{media_type}");
    }
}

#[test]
fn configs_survive_a_round_trip() {
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": "2024-01-02T03:04:05.123456789Z",
        "container": "deadbeef", "docker_version": "20.10",
        "config": {
            "User": "app", "Env": ["B=2", "A=1"], "Entrypoint": ["/init"], "Cmd": [], "Volumes": {"/data": {}},
            "ExposedPorts": {"80/tcp": {}}, "Labels": {"z": "1", "a": "2"}, "OnBuild": ["RUN x"], "StopSignal": "SIGINT",
            "Shell": ["/bin/ash", "-c"], "Healthcheck": {"Test": ["CMD", "true"], "Interval": 30000000000i64},
            "Hostname": "kept", "Tty": false
        },
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(b"").as_str()]},
        "history": [{"created_by": "RUN x", "empty_layer": true}],
        "moby.buildkit.cache.v0": "e30="
    });
    let read = ImageConfig::parse(config.to_string().as_bytes()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), config);
    assert_eq!(read.platform().to_string(), "linux/amd64");
    // The same config always has the same bytes.
    let bytes = serde_json::to_vec(&read).unwrap();
    assert_eq!(serde_json::to_vec(&ImageConfig::parse(&bytes).unwrap()).unwrap(), bytes);
}

#[test]
fn nulls_of_go_programs_are_empty() {
    let config = json!({
        "architecture": "amd64", "os": "linux", "history": null, "rootfs": {"type": "layers", "diff_ids": null},
        "config": {
            "Env": null, "Cmd": null, "Entrypoint": null, "Volumes": null, "ExposedPorts": null, "Labels": null,
            "OnBuild": null, "Shell": null, "Healthcheck": null
        }
    });
    let read = ImageConfig::parse(config.to_string().as_bytes()).unwrap();
    let plain =
        ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..ImageConfig::default() };
    assert_eq!(read, plain);
    for field in ["config", "rootfs"] {
        let config = json!({"architecture": "amd64", "os": "linux", field: null});
        assert_eq!(ImageConfig::parse(config.to_string().as_bytes()).unwrap(), plain, "{field}");
    }
}

#[test]
fn configs_that_cost_too_much_or_make_no_sense_are_refused() {
    let history = |count: usize| json!({"history": vec![json!({}); count]}).to_string();
    assert!(ImageConfig::parse(history(10_000).as_bytes()).is_ok());
    for bad in [
        history(10_001),
        "{\"config\": {\"Env\": \"A=1\"}}".to_owned(),
        "{\"config\": {\"Env\": [1]}}".to_owned(),
        "{\"rootfs\": {\"type\": \"layers\", \"diff_ids\": [\"sha256:../x\"]}}".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        String::new(),
        " ".repeat((8 << 20) + 1),
    ] {
        assert!(ImageConfig::parse(bad.as_bytes()).is_err(), "{}", &bad[..bad.len().min(80)]);
    }
}
