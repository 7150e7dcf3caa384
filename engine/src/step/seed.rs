//! The first content of a cache mount.

use std::io;
use std::path::Path;

use crate::file_op::{copy_directory, copy_out};
use crate::layer::Rootfs;
use crate::machine::Machine;

/// Copies what `selector` names in `rootfs` to the directory `target`, which gets the
/// named directory's owner and mode, too.
pub(crate) fn fill(
    machine: &Machine,
    scratch: &Path,
    rootfs: &Rootfs,
    selector: &str,
    target: &Path,
) -> io::Result<()> {
    let view = rootfs.view().map_err(io::Error::other)?;
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
