//! A directory of the client's, copied: the receiving side of fsutil's protocol. Of a copy of the last time, files
//! stay of which the client says nothing new.

mod entry;
mod folder;
mod tree;

use std::path::{Path, PathBuf};

use engine::Fetched;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;

use super::{MESSAGE_MAX, Metadata, Session};
use crate::wire::filesync::file_sync_client::FileSyncClient;
use crate::wire::fsutil::Packet;
use crate::wire::fsutil::packet::PacketType;
pub(crate) use entry::EntryError;
pub(crate) use tree::Tree;

/// What of a directory is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Wanted {
    /// What the client calls it.
    pub(crate) name: String,
    /// Only these paths, and where links on the way lead; all where there are none.
    pub(crate) follow: Vec<String>,
    /// Only what these patterns match; all where there are none.
    pub(crate) include: Vec<String>,
    /// Nothing that these patterns match, in the manner of `.dockerignore`.
    pub(crate) exclude: Vec<String>,
}

/// Why a directory was not received.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// The call failed.
    #[error("{}", .0.message())]
    Call(#[source] Box<Status>),
    /// The client says that it failed.
    #[error("the client failed: {0}")]
    Client(String),
    /// The client ended before all was there.
    #[error("the client ended before all files were there")]
    Ended,
    /// What the client says of a file is not possible.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The client sends what nobody has asked for.
    #[error("the client sends a file that was not asked for")]
    NotAsked,
    /// The copy cannot be written.
    #[error("failed to write `{path}`")]
    Write {
        /// Which file of the directory.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// How many packets wait to be written.
const PACKETS: usize = 256;

/// Receives what is `wanted` into the directory `into`, whose files are those of the last time.
pub(crate) async fn receive(
    session: &Session,
    wanted: &Wanted,
    into: PathBuf,
    told: Fetched,
) -> Result<(), ReceiveError> {
    let (asked, asks) = mpsc::unbounded_channel();
    let mut metadata = Metadata::default();
    metadata.add("dir-name", std::slice::from_ref(&wanted.name));
    metadata.add("followpaths", &wanted.follow);
    metadata.add("include-patterns", &wanted.include);
    metadata.add("exclude-patterns", &wanted.exclude);
    let mut client =
        FileSyncClient::new(session.channel.clone()).max_decoding_message_size(MESSAGE_MAX);
    let request = metadata.request(UnboundedReceiverStream::new(asks));
    let failed = |status| ReceiveError::Call(Box::new(status));
    let mut packets = client.diff_copy(request).await.map_err(failed)?.into_inner();
    let (sender, mut receiver) = mpsc::channel(PACKETS);
    let written = tokio::task::spawn_blocking(move || {
        let mut writing = Writing::new(&into, asked, told)?;
        while let Some(packet) = receiver.blocking_recv() {
            if writing.take(packet)? {
                return Ok(());
            }
        }
        Err(ReceiveError::Ended)
    });
    let read = async {
        while let Some(packet) = packets.message().await? {
            // The writer has ended: it says why.
            if sender.send(packet).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    let read = read.await;
    drop(sender);
    let written = written.await.expect("writing files does not panic");
    match (written, read) {
        (Err(ReceiveError::Ended), Err(status)) => Err(failed(status)),
        (Err(error), _) => Err(error),
        (Ok(()), _) => Ok(()),
    }
}

/// The conversation, from this side.
struct Writing {
    tree: Tree,
    asked: UnboundedSender<Packet>,
    told: Fetched,
    received: u64,
    is_listed: bool,
    is_done: bool,
}

impl Writing {
    fn new(
        into: &Path,
        asked: UnboundedSender<Packet>,
        told: Fetched,
    ) -> Result<Self, ReceiveError> {
        let tree = Tree::open(into)?;
        Ok(Self { tree, asked, told, received: 0, is_listed: false, is_done: false })
    }

    /// Takes in a packet; says whether the client has agreed that it was the last.
    fn take(&mut self, packet: Packet) -> Result<bool, ReceiveError> {
        match packet.r#type() {
            PacketType::Stat => match packet.stat {
                Some(_) if self.is_listed => return Err(ReceiveError::NotAsked),
                Some(stat) => {
                    if let Some(id) = self.tree.entry(&stat)? {
                        self.send(PacketType::Req, id);
                    }
                }
                None => {
                    self.tree.listed()?;
                    self.is_listed = true;
                }
            },
            PacketType::Data => {
                self.received += packet.data.len() as u64;
                self.tree.data(packet.id, &packet.data)?;
                (self.told)(self.received, false);
            }
            PacketType::Fin => return Ok(self.is_done),
            PacketType::Err => {
                let text = String::from_utf8_lossy(&packet.data).into_owned();
                return Err(ReceiveError::Client(text));
            }
            PacketType::Req => return Err(ReceiveError::NotAsked),
        }
        if self.is_listed && self.tree.is_whole() && !self.is_done {
            self.is_done = true;
            (self.told)(self.received, true);
            self.send(PacketType::Fin, 0);
        }
        Ok(false)
    }

    /// If nobody takes it, the packets end, too.
    fn send(&self, kind: PacketType, id: u32) {
        let _ = self.asked.send(Packet { r#type: kind.into(), id, ..Packet::default() });
    }
}
