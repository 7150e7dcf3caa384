//! Where results go, and in what form.

use std::path::PathBuf;

use oci::Reference;

use crate::annotations::Annotation;

/// Where a result goes.
#[derive(Debug, Clone)]
pub enum Output {
    /// `type=image`: the store (what happens without any output, too).
    Image {
        /// The image. Layers that are not compressed are as the store has them.
        form: ImageForm,
        /// Names that its digest is a part of.
        digest_names: StoreNames,
        /// `unpack=`: its files are there afterwards, not only its layers.
        unpack: bool,
        /// Whether the names stand for the image in the store, too.
        store: bool,
        /// It goes to the registries of its names.
        push: Option<Push>,
    },
    /// `type=oci`: an OCI image layout. Other images of a directory that is one already stay.
    Oci {
        /// Where to.
        dest: Destination,
        /// A tar archive rather than a directory.
        tar: bool,
        /// The image.
        form: ImageForm,
    },
    /// `type=docker`: what `docker load` reads (and an OCI layout, too). Of several platforms
    /// Docker's own list has this machine's; the layout has all.
    Docker {
        /// Where to.
        dest: Destination,
        /// A tar archive rather than a directory.
        tar: bool,
        /// The image.
        form: ImageForm,
    },
    /// `type=local`: the root file system as files.
    Local {
        /// The directory.
        dest: PathBuf,
        /// A folder per platform; `None`: when the result is an index.
        platform_split: Option<bool>,
        /// What becomes of other files there.
        mode: LocalMode,
    },
    /// `type=tar`: the root file system as a tar.
    Tar {
        /// Where to.
        dest: Destination,
        /// A folder per platform; `None`: when the result is an index.
        platform_split: Option<bool>,
    },
    /// `type=cacheonly`: nowhere. What the steps gave is known to later builds.
    CacheOnly,
}

/// `push=true`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Push {
    /// `push-by-digest`: the repositories of the names get the image, and no tag.
    pub by_digest: bool,
    /// `registry.insecure`: the registries may speak plain HTTP, or show a certificate that nobody trusts.
    pub insecure: bool,
    /// How layers are compressed. In the store they stay as the form has them.
    pub compression: Compression,
}

impl Output {
    /// `type=image` without attributes: layers are as the store has them.
    pub fn image() -> Self {
        Self::Image {
            form: ImageForm { compression: Compression::NONE, ..ImageForm::default() },
            digest_names: StoreNames::default(),
            unpack: false,
            store: true,
            push: None,
        }
    }

    /// Whether it goes to standard output.
    pub fn is_stdout(&self) -> bool {
        match self {
            Self::Oci { dest, .. } | Self::Docker { dest, .. } | Self::Tar { dest, .. } => {
                matches!(dest, Destination::Stdout)
            }
            Self::Image { .. } | Self::Local { .. } | Self::CacheOnly => false,
        }
    }

    /// What layers are compressed to for it.
    pub(crate) fn compressions(&self) -> impl Iterator<Item = Compression> {
        let push = match self {
            Self::Image { push, .. } => push.map(|push| push.compression),
            _ => None,
        };
        self.form().map(|form| form.compression).into_iter().chain(push)
    }

    /// The image, where it is one that leaves or stays as such.
    pub fn form(&self) -> Option<&ImageForm> {
        match self {
            Self::Image { form, .. } | Self::Oci { form, .. } | Self::Docker { form, .. } => {
                Some(form)
            }
            Self::Local { .. } | Self::Tar { .. } | Self::CacheOnly => None,
        }
    }
}

/// What is said of the image of one output. All outputs of a build are one image: they share its config
/// and what is in its layers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageForm {
    /// `name=`: names besides the request's tags.
    pub names: Vec<Reference>,
    /// `annotation.KEY=` and the like, besides the request's.
    pub annotations: Vec<Annotation>,
    /// `oci-mediatypes=`
    pub media_types: MediaTypes,
    /// How layers are compressed.
    pub compression: Compression,
    /// `prefer-nondist-layers=`: layers of a base that are not to be distributed stay so.
    pub keeps_nondistributable: bool,
}

/// What an image's documents and layers are called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MediaTypes {
    /// The names of the OCI image specification.
    #[default]
    Oci,
    /// Those of Docker's image manifest, version 2, schema 2.
    Docker,
}

/// Names of an image of the store that say its digest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreNames {
    /// `name-canonical=`: besides each name one with the digest.
    pub canonical: bool,
    /// `dangling-name-prefix=`
    pub dangling: Option<Dangling>,
}

/// A name that is made of a prefix and the digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dangling {
    /// The prefix: a repository.
    pub repository: Reference,
    /// `danging-name-empty-only=`: only an image that has no other name gets it.
    pub only_unnamed: bool,
}

/// What becomes of files in a directory that the result does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LocalMode {
    /// They stay.
    #[default]
    Copy,
    /// They are removed: the directory is what the result is.
    Delete,
}

/// A file, standard output or a program that keeps images, as the client calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A path of the client's; replaced only when all of it is written.
    Path(PathBuf),
    /// The client's standard output.
    Stdout,
    /// A program that takes Docker's archives.
    Engine(String),
}

/// `compression=`, `compression-level=`, `force-compression=`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compression {
    /// Algorithm.
    pub algorithm: CompressionAlgorithm,
    /// Level, `None` for the algorithm's default.
    pub level: Option<i32>,
    /// Layers of base images are compressed again, too.
    pub force: bool,
}

impl Compression {
    /// None: layers are plain where they were made here, and as they came otherwise.
    pub const NONE: Self =
        Self { algorithm: CompressionAlgorithm::Uncompressed, level: None, force: false };
}

/// Compression of layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CompressionAlgorithm {
    /// Plain tar.
    Uncompressed,
    /// gzip
    #[default]
    Gzip,
    /// zstd
    Zstd,
    /// eStargz: gzip from which each file can be fetched by itself
    Estargz,
    /// zstd:chunked: zstd from which each file can be fetched by itself
    ZstdChunked,
}
