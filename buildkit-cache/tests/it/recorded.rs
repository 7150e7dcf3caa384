//! Caches that BuildKit wrote are found again by what we make of the same Dockerfiles.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use buildkit_cache::cache::INLINE;
use buildkit_cache::content;
use buildkit_cache::source::{self, Identity};
use buildkit_cache::{Artifact, Blob, Cache, Config, Export, Input, Records, Step, vertex};
use expect_test::{Expect, expect};
use llb::{Definition, GitSource, Op, SourceOp, VertexId};
use oci::{ChainId, Descriptor, DiffId, Digest, ImageConfig, Platform};
use parser::lower::{BaseImage, ImageRequest, Lowered, Options, Outcome, RequestedImage};

use crate::context::{Memory, context, memory};

/// An archive that one of the builds fetches.
const DIR_TAR: &str = "sha256:ba4f2e3b8c257ef5748ee05beddb6b561d7d4aa9fd18c2718d7d10a6443c5f98";

fn testdata() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(testdata().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn cache(name: &str) -> Cache {
    let document = oci::manifest::parse(&read(&format!("{name}/manifest.json")), None).unwrap();
    let config = read(&format!("{name}/config.json"));
    match Artifact::of(document) {
        Artifact::Cache { layers, .. } => Cache::new(Config::parse(&config).unwrap(), &layers),
        Artifact::Image { layers, .. } => {
            let image = ImageConfig::parse(&config).unwrap();
            Cache::of_image(&image, &layers).unwrap().expect("the image carries records")
        }
        Artifact::Images(_) => panic!("no cache"),
    }
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

/// What sources were when the recorded builds were made.
fn source_step(op: &SourceOp) -> Step {
    let image = match op {
        SourceOp::Image(image) => image,
        SourceOp::Git(git) => return source::step(&git_identity(git)),
        SourceOp::Http(http) => {
            let digest = match http.filename.as_str() {
                "file.txt" => Digest::of(b"from the web\n"),
                _ => DIR_TAR.parse().unwrap(),
            };
            return source::step(&Identity::Http {
                source: http,
                filename: &http.filename,
                digest: &digest,
                last_modified: Some("Fri, 02 Jan 2026 03:04:05 GMT"),
            });
        }
        _ => return source::step(&Identity::Local),
    };
    let config = images().remove(&image.reference.familiar_name()).unwrap().config;
    let chain = config.rootfs.diff_ids.iter();
    let chain = chain.fold(None, |below, diff_id| Some(ChainId::extend(below.as_ref(), diff_id)));
    source::step(&Identity::Image {
        digest: image.reference.digest().unwrap(),
        platform: &image.platform,
        chain: chain.as_ref(),
    })
}

/// The repository has one commit on `main` and an annotated tag `v1` of it.
fn git_identity(source: &GitSource) -> Identity<'_> {
    let (commit, tag) =
        ("99e3dcb07a2a287382d8cad2e32e892e8948bb64", "e994204e3134c877fc74783a8d2fc0a06097459c");
    match source.reference.as_str() {
        "v1" if source.keep_git_dir => {
            Identity::Git { source, commit: tag, reference: "refs/tags/v1" }
        }
        "v1" => Identity::Git { source, commit, reference: "refs/tags/v1" },
        _ => Identity::Git { source, commit, reference: "refs/heads/main" },
    }
}

/// The records of each output.
type Known = HashMap<(VertexId, usize), Records>;

/// What is found for each vertex, one a line; and the same written as a cache of our own.
fn found(definition: &Definition, target: VertexId, cache: &Cache) -> (String, Export, Known) {
    let platforms = vertex::platforms(definition, &options().target_platform);
    let (mut known, mut written) = (HashMap::new(), HashMap::new());
    let (mut text, mut export) = (String::new(), Export::default());
    for id in definition.reachable(&[target]) {
        let vertex = definition.vertex(id);
        let step = match &vertex.op {
            Op::Source(op) => source_step(op),
            op => vertex::step(op, definition.inputs(id).len(), &platforms[&id]).unwrap(),
        };
        let inputs = inputs(definition, id, &step, &known);
        let written_inputs = self::inputs(definition, id, &step, &written);
        for output in 0..vertex.op.outputs() {
            let records = cache.find(&step, output, &inputs);
            let made = cache.made(&records).into_iter().next();
            let what = match (&made, records.is_empty()) {
                (_, true) => "miss".to_owned(),
                (None, false) => "known".to_owned(),
                (Some(made), false) => format!("{} layers", made.layers.len()),
            };
            let name = vertex.metadata.name.replace('\n', " ");
            text.push_str(&format!("{what}: {name}\n"));
            known.insert((id, output), records);
            let records = export.add(&step, output, &written_inputs, made.as_ref());
            written.insert((id, output), records);
        }
    }
    (text, export, known)
}

/// What is known of the inputs of a vertex; of files of the client, what they are.
fn inputs(definition: &Definition, id: VertexId, step: &Step, known: &Known) -> Vec<Input> {
    let from = definition.inputs(id);
    let mut inputs = vec![Input::default(); from.len()];
    for taken in &step.inputs {
        let from = from[taken.number];
        let is_client =
            matches!(&definition.vertex(from.vertex).op, Op::Source(SourceOp::Local(_)));
        let content = taken.content.as_ref().filter(|_| is_client);
        inputs[taken.number] = Input {
            records: known[&(from.vertex, from.output)].clone(),
            content: content.map(|content| content::digest(content, Some(&context())).unwrap()),
        };
    }
    inputs
}

/// What an image with these layers carries of an export.
fn carried(export: Export, layers: &[Blob]) -> Cache {
    let diff_ids: Vec<DiffId> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let records = export.inline(&diff_ids).expect("the image has all layers of the last step");
    let mut image = ImageConfig::default();
    image.rootfs.diff_ids = diff_ids;
    image.extra.insert(INLINE.to_owned(), records.into());
    let layers: Vec<Descriptor> = layers.iter().map(|layer| layer.descriptor.clone()).collect();
    Cache::of_image(&image, &layers).unwrap().expect("there are records")
}

fn check(name: &str, options: &Options, want: Expect) {
    let dockerfile = String::from_utf8(read(&format!("{name}/Dockerfile"))).unwrap();
    let lowered = lower(&dockerfile, options);
    let target = lowered.target.expect("there are files").vertex;
    let recorded = cache(name);
    let (text, export, known) = found(&lowered.definition, target, &recorded);
    want.assert_eq(&text);
    let made = recorded.made(&known[&(target, 0)]);
    let layers = &made.first().expect("the last step has a result").layers;
    let carried = carried(export.clone(), layers);
    let (_, _, known) = found(&lowered.definition, target, &carried);
    let made = carried.made(&known[&(target, 0)]);
    assert_eq!(made.first().map(|made| made.layers.len()), Some(layers.len()), "{name} inline");
    let (config, blobs) = export.finish();
    let ours = Cache::new(config, &blobs);
    assert_eq!(found(&lowered.definition, target, &ours).0, text, "not found in our own cache");
}

#[test]
fn runs_and_copies_are_found() {
    check(
        "run",
        &options(),
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
        &options(),
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

#[test]
fn mounts_are_found() {
    check(
        "mounts",
        &options(),
        expect![[r#"
        known: [tools 1/2] FROM docker.io/library/alpine:latest@sha256:52d9d562425b8d4d8027e8bfd18a5522f78ce82824d74ba181a8db81887bd5ec
        known: [stage-1  1/12] FROM docker.io/library/busybox:latest@sha256:00974a102e964794153fe7945df6d41e7efecfc4c7fb8474f6cb08f58fb5220d
        2 layers: [tools 2/2] RUN mkdir -p /t/bin /t/lib && echo tool > /t/bin/tool && echo lib > /t/lib/lib
        miss: [internal] load build context
        2 layers: [stage-1  2/12] RUN --mount=from=tools,source=/t,target=/tools --mount=target=/ctx --mount=type=tmpfs,target=/tmp,size=1000000 cat /tools/bin/tool /ctx/a.txt > /x
        3 layers: [stage-1  3/12] RUN --mount=type=secret,id=s --mount=type=secret,id=env,env=TOKEN --mount=type=secret,id=a,target=/root/a,mode=0440,uid=7 echo 1.2 > /y
        known: [internal] setting cache mount permissions
        4 layers: [stage-1  4/12] RUN --mount=type=cache,target=/var/cache/,id=pkg,sharing=locked,uid=5,mode=0700 --mount=type=cache,target=/other,from=tools,source=/t --mount=type=bind,from=tools,target=/all,rw touch /var/cache/z /all/q
        5 layers: [stage-1  5/12] RUN --mount=type=cache,target=/root/.cache/ echo c > /root/.cache/c
        known: [internal] preparing inline document
        6 layers: [stage-1  6/12] RUN <<EOF (#!/bin/sh...)
        7 layers: [stage-1  7/12] RUN <<A cat >/h1
        8 layers: [stage-1  8/12] WORKDIR sub
        9 layers: [stage-1  9/12] WORKDIR deeper
        10 layers: [stage-1 10/12] RUN id -u > /tmp/id
        11 layers: [stage-1 11/12] RUN echo shell
        12 layers: [stage-1 12/12] RUN ["/bin/sh", "-c", "echo exec"]
    "#]],
    );
}

#[test]
fn all_kinds_of_copies_are_found() {
    check(
        "copies",
        &options(),
        expect![[r#"
        known: [src 1/2] FROM docker.io/library/alpine:latest@sha256:52d9d562425b8d4d8027e8bfd18a5522f78ce82824d74ba181a8db81887bd5ec
        known: [stage-1  1/18] FROM docker.io/library/busybox:latest@sha256:00974a102e964794153fe7945df6d41e7efecfc4c7fb8474f6cb08f58fb5220d
        2 layers: [src 2/2] RUN mkdir -p /data/one/x /data/two && echo 1 > /data/one/x/f && echo 2 > /data/two/g && ln -s one /data/link && echo 3 > /data/h.txt
        2 layers: [stage-1  2/18] WORKDIR /w
        miss: [internal] load build context
        3 layers: [stage-1  3/18] COPY . .
        4 layers: [stage-1  4/18] COPY *.txt txt/
        5 layers: [stage-1  5/18] COPY --chown=1000:100 --chmod=640 a.txt /owned
        6 layers: [stage-1  6/18] COPY --chown=nobody:nogroup dir/ /named/
        7 layers: [stage-1  7/18] COPY --chmod=u+x,g-w b.txt .
        8 layers: [stage-1  8/18] COPY --exclude=*.txt --exclude=sub dir /ex
        9 layers: [stage-1  9/18] COPY --parents dir/sub/d.txt ./dir/./sub /par/
        10 layers: [stage-1 10/18] COPY --from=src /data/link/x/f /data/t*/g /many/
        11 layers: [stage-1 11/18] COPY --from=src /data/ /whole/.
        12 layers: [stage-1 12/18] COPY --from=src --exclude=**/g /data /partly
        13 layers: [stage-1 13/18] ADD a.txt /added
        known: [internal] preparing inline document
        known: [internal] preparing inline document
        14 layers: [stage-1 14/18] COPY <<one <<two /docs/
        1 layers: [stage-1 15/18] COPY --link --from=src /data/h.txt /linked
        15 layers: [stage-1 15/18] LINK COPY --link --from=src /data/h.txt /linked
        16 layers: [stage-1 16/18] COPY --link --chmod=700 a.txt dir /lk/
        17 layers: [stage-1 17/18] COPY d?r/c.txt /q
        18 layers: [stage-1 18/18] COPY [ab].txt dir/* /set/
    "#]],
    );
}

#[test]
fn options_of_the_build_are_part_of_its_steps() {
    let host = |name: &str, address: &str| (name.to_owned(), address.to_owned());
    let limit = |name: &str, soft, hard| llb::Rlimit { name: name.to_owned(), soft, hard };
    let arguments = [
        ("http_proxy", "http://127.0.0.1:1"),
        ("SOURCE_DATE_EPOCH", "1700000000"),
        ("BUILDKIT_CACHE_MOUNT_NS", "ns"),
    ];
    let arguments = arguments.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let options = Options {
        shm_size: 64 << 20,
        ulimits: vec![limit("nofile", 100, 200), limit("nproc", 5, 5)],
        extra_hosts: vec![host("one", "10.0.0.1"), host("two", "10.0.0.2")],
        hostname: "build".to_owned(),
        build_args: arguments.into(),
        ..options()
    };
    check(
        "options",
        &options,
        expect![[r#"
        known: [old 1/4] FROM docker.io/library/busybox:latest@sha256:00974a102e964794153fe7945df6d41e7efecfc4c7fb8474f6cb08f58fb5220d
        known: [stage-1 1/7] FROM docker.io/library/busybox:latest@sha256:00974a102e964794153fe7945df6d41e7efecfc4c7fb8474f6cb08f58fb5220d
        2 layers: [old 2/4] RUN echo 1 > /version
        miss: [internal] load build context
        3 layers: [old 3/4] COPY --chmod=0 a.txt /none
        4 layers: [old 4/4] WORKDIR /made
        2 layers: [stage-1 2/7] RUN --mount=type=bind,from=old,source=made,target=/made/,rw     --mount=type=tmpfs,target=/scratch     --mount=type=ssh --mount=type=secret,id=a,target=relative,required=false     cat /etc/hosts > /hosts
        3 layers: [stage-1 3/7] WORKDIR /home/nobody
        4 layers: [stage-1 4/7] RUN --mount=type=ssh,id=other,target=/agent,uid=3 true
        5 layers: [stage-1 5/7] COPY a.txt /documents/.
        1 layers: [stage-1 6/7] COPY --from=old --link /version /v
        6 layers: [stage-1 6/7] LINK COPY --from=old --link /version /v
        7 layers: [stage-1 7/7] COPY --from=old /made/ /version /both/
    "#]],
    );
}

#[test]
fn what_comes_from_elsewhere_is_found() {
    check(
        "remote",
        &options(),
        expect![[r#"
        known: [1/9] FROM docker.io/library/busybox:latest@sha256:00974a102e964794153fe7945df6d41e7efecfc4c7fb8474f6cb08f58fb5220d
        known: [2/9] ADD http://127.0.0.1:5088/file.txt /web/
        2 layers: [2/9] ADD http://127.0.0.1:5088/file.txt /web/
        known: [3/9] ADD --unpack=true http://127.0.0.1:5088/dir.tar /unpacked/
        3 layers: [3/9] ADD --unpack=true http://127.0.0.1:5088/dir.tar /unpacked/
        4 layers: [4/9] ADD --chown=7:8 --chmod=600 http://127.0.0.1:5088/file.txt /f
        known: [5/9] ADD git://127.0.0.1:5089/repo.git#main /git
        5 layers: [5/9] ADD git://127.0.0.1:5089/repo.git#main /git
        known: [6/9] ADD git://127.0.0.1:5089/repo.git#main:sub /sub
        6 layers: [6/9] ADD git://127.0.0.1:5089/repo.git#main:sub /sub
        known: [7/9] ADD --keep-git-dir=true git://127.0.0.1:5089/repo.git#v1 /kept
        7 layers: [7/9] ADD --keep-git-dir=true git://127.0.0.1:5089/repo.git#v1 /kept
        known: [8/9] ADD git://127.0.0.1:5089/repo.git?ref=v1&submodules=false /nosub
        8 layers: [8/9] ADD git://127.0.0.1:5089/repo.git?ref=v1&submodules=false /nosub
        9 layers: [9/9] RUN ls /git
    "#]],
    );
}

#[test]
fn an_index_is_read_like_a_manifest() {
    check(
        "index",
        &options(),
        expect![[r#"
        known: [build 1/3] FROM docker.io/library/busybox:latest@sha256:00974a102e964794153fe7945df6d41e7efecfc4c7fb8474f6cb08f58fb5220d
        miss: [internal] load build context
        2 layers: [build 2/3] COPY dir /dir
        3 layers: [build 3/3] RUN echo made > /made
        2 layers: [stage-1 2/4] COPY --from=build /made /made
        3 layers: [stage-1 3/4] COPY a.txt b.txt /files/
        4 layers: [stage-1 4/4] RUN echo last > /last
    "#]],
    );
}

#[test]
fn an_image_carries_what_it_is_made_of() {
    check(
        "inline",
        &options(),
        expect![[r#"
        known: [build 1/3] FROM docker.io/library/busybox:latest@sha256:00974a102e964794153fe7945df6d41e7efecfc4c7fb8474f6cb08f58fb5220d
        miss: [internal] load build context
        known: [build 2/3] COPY dir /dir
        known: [build 3/3] RUN echo made > /made
        2 layers: [stage-1 2/4] COPY --from=build /made /made
        3 layers: [stage-1 3/4] COPY a.txt b.txt /files/
        4 layers: [stage-1 4/4] RUN echo last > /last
    "#]],
    );
}

/// The steps that take files from another stage, with nothing known of it but its files.
fn check_by_content(name: &str, stage: &str, tree: &Memory, want: Expect) {
    let dockerfile = String::from_utf8(read(&format!("{name}/Dockerfile"))).unwrap();
    let Lowered { definition, target, .. } = lower(&dockerfile, &options());
    let (target, cache) = (target.expect("there are files").vertex, cache(name));
    let (_, _, known) = found(&definition, target, &cache);
    let platforms = vertex::platforms(&definition, &options().target_platform);
    let mut text = String::new();
    for id in definition.reachable(&[target]) {
        let vertex = definition.vertex(id);
        let from = definition.inputs(id);
        let Some(step) = vertex::step(&vertex.op, from.len(), &platforms[&id]) else { continue };
        let mut inputs = inputs(&definition, id, &step, &known);
        for taken in &step.inputs {
            let source = definition.vertex(from[taken.number].vertex);
            let Some(content) = taken.content.as_ref().filter(|_| source.metadata.stage == stage)
            else {
                continue;
            };
            let content = content::digest(content, Some(tree)).unwrap();
            inputs[taken.number] = Input { content: Some(content), ..Input::default() };
            let found = cache.made(&cache.find(&step, 0, &inputs));
            let what = if found.is_empty() { "miss" } else { "found" };
            text.push_str(&format!("{what}: {}\n", vertex.metadata.name));
        }
    }
    want.assert_eq(&text);
}

#[test]
fn equal_files_of_another_stage_are_as_good() {
    let tree = memory(&[
        ("/", 0o755, ""),
        ("data/", 0o755, ""),
        ("data/h.txt", 0o644, "3\n"),
        ("data/link -> one", 0o777, ""),
        ("data/one/", 0o755, ""),
        ("data/one/x/", 0o755, ""),
        ("data/one/x/f", 0o644, "1\n"),
        ("data/two/", 0o755, ""),
        ("data/two/g", 0o644, "2\n"),
    ]);
    check_by_content(
        "copies",
        "src",
        &tree,
        expect![[r#"
        found: [stage-1 10/18] COPY --from=src /data/link/x/f /data/t*/g /many/
        found: [stage-1 11/18] COPY --from=src /data/ /whole/.
        found: [stage-1 12/18] COPY --from=src --exclude=**/g /data /partly
        found: [stage-1 15/18] COPY --link --from=src /data/h.txt /linked
    "#]],
    );
    let tree = memory(&[("/", 0o755, ""), ("app/", 0o755, ""), ("app/out", 0o644, "hello\nc\n")]);
    check_by_content(
        "run",
        "build",
        &tree,
        expect![[r#"
        found: [stage-1 2/4] COPY --from=build /app/out /out
    "#]],
    );
}
