//! What clients serve: their directories, secrets, agents, credentials, and where results go. A session is a
//! connection that the client has opened and in which the daemon asks.

mod ask;
mod connection;
mod content;
mod metadata;
pub(crate) mod receive;
mod send;
mod send_files;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Channel;

pub(crate) use connection::{Frames, open};
pub(crate) use content::ContentError;
pub(crate) use metadata::Metadata;
pub(crate) use receive::{ReceiveError, Wanted};
pub(crate) use send::Sending;
pub(crate) use send_files::send_directory;

/// Longest message that is taken, in bytes.
pub(crate) const MESSAGE_MAX: usize = 16 << 20;
/// How long a build waits for a session that was named before it came.
const PATIENCE: Duration = Duration::from_secs(5);

/// A client that can be asked.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: String,
    /// Tells directories of the same name apart, and finds the copy of the last time.
    pub(crate) shared_key: String,
    /// What may be asked, in lower case: `/moby.filesync.v1.auth/credentials`.
    methods: Vec<String>,
    pub(crate) channel: Channel,
    /// Cancelled once the client is gone.
    pub(crate) closed: CancellationToken,
}

impl Session {
    /// Whether the client serves `/package.Service/Method`.
    pub(crate) fn serves(&self, method: &str) -> bool {
        self.methods.iter().any(|served| served.eq_ignore_ascii_case(method))
    }
}

/// All that are open, by id.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: Mutex<HashMap<String, Arc<Session>>>,
    changed: watch::Sender<()>,
}

impl Sessions {
    /// Adds one; its id must be new.
    fn add(&self, session: Arc<Session>) -> Result<(), Status> {
        let mut open = self.open.lock().expect("no panic while held");
        if open.contains_key(&session.id) {
            return Err(Status::already_exists(format!("session {} exists", session.id)));
        }
        open.insert(session.id.clone(), session);
        drop(open);
        self.changed.send_replace(());
        Ok(())
    }

    fn remove(&self, id: &str) {
        self.open.lock().expect("no panic while held").remove(id);
    }

    fn find(&self, id: &str) -> Option<Arc<Session>> {
        self.open.lock().expect("no panic while held").get(id).cloned()
    }

    /// The session called `id`, which may be about to come. A prefix that ends in a colon says nothing.
    pub(crate) async fn get(&self, id: &str) -> Result<Arc<Session>, Status> {
        let id = id.split_once(':').map_or(id, |(_, id)| id);
        let mut changed = self.changed.subscribe();
        let found = async {
            loop {
                if let Some(session) = self.find(id) {
                    return session;
                }
                // The sender is ours: it does not go away.
                let _ = changed.changed().await;
            }
        };
        tokio::time::timeout(PATIENCE, found)
            .await
            .map_err(|_| Status::not_found(format!("no active session for {id}")))
    }
}
