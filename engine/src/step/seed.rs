//! The first content of a cache mount.

use std::io;
use std::path::{Path, PathBuf};

use crate::file_op::{copy_directory, copy_out};
use crate::machine::Machine;
use crate::tree;

/// Copies what `selector` names in the layers `lowers` to the directory `target`, which gets the
/// named directory's owner and mode, too.
pub(crate) fn fill(
    machine: &Machine,
    scratch: &Path,
    lowers: &[PathBuf],
    selector: &str,
    target: &Path,
) -> io::Result<()> {
    let view = tree::view_of_layers(machine.host(), lowers).map_err(io::Error::other)?;
    let op = copy_directory(selector, None, None);
    copy_out(machine.host(), scratch, &view, &op, target, &|| false).map_err(io::Error::other)?;
    let resolved = view.resolve(selector.as_bytes(), true).map_err(io::Error::other)?;
    if let Some((stat, _)) = view.lstat(&resolved.path).map_err(io::Error::other)? {
        std::os::unix::fs::chown(target, Some(stat.uid), Some(stat.gid))?;
        std::fs::set_permissions(
            target,
            std::os::unix::fs::PermissionsExt::from_mode(u32::from(stat.mode)),
        )?;
    }
    Ok(())
}
