//! SSH agents for steps.

use executor::Host;

use crate::agent::AgentSocket;
use crate::error::{BoxedError, BuildError};
use crate::step::surroundings::Surroundings;

/// Whose a socket is, and its permissions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u32,
}

/// A socket that leads to the agent called `id`; `None` if there is none and need not be.
pub(super) fn agent(
    surroundings: &Surroundings<'_>,
    id: &str,
    owner: Owner,
    optional: bool,
) -> Result<Option<AgentSocket>, BuildError> {
    let place = surroundings.store.temporary_directory();
    match AgentSocket::open(surroundings.client, id, &place)? {
        Some(socket) => give(&socket, owner, surroundings.machine.host())
            .map(|()| Some(socket))
            .map_err(|error| {
                BuildError::system(format!("failed to lend a step ssh agent `{id}`")).because(error)
            }),
        None if optional => Ok(None),
        None => Err(BuildError::refused(format!("no SSH key \"{id}\" forwarded from the client"))
            .with_hint(match id {
                "default" => {
                    "lend the agent of `SSH_AUTH_SOCK` with `--ssh default`, or a key with \
                              `--ssh default=FILE`"
                        .to_owned()
                }
                _ => {
                    format!("lend an agent or a key with `--ssh {id}=SOCKET` or `--ssh {id}=FILE`")
                }
            })),
    }
}

fn give(socket: &AgentSocket, owner: Owner, host: &Host) -> Result<(), BoxedError> {
    host.check_ids(owner.uid, [owner.gid])?;
    if !host.single_id() && (owner.uid, owner.gid) != (0, 0) {
        socket.set_owner(owner.uid, owner.gid)?;
    }
    Ok(socket.set_mode(owner.mode)?)
}
