//! What is written can be found again.

use buildkit_cache::config::Layers;
use buildkit_cache::{
    Artifact, Blob, Cache, Config, Export, Input, Made, Selector, Shape, Step, StepInput,
};
use oci::{Descriptor, DiffId, Digest, media_type};

fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn blob(name: &str) -> Blob {
    Blob {
        descriptor: Descriptor::new(media_type::DOCKER_LAYER_GZIP, digest(name), 7),
        diff_id: DiffId(digest(&format!("tar of {name}"))),
        created: Some("2026-01-02T03:04:05.0006Z".parse().unwrap()),
    }
}

fn made(layers: &[&str], seconds: i64) -> Made {
    let created = jiff::Timestamp::from_second(seconds).unwrap();
    Made { layers: layers.iter().map(|name| blob(name)).collect(), created }
}

fn step(name: &str, inputs: &[(&str, bool)]) -> Step {
    let input = |(number, &(selector, by_content)): (usize, &(&str, bool))| StepInput {
        number,
        selector: selector.to_owned(),
        content: by_content.then(|| vec![Selector::default()]),
    };
    Step { digests: vec![digest(name)], inputs: inputs.iter().enumerate().map(input).collect() }
}

fn image() -> Step {
    Step { digests: vec![digest("manifest"), digest("layers")], inputs: Vec::new() }
}

/// A base, a step on it, and one that takes files of the client and of the first step.
fn export() -> Export {
    let mut export = Export::default();
    let base = Input { records: export.add(&image(), 0, &[], None), content: None };
    let run = export.add(
        &step("run", &[("/", false)]),
        0,
        std::slice::from_ref(&base),
        Some(&made(&["base", "run"], 5)),
    );
    let run = Input { records: run, content: Some(digest("files of run")) };
    let client = Input { content: Some(digest("files")), ..Input::default() };
    let copy = step("copy", &[("", false), ("", true), ("a", true)]);
    export.add(&copy, 0, &[base, client, run], Some(&made(&["base", "copy"], 6)));
    export
}

fn read(shape: Shape) -> Cache {
    let (config, layers) = export().finish();
    let bytes = config.to_bytes().unwrap();
    let descriptor =
        Descriptor::new(buildkit_cache::config::MEDIA_TYPE, Digest::of(&bytes), bytes.len() as u64);
    let document = shape.document(descriptor.clone(), layers);
    let written = match &document {
        oci::Document::Manifest(manifest) => serde_json::to_vec(manifest).unwrap(),
        oci::Document::Index(index) => serde_json::to_vec(index).unwrap(),
    };
    let document = oci::manifest::parse(&written, None).unwrap();
    let Artifact::Cache { config, layers } = Artifact::of(document) else { panic!("no cache") };
    assert_eq!(config, descriptor);
    Cache::new(Config::parse(&bytes).unwrap(), &layers)
}

#[test]
fn steps_are_found_by_their_inputs_and_by_content() {
    for shape in [Shape::Manifest, Shape::Index] {
        let cache = read(shape);
        // Either digest of the image leads on.
        for known in image().digests {
            let known = Step { digests: vec![known], inputs: Vec::new() };
            let base = Input { records: cache.find(&known, 0, &[]), content: None };
            let run = cache.find(&step("run", &[("/", false)]), 0, std::slice::from_ref(&base));
            let [result] = &cache.made(&run)[..] else { panic!("one result") };
            assert_eq!((result.layers.len(), result.created.as_second()), (2, 5));
            let [below, own] = &result.layers[..] else { panic!("two layers") };
            assert_eq!(below.diff_id, blob("base").diff_id);
            assert_eq!(own.created, blob("run").created);
            assert_eq!(own.descriptor.media_type, media_type::LAYER_GZIP);

            let copy = step("copy", &[("", false), ("", true), ("a", true)]);
            let client = Input { content: Some(digest("files")), ..Input::default() };
            let by_key = Input { records: run, content: None };
            let by_content = Input { content: Some(digest("files of run")), ..Input::default() };
            for third in [by_key, by_content] {
                let found = cache.find(&copy, 0, &[base.clone(), client.clone(), third]);
                assert_eq!(cache.made(&found)[0].created.as_second(), 6);
            }
        }
    }
}

#[test]
fn nothing_else_is_found() {
    let cache = read(Shape::Manifest);
    let base = Input { records: cache.find(&image(), 0, &[]), content: None };
    let miss = |step: &Step, output, inputs: &[Input]| {
        assert!(cache.find(step, output, inputs).is_empty(), "{step:?} {inputs:?}");
    };
    let run = step("run", &[("/", false)]);
    miss(&run, 1, std::slice::from_ref(&base));
    miss(&run, 0, &[Input::default()]);
    miss(&step("run", &[("/other", false)]), 0, std::slice::from_ref(&base));
    miss(&step("other", &[("/", false)]), 0, std::slice::from_ref(&base));
    miss(&step("run", &[]), 0, &[]);
    miss(&step("run", &[("/", false), ("/", false)]), 0, &[base.clone(), base.clone()]);
    let client = |name: &str| Input { content: Some(digest(name)), ..Input::default() };
    let copy = step("copy", &[("", false), ("", true), ("a", true)]);
    miss(&copy, 0, &[base.clone(), client("others"), client("files of run")]);
    // What a step does not take by content is not found by it.
    let copy = step("copy", &[("", false), ("", false), ("a", true)]);
    miss(&copy, 0, &[base, client("files"), client("files of run")]);
}

#[test]
fn a_step_of_unknown_inputs_is_not_written() {
    let mut export = export();
    let records = export.add(&step("lost", &[("", true)]), 0, &[Input::default()], None);
    assert!(records.is_empty());
    let lost = Input { records, content: None };
    assert!(export.add(&step("after", &[("", true)]), 0, &[lost], None).is_empty());
    let before = self::export().finish().0;
    assert_eq!(export.finish().0, before);
}

#[test]
fn equal_steps_are_one_record_with_the_newest_result() {
    let mut export = Export::default();
    let run = step("run", &[]);
    for (layers, seconds) in [(["a"], 2), (["b"], 3), (["c"], 1)] {
        export.add(&run, 0, &[], Some(&made(&layers, seconds)));
    }
    let (config, _) = export.finish();
    let [record] = &config.records[..] else { panic!("one record") };
    let [result] = &record.results[..] else { panic!("one result") };
    assert_eq!(result.created.as_second(), 3);
    let Layers::Down(top) = result.layers else { panic!("a stack") };
    assert_eq!(config.layers[top].blob, digest("b"));
}

#[test]
fn a_result_whose_layers_are_not_there_is_none() {
    let (config, mut layers) = export().finish();
    layers.retain(|layer| layer.digest != digest("run"));
    layers.iter_mut().find(|layer| layer.digest == digest("copy")).unwrap().annotations.clear();
    let cache = Cache::new(config, &layers);
    let base = Input { records: cache.find(&image(), 0, &[]), content: None };
    let run = cache.find(&step("run", &[("/", false)]), 0, &[base]);
    assert!(!run.is_empty());
    assert_eq!(cache.made(&run), []);
}
