//! What an archive or a layout holds, not yet understood.

use std::collections::HashMap;
use std::io::{self, BufReader, Read};
use std::path::Path;

use cache::Store;
use cache::layer::compress::decompress;
use oci::layout::INDEX;
use oci::{Descriptor, Digest};
use tokio_util::sync::CancellationToken;

use crate::error::BuildError;
use crate::source::layout;
use crate::stop::Stoppable;
use crate::tarball::{self, Member, MemberKind};

pub(super) const DOCKER_MANIFEST: &str = "manifest.json";
/// Archives of Docker before 1.10 have this and no manifest.
pub(super) const REPOSITORIES: &str = "repositories";
/// The largest document in bytes.
const DOCUMENT_MAX: u64 = 8 << 20;
/// A compressed archive that grows more than this is taken for a bomb …
const RATIO_MAX: u64 = 1000;
/// … once it has this many bytes.
const RATIO_FROM: u64 = 1 << 30;
/// Links from link to link before a name counts as missing.
const LINKS_MAX: usize = 8;
const BUFFER: usize = 256 << 10;
pub(super) const READABLE: &str =
    "`load` reads what `docker save`, `podman save` and `skopeo copy` write";

/// What an archive holds.
pub(super) struct Contents<'a> {
    pub(super) store: &'a Store,
    /// Ends it early.
    pub(super) stop: &'a CancellationToken,
    /// The layout's directory; blobs are fetched from it when they are needed.
    directory: Option<&'a Path>,
    pub(super) documents: HashMap<String, Vec<u8>>,
    /// Digest and size of the files, by name.
    files: HashMap<String, (Digest, u64)>,
    /// Names of files that have another one.
    links: HashMap<String, String>,
}

impl<'a> Contents<'a> {
    fn new(store: &'a Store, directory: Option<&'a Path>, stop: &'a CancellationToken) -> Self {
        let (documents, files, links) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { store, stop, directory, documents, files, links }
    }

    pub(super) fn of_directory(
        store: &'a Store,
        directory: &'a Path,
        stop: &'a CancellationToken,
    ) -> Result<Self, BuildError> {
        let mut contents = Self::new(store, Some(directory), stop);
        let bytes = layout::read_index(directory).map_err(|e| {
            BuildError::input(format!(
                "`{}` is not an OCI layout: {INDEX}: {e}",
                directory.display()
            ))
        })?;
        contents.documents.insert(INDEX.to_owned(), bytes);
        Ok(contents)
    }

    pub(super) fn of_archive(
        store: &'a Store,
        input: impl Read + Send,
        stop: &'a CancellationToken,
    ) -> Result<Self, BuildError> {
        let mut contents = Self::new(store, None, stop);
        let failed = |e: io::Error| {
            BuildError::input("failed to read the archive").because(e).with_hint(READABLE)
        };
        let input = Stoppable::new(input, stop);
        let input = Counted { reader: input, count: &std::sync::atomic::AtomicU64::new(0) };
        let count = input.count;
        let (_, reader) = decompress(BufReader::with_capacity(BUFFER, input)).map_err(failed)?;
        let mut reader =
            BufReader::with_capacity(BUFFER, Bounded { reader, count: 0, input: count });
        tarball::each_member(&mut reader, &mut |member, content| contents.take(member, content))
            .map_err(failed)?;
        Ok(contents)
    }

    /// Takes in one member of an archive.
    fn take(&mut self, member: &Member, content: &mut dyn Read) -> io::Result<()> {
        let Some(name) = normal(&member.path) else { return Ok(()) };
        match &member.kind {
            MemberKind::Symlink(target) => {
                let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                if let Some(target) = normal(&format!("{folder}/{target}")) {
                    self.links.insert(name, target);
                }
            }
            MemberKind::Hardlink(target) => {
                if let Some(target) = normal(target) {
                    self.links.insert(name, target);
                }
            }
            MemberKind::File if matches!(name.as_str(), INDEX | DOCKER_MANIFEST | REPOSITORIES) => {
                let mut bytes = Vec::new();
                content.take(DOCUMENT_MAX + 1).read_to_end(&mut bytes)?;
                if bytes.len() as u64 > DOCUMENT_MAX {
                    return Err(io::Error::other(format!("`{name}` is larger than 8 MiB")));
                }
                self.documents.insert(name, bytes);
            }
            MemberKind::File => {
                let mut writer = self.store.blob_writer().map_err(io::Error::other)?;
                io::copy(content, &mut writer)?;
                let (digest, size) = writer.commit(None).map_err(io::Error::other)?;
                if let Some(hex) = name.strip_prefix("blobs/sha256/")
                    && hex != digest.hex()
                {
                    return Err(io::Error::other(format!("`{name}` has the content of {digest}")));
                }
                self.files.insert(name, (digest, size));
            }
            MemberKind::Other => {}
        }
        Ok(())
    }

    /// The file of a name, through links.
    pub(super) fn file(&self, name: &str) -> Result<&(Digest, u64), BuildError> {
        let mut at = normal(name);
        for _ in 0..LINKS_MAX {
            let Some(key) = &at else { break };
            if let Some(file) = self.files.get(key) {
                return Ok(file);
            }
            at = self.links.get(key).cloned();
        }
        Err(user_error(format!("the archive lacks `{name}`, which its {DOCKER_MANIFEST} names")))
    }

    /// Brings a blob into the store; false if it is nowhere.
    pub(super) fn bring(&self, descriptor: &Descriptor) -> Result<bool, BuildError> {
        if self.store.has_blob(&descriptor.digest) {
            return Ok(true);
        }
        let Some(directory) = self.directory else { return Ok(false) };
        if !layout::blob_path(directory, &descriptor.digest).is_file() {
            return Ok(false);
        }
        layout::copy_blob(self.store, directory, descriptor, self.stop)?;
        Ok(true)
    }
}

/// A name in an archive without `.`, `..` and doubled slashes; `None` if it leads outside.
fn normal(name: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

pub(super) fn user_error(message: String) -> BuildError {
    BuildError::input(message)
}

/// Counts what is read.
struct Counted<'a, R> {
    reader: R,
    count: &'a std::sync::atomic::AtomicU64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.count.fetch_add(count as u64, std::sync::atomic::Ordering::Relaxed);
        Ok(count)
    }
}

/// Fails when much more comes out of a decompressor than went in.
struct Bounded<'a, R> {
    reader: R,
    count: u64,
    input: &'a std::sync::atomic::AtomicU64,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.count += count as u64;
        let input = self.input.load(std::sync::atomic::Ordering::Relaxed);
        if self.count > RATIO_FROM && self.count / RATIO_MAX > input {
            return Err(io::Error::other(format!("it expands more than {RATIO_MAX} to 1")));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_archives_stay_inside() {
        for (name, wanted) in [
            ("./a//b", Some("a/b")),
            ("/a/./b/", Some("a/b")),
            ("a/../b", Some("b")),
            ("../b", None),
            ("a/../../b", None),
            (".", None),
        ] {
            assert_eq!(normal(name).as_deref(), wanted, "{name}");
        }
    }
}
