//! A cache in a directory: `blobs/sha256/HEX`, and packs at `records/TAG/NAME.json`. Files appear whole, by a
//! rename.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http_client::BodySource;
use oci::{Descriptor, Digest};
use registry::BlobSink;

use crate::error::Error;
use crate::name;
use crate::pack::PACK_MAX;

const BUFFER: usize = 128 << 10;

/// A cache in a directory.
pub struct Directory {
    root: PathBuf,
    records: PathBuf,
}

impl Directory {
    /// The cache called `tag`, of which there may be several in one directory.
    pub(super) fn new(root: &Path, tag: &str) -> Self {
        Self { root: root.to_owned(), records: root.join("records").join(tag) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.root
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm()).join(digest.hex())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.records.join(name::file(name))
    }

    pub(super) async fn names(&self) -> Result<Vec<String>, Error> {
        let records = self.records.clone();
        blocking(move || {
            let entries = match std::fs::read_dir(&records) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries.map_err(Error::file("read", &records))?,
            };
            let mut names = Vec::new();
            for entry in entries {
                let file = entry.map_err(Error::file("read", &records))?.file_name();
                names.extend(file.to_str().and_then(name::of_file).map(str::to_owned));
            }
            Ok(names)
        })
        .await
    }

    pub(super) async fn pack(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let path = self.at(name);
        blocking(move || {
            let file = match std::fs::File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                file => file.map_err(Error::file("read", &path))?,
            };
            let mut bytes = Vec::new();
            // One byte more shows that there are too many.
            let read = file.take(PACK_MAX + 1).read_to_end(&mut bytes);
            read.map_err(Error::file("read", &path))?;
            Ok(Some(bytes))
        })
        .await
    }

    pub(super) async fn put_pack(&self, name: &str, bytes: Vec<u8>) -> Result<(), Error> {
        let path = self.at(name);
        blocking(move || write(&path, &mut bytes.as_slice()).map_err(Error::file("write", &path)))
            .await
    }

    pub(super) async fn remove_pack(&self, name: &str) -> Result<(), Error> {
        let path = self.at(name);
        blocking(move || match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::file("remove", &path)(error))
            }
            _ => Ok(()),
        })
        .await
    }

    pub(super) async fn fetch<S, P>(
        &self,
        blob: &Descriptor,
        mut sink: S,
        mut progress: P,
    ) -> Result<S, Error>
    where
        S: BlobSink + 'static,
        P: FnMut(u64) + Send + 'static,
    {
        let (path, blob) = (self.blob(&blob.digest), blob.clone());
        blocking(move || {
            let file = std::fs::File::open(&path).map_err(Error::file("read", &path))?;
            sink.restart().map_err(Error::Sink)?;
            // One byte more shows that there are too many.
            let mut file = file.take(blob.size.saturating_add(1));
            let mut buffer = vec![0; BUFFER];
            loop {
                let length = file.read(&mut buffer).map_err(Error::file("read", &path))?;
                if length == 0 {
                    break;
                }
                sink.write(&buffer[..length]).map_err(Error::Sink)?;
                progress(sink.received());
            }
            let found = sink.digest().map_err(Error::Sink)?;
            if found != blob.digest {
                return Err(Error::OtherContent { expected: blob.digest, found });
            }
            Ok(sink)
        })
        .await
    }

    /// One that was cut short is not there.
    pub(super) async fn has(&self, blob: &Descriptor) -> Result<bool, Error> {
        let (path, size) = (self.blob(&blob.digest), blob.size);
        blocking(move || Ok(std::fs::metadata(&path).is_ok_and(|found| found.len() == size))).await
    }

    pub(super) async fn upload(
        &self,
        blob: &Descriptor,
        source: Arc<dyn BodySource>,
    ) -> Result<bool, Error> {
        if self.has(blob).await? {
            return Ok(false);
        }
        let path = self.blob(&blob.digest);
        blocking(move || {
            let mut content = source.open(0).map_err(Error::file("read the blob for", &path))?;
            write(&path, &mut content).map_err(Error::file("write", &path))?;
            Ok(true)
        })
        .await
    }
}

/// Writes a file that is there whole or not at all.
fn write(path: &Path, content: &mut dyn io::Read) -> io::Result<()> {
    let directory = path.parent().expect("a file stands in a directory");
    std::fs::create_dir_all(directory)?;
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(directory)?;
    io::copy(content, &mut file)?;
    file.flush()?;
    file.as_file().sync_all()?;
    // As any file that the user makes, where a temporary one is its maker's alone.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.expect("work on files does not panic")
}
