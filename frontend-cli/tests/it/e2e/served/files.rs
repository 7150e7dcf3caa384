//! A directory of a client, sent by fsutil's protocol.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use daemon::wire::filesync::file_sync_server::FileSync;
use daemon::wire::fsutil::packet::PacketType;
use daemon::wire::fsutil::{Packet, Stat};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Directories by name, and what was asked of them.
#[derive(Clone, Default)]
pub(crate) struct Directories {
    pub(crate) by_name: Vec<(String, PathBuf)>,
    /// Files that were sent: `name:path`.
    pub(crate) sent: Arc<Mutex<Vec<String>>>,
}

type Packets = Pin<Box<dyn tokio_stream::Stream<Item = Result<Packet, Status>> + Send>>;

#[tonic::async_trait]
impl FileSync for Directories {
    type DiffCopyStream = Packets;

    async fn diff_copy(
        &self,
        request: Request<Streaming<Packet>>,
    ) -> Result<Response<Packets>, Status> {
        let values = |key: &str| -> Vec<String> {
            let values = request.metadata().get_all(key).iter();
            values.map(|value| value.to_str().expect("text").to_owned()).collect()
        };
        let name = values("dir-name").concat();
        let (follow, exclude) = (values("followpaths"), values("exclude-patterns"));
        let known = self.by_name.iter().find(|(known, _)| *known == name);
        let root = known.ok_or_else(|| Status::not_found(name.clone()))?.1.clone();
        let mut entries = Vec::new();
        list(&root, &root, &mut entries);
        let is_wanted = |path: &str| {
            let follows = |wanted: &String| {
                path == wanted
                    || path.starts_with(&format!("{wanted}/"))
                    || wanted.starts_with(&format!("{path}/"))
            };
            (follow.is_empty() || follow.iter().any(follows))
                && !exclude.iter().any(|out| path == out || path.starts_with(&format!("{out}/")))
        };
        entries.retain(|stat| is_wanted(&stat.path));
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(send(root, name, entries, request.into_inner(), sender, self.sent.clone()));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

async fn send(
    root: PathBuf,
    name: String,
    entries: Vec<Stat>,
    mut asked: Streaming<Packet>,
    sender: mpsc::Sender<Result<Packet, Status>>,
    sent: Arc<Mutex<Vec<String>>>,
) {
    for stat in &entries {
        let _ = sender.send(Ok(Packet { stat: Some(stat.clone()), ..Packet::default() })).await;
    }
    let _ = sender.send(Ok(Packet::default())).await;
    while let Ok(Some(packet)) = asked.message().await {
        let answer = |kind: PacketType, data: Vec<u8>| {
            Ok(Packet { r#type: kind.into(), id: packet.id, data, stat: None })
        };
        if packet.r#type() == PacketType::Fin {
            let _ = sender.send(answer(PacketType::Fin, Vec::new())).await;
            return;
        }
        let path = &entries[packet.id as usize].path;
        sent.lock().expect("no panic").push(format!("{name}:{path}"));
        let content = fs::read(root.join(path)).expect("an own file");
        for piece in content.chunks(32 << 10) {
            let _ = sender.send(answer(PacketType::Data, piece.to_vec())).await;
        }
        let _ = sender.send(answer(PacketType::Data, Vec::new())).await;
    }
}

fn list(root: &Path, folder: &Path, entries: &mut Vec<Stat>) {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .expect("a directory")
        .map(|entry| entry.expect("one").path())
        .collect();
    paths.sort();
    for path in paths {
        let metadata = path.symlink_metadata().expect("an own file");
        let bits = match metadata.file_type() {
            kind if kind.is_dir() => 1 << 31,
            kind if kind.is_symlink() => 1 << 27,
            _ => 0,
        };
        let link = fs::read_link(&path).unwrap_or_default();
        entries.push(Stat {
            path: path.strip_prefix(root).expect("in it").to_str().expect("text").to_owned(),
            mode: metadata.mode() & 0o777 | bits,
            size: if metadata.is_file() { metadata.len() as i64 } else { 0 },
            mod_time: metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(),
            linkname: link.to_str().expect("text").to_owned(),
            ..Stat::default()
        });
        if metadata.is_dir() {
            list(root, &path, entries);
        }
    }
}
