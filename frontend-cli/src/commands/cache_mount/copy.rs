//! `mybuild cache-mount cp`

use std::io::IsTerminal as _;
use std::sync::Arc;

use engine::Workspace;
use engine::cache_mounts::{LocalSide, MountCopy, MountSide};

use crate::cli::CacheMountCpArgs;
use crate::client::CommandLine;
use crate::commands::image::tell_warnings;
use crate::environment::Environment;
use crate::error::UsageError;
use crate::exit::Exit;
use crate::{interrupt, ui};

/// What `mybuild cache-mount cp` has to do.
pub(in crate::commands) struct Copy {
    mount: MountSide,
    local: LocalSide,
    direction: Direction,
    how: MountCopy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    OutOfMount,
    IntoMount,
}

impl Copy {
    pub(in crate::commands) fn resolve(
        args: CacheMountCpArgs,
        environment: &Environment,
    ) -> Result<Self, UsageError> {
        let (direction, mount, local) = match (side(&args.source), side(&args.destination)) {
            (Side::Mount(mount), Side::Local(local)) => (Direction::OutOfMount, mount, local),
            (Side::Local(local), Side::Mount(mount)) => (Direction::IntoMount, mount, local),
            (Side::Mount(_), Side::Mount(_)) => {
                return Err(UsageError::new(
                    "files are not copied from one cache mount to another",
                )
                .with_hint("a local path with a colon begins with `./`"));
            }
            (Side::Local(_), Side::Local(_)) => {
                return Err(UsageError::new("one of the two is in a cache mount")
                    .with_hint("it is written MOUNT:PATH"));
            }
        };
        let is_terminal = match direction {
            Direction::OutOfMount => environment.stdout_is_terminal,
            Direction::IntoMount => std::io::stdin().is_terminal(),
        };
        if local == LocalSide::Tar && is_terminal {
            return Err(UsageError::new("an archive does not go to or come from a terminal")
                .with_hint("redirect it to or from a file"));
        }
        let how = MountCopy { follow: args.follow_link, keep_owner: args.archive };
        Ok(Self { mount, local, direction, how })
    }

    pub(in crate::commands) fn fills(&self) -> bool {
        self.direction == Direction::IntoMount
    }

    pub(in crate::commands) async fn run(self, workspace: &Workspace) -> anyhow::Result<Exit> {
        let Self { mount, local, direction, how } = self;
        let client = Arc::new(CommandLine::default());
        let cancel = interrupt::cancel_on_signals_quietly(workspace)?;
        let left_out = match direction {
            Direction::OutOfMount => {
                workspace.copy_from_cache_mount(mount, local, how, client, cancel).await?
            }
            Direction::IntoMount => {
                workspace.copy_to_cache_mount(local, mount, how, client, cancel).await?
            }
        };
        left_out.iter().for_each(|what| ui::warning(what));
        tell_warnings(workspace);
        Ok(Exit::Success)
    }
}

enum Side {
    Mount(MountSide),
    Local(LocalSide),
}

/// Ids of mounts are often paths, so that only what begins with a dot is local for sure.
fn side(text: &str) -> Side {
    if text == "-" {
        return Side::Local(LocalSide::Tar);
    }
    match text.split_once(':') {
        Some((mount, path)) if !mount.is_empty() && !text.starts_with('.') => {
            Side::Mount(MountSide { mount: mount.to_owned(), path: path.to_owned() })
        }
        _ => Side::Local(LocalSide::Path(text.into())),
    }
}
