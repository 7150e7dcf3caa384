//! Caches that BuildKit wrote are found again by what we make of the same Dockerfiles.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use buildkit_cache::content;
use buildkit_cache::source::{self, Identity};
use buildkit_cache::{Artifact, Cache, Config, Input, Step, vertex};
use expect_test::{Expect, expect};
use llb::{Definition, Op, SourceOp, VertexId};
use oci::{ChainId, ImageConfig, Platform};
use parser::lower::{BaseImage, ImageRequest, Lowered, Options, Outcome, RequestedImage};

use crate::context::context;

fn testdata() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(testdata().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn cache(name: &str) -> Cache {
    let document = oci::manifest::parse(&read(&format!("{name}/manifest.json")), None).unwrap();
    let Artifact::Cache { layers, .. } = Artifact::of(document) else { panic!("no cache") };
    Cache::new(Config::parse(&read(&format!("{name}/config.json"))).unwrap(), &layers)
}

fn images() -> BTreeMap<String, BaseImage> {
    let images: serde_json::Value = serde_json::from_slice(&read("images.json")).unwrap();
    let image = |(name, image): (&String, &serde_json::Value)| {
        let config = ImageConfig::parse(image["config"].to_string().as_bytes()).unwrap();
        let digest = image["digest"].as_str().unwrap().parse().unwrap();
        (name.clone(), BaseImage { digest, config })
    };
    images.as_object().unwrap().iter().map(image).collect()
}

fn lower(text: &str, options: &Options) -> Lowered {
    let parse = parser::parse(text);
    assert!(parse.errors().next().is_none());
    let mut known: BTreeMap<ImageRequest, BaseImage> = BTreeMap::new();
    loop {
        match parser::lower::lower(&parse.dockerfile, options, &known).unwrap() {
            Outcome::Lowered(lowered) => return *lowered,
            Outcome::NeedImages(requests) => known.extend(requests.into_iter().map(|request| {
                let RequestedImage::Named(name) = &request.image else { panic!("no such image") };
                let image = images().remove(&name.familiar_name()).unwrap();
                (request, image)
            })),
        }
    }
}

fn options() -> Options {
    let platform = Platform::new("linux", "amd64", "");
    Options { build_platform: platform.clone(), target_platform: platform, ..Options::default() }
}

fn source_step(op: &SourceOp) -> Step {
    let SourceOp::Image(image) = op else { return source::step(&Identity::Local) };
    let config = images().remove(&image.reference.familiar_name()).unwrap().config;
    let chain = config.rootfs.diff_ids.iter();
    let chain = chain.fold(None, |below, diff_id| Some(ChainId::extend(below.as_ref(), diff_id)));
    source::step(&Identity::Image {
        digest: image.reference.digest().unwrap(),
        platform: &image.platform,
        chain: chain.as_ref(),
    })
}

/// What is found for each vertex, one a line.
fn found(definition: &Definition, target: VertexId, cache: &Cache) -> String {
    let platforms = vertex::platforms(definition, &options().target_platform);
    let mut known = HashMap::new();
    let mut text = String::new();
    for id in definition.reachable(&[target]) {
        let vertex = definition.vertex(id);
        let inputs = definition.inputs(id);
        let step = match &vertex.op {
            Op::Source(op) => source_step(op),
            op => vertex::step(op, inputs.len(), &platforms[&id]).unwrap(),
        };
        let mut taken = vec![Input::default(); inputs.len()];
        for input in &step.inputs {
            let from = inputs[input.number];
            let is_context =
                matches!(&definition.vertex(from.vertex).op, Op::Source(SourceOp::Local(_)));
            let content = input.content.as_ref().filter(|_| is_context);
            taken[input.number] = Input {
                records: known.get(&(from.vertex, from.output)).cloned().unwrap_or_default(),
                content: content.map(|content| content::digest(content, Some(&context())).unwrap()),
            };
        }
        for output in 0..vertex.op.outputs() {
            let records = cache.find(&step, output, &taken);
            let layers = cache.made(&records).first().map(|made| made.layers.len());
            let layers = match (records.is_empty(), layers) {
                (true, _) => "miss".to_owned(),
                (false, None) => "known".to_owned(),
                (false, Some(layers)) => format!("{layers} layers"),
            };
            let name = vertex.metadata.name.replace('\n', " ");
            text.push_str(&format!("{layers}: {name}\n"));
            known.insert((id, output), records);
        }
    }
    text
}

fn check(name: &str, want: Expect) {
    let dockerfile = String::from_utf8(read(&format!("{name}/Dockerfile"))).unwrap();
    let lowered = lower(&dockerfile, &options());
    let target = lowered.target.expect("there are files").vertex;
    want.assert_eq(&found(&lowered.definition, target, &cache(name)));
}

#[test]
fn runs_and_copies_are_found() {
    check(
        "run",
        expect![[r#"
        known: [build 1/9] FROM docker.io/library/busybox:latest@sha256:00974a102e964794153fe7945df6d41e7efecfc4c7fb8474f6cb08f58fb5220d
        known: [stage-1 1/4] FROM docker.io/library/alpine:latest@sha256:52d9d562425b8d4d8027e8bfd18a5522f78ce82824d74ba181a8db81887bd5ec
        2 layers: [build 2/9] WORKDIR /app
        miss: [internal] load build context
        3 layers: [build 3/9] COPY a.txt b.txt ./
        4 layers: [build 4/9] COPY dir ./dir
        5 layers: [build 5/9] RUN cat a.txt > out && date > now
        6 layers: [build 6/9] RUN --mount=type=bind,source=dir,target=/mnt cat /mnt/c.txt >> out
        7 layers: [build 7/9] RUN --mount=type=cache,target=/cache echo x > /cache/x
        8 layers: [build 8/9] RUN <<EOF (echo one...)
        known: [internal] preparing inline document
        9 layers: [build 9/9] COPY <<EOF /etc/conf
        2 layers: [stage-1 2/4] COPY --from=build /app/out /out
        1 layers: [stage-1 3/4] COPY --link a.txt /linked/
        3 layers: [stage-1 3/4] LINK COPY --link a.txt /linked/
        4 layers: [stage-1 4/4] RUN --network=none echo end > /end
    "#]],
    );
}

#[test]
fn steps_without_a_base_are_found() {
    check(
        "scratch",
        expect![[r#"
        known: [stage-2 1/4] FROM docker.io/library/alpine:latest@sha256:52d9d562425b8d4d8027e8bfd18a5522f78ce82824d74ba181a8db81887bd5ec
        known: FROM docker.io/library/busybox:latest@sha256:00974a102e964794153fe7945df6d41e7efecfc4c7fb8474f6cb08f58fb5220d
        miss: [internal] load build context
        1 layers: [one 1/2] COPY a.txt /
        2 layers: [one 2/2] COPY b.txt /sub/
        1 layers: [stage-1 1/4] ADD --link dir /d
        3 layers: [stage-1 1/4] LINK ADD --link dir /d
        4 layers: [stage-1 2/4] COPY --from=busybox /bin/busybox /bin/sh
        5 layers: [stage-1 3/4] WORKDIR /here/we/go
        6 layers: [stage-1 4/4] RUN ["/bin/sh", "-c", "exit 0"]
        2 layers: [stage-2 2/4] COPY --from=one / /
        3 layers: [stage-2 3/4] COPY --from=1 /d /e
        4 layers: [stage-2 4/4] RUN echo hi
    "#]],
    );
}
