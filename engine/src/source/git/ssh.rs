//! What `git` may use of the client's for SSH: signatures of an agent, and the hosts that are known.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use git_client::Access;
use git_client::access::Ssh;
use tempfile::NamedTempFile;

use crate::agent::AgentSocket;
use crate::client::Client;
use crate::error::BuildError;

/// Which of the client's agents `git` gets, as in BuildKit.
const AGENT: &str = "default";

/// A socket and a file that are there as long as this is.
pub(super) struct Lent {
    agent: AgentSocket,
    known_hosts: NamedTempFile,
}

impl Lent {
    /// Makes both beneath `place`. To be called where a runtime is.
    pub(super) fn open(client: &Arc<dyn Client>, place: &Path) -> Result<Self, BuildError> {
        let agent = AgentSocket::open(client, AGENT, place)?.ok_or_else(|| {
            BuildError::refused(format!("no SSH key \"{AGENT}\" forwarded from the client"))
                .with_hint(
                    "lend the agent of `SSH_AUTH_SOCK` with `--ssh default`, or a key with \
                     `--ssh default=FILE`",
                )
        })?;
        let hosts = client.known_hosts()?;
        let written = NamedTempFile::new_in(place).and_then(|mut file| {
            file.write_all(&hosts)?;
            Ok(file)
        });
        let failed = |e| BuildError::system("failed to write the hosts that are known").because(e);
        Ok(Self { agent, known_hosts: written.map_err(failed)? })
    }

    pub(super) fn access(&self) -> Access {
        let known_hosts = self.known_hosts.path().to_owned();
        Access::ssh(Ssh { agent: self.agent.path(), known_hosts })
    }
}
