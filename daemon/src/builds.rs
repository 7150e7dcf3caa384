//! Builds by the names that clients give them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::{BuildRequest, Prepared, Workspace};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::client::SessionClient;
use crate::definition::Kept;
use crate::status::StatusLog;
use crate::wire::control::SolveRequest;
use crate::wire::{gateway, rpc};

/// How long a build that has ended can be asked about: clients ask late.
const LINGER: Duration = Duration::from_secs(10);
/// Longest name.
const NAME_MAX: usize = 256;

/// A build that a client has begun.
pub(crate) struct Build {
    pub(crate) request: SolveRequest,
    pub(crate) status: Arc<StatusLog>,
    pub(crate) cancel: CancellationToken,
    /// Results that can be returned, by name.
    results: Mutex<HashMap<String, Ready>>,
    /// Trees that can be read, built on and returned, by name, for as long as the build goes on.
    trees: Mutex<HashMap<String, Tree>>,
    /// How many results got a name.
    named: AtomicUsize,
    returned: Mutex<Option<oneshot::Sender<Returned>>>,
}

/// A result that is known, but not built.
pub(crate) struct Ready {
    pub(crate) workspace: Arc<Workspace>,
    pub(crate) prepared: Prepared,
    pub(crate) client: Arc<SessionClient>,
}

/// Files that steps make: those of a definition, or of one of the images that a Dockerfile gives.
#[derive(Clone)]
pub(crate) struct Tree {
    pub(crate) kept: Kept,
    pub(crate) workspace: Arc<Workspace>,
    pub(crate) client: Arc<SessionClient>,
    /// How it is built, and what becomes of it if it is returned.
    pub(crate) request: Arc<BuildRequest>,
    /// Name and text of the file that its steps come from.
    pub(crate) file: Option<(String, String)>,
}

/// What a client has made of its build.
pub(crate) enum Returned {
    Result(gateway::Result),
    Error(rpc::Status),
}

impl Build {
    /// One that waits for what its client returns, which the receiver gets.
    pub(crate) fn new(request: SolveRequest) -> (Arc<Self>, oneshot::Receiver<Returned>) {
        let (sender, receiver) = oneshot::channel();
        let build = Self {
            request,
            status: Arc::new(StatusLog::new()),
            cancel: CancellationToken::new(),
            results: Mutex::default(),
            trees: Mutex::default(),
            named: AtomicUsize::new(0),
            returned: Mutex::new(Some(sender)),
        };
        (Arc::new(build), receiver)
    }

    /// A name for a result that no other of this build has.
    pub(crate) fn new_name(&self) -> String {
        let number = self.named.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number}", self.request.r#ref)
    }

    /// Keeps a result under its name.
    pub(crate) fn keep(&self, name: String, ready: Ready) {
        self.results.lock().expect("no panic while held").insert(name, ready);
    }

    /// The result called so, which is kept no longer.
    pub(crate) fn take(&self, name: &str) -> Option<Ready> {
        self.results.lock().expect("no panic while held").remove(name)
    }

    /// Keeps a tree under its name.
    pub(crate) fn keep_tree(&self, name: String, tree: Tree) {
        self.trees.lock().expect("no panic while held").insert(name, tree);
    }

    /// The tree called so.
    pub(crate) fn tree(&self, name: &str) -> Result<Tree, Status> {
        let found = self.trees.lock().expect("no panic while held").get(name).cloned();
        found.ok_or_else(|| Status::not_found(format!("no such result {name}")))
    }

    /// The client has decided; only once.
    pub(crate) fn give_back(&self, returned: Returned) -> Result<(), Status> {
        let sender = self.returned.lock().expect("no panic while held").take();
        let sender = sender.ok_or_else(|| Status::failed_precondition("the build has returned"))?;
        // Nobody waits once the build was cancelled.
        let _ = sender.send(returned);
        Ok(())
    }
}

/// All builds.
#[derive(Default)]
pub(crate) struct Builds {
    known: Mutex<HashMap<String, Arc<Build>>>,
    changed: watch::Sender<()>,
}

impl Builds {
    /// Adds one, whose name must be new.
    pub(crate) fn add(&self, build: &Arc<Build>) -> Result<(), Status> {
        let name = &build.request.r#ref;
        if name.is_empty() || name.len() > NAME_MAX {
            return Err(Status::invalid_argument("the build has no name"));
        }
        let mut known = self.known.lock().expect("no panic while held");
        if known.contains_key(name) {
            return Err(Status::already_exists(format!("job ID {name} exists")));
        }
        known.insert(name.clone(), build.clone());
        drop(known);
        self.changed.send_replace(());
        Ok(())
    }

    /// The build called `name`, which may be about to come for so long.
    pub(crate) async fn get(&self, name: &str, patience: Duration) -> Result<Arc<Build>, Status> {
        let mut changed = self.changed.subscribe();
        let found = async {
            loop {
                let build = self.known.lock().expect("no panic while held").get(name).cloned();
                if let Some(build) = build {
                    return build;
                }
                // The sender is ours: it does not go away.
                let _ = changed.changed().await;
            }
        };
        tokio::time::timeout(patience, found)
            .await
            .map_err(|_| Status::not_found(format!("no such job {name}")))
    }

    /// Cancels whatever runs.
    pub(crate) fn cancel_all(&self) {
        let known = self.known.lock().expect("no panic while held");
        known.values().for_each(|build| build.cancel.cancel());
    }

    /// Waits until nothing runs.
    pub(crate) async fn all_ended(&self) {
        let mut changed = self.changed.subscribe();
        loop {
            let runs = |build: &Arc<Build>| !build.status.is_ended();
            if !self.known.lock().expect("no panic while held").values().any(runs) {
                return;
            }
            // The sender is ours: it does not go away.
            let _ = changed.changed().await;
        }
    }

    /// A build has ended: it is forgotten after a while, its results at once.
    pub(crate) fn ended(self: &Arc<Self>, build: &Build) {
        build.status.end();
        build.results.lock().expect("no panic while held").clear();
        build.trees.lock().expect("no panic while held").clear();
        self.changed.send_replace(());
        let (builds, name) = (self.clone(), build.request.r#ref.clone());
        let cancel = build.cancel.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LINGER).await;
            // Whatever waits for it need not any more.
            cancel.cancel();
            builds.known.lock().expect("no panic while held").remove(&name);
        });
    }
}
