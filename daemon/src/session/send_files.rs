//! A directory that the client takes: the sending side of fsutil's protocol.

use std::collections::HashMap;
use std::fs::{self, File, Metadata as FileMetadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::codegen::http::uri::PathAndQuery;

use super::send::EXPORTER;
use super::{MESSAGE_MAX, Metadata, Session};
use crate::wire::fsutil::packet::PacketType;
use crate::wire::fsutil::{Packet, Stat};

/// Longest piece of a file that is sent, in bytes.
const PIECE: usize = 32 << 10;
/// How many packets are under way.
const PACKETS: usize = 64;

/// Why a directory was not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("{}", .0.message())]
    Call(#[source] Box<Status>),
    #[error("the client failed: {0}")]
    Client(String),
    #[error("the client asks for a file that was not in the list")]
    Unknown,
    #[error("the client ended before it had all files")]
    Ended,
    #[error("failed to read the result")]
    Read(#[source] io::Error),
}

impl From<Status> for SendError {
    fn from(status: Status) -> Self {
        Self::Call(Box::new(status))
    }
}

/// Files by the number of their entry.
type Files = Arc<Mutex<HashMap<u32, PathBuf>>>;

/// Sends what is in `root` as the result of the exporter `index`.
pub(crate) async fn send_directory(
    session: &Session,
    root: PathBuf,
    index: &str,
    is_multi_platform: bool,
) -> Result<(), SendError> {
    let (packets, receiver) = mpsc::channel(PACKETS);
    let mut metadata = Metadata::default();
    metadata.add(EXPORTER, &[index.to_owned()]);
    if is_multi_platform {
        metadata.add("buildkit-exporter-multi-platform", &["1".to_owned()]);
    }
    let request = metadata.request(ReceiverStream::new(receiver));
    let mut client =
        tonic::client::Grpc::new(session.channel.clone()).max_decoding_message_size(MESSAGE_MAX);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static("/moby.filesync.v1.FileSend/DiffCopy");
    // The method's name, with messages of another kind than `FileSend` has.
    let codec = tonic_prost::ProstCodec::<Packet, Packet>::default();
    let files = Files::default();
    let (numbers, asked) = mpsc::unbounded_channel();
    let listing = Sender { packets: packets.clone(), files: files.clone() };
    let sending = Sender { packets: packets.clone(), files };
    let listed = tokio::task::spawn_blocking(move || listing.list(&root));
    let sent = tokio::task::spawn_blocking(move || sending.answer(asked));
    let mut answers = client.streaming(request, path, codec).await?.into_inner();
    loop {
        let Some(packet) = answers.message().await? else { return Err(SendError::Ended) };
        match packet.r#type() {
            PacketType::Req => drop(numbers.send(packet.id)),
            PacketType::Fin => break,
            PacketType::Err => {
                return Err(SendError::Client(String::from_utf8_lossy(&packet.data).into_owned()));
            }
            PacketType::Stat | PacketType::Data => return Err(SendError::Unknown),
        }
    }
    drop(numbers);
    listed.await.expect("listing does not panic")?;
    sent.await.expect("reading does not panic")?;
    let end = Packet { r#type: PacketType::Fin.into(), ..Packet::default() };
    let _ = packets.send(end).await;
    drop(packets);
    while answers.message().await?.is_some() {}
    Ok(())
}

struct Sender {
    packets: mpsc::Sender<Packet>,
    files: Files,
}

impl Sender {
    /// Says what there is, depth first, names in the order of their bytes.
    fn list(self, root: &Path) -> Result<(), SendError> {
        let mut known = HashMap::new();
        let mut count = 0;
        let mut folders = vec![sorted(root)?.into_iter()];
        while let Some(folder) = folders.last_mut() {
            let Some(path) = folder.next() else {
                folders.pop();
                continue;
            };
            let metadata = fs::symlink_metadata(&path).map_err(SendError::Read)?;
            let stat = stat(root, &path, &metadata, &mut known).map_err(SendError::Read)?;
            if metadata.is_file() && stat.linkname.is_empty() {
                self.files.lock().expect("no panic while held").insert(count, path.clone());
            }
            count += 1;
            self.send(Packet { stat: Some(stat), ..Packet::default() })?;
            if metadata.is_dir() {
                folders.push(sorted(&path)?.into_iter());
            }
        }
        self.send(Packet::default())
    }

    /// Sends the files that are asked for.
    fn answer(self, mut asked: mpsc::UnboundedReceiver<u32>) -> Result<(), SendError> {
        let mut buffer = vec![0; PIECE];
        while let Some(id) = asked.blocking_recv() {
            let path = self.files.lock().expect("no panic while held").remove(&id);
            let path = path.ok_or(SendError::Unknown)?;
            let flags = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
            let mut file = File::options()
                .read(true)
                .custom_flags(flags)
                .open(path)
                .map_err(SendError::Read)?;
            loop {
                let length = file.read(&mut buffer).map_err(SendError::Read)?;
                let data = buffer[..length].to_vec();
                let kind = PacketType::Data.into();
                self.send(Packet { r#type: kind, id, data, stat: None })?;
                if length == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    fn send(&self, packet: Packet) -> Result<(), SendError> {
        self.packets.blocking_send(packet).map_err(|_| SendError::Ended)
    }
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>, SendError> {
    let entries = fs::read_dir(folder).map_err(SendError::Read)?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
    let mut paths = paths.map_err(SendError::Read)?;
    paths.sort_by(|one, other| one.file_name().cmp(&other.file_name()));
    Ok(paths)
}

/// What is said of a file; of a further name of one, only that it is.
fn stat(
    root: &Path,
    path: &Path,
    metadata: &FileMetadata,
    known: &mut HashMap<(u64, u64), String>,
) -> io::Result<Stat> {
    let text = |path: &Path| {
        let not_text = || io::Error::other(format!("`{}` is not UTF-8", path.display()));
        path.to_str().map(str::to_owned).ok_or_else(not_text)
    };
    let name = text(path.strip_prefix(root).unwrap_or(path))?;
    let mut linkname = String::new();
    if metadata.is_symlink() {
        linkname = text(&fs::read_link(path)?)?;
    } else if metadata.is_file() && metadata.nlink() > 1 {
        let first = known.entry((metadata.dev(), metadata.ino())).or_insert_with(|| name.clone());
        if *first != name {
            linkname = first.clone();
        }
    }
    let kind = metadata.file_type();
    let is_device = kind.is_block_device() || kind.is_char_device();
    let (major, minor) = match is_device {
        true => (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev())),
        false => (0, 0),
    };
    Ok(Stat {
        path: name,
        mode: mode(metadata),
        uid: metadata.uid(),
        gid: metadata.gid(),
        size: if metadata.is_file() { metadata.len() as i64 } else { 0 },
        mod_time: metadata.mtime().saturating_mul(1_000_000_000) + metadata.mtime_nsec(),
        linkname,
        devmajor: major.into(),
        devminor: minor.into(),
        ..Stat::default()
    })
}

/// Bits of Go's `FileMode`.
fn mode(metadata: &FileMetadata) -> u32 {
    let kind = metadata.file_type();
    let kinds = [
        (kind.is_dir(), 1 << 31),
        (kind.is_symlink(), 1 << 27),
        (kind.is_block_device() || kind.is_char_device(), 1 << 26),
        (kind.is_fifo(), 1 << 25),
        (kind.is_socket(), 1 << 24),
        (metadata.mode() & 0o4000 != 0, 1 << 23),
        (metadata.mode() & 0o2000 != 0, 1 << 22),
        (kind.is_char_device(), 1 << 21),
        (metadata.mode() & 0o1000 != 0, 1 << 20),
    ];
    let bits = kinds.into_iter().filter(|(is_so, _)| *is_so).map(|(_, bit)| bit);
    bits.fold(metadata.mode() & 0o777, |mode, bit: u32| mode | bit)
}
