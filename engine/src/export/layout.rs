//! OCI image layouts, as a directory or a tar, and the archive that `docker load` reads: a layout
//! with Docker's `manifest.json` beside it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use cache::Store;
use oci::{Descriptor, Digest, Index, Reference};
use serde::Serialize;

use super::name_annotations;
use crate::assemble::AssembledImage;
use crate::error::BuildError;
use crate::request::Destination;

pub(crate) const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

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

/// Writes `images`, whose manifest or index is `top`, under the names `tags`.
pub(crate) fn write_layout(
    store: &Store,
    kind: LayoutKind,
    images: &[AssembledImage],
    top: &Descriptor,
    tags: &[Reference],
    dest: &Destination,
    tar: bool,
) -> Result<(), BuildError> {
    let mut blobs: BTreeSet<&Digest> = BTreeSet::from([&top.digest]);
    for image in images {
        blobs.extend([&image.manifest.digest, &image.config_descriptor.digest]);
        blobs.extend(image.layers.iter().map(|l| &l.descriptor.digest));
    }
    let mut documents = vec![
        ("index.json", serde_json::to_vec(&index(top, tags)).expect("an index is plain data")),
        ("oci-layout", OCI_LAYOUT.to_vec()),
    ];
    if kind == LayoutKind::Docker {
        documents.insert(1, ("manifest.json", docker_manifest(images, tags)));
    }
    let written = match (dest, tar) {
        (Destination::Path(path), false) => to_directory(store, path, &blobs, &documents),
        (Destination::Path(path), true) => replace(path, |file| to_tar(store, file, &blobs, &documents)),
        (Destination::Stdout, _) => to_tar(store, &mut io::stdout().lock(), &blobs, &documents),
    };
    written.map_err(|error| {
        let place = match dest {
            Destination::Path(path) => format!("`{}`", path.display()),
            Destination::Stdout => "standard output".to_owned(),
        };
        BuildError::system(format!("failed to write {place}"), &error)
    })
}

fn index(top: &Descriptor, tags: &[Reference]) -> Index {
    let named = |name: &Reference| {
        let mut descriptor = top.clone();
        descriptor.annotations.extend(name_annotations(&name.with_default_tag()));
        descriptor
    };
    let manifests = match tags {
        [] => vec![top.clone()],
        tags => tags.iter().map(named).collect(),
    };
    Index { manifests, ..Index::default() }
}

fn docker_manifest(images: &[AssembledImage], tags: &[Reference]) -> Vec<u8> {
    let path = |digest: &Digest| format!("blobs/{}/{}", digest.algorithm(), digest.hex());
    let entries: Vec<DockerEntry> = images
        .iter()
        .map(|image| DockerEntry {
            config: path(&image.config_descriptor.digest),
            repo_tags: tags.iter().map(|t| t.with_default_tag().familiar()).collect(),
            layers: image.layers.iter().map(|l| path(&l.descriptor.digest)).collect(),
        })
        .collect();
    serde_json::to_vec(&entries).expect("entries are plain data")
}

fn to_directory(
    store: &Store,
    directory: &Path,
    blobs: &BTreeSet<&Digest>,
    documents: &[(&str, Vec<u8>)],
) -> io::Result<()> {
    for digest in blobs {
        let folder = directory.join("blobs").join(digest.algorithm());
        std::fs::create_dir_all(&folder)?;
        let target = folder.join(digest.hex());
        if target.exists() {
            continue;
        }
        let mut blob = open_blob(store, digest)?;
        replace(&target, |file| io::copy(&mut blob, file).map(drop))?;
    }
    // The index comes last: it names what is there by then.
    for (name, content) in documents.iter().rev() {
        replace(&directory.join(name), |file| file.write_all(content))?;
    }
    Ok(())
}

pub(crate) fn to_tar(
    store: &Store,
    out: &mut dyn Write,
    blobs: &BTreeSet<&Digest>,
    documents: &[(&str, Vec<u8>)],
) -> io::Result<()> {
    let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 20, out));
    tar.sparse(false);
    append_directory(&mut tar, "blobs/")?;
    for algorithm in blobs.iter().map(|d| d.algorithm()).collect::<BTreeSet<_>>() {
        append_directory(&mut tar, &format!("blobs/{algorithm}/"))?;
    }
    for digest in blobs {
        let blob = open_blob(store, digest)?;
        let size = blob.metadata()?.len();
        let path = format!("blobs/{}/{}", digest.algorithm(), digest.hex());
        append_file(&mut tar, &path, size, io::BufReader::with_capacity(1 << 20, blob))?;
    }
    for (name, content) in documents {
        append_file(&mut tar, name, content.len() as u64, content.as_slice())?;
    }
    tar.into_inner()?.flush()
}

fn append_directory(tar: &mut tar::Builder<impl Write>, path: &str) -> io::Result<()> {
    let mut header = header(tar::EntryType::Directory, 0o755, 0);
    tar.append_data(&mut header, path, io::empty())
}

fn append_file(tar: &mut tar::Builder<impl Write>, path: &str, size: u64, content: impl io::Read) -> io::Result<()> {
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

fn open_blob(store: &Store, digest: &Digest) -> io::Result<File> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("{digest} is not in the store"));
    store.blob(digest).ok_or_else(missing)?.open()
}

/// Writes a file that replaces `path` only when all of it is there. What is no regular file (a
/// pipe, a terminal) is written in place.
pub(crate) fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    if std::fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir()) {
        return write(&mut File::options().write(true).open(path)?);
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The umask applies, as to any file a user makes.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    let mut temporary =
        tempfile::Builder::new().prefix(".mybuild-").permissions(mode).tempfile_in(folder)?;
    write(temporary.as_file_mut())?;
    temporary.persist(path).map_err(|e| e.error)?;
    Ok(())
}
