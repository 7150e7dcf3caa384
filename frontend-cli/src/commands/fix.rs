//! `mybuild build --check=fix`

use std::fs::{File, Metadata, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use engine::{BuildRequest, ContextSource, DockerfileSource};
use parser::fix::Fixed;

use crate::error::UsageError;
use crate::exit::Exit;
use crate::progress::Findings;
use crate::{diagnostics, diff, ui};

/// The Dockerfile's file, as far as the request says; its name may turn out to be `dockerfile`.
pub(super) fn file(request: &BuildRequest) -> Result<PathBuf, UsageError> {
    match (&request.dockerfile, &request.context) {
        // With an archive or an address a relative path leads to a file in there.
        (DockerfileSource::File(_), ContextSource::Archive(_) | ContextSource::Remote(_)) => {}
        (DockerfileSource::File(Some(path)), _) => return Ok(path.clone()),
        (DockerfileSource::File(None), ContextSource::Directory(context)) => {
            return Ok(context.join("Dockerfile"));
        }
        _ => {}
    }
    Err(UsageError::new("`--write`: the Dockerfile is not a file that can be written")
        .with_hint("`--check=fix` without `--write` shows the changes"))
}

/// Shows what is mended and what is left; with a `file`, writes it. Fails where warnings are left.
pub(super) fn tell(
    fixed: &Fixed,
    findings: &Findings,
    file: Option<&Path>,
) -> anyhow::Result<Exit> {
    let (name, text) = findings.dockerfile.as_ref().expect("it was read");
    ui::styled_data(&diff::unified(name, text, &fixed.text))?;
    let is_changed = **text != *fixed.text;
    if let (Some(file), true) = (file, is_changed) {
        write(&file.with_file_name(name), text, &fixed.text)?;
    }
    fixed.left.iter().for_each(|left| ui::error(&diagnostics::dockerfile_brief(left)));
    ui::error(&summary(fixed, file.is_some()));
    let is_clean = fixed.left.is_empty() && (file.is_some() || !is_changed);
    Ok(if is_clean { Exit::Success } else { Exit::Failed })
}

fn summary(fixed: &Fixed, is_written: bool) -> String {
    let mended: Vec<String> =
        fixed.mended.iter().map(|(rule, count)| format!("{rule} ({count})")).collect();
    let left = match fixed.left.len() {
        0 => "no warnings are left".to_owned(),
        1 => "1 warning is left".to_owned(),
        count => format!("{count} warnings are left"),
    };
    match (mended.as_slice(), is_written) {
        ([], _) => format!("nothing to mend, {left}\n"),
        (mended, true) => format!("mended {}; {left}\n", mended.join(", ")),
        (mended, false) => {
            format!("can mend {} with `--write`; {left}\n", mended.join(", "))
        }
    }
}

/// Writes `new` where `old` is, all or nothing: with the owner and mode it has, and not if it is
/// another text by now.
fn write(path: &Path, old: &str, new: &str) -> anyhow::Result<()> {
    let failed = || format!("failed to write `{}`", path.display());
    // A link leads to what is written.
    let target = path.canonicalize().with_context(failed)?;
    let folder = target.parent().unwrap_or(Path::new("/"));
    let metadata = target.metadata().with_context(failed)?;
    let mut file =
        tempfile::Builder::new().prefix(".mybuild-").tempfile_in(folder).with_context(failed)?;
    dress(file.as_file(), &metadata).with_context(failed)?;
    file.write_all(new.as_bytes()).with_context(failed)?;
    file.as_file().sync_data().with_context(failed)?;
    if std::fs::read(&target).with_context(failed)? != old.as_bytes() {
        anyhow::bail!("`{}` has changed since it was read: nothing is written", path.display());
    }
    file.persist(&target).map_err(|error| error.error).with_context(failed)?;
    Ok(())
}

/// Gives a file the owner and mode of another.
fn dress(file: &File, like: &Metadata) -> io::Result<()> {
    let now = file.metadata()?;
    if (now.uid(), now.gid()) != (like.uid(), like.gid()) {
        std::os::unix::fs::fchown(file, Some(like.uid()), Some(like.gid()))?;
    }
    file.set_permissions(Permissions::from_mode(like.mode() & 0o7777))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_only_while_it_is_what_was_read() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o604)).unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();

        let refused = write(&link, "another", "new").unwrap_err();
        assert!(refused.to_string().contains("has changed since it was read"), "{refused}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "old");

        write(&link, "old", "new").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o604);
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");
    }
}
