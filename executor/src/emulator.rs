//! Programs that run those of other architectures: QEMU's user-mode emulators, or what the caller
//! names.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::architecture::Architecture;
use crate::search_path::find_program;

/// The emulators that the caller has chosen, by the architecture's name in images; for others those
/// that are installed are used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Emulators(BTreeMap<&'static str, PathBuf>);

/// Why a choice of emulators is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEmulator {
    /// Nothing is known of this architecture.
    #[error("`{0}` is not an architecture that emulators are known for")]
    Architecture(String),
    /// It depends on who asks where this is.
    #[error("`{}` is not an absolute path", .0.display())]
    Relative(PathBuf),
}

/// Why programs of another architecture are not run here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoEmulator {
    /// There is none that we know.
    #[error("no emulator is known for it")]
    Unknown,
    /// This program is not on the machine.
    #[error("`{program}` is not installed")]
    NotInstalled {
        /// It.
        program: String,
    },
    /// The chosen one is not there.
    #[error("failed to read `{}`: {why}", path.display())]
    Unreadable {
        /// It.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// It would look for its libraries in the step's root.
    #[error("`{}` is not a statically linked program of this machine", path.display())]
    NotStatic {
        /// It.
        path: PathBuf,
    },
    /// The kernel has one table of interpreters for the whole machine, or keeps us from making one.
    #[error("the kernel registers no emulator for a sandbox alone: {why}")]
    Kernel {
        /// What was tried, and what the system says.
        why: String,
    },
    /// Such a step is in no user namespace.
    #[error("a step with `--security=insecure` needs one that the machine has registered")]
    Insecure,
}

impl NoEmulator {
    /// What to do about it.
    pub fn hint(&self) -> String {
        let registered = "let the machine register one (`binfmt_misc` with the flag F, as \
                          Debian's `qemu-user-static` with `binfmt-support` does)";
        match self {
            Self::Unknown => "build for another platform, or copy the files instead".to_owned(),
            Self::NotInstalled { .. } | Self::NotStatic { .. } | Self::Unreadable { .. } => {
                "install QEMU's user-mode emulators (package `qemu-user-static`), or name one in \
                 mybuild.toml (`[emulators]`)"
                    .to_owned()
            }
            Self::Kernel { .. } => format!("use Linux 6.7 or later, or {registered}"),
            Self::Insecure => registered.to_owned(),
        }
    }
}

impl Emulators {
    /// Those of `chosen`.
    pub fn new(chosen: BTreeMap<String, PathBuf>) -> Result<Self, InvalidEmulator> {
        let one = |(name, path): (String, PathBuf)| {
            let architecture =
                Architecture::named(&name).ok_or(InvalidEmulator::Architecture(name))?;
            match path.is_absolute() {
                true => Ok((architecture.name, path)),
                false => Err(InvalidEmulator::Relative(path)),
            }
        };
        chosen.into_iter().map(one).collect::<Result<_, _>>().map(Self)
    }

    /// Whether the caller has chosen one.
    pub(crate) fn is_chosen(&self, architecture: &Architecture) -> bool {
        self.0.contains_key(architecture.name)
    }

    /// The program to use.
    pub(crate) fn find(&self, architecture: &Architecture) -> Result<PathBuf, NoEmulator> {
        let path = match self.0.get(architecture.name) {
            Some(path) => path.clone(),
            None => {
                let program = format!("qemu-{}-static", architecture.qemu);
                find_program(&program).ok_or(NoEmulator::NotInstalled { program })?
            }
        };
        match is_static(&path) {
            Ok(true) => Ok(path),
            Ok(false) => Err(NoEmulator::NotStatic { path }),
            Err(error) => Err(NoEmulator::Unreadable { path, why: error.to_string() }),
        }
    }
}

/// Whether a program of this machine needs nothing but itself.
fn is_static(path: &Path) -> io::Result<bool> {
    // Headers of programs stand at the front.
    const FRONT: u64 = 4096;
    let mut front = Vec::new();
    File::open(path)?.take(FRONT).read_to_end(&mut front)?;
    Ok(names_loader(&front) == Some(false))
}

/// Whether the 64-bit program that begins with `front` names a loader; `None` where it is not one.
/// See elf(5): the segments stand at `e_phoff`, and one of type 3 names it.
fn names_loader(front: &[u8]) -> Option<bool> {
    const LOADER: u32 = 3;
    let number = |at: usize| Some(u16::from_le_bytes(*front.get(at..)?.first_chunk()?));
    front.starts_with(b"\x7fELF\x02\x01").then_some(())?;
    let start = u64::from_le_bytes(*front.get(32..)?.first_chunk()?);
    let (size, count) = (number(54)?, number(56)?);
    let mut named = false;
    for index in 0..u64::from(count) {
        let at = start.checked_add(index.checked_mul(u64::from(size))?)?;
        let segment = front.get(usize::try_from(at).ok()?..)?;
        named |= u32::from_le_bytes(*segment.first_chunk()?) == LOADER;
    }
    Some(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with segments of these types.
    fn program(segments: &[u32]) -> Vec<u8> {
        let mut front = vec![0; 64 + 56 * segments.len()];
        front[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (front[32], front[54], front[56]) = (64, 56, segments.len() as u8);
        for (index, kind) in segments.iter().enumerate() {
            front[64 + 56 * index..][..4].copy_from_slice(&kind.to_le_bytes());
        }
        front
    }

    #[test]
    fn programs_that_need_a_loader_are_known() {
        assert_eq!(names_loader(&program(&[1, 1, 6])), Some(false));
        assert_eq!(names_loader(&program(&[6, 3, 1])), Some(true));
        assert_eq!(names_loader(b"#!/bin/sh\n"), None);
        let whole = program(&[1, 3]);
        for end in 0..whole.len() - 52 {
            assert_eq!(names_loader(&whole[..end]), None, "{end}");
        }
        // Nothing in it leads astray.
        for at in 6..whole.len() {
            let mut changed = whole.clone();
            changed[at] = 0xff;
            let _ = names_loader(&changed);
        }
    }

    #[test]
    fn emulators_are_chosen_by_known_names_and_whole_paths() {
        let new = |name: &str, path: &str| {
            Emulators::new([(name.to_owned(), path.into())].into()).map_err(|e| e.to_string())
        };
        assert!(new("arm64", "/opt/qemu").is_ok());
        let unknown = new("aarch64", "/opt/qemu").unwrap_err();
        assert_eq!(unknown, "`aarch64` is not an architecture that emulators are known for");
        assert_eq!(new("arm64", "qemu").unwrap_err(), "`qemu` is not an absolute path");
    }
}
