//! `--iidfile` and `--metadata-file`.

use engine::{BuiltImage, Outcome};
use expect_test::expect;
use frontend_cli::result_files::{image_id, metadata, remove_stale, write};
use oci::{Descriptor, Digest, media_type};

fn outcome(platforms: &[&str], names: &[&str]) -> Outcome {
    let images: Vec<BuiltImage> = platforms
        .iter()
        .map(|platform| BuiltImage {
            platform: platform.parse().expect("a platform"),
            manifest: Descriptor::new(media_type::MANIFEST, Digest::of(platform.as_bytes()), 100),
            config: Digest::of(format!("config {platform}").as_bytes()),
        })
        .collect();
    let target = match images.as_slice() {
        [image] => image.manifest.clone(),
        _ => Descriptor::new(media_type::INDEX, Digest::of(b"index"), 200),
    };
    Outcome {
        images,
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        target,
        pushed: Vec::new(),
        build_id: "build".to_owned(),
    }
}

#[test]
fn metadata_is_what_buildx_writes() {
    expect![[r#"
        {
          "buildx.build.ref": "mybuild/mybuild/build",
          "containerimage.config.digest": "sha256:70618f82c8f836cfe06a4f9623c2bd762d7846fd5bf9e4e984e8643a33027628",
          "containerimage.descriptor": {
            "digest": "sha256:baf0239e48ff4c47ebac3ba02b5cf1506b69cd5a0c0d0c825a53ba65976fb942",
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "size": 100
          },
          "containerimage.digest": "sha256:baf0239e48ff4c47ebac3ba02b5cf1506b69cd5a0c0d0c825a53ba65976fb942",
          "image.name": "a:1,b:2"
        }"#]]
        .assert_eq(&format!("{:#}", metadata(&outcome(&["linux/amd64"], &["a:1", "b:2"]))));
    expect![[r#"
        {
          "buildx.build.ref": "mybuild/mybuild/build",
          "containerimage.descriptor": {
            "digest": "sha256:1bc04b5291c26a46d918139138b992d2de976d6851d0893b0476b85bfbdfc6e6",
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "size": 200
          },
          "containerimage.digest": "sha256:1bc04b5291c26a46d918139138b992d2de976d6851d0893b0476b85bfbdfc6e6"
        }"#]]
        .assert_eq(&format!("{:#}", metadata(&outcome(&["linux/amd64", "linux/arm64"], &[]))));
}

#[test]
fn the_image_id_is_that_of_the_config_or_of_the_index() {
    let one = outcome(&["linux/amd64"], &[]);
    assert_eq!(image_id(&one), &one.images[0].config);
    let two = outcome(&["linux/amd64", "linux/arm64"], &[]);
    assert_eq!(image_id(&two), &two.target.digest);
}

#[test]
fn files_are_replaced_whole_and_stale_ones_go() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("iid");
    write(&path, b"first").expect("written");
    let first = std::fs::File::open(&path).expect("opened");
    write(&path, b"second").expect("replaced");
    // A reader of the first one still has all of it.
    assert_eq!(std::io::read_to_string(first).expect("read"), "first");
    assert_eq!(std::fs::read(&path).expect("read"), b"second");
    remove_stale(&path).expect("removed");
    remove_stale(&path).expect("nothing to remove");
    assert_eq!(std::fs::read_dir(directory.path()).expect("read").count(), 0);
    let error = write(&directory.path().join("no/such"), b"").expect_err("no directory");
    assert!(error.to_string().starts_with("failed to write `"), "{error}");
}

#[test]
fn a_device_is_written_to_and_stays() {
    let null = std::path::Path::new("/dev/null");
    remove_stale(null).expect("left alone");
    write(null, b"id").expect("written");
    assert!(!std::fs::metadata(null).expect("still there").is_file());
}
