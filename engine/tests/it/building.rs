//! Whole builds that need neither a process nor a base image: files copied over nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{
    BuildError, BuildRequest, Compression, CompressionAlgorithm, Destination, ImageForm, LocalMode,
    NoCache, Outcome, Output, Reserve, Workspace,
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::files::{is_root, plant, skip};
use crate::world::{Told, World};

impl World {
    /// `files` are those of the context, as [`plant`] takes them.
    pub(crate) fn new(files: &str) -> Self {
        let world = Self::empty();
        plant(&world.path("context"), &files.replace("; ", "\n"));
        world
    }

    /// Builds as a new process would: with a session of its own.
    pub(crate) async fn build(&self, request: BuildRequest) -> Result<Outcome, BuildError> {
        self.build_until(request, CancellationToken::new()).await
    }

    async fn build_until(
        &self,
        request: BuildRequest,
        cancel: CancellationToken,
    ) -> Result<Outcome, BuildError> {
        self.workspace().build(request, self.client(), self.listener(), cancel).await
    }

    pub(crate) fn workspace(&self) -> Workspace {
        self.engine().workspace(Reserve::Kept).unwrap()
    }

    /// A file of an OCI layout's directory, parsed.
    fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(path)).unwrap()).unwrap()
    }

    /// All files of the store's folder `folder`, sorted.
    fn stored(&self, folder: &str) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = walkdir::WalkDir::new(self.path("store").join(folder))
            .into_iter()
            .filter_map(|entry| Some(entry.ok()?.into_path()))
            .filter(|path| path.is_file())
            .collect();
        found.sort();
        found
    }
}

fn oci(dest: PathBuf, algorithm: CompressionAlgorithm) -> Output {
    let compression = Compression { algorithm, ..Compression::default() };
    let form = ImageForm { compression, ..ImageForm::default() };
    Output::Oci { dest: Destination::Path(dest), tar: false, form }
}

fn blob(digest: &Value) -> String {
    format!("blobs/{}", digest.as_str().unwrap().replace(':', "/"))
}

fn one_line(error: &BuildError) -> String {
    let Some(fault) = error.fault() else { return error.to_string() };
    let hint = fault.hint();
    format!("{}{}", fault.text(), hint.map(|hint| format!(" ({hint})")).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_output_asks_for_does_not_change_the_image() {
    let world = World::new("a=1; b=2");
    let request = world.request("FROM scratch; COPY a /; COPY b /");
    let first = world.build(request.clone()).await.unwrap();
    for (algorithm, kind) in [
        (CompressionAlgorithm::Gzip, "application/vnd.oci.image.layer.v1.tar+gzip"),
        (CompressionAlgorithm::Zstd, "application/vnd.oci.image.layer.v1.tar+zstd"),
        (CompressionAlgorithm::Uncompressed, "application/vnd.oci.image.layer.v1.tar"),
        (CompressionAlgorithm::Gzip, "application/vnd.oci.image.layer.v1.tar+gzip"),
    ] {
        let output = oci(world.path("out"), algorithm);
        let built =
            world.build(BuildRequest { outputs: vec![output], ..request.clone() }).await.unwrap();
        assert_eq!(built.images[0].config, first.images[0].config);
        let index = world.json("out/index.json");
        let last = index["manifests"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(last["digest"], built.target.digest.as_str());
        let manifest = world.json(&format!("out/{}", blob(&last["digest"])));
        let kinds: Vec<&str> = manifest["layers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|l| l["mediaType"].as_str().unwrap())
            .collect();
        assert_eq!(kinds, [kind, kind]);
    }
}

/// Damages the store in some way.
type Damage = fn(&World);

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_has_lost_is_made_again() {
    let stages = "FROM scratch AS a; COPY a /x; FROM scratch; COPY --from=a /x /y";
    let blobs_gone: Damage =
        |world| world.stored("blobs").iter().for_each(|path| fs::remove_file(path).unwrap());
    let trees_gone: Damage = |world| {
        let entries = fs::read_dir(world.path("store/layers-v1")).unwrap();
        entries.for_each(|entry| fs::remove_dir_all(entry.unwrap().path()).unwrap());
    };
    let blobs_cut: Damage = |world| {
        for path in world.stored("blobs") {
            fs::File::options().write(true).open(path).unwrap().set_len(3).unwrap();
        }
    };
    for (dockerfile, name, damage) in [
        ("FROM scratch; COPY a /", "blobs gone", blobs_gone),
        ("FROM scratch; COPY a /", "blobs cut", blobs_cut),
        (stages, "blobs gone", blobs_gone),
        (stages, "blobs cut", blobs_cut),
        (stages, "trees gone", trees_gone),
    ] {
        let world = World::new("a=1");
        let outputs = vec![oci(world.path("out"), CompressionAlgorithm::Gzip)];
        let request = BuildRequest { outputs, ..world.request(dockerfile) };
        let first = world.build(request.clone()).await.unwrap();
        damage(&world);
        fs::remove_dir_all(world.path("out")).unwrap();
        let second = world.build(request.clone()).await;
        let second = second.unwrap_or_else(|error| panic!("{name}: {}", one_line(&error)));
        assert_eq!(second.images[0].manifest.size, first.images[0].manifest.size, "{name}");
        let third = world.build(request.clone()).await.unwrap();
        assert_eq!(third.target, second.target, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_bytes_are_not_exported_and_the_build_makes_them_anew() {
    let world = World::new("a=content");
    let outputs = vec![oci(world.path("out"), CompressionAlgorithm::Uncompressed)];
    let request = BuildRequest { outputs, ..world.request("FROM scratch; COPY a /") };
    let first = world.build(request.clone()).await.unwrap();
    let tar = world
        .stored("blobs")
        .into_iter()
        .find(|path| fs::metadata(path).unwrap().len() >= 1024)
        .unwrap();
    let mut bytes = fs::read(&tar).unwrap();
    let good = bytes.clone();
    bytes[600] ^= 1;
    fs::write(&tar, bytes).unwrap();
    fs::remove_dir_all(world.path("out")).unwrap();
    let second = world.build(request).await.unwrap();
    assert_eq!(second.images[0].manifest.size, first.images[0].manifest.size);
    let exported = world.path("out/blobs/sha256").join(tar.file_name().unwrap());
    assert_eq!(fs::read(exported).unwrap(), good);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_somebody_changed_is_made_again() {
    let world = World::new("a=1; b=2");
    // The second stage reads the first one's layer, which is therefore a tree.
    let first = "FROM scratch AS a; COPY a /x; FROM scratch; COPY --from=a /x /y";
    world.build(world.request(first)).await.unwrap();
    let tree =
        walkdir::WalkDir::new(world.path("store/layers-v1")).into_iter().filter_map(Result::ok);
    let file = tree.map(walkdir::DirEntry::into_path).find(|path| path.ends_with("fs/x")).unwrap();
    fs::write(&file, "X").unwrap();
    let request = world.request("FROM scratch AS a; COPY a /x; FROM scratch; COPY --from=a /x /z");
    let outputs = vec![Output::Local {
        dest: world.path("out"),
        platform_split: None,
        mode: LocalMode::Copy,
    }];
    world.build(BuildRequest { outputs, ..request }).await.unwrap();
    assert_eq!(fs::read_to_string(world.path("out/z")).unwrap(), "1");
    let warned = world.told().into_iter().filter(|line| line.starts_with("warning: ")).count();
    assert_eq!(warned, 1, "{:?}", world.told());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_source_is_named_with_its_place() {
    for (files, dockerfile, expected) in [
        (
            "package.json=1",
            "FROM scratch; COPY pakage.json /",
            "\"/pakage.json\": not found in the build context (did you mean `package.json`?)",
        ),
        (
            "a=1; .dockerignore=a",
            "FROM scratch; COPY a /",
            "\"/a\": not found in the build context (it is there, but the pattern `a` of the ignore \
             file excludes it)",
        ),
        (
            "a=1",
            "FROM scratch AS build; COPY a /; FROM scratch; COPY --from=build /b /",
            "\"/b\": not found in stage `build`",
        ),
    ] {
        let world = World::new(files);
        let error = world.build(world.request(dockerfile)).await.unwrap_err();
        assert_eq!(one_line(&error), expected);
        assert!(world.told().iter().any(|line| line.contains("failed: ")), "{:?}", world.told());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_becomes_part_of_the_image_is_made_a_tar() {
    let world = World::new("a=1; b=2");
    let dockerfile = "FROM scratch AS a; COPY a /x; COPY b /y; FROM scratch; COPY --from=a /x /z";
    world.build(world.request(dockerfile)).await.unwrap();
    let layers =
        world.stored("blobs").into_iter().filter(|path| fs::metadata(path).unwrap().len() >= 1024);
    assert_eq!(layers.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_build_returns_at_once() {
    // A registry that takes the connection and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let image = format!("{}/app", silent.local_addr().unwrap());
    let world = World::new("a=1");
    for dockerfile in [format!("FROM {image}"), format!("FROM scratch; COPY --from={image} /x /")] {
        let cancel = CancellationToken::new();
        let building = world.build_until(world.request(&dockerfile), cancel.clone());
        let stopping = async {
            let connected = silent.accept().await.unwrap();
            cancel.cancel();
            (Instant::now(), connected)
        };
        let (built, (stopped, _connected)) = tokio::join!(building, stopping);
        assert!(matches!(built, Err(BuildError::Canceled)), "{built:?}");
        assert!(stopped.elapsed() < Duration::from_millis(200), "{:?}", stopped.elapsed());
    }
    let cancel = CancellationToken::new();
    cancel.cancel();
    let built = world.build_until(world.request("FROM scratch; COPY a /"), cancel).await;
    assert!(matches!(built, Err(BuildError::Canceled)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_was_forced_is_not_mixed_with_what_was_made_before() {
    let world = World::new("a=1; b=2");
    let dockerfile = "FROM scratch AS a; COPY a /x; FROM scratch; COPY --from=a /x /y; COPY b /";
    let request = world.request(dockerfile);
    let ran = |world: &World| world.told().iter().filter(|line| line.ends_with(" runs")).count();
    world.build(request.clone()).await.unwrap();
    world.build(request.clone()).await.unwrap();
    // The contexts and the export.
    let calm = ran(&world);
    let forced = BuildRequest { no_cache: NoCache::Always, ..request.clone() };
    world.build(forced).await.unwrap();
    assert_eq!(ran(&world), calm + 3);
    world.build(request).await.unwrap();
    assert_eq!(ran(&world), calm);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_names_the_keys_that_are_known() {
    let world = World::new("a=1");
    let dockerfile = "FROM scratch AS a; COPY a /x; FROM scratch; COPY --from=a /x /y";
    let told: Arc<Told> = Arc::default();
    let plan =
        world.workspace().plan(world.request(dockerfile), world.client(), told).await.unwrap();
    let text = plan.print(engine::GraphFormat::Text);
    let kinds: Vec<&str> =
        text.lines().map(|line| line.split_whitespace().nth(2).unwrap()).collect();
    assert_eq!(kinds, ["source", "file", "file"]);
    // What is made from a directory has none before that is read.
    assert!(!text.contains("key="), "{text}");
    let json: Value = serde_json::from_str(&plan.print(engine::GraphFormat::Json)).unwrap();
    assert_eq!(json["vertices"].as_array().unwrap().len(), 3);
    assert!(plan.print(engine::GraphFormat::Dot).starts_with("digraph"));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_outputs_carry_the_files() {
    if !is_root() {
        return skip("not root: layers cannot be laid over each other");
    }
    let world = World::new("a=1; d/b=2");
    for (dockerfile, expected) in [
        ("FROM scratch", &[][..]),
        ("FROM scratch; COPY a /", &["a"]),
        ("FROM scratch; COPY a /; COPY d /d; COPY a /z", &["a", "d", "d/b", "z"]),
    ] {
        let (tar, dest) = (world.path("out.tar"), world.path("out"));
        let outputs = vec![
            Output::Local { dest: dest.clone(), platform_split: None, mode: LocalMode::Copy },
            Output::Tar { dest: Destination::Path(tar.clone()), platform_split: None },
        ];
        world.build(BuildRequest { outputs, ..world.request(dockerfile) }).await.unwrap();
        let mut names = names_in(&dest);
        names.sort();
        assert_eq!(names, expected);
        let mut archive = tar::Archive::new(fs::File::open(&tar).unwrap());
        let entries =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned());
        let mut names: Vec<String> = entries
            .map(|path| path.to_string_lossy().trim_matches(['.', '/']).to_owned())
            .collect();
        names.retain(|name| !name.is_empty());
        names.sort();
        assert_eq!(names, expected);
        fs::remove_dir_all(dest).unwrap();
    }
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = walkdir::WalkDir::new(directory).min_depth(1).into_iter().map(Result::unwrap);
    entries
        .map(|entry| entry.path().strip_prefix(directory).unwrap().to_string_lossy().into_owned())
        .collect()
}
