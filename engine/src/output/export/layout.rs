//! OCI image layouts, as a directory or a tar, and the archive that `docker load` reads: a layout
//! with Docker's `manifest.json` beside it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use cache::{BlobFile, Store};
use oci::{Descriptor, Digest, Index, InvalidManifest, Platform, Reference, layout};
use rustix::io::Errno;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::Built;
use super::error::ExportError;
use crate::client::{Client, Target};
use crate::error::BuildError;
use crate::new_file::replace;
use crate::request::Destination;
use crate::source::layout::read_index;
use crate::stop::Stoppable;

/// Annotation: when an image was made.
const CREATED: &str = "org.opencontainers.image.created";

/// What a tar's members are made of.
const BLOCK: u64 = 512;

/// Bytes that are copied before it is looked whether the build is cancelled.
const COPIED_AT_ONCE: u64 = 8 << 20;

/// Who is to read the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayoutKind {
    /// Everybody who knows OCI layouts.
    Oci,
    /// `docker load`, too.
    Docker,
}

/// One image of Docker's `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DockerEntry {
    pub(crate) config: String,
    pub(crate) repo_tags: Vec<String>,
    pub(crate) layers: Vec<String>,
}

/// A layout in the making.
pub(crate) struct Layout<'a> {
    pub(crate) store: &'a Store,
    pub(crate) kind: LayoutKind,
    pub(crate) built: &'a Built,
    /// What it is called.
    pub(crate) tags: &'a [Reference],
    /// Ends it early.
    pub(crate) stop: &'a CancellationToken,
}

impl Layout<'_> {
    /// Writes it to `dest`: a directory, or a tar. What the store still has to commit is committed
    /// meanwhile: afterwards the disk would also have to take the layout first.
    pub(crate) fn write(
        &self,
        client: &dyn Client,
        dest: &Destination,
        tar: bool,
    ) -> Result<(), BuildError> {
        let failed = ExportError::writing(place(dest));
        // Before they are committed it is known that they need not be hashed.
        let blobs = find_blobs(self.store, self.digests()).map_err(&failed)?;
        std::thread::scope(|scope| {
            // When it fails it is tried again at the end, where its error counts.
            scope.spawn(|| self.store.flush());
            match dest {
                Destination::Path(path) if !tar => {
                    let directory = client.output_directory(path)?;
                    Ok(self.to_directory(&directory, &blobs).map_err(&failed)?)
                }
                dest => {
                    let target = client.output(dest)?;
                    let write = |mut out: Archive<'_>| self.to_tar(&mut out, &blobs);
                    Ok(write_archive(target, write).map_err(&failed)?)
                }
            }
        })
    }

    fn to_tar(&self, out: &mut Archive<'_>, blobs: &[BlobFile]) -> io::Result<()> {
        to_tar(out, blobs, &self.documents(self.named()), self.stop)
    }

    /// Adds the image to a layout that is there already. Other images in it stay, as far as they
    /// are not called the same.
    fn to_directory(&self, directory: &Path, blobs: &[BlobFile]) -> io::Result<()> {
        for blob in blobs {
            let target = directory.join(layout::blob_path(blob.digest()));
            crate::umask::make_directories(target.parent().expect("a blob is in a folder"))?;
            // One that was cut short is written again.
            if std::fs::metadata(&target).is_ok_and(|found| found.len() == blob.size()) {
                continue;
            }
            let mut blob = Stoppable::new(blob.open_verified()?, self.stop);
            replace(&target, |file| io::copy(&mut blob, file).map(drop))?;
        }
        // Builds that write to one layout at the same time do not lose each other's images.
        let locked = File::open(directory)?;
        rustix::fs::flock(&locked, rustix::fs::FlockOperation::LockExclusive)?;
        let named = self.named();
        let is_replaced = |old: &Descriptor| {
            let is_namesake =
                |new: &Descriptor| match (layout::ref_name(old), layout::ref_name(new)) {
                    (None, None) => old.digest == new.digest,
                    (old, new) => old == new,
                };
            named.iter().any(is_namesake)
        };
        let mut manifests = known_images(directory)?;
        manifests.retain(|old| !is_replaced(old));
        manifests.extend(named.iter().cloned());
        // The index comes last: it names what is there by then.
        for (name, content) in self.documents(manifests).iter().rev() {
            replace(&directory.join(name), |file| file.write_all(content))?;
        }
        Ok(())
    }

    /// All blobs that it is made of.
    pub(super) fn digests(&self) -> BTreeSet<&Digest> {
        let mut blobs: BTreeSet<&Digest> = BTreeSet::from([&self.built.target.digest]);
        for (_, image) in &self.built.images {
            blobs.extend([&image.manifest.digest, &image.config_descriptor.digest]);
            blobs.extend(image.layers.iter().map(|l| &l.descriptor.digest));
        }
        blobs
    }

    /// The files beside the blobs.
    fn documents(&self, manifests: Vec<Descriptor>) -> Vec<(&'static str, Vec<u8>)> {
        let index = Index { manifests, ..Index::default() };
        let mut documents =
            vec![(layout::INDEX, serde_json::to_vec(&index).expect("an index is plain data"))];
        if self.kind == LayoutKind::Docker {
            documents.push(("manifest.json", self.docker_manifest()));
        }
        documents.push((layout::MARKER, layout::MARKER_CONTENT.to_vec()));
        documents
    }

    /// The image as the index names it: once a tag.
    fn named(&self) -> Vec<Descriptor> {
        let top = self.described();
        let named = |name: &Reference| {
            let mut descriptor = top.clone();
            descriptor.annotations.extend(layout::name_annotations(&name.with_default_tag()));
            descriptor
        };
        match self.tags {
            [] => vec![top],
            tags => tags.iter().map(named).collect(),
        }
    }

    /// The image, with what BuildKit's index says of one: its platform, if there is one, and when it was
    /// made.
    fn described(&self) -> Descriptor {
        let mut top = self.built.target.clone();
        let images = self.built.images.as_slice();
        if let [(_, image)] = images
            && image.manifest.digest == top.digest
        {
            top.platform = Some(image.config.platform());
        }
        let created = images.first().and_then(|(_, image)| image.config.created.clone());
        let annotations = &mut top.annotations;
        if let Some(created) = created {
            annotations.entry(CREATED.to_owned()).or_insert(created);
        }
        top
    }

    fn docker_manifest(&self) -> Vec<u8> {
        let images = self.built.images.iter();
        let chosen = of_docker(images, |(platform, _)| platform.clone());
        let entry = chosen.map(|(_, image)| DockerEntry {
            config: layout::blob_path(&image.config_descriptor.digest),
            repo_tags: self.tags.iter().map(|t| t.with_default_tag().familiar()).collect(),
            layers: image.layers.iter().map(|l| layout::blob_path(&l.descriptor.digest)).collect(),
        });
        serde_json::to_vec(&Vec::from_iter(entry)).expect("entries are plain data")
    }
}

/// Docker's format knows no platforms, and a name stands for one image: that of this machine's
/// platform, else the first. Who reads the index finds all of them.
pub(crate) fn of_docker<T>(
    images: impl Iterator<Item = T> + Clone,
    platform: impl Fn(&T) -> Platform,
) -> Option<T> {
    let host = Platform::host();
    images.clone().find(|image| platform(image) == host).or(images.into_iter().next())
}

/// The images that a layout has; none if it is not a layout yet. An index that does not read is an error:
/// a new one in its place would take the other images away.
fn known_images(directory: &Path) -> io::Result<Vec<Descriptor>> {
    let failed = |error: InvalidManifest| {
        let path = directory.join(layout::INDEX);
        io::Error::other(format!("`{}` is not an image index: {error}", path.display()))
    };
    match read_index(directory) {
        Ok(bytes) => Ok(layout::parse_index(&bytes).map_err(&failed)?.manifests),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// For messages.
pub(crate) fn place(dest: &Destination) -> String {
    match dest {
        Destination::Path(path) => format!("`{}`", path.display()),
        Destination::Stdout => "standard output".to_owned(),
        Destination::Engine(address) => format!("into the engine at `{address}`"),
    }
}

/// Writes an archive to where the client wants it.
pub(crate) fn write_archive(
    target: Target,
    write: impl FnOnce(Archive<'_>) -> io::Result<()>,
) -> io::Result<()> {
    match target {
        Target::File(mut file) => {
            write(Archive::File(file.file()))?;
            file.commit()
        }
        stream => stream.fill(|mut out| write(Archive::Stream(&mut out))),
    }
}

/// What an archive is written to.
pub(crate) enum Archive<'a> {
    /// A new file.
    File(&'a mut File),
    /// Something that takes one byte after the other.
    Stream(&'a mut dyn Write),
}

impl Write for Archive<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stream(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Stream(out) => out.flush(),
        }
    }
}

pub(crate) fn to_tar(
    out: &mut Archive<'_>,
    blobs: &[BlobFile],
    documents: &[(&str, Vec<u8>)],
    stop: &CancellationToken,
) -> io::Result<()> {
    let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 20, out));
    tar.sparse(false);
    append_directory(&mut tar, "blobs/")?;
    for algorithm in blobs.iter().map(|b| b.digest().algorithm()).collect::<BTreeSet<_>>() {
        append_directory(&mut tar, &format!("blobs/{algorithm}/"))?;
    }
    for blob in blobs {
        append_blob(&mut tar, blob, stop)?;
    }
    for (name, content) in documents {
        append_file(&mut tar, name, content.len() as u64, content.as_slice())?;
    }
    tar.into_inner()?.flush()
}

fn append_blob(
    tar: &mut tar::Builder<BufWriter<&mut Archive<'_>>>,
    blob: &BlobFile,
    stop: &CancellationToken,
) -> io::Result<()> {
    let path = layout::blob_path(blob.digest());
    append_file(tar, &path, blob.size(), io::empty())?;
    let out = tar.get_mut();
    out.flush()?;
    let copied = match out.get_mut() {
        Archive::File(file) => std::thread::scope(|scope| {
            let verified = scope.spawn(|| blob.verify(&|| stop.is_cancelled()));
            let copied = copy_in_kernel(&blob.open()?, file, blob.size(), stop)?;
            verified.join().expect("reading does not panic")?;
            Ok::<_, io::Error>(copied)
        })?,
        Archive::Stream(_) => 0,
    };
    if copied == 0 {
        let read = Stoppable::new(blob.open_verified()?, stop);
        io::copy(&mut io::BufReader::with_capacity(1 << 20, read), out)?;
    }
    let padding = blob.size().next_multiple_of(BLOCK) - blob.size();
    out.write_all(&[0; BLOCK as usize][..padding as usize])
}

/// Copies `size` bytes from the start of `from` to where `to` stands, without taking them into this
/// process; says how many, which is none where the kernel cannot.
fn copy_in_kernel(
    from: &File,
    to: &mut File,
    size: u64,
    stop: &CancellationToken,
) -> io::Result<u64> {
    let mut done = 0;
    while done < size {
        if stop.is_cancelled() {
            return Err(io::Error::other("canceled"));
        }
        let length = (size - done).min(COPIED_AT_ONCE) as usize;
        match rustix::fs::copy_file_range(from, Some(&mut done), &*to, None, length) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) if done == 0 => return Ok(0),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(done)
}

fn append_directory(tar: &mut tar::Builder<impl Write>, path: &str) -> io::Result<()> {
    let mut header = header(tar::EntryType::Directory, 0o755, 0);
    tar.append_data(&mut header, path, io::empty())
}

fn append_file(
    tar: &mut tar::Builder<impl Write>,
    path: &str,
    size: u64,
    content: impl io::Read,
) -> io::Result<()> {
    let mut header = header(tar::EntryType::Regular, 0o644, size);
    tar.append_data(&mut header, path, content)
}

/// No times, no owners: the same image gives the same archive.
fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// The blobs of an archive, in its order; all of them must be there.
pub(crate) fn find_blobs<'a>(
    store: &Store,
    digests: impl IntoIterator<Item = &'a Digest>,
) -> io::Result<Vec<BlobFile>> {
    let missing = |digest: &Digest| {
        io::Error::new(io::ErrorKind::NotFound, format!("{digest} is not in the store"))
    };
    digests.into_iter().map(|digest| store.blob(digest).ok_or_else(|| missing(digest))).collect()
}
