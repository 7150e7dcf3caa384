//! `--volume` and `--tmpfs`.

use std::path::{Path, PathBuf};

use engine::run::{Bind, Tmpfs};

use crate::build_args::quantity;
use crate::error::UsageError;

/// What is mounted in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Mounts {
    pub(super) binds: Vec<Bind>,
    /// Volumes without a source.
    pub(super) volumes: Vec<String>,
    pub(super) tmpfs: Vec<Tmpfs>,
}

pub(super) fn resolve(volumes: &[String], tmpfs: &[String]) -> Result<Mounts, UsageError> {
    let mut mounts = Mounts::default();
    for text in volumes {
        volume(text, &mut mounts)?;
    }
    mounts.tmpfs = tmpfs.iter().map(|text| tmpfs_of(text)).collect::<Result<_, _>>()?;
    let targets = mounts.binds.iter().map(|bind| &bind.target);
    let mut targets: Vec<&String> = targets
        .chain(&mounts.volumes)
        .chain(mounts.tmpfs.iter().map(|tmpfs| &tmpfs.target))
        .collect();
    targets.sort();
    match targets.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(UsageError::new(format!("`{}` is mounted twice", pair[0]))),
        None => Ok(mounts),
    }
}

/// `TARGET`, `SOURCE:TARGET` or `SOURCE:TARGET:OPTIONS`.
fn volume(text: &str, mounts: &mut Mounts) -> Result<(), UsageError> {
    let invalid = |why: &str| UsageError::new(format!("`--volume {text}`: {why}"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => {
            mounts.volumes.push(target_of(target).map_err(|why| invalid(&why))?);
            return Ok(());
        }
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => return Err(invalid("want SOURCE:TARGET or SOURCE:TARGET:ro")),
    };
    let mut readonly = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" | "readonly" => readonly = true,
            "rw" => readonly = false,
            other => {
                return Err(invalid(&format!("option `{other}` is not supported"))
                    .with_hint("options are ro and rw"));
            }
        }
    }
    let target = target_of(target).map_err(|why| invalid(&why))?;
    let source = source_of(source).map_err(|error| {
        error.unwrap_or_else(|| {
            invalid(&format!("`{source}` would be a named volume, which is not supported"))
                .with_hint(format!("for a directory write `./{source}`"))
        })
    })?;
    mounts.binds.push(Bind { source, target, readonly });
    Ok(())
}

/// A path of the host, absolute; `None` for the name of a volume.
fn source_of(text: &str) -> Result<PathBuf, Option<UsageError>> {
    let is_path = text.contains('/') || matches!(text, "." | "..");
    if !is_path {
        return Err(None);
    }
    std::path::absolute(Path::new(text))
        .map_err(|error| Some(UsageError::new(format!("`{text}`: {error}"))))
}

fn target_of(text: &str) -> Result<String, String> {
    let is_root = text.split('/').all(|part| part.is_empty() || part == ".");
    match text.starts_with('/') {
        true if is_root => Err("the target cannot be `/`".to_owned()),
        true => Ok(text.trim_end_matches('/').to_owned()),
        false => Err(format!("the target `{text}` must be absolute")),
    }
}

/// `DIR` or `DIR:OPTIONS`.
fn tmpfs_of(text: &str) -> Result<Tmpfs, UsageError> {
    let invalid = |why: &str| UsageError::new(format!("`--tmpfs {text}`: {why}"));
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let target = target_of(target).map_err(|why| invalid(&why))?;
    let mut tmpfs = Tmpfs { target, size: 0, readonly: false };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", size)) => tmpfs.size = quantity::bytes("--tmpfs", size)?,
            None if option == "ro" => tmpfs.readonly = true,
            None if option == "rw" => tmpfs.readonly = false,
            _ => {
                return Err(invalid(&format!("option `{option}` is not supported"))
                    .with_hint("options are size=, ro and rw"));
            }
        }
    }
    Ok(tmpfs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_binds_or_nameless() {
        let bind = |source: &str, target: &str, readonly| Bind {
            source: source.into(),
            target: target.to_owned(),
            readonly,
        };
        for (text, wanted) in [
            ("/a:/b", bind("/a", "/b", false)),
            ("/a:/b:ro", bind("/a", "/b", true)),
            ("/a/:/b/:rw", bind("/a", "/b", false)),
        ] {
            let mounts = resolve(&[text.to_owned()], &[]).unwrap();
            assert_eq!(mounts.binds, [wanted], "{text}");
        }
        assert_eq!(resolve(&["/data".to_owned()], &[]).unwrap().volumes, ["/data"]);
        let here = std::env::current_dir().unwrap();
        assert_eq!(resolve(&["./x:/y".to_owned()], &[]).unwrap().binds[0].source, here.join("x"));
    }

    #[test]
    fn what_cannot_be_mounted_is_told() {
        for (volumes, tmpfs, wanted) in [
            (&["name:/b"][..], &[][..], "would be a named volume"),
            (&["/a:b"], &[], "must be absolute"),
            (&["/a:/"], &[], "cannot be `/`"),
            (&["/a:/b:z"], &[], "option `z` is not supported"),
            (&["/a:/b:ro:x"], &[], "want SOURCE:TARGET"),
            (&["/a:/b", "/c:/b"], &[], "`/b` is mounted twice"),
            (&["/a:/b"], &["/b"], "`/b` is mounted twice"),
            (&[], &["/b:mode=1777"], "option `mode=1777` is not supported"),
            (&[], &["/b:size=x"], "is not a size"),
        ] {
            let own =
                |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            let error = resolve(&own(volumes), &own(tmpfs)).expect_err(wanted);
            assert!(error.message.contains(wanted), "{}", error.message);
        }
    }

    #[test]
    fn directories_in_memory_have_a_size() {
        let tmpfs = resolve(&[], &["/run:size=64k,ro".to_owned()]).unwrap().tmpfs;
        assert_eq!(tmpfs, [Tmpfs { target: "/run".to_owned(), size: 65536, readonly: true }]);
    }
}
