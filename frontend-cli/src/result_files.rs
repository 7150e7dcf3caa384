//! What a build leaves for scripts: `--iidfile` and `--metadata-file`.

use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Context as _;
use engine::{BuiltImage, Outcome};
use oci::{Digest, Reference};
use serde_json::{Value, json};

/// Takes away what an earlier build left, so that a failed one leaves nothing behind that looks
/// like its result.
pub fn remove_stale(path: &Path) -> anyhow::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => std::fs::remove_file(path)
            .with_context(|| format!("failed to remove the old `{}`", path.display())),
        // A pipe or a device is written to; what is missing needs no removing.
        _ => Ok(()),
    }
}

/// Writes `bytes` to `path`, all or nothing. A pipe or a device is written to as it is.
pub fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let is_special = std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
    let written =
        if is_special { std::fs::write(path, bytes) } else { write_atomically(path, bytes) };
    written.with_context(|| format!("failed to write `{}`", path.display()))
}

fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .prefix(".mybuild-")
        .tempfile_in(directory.unwrap_or(Path::new(".")))?;
    engine::give_file(file.as_file())?;
    file.write_all(bytes)?;
    file.as_file().sync_data()?;
    file.persist(path)?;
    Ok(())
}

/// The image id: that of the config, or that of the index.
pub fn image_id(outcome: &Outcome) -> &Digest {
    only_image(outcome).map_or(&outcome.target.digest, |image| &image.config)
}

/// The image, where there is no index over it.
fn only_image(outcome: &Outcome) -> Option<&BuiltImage> {
    outcome.images.iter().find(|image| image.manifest.digest == outcome.target.digest)
}

/// What buildx writes into its metadata file, as far as it concerns us.
pub fn metadata(outcome: &Outcome) -> Value {
    // What a registry has counts for who asks it next.
    let target = outcome.pushed.first().map_or(&outcome.target, |pushed| &pushed.target);
    let mut metadata = json!({
        "containerimage.descriptor": target,
        "containerimage.digest": target.digest,
        // Builder, node and build, as buildx has them; the logs are kept under the last.
        "buildx.build.ref": format!("mybuild/mybuild/{}", outcome.build_id),
    });
    if let Some(image) = only_image(outcome) {
        metadata["containerimage.config.digest"] = json!(image.config);
    }
    let mut names = outcome.names.clone();
    for name in outcome.pushed.iter().flat_map(|pushed| &pushed.names).map(Reference::to_string) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if !names.is_empty() {
        metadata["image.name"] = json!(names.join(","));
    }
    metadata
}
