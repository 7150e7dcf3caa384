//! `--volume` and `--tmpfs`.

use std::path::{Path, PathBuf};

use engine::run::{Bind, Propagation, Tmpfs, TmpfsOptions};

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
        _ => return Err(invalid("want SOURCE:TARGET or SOURCE:TARGET:OPTIONS")),
    };
    let (readonly, propagation) = bind_options(options).map_err(|word| {
        invalid(&format!("option `{word}` is not supported"))
            .with_hint("options are ro, rw, z, Z, (r)private, (r)slave, (r)shared, cached, consistent, delegated")
    })?;
    let target = target_of(target).map_err(|why| invalid(&why))?;
    let source = source_of(source).map_err(|error| {
        error.unwrap_or_else(|| {
            invalid(&format!("`{source}` would be a named volume, which is not supported"))
                .with_hint(format!("for a directory write `./{source}`"))
        })
    })?;
    mounts.binds.push(Bind { source, target, readonly, propagation });
    Ok(())
}

/// Whether it is read-only, and what it shares; or the word that has no meaning here.
fn bind_options(options: &str) -> Result<(bool, Propagation), &str> {
    let (mut readonly, mut propagation) = (false, Propagation::Private);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" | "readonly" => readonly = true,
            "rw" => readonly = false,
            // Files that are mounted in a directory always share as it does.
            "private" | "rprivate" => propagation = Propagation::Private,
            "slave" | "rslave" => propagation = Propagation::Slave,
            "shared" | "rshared" => propagation = Propagation::Shared,
            // A container has the security label of its caller, so that nothing needs another one.
            "z" | "Z" => {}
            // How exact Docker Desktop's file sharing is; ours is the directory itself.
            "default" | "consistent" | "cached" | "delegated" => {}
            other => return Err(other),
        }
    }
    Ok((readonly, propagation))
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
    // Docker's: a program in it can be run only if that is asked for.
    let mut options_of = TmpfsOptions { noexec: true, nodev: true, ..TmpfsOptions::default() };
    let mut readonly = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let number = |radix| {
            let not_one = |_| invalid(&format!("`{value}` is not a number for `{name}`"));
            u32::from_str_radix(value, radix).map_err(not_one)
        };
        match (name, option.contains('=')) {
            ("size", true) => options_of.size = quantity::bytes("--tmpfs", value)?,
            ("nr_inodes", true) => options_of.inodes = Some(quantity::bytes("--tmpfs", value)?),
            ("mode", true) => match number(8)? {
                mode @ ..=0o7777 => options_of.mode = Some(mode),
                _ => return Err(invalid(&format!("`{value}` is not a mode"))),
            },
            ("uid", true) => options_of.uid = Some(number(10)?),
            ("gid", true) => options_of.gid = Some(number(10)?),
            ("exec", false) => options_of.noexec = false,
            ("noexec", false) => options_of.noexec = true,
            ("ro", false) => readonly = true,
            ("rw", false) => readonly = false,
            // Always so.
            ("nosuid" | "nodev", false) => {}
            _ => {
                return Err(invalid(&format!("option `{option}` is not supported")).with_hint(
                    "options are size=, nr_inodes=, mode=, uid=, gid=, exec, noexec, ro and rw",
                ));
            }
        }
    }
    Ok(Tmpfs { target, options: options_of, readonly })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_binds_or_nameless() {
        use Propagation::{Private, Shared, Slave};
        let bind = |source: &str, target: &str, readonly, propagation| Bind {
            source: source.into(),
            target: target.to_owned(),
            readonly,
            propagation,
        };
        for (text, wanted) in [
            ("/a:/b", bind("/a", "/b", false, Private)),
            ("/a:/b:ro", bind("/a", "/b", true, Private)),
            ("/a/:/b/:rw", bind("/a", "/b", false, Private)),
            ("/a:/b:z", bind("/a", "/b", false, Private)),
            ("/a:/b:ro,Z", bind("/a", "/b", true, Private)),
            ("/a:/b:cached", bind("/a", "/b", false, Private)),
            ("/a:/b:delegated,ro", bind("/a", "/b", true, Private)),
            ("/a:/b:rprivate", bind("/a", "/b", false, Private)),
            ("/a:/b:ro,rslave", bind("/a", "/b", true, Slave)),
            ("/a:/b:rshared", bind("/a", "/b", false, Shared)),
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
            (&["/a:/b:nocopy"], &[], "option `nocopy` is not supported"),
            (&["/a:/b:ro:x"], &[], "want SOURCE:TARGET"),
            (&["/a:/b", "/c:/b"], &[], "`/b` is mounted twice"),
            (&["/a:/b"], &["/b"], "`/b` is mounted twice"),
            (&[], &["/b:suid"], "option `suid` is not supported"),
            (&[], &["/b:size"], "option `size` is not supported"),
            (&[], &["/b:mode=8"], "`8` is not a number for `mode`"),
            (&[], &["/b:mode=10000"], "`10000` is not a mode"),
            (&[], &["/b:uid=root"], "`root` is not a number for `uid`"),
            (&[], &["/b:size=x"], "is not a size"),
        ] {
            let own =
                |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            let error = resolve(&own(volumes), &own(tmpfs)).expect_err(wanted);
            assert!(error.message.contains(wanted), "{}", error.message);
        }
    }

    #[test]
    fn directories_in_memory_have_options() {
        let plain = TmpfsOptions { noexec: true, nodev: true, ..TmpfsOptions::default() };
        for (text, options, readonly) in [
            ("/run", plain, false),
            ("/run:size=64k,ro", TmpfsOptions { size: 65536, ..plain }, true),
            ("/run:exec,nosuid,nodev", TmpfsOptions { noexec: false, ..plain }, false),
            (
                "/run:mode=0750,uid=7,gid=8,nr_inodes=1k",
                TmpfsOptions {
                    mode: Some(0o750),
                    uid: Some(7),
                    gid: Some(8),
                    inodes: Some(1024),
                    ..plain
                },
                false,
            ),
        ] {
            let tmpfs = resolve(&[], &[text.to_owned()]).unwrap().tmpfs;
            assert_eq!(tmpfs, [Tmpfs { target: "/run".to_owned(), options, readonly }], "{text}");
        }
    }
}
