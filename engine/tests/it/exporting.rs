//! What builds take in and give out: Dockerfiles and ignore files wherever they lie, layouts read and
//! written, archives that others load.

use std::fs;
use std::path::Path;
use std::process::Command;

use engine::{
    BuildRequest, ContextSource, Destination, DockerfileSource, ImageForm, LocalMode, Output,
    TarSource,
};
use oci::Platform;
use serde_json::Value;

use crate::files::{chain_of, plant, skip};
use crate::world::World;

fn platforms(names: &[&str]) -> Vec<Platform> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn docker(dest: &Path, tar: bool) -> Output {
    Output::Docker { dest: Destination::Path(dest.to_owned()), tar, form: ImageForm::default() }
}

fn layout(dest: &Path) -> Output {
    Output::Oci { dest: Destination::Path(dest.to_owned()), tar: false, form: ImageForm::default() }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The files of an image of one layer, `name=content` each.
async fn files_of(world: &World, request: BuildRequest) -> Result<String, String> {
    let out = world.path("files");
    let _ = fs::remove_dir_all(&out);
    let outputs =
        vec![Output::Local { dest: out.clone(), platform_split: None, mode: LocalMode::Copy }];
    world.build(BuildRequest { outputs, ..request }).await.map_err(|error| chain_of(&error))?;
    let mut files: Vec<String> = walkdir::WalkDir::new(&out)
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            let name = entry.path().strip_prefix(&out).unwrap().display().to_string();
            format!("{name}={}", fs::read_to_string(entry.path()).unwrap().trim_end())
        })
        .collect();
    files.sort();
    Ok(files.join("; "))
}

#[tokio::test(flavor = "multi_thread")]
async fn dockerfiles_and_ignore_files_are_found_where_they_lie() {
    let copy = "FROM scratch\\nCOPY . /\\n";
    // Files of the context, `-f`, what comes out.
    for (files, named, expected) in [
        ("Dockerfile=COPY; a=1; b=2; .dockerignore=b", None, "a=1"),
        ("dockerfile=COPY; a=1", None, "a=1"),
        ("dockerfile=COPY; a=1", Some("Dockerfile"), "a=1"),
        ("other=COPY; a=1; b=2; .dockerignore=b; other.dockerignore=a", Some("other"), "b=2"),
        ("Dockerfile=COPY; a=1; Dockerfile.dockerignore=; .dockerignore=a", None, "a=1"),
        ("a=1", None, "error: no Dockerfile in `DIR`"),
        (
            "Dockerfile/x=1",
            None,
            "error: failed to read `DIR/Dockerfile`: it is not a regular file",
        ),
        ("Dockerfile|", None, "error: failed to read `DIR/Dockerfile`: it is not a regular file"),
        (
            "Dockerfile=COPY; .dockerignore|",
            None,
            "error: failed to read `.dockerignore`: it is not a regular file",
        ),
        (
            "Dockerfile=COPY; .dockerignore -> /etc/hostname",
            None,
            "error: `.dockerignore` is a link to `/etc/hostname`, which is not in the context",
        ),
    ] {
        let world = World::new(&files.replace("COPY", copy));
        for (name, text) in [("Dockerfile", copy), ("dockerfile", copy), ("other", copy)] {
            let path = world.path("context").join(name);
            if path.is_file() {
                fs::write(path, text.replace("\\n", "\n")).unwrap();
            }
        }
        let path = named.map(|name| world.path("context").join(name));
        let request =
            BuildRequest { dockerfile: DockerfileSource::File(path), ..world.request("") };
        let got = match files_of(&world, request).await {
            Ok(files) => {
                let is_input = |file: &&str| {
                    !file.contains("ockerfile")
                        && !file.contains("other")
                        && !file.contains("ignore")
                };
                files.split("; ").filter(is_input).collect::<Vec<_>>().join("; ")
            }
            Err(error) => format!("error: {error}"),
        };
        let directory = fs::canonicalize(world.path("context")).unwrap();
        let got = got.split('\n').find(|line| !line.is_empty()).unwrap_or_default();
        assert_eq!(got.replace(directory.to_str().unwrap(), "DIR"), expected, "{files}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_a_context_that_nothing_leads_out_of() {
    let world = World::new("");
    plant(&world.path(""), "outside=secret");
    let outside = world.path("outside").display().to_string();
    for (files, named, expected) in [
        ("Dockerfile=FROM scratch%COPY a /; a=1", None, Ok("a=1")),
        ("dockerfile=FROM scratch%COPY a /; a=1", Some("Dockerfile"), Ok("a=1")),
        ("d/x=FROM scratch%COPY a /; a=1", Some("d/x"), Ok("a=1")),
        // As if the archive were the root.
        ("Dockerfile -> /d/x; d/x=FROM scratch%COPY a /; a=1", None, Ok("a=1")),
        ("Dockerfile -> OUTSIDE", None, Err("No such file")),
        ("a=1", Some("../../../../etc/passwd"), Err("failed to read")),
        ("Dockerfile=FROM scratch%COPY l /; l -> OUTSIDE", None, Err("not found")),
    ] {
        let tree = tempfile::tempdir().unwrap();
        plant(tree.path(), &files.replace("OUTSIDE", &outside).replace("; ", "\n"));
        for entry in walkdir::WalkDir::new(tree.path()).into_iter().map(Result::unwrap) {
            if entry.file_type().is_file() {
                let text = fs::read_to_string(entry.path()).unwrap();
                fs::write(entry.path(), text.replace('%', "\n")).unwrap();
            }
        }
        let mut archive = tar::Builder::new(fs::File::create(world.path("context.tar")).unwrap());
        archive.follow_symlinks(false);
        archive.append_dir_all(".", tree.path()).unwrap();
        archive.finish().unwrap();
        let request = BuildRequest {
            context: ContextSource::Archive(TarSource::Path(world.path("context.tar"))),
            dockerfile: DockerfileSource::File(named.map(Into::into)),
            ..world.request("")
        };
        match (files_of(&world, request).await, expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{files}"),
            (Err(got), Err(part)) => assert!(got.contains(part), "{files}: {got}"),
            (got, _) => panic!("{files}: {got:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn layouts_are_read_by_tag_digest_or_as_the_only_image() {
    let world = World::new("a=1; b=2");
    let out = world.path("layout");
    let write = |file: &str, tag: &str| BuildRequest {
        tags: vec![tag.parse().unwrap()],
        outputs: vec![layout(&out)],
        ..world.request(&format!("FROM scratch; COPY {file} /"))
    };
    world.build(write("a", "app:one")).await.unwrap();
    let base = |reference: &str| {
        let mut request = world.request("FROM base; COPY --from=base . /");
        let specification = format!("oci-layout://{}{reference}", out.display());
        request.named_contexts.insert("base".to_owned(), specification);
        request
    };
    let digest =
        json(&out.join("index.json"))["manifests"][0]["digest"].as_str().unwrap().to_owned();
    for (reference, expected) in [
        ("", Ok("a=1")),
        (":one", Ok("a=1")),
        (&format!("@{digest}"), Ok("a=1")),
        (":two", Err("no image `two` in the OCI layout")),
    ] {
        match (files_of(&world, base(reference)).await, expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{reference}"),
            (Err(got), Err(part)) => assert!(got.contains(part), "{reference}: {got}"),
            (got, _) => panic!("{reference}: {got:?}"),
        }
    }
    // A second image is added, and one of the same name replaced.
    world.build(write("b", "app:two")).await.unwrap();
    assert_eq!(files_of(&world, base(":two")).await.unwrap(), "b=2");
    assert_eq!(files_of(&world, base(":one")).await.unwrap(), "a=1");
    world.build(write("b", "app:one")).await.unwrap();
    assert_eq!(files_of(&world, base(":one")).await.unwrap(), "b=2");
    assert_eq!(json(&out.join("index.json"))["manifests"].as_array().unwrap().len(), 2);
    // A blob that was cut short by somebody is written again.
    let layer = walkdir::WalkDir::new(out.join("blobs")).into_iter().map(Result::unwrap);
    for blob in layer.filter(|entry| entry.file_type().is_file()) {
        fs::write(blob.path(), "").unwrap();
    }
    world.build(write("b", "app:one")).await.unwrap();
    let fresh = World::new("");
    let mut request = base(":one");
    request.context = ContextSource::Directory(fresh.path("context"));
    assert_eq!(files_of(&fresh, request).await.unwrap(), "b=2");
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_archives_hold_what_docker_and_skopeo_load() {
    let world = World::new("a=1");
    let request = BuildRequest {
        tags: vec!["app".parse().unwrap(), "localhost:5000/b:2".parse().unwrap()],
        ..world.request("FROM scratch; COPY a /; CMD [\"/a\"]")
    };
    for (named, images) in [(&[][..], 1), (&["linux/amd64", "linux/arm64", "linux/amd64"], 3)] {
        let (directory, tar) =
            (world.path(&format!("d{images}")), world.path(&format!("{images}.tar")));
        let outputs = vec![docker(&directory, false), docker(&tar, true)];
        let built = world
            .build(BuildRequest { platforms: platforms(named), outputs, ..request.clone() })
            .await
            .unwrap();
        assert_eq!(built.images.len(), images);
        let entries = json(&directory.join("manifest.json"));
        let [entry] = entries.as_array().unwrap().as_slice() else { panic!("{entries}") };
        assert_eq!(entry["RepoTags"], serde_json::json!(["app:latest", "localhost:5000/b:2"]));
        let config = json(&directory.join(entry["Config"].as_str().unwrap()));
        let architecture =
            if images == 1 { Platform::host().architecture } else { host_or("amd64") };
        assert_eq!(config["architecture"].as_str().unwrap(), architecture);
        assert!(directory.join(entry["Layers"][0].as_str().unwrap()).is_file());
        let index = json(&directory.join("index.json"));
        let names: Vec<&Value> = index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| &m["annotations"]["org.opencontainers.image.ref.name"])
            .collect();
        assert_eq!(names, ["latest", "2"]);
        if images == 2 {
            let top = index["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
            let top = json(&directory.join("blobs").join(top));
            let architectures: Vec<&Value> = top["manifests"]
                .as_array()
                .unwrap()
                .iter()
                .map(|m| &m["platform"]["architecture"])
                .collect();
            assert_eq!(architectures, ["amd64", "arm64"]);
        }
        let inspected = Command::new("skopeo")
            .arg("inspect")
            .arg(format!("docker-archive:{}", tar.display()))
            .output();
        match inspected {
            Err(_) => skip("no skopeo to ask"),
            Ok(output) => {
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                let told: Value = serde_json::from_slice(&output.stdout).unwrap();
                assert_eq!(told["Architecture"], config["architecture"]);
            }
        }
    }
}

/// This machine's architecture if it is among those of the test, else `other`.
fn host_or(other: &str) -> String {
    let host = Platform::host().architecture;
    if ["amd64", "arm64"].contains(&host.as_str()) { host } else { other.to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_is_replaced_whole_and_a_link_leads_to_it() {
    let world = World::new("a=1");
    fs::create_dir(world.path("real")).unwrap();
    fs::write(world.path("real/out.tar"), "old").unwrap();
    std::os::unix::fs::symlink("real/out.tar", world.path("link.tar")).unwrap();
    let tar = |name: &str| Output::Tar {
        dest: Destination::Path(world.path(name)),
        platform_split: None,
    };
    let request = world.request("FROM scratch; COPY a /");
    world.build(BuildRequest { outputs: vec![tar("link.tar")], ..request.clone() }).await.unwrap();
    assert!(world.path("link.tar").is_symlink());
    assert!(fs::metadata(world.path("real/out.tar")).unwrap().len() > 1000);
    let failed = world.build(BuildRequest { outputs: vec![tar("none/out.tar")], ..request }).await;
    let error = chain_of(&failed.unwrap_err());
    assert!(
        error.starts_with(&format!("failed to write `{}`: ", world.path("none/out.tar").display())),
        "{error}"
    );
    let left: Vec<_> = fs::read_dir(world.path("real")).unwrap().collect();
    assert_eq!(left.len(), 1);
}
