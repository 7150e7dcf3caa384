//! Caches that are shared: `--cache-from`, `--cache-to`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use oci::Reference;
use remote_cache::{AzblobOptions, GhaOptions, S3Options, SigningKey, VerifyingKey};

use super::Compression;

/// Where a cache is that several builders share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheLocation {
    /// `type=registry`: at this name in a registry.
    Registry(Reference),
    /// `type=local`: in a directory of the client's.
    Directory {
        /// The directory.
        path: PathBuf,
        /// Which of the caches there may be in it.
        tag: String,
    },
    /// `type=s3`: in a bucket.
    S3(S3Options),
    /// `type=gha`: in the cache service of GitHub Actions.
    Gha(GhaOptions),
    /// `type=azblob`: in a container of Azure's blob storage.
    Azblob(AzblobOptions),
}

impl CacheLocation {
    /// Whether it takes the network to get there.
    pub(crate) fn is_remote(&self) -> bool {
        !matches!(self, Self::Directory { .. })
    }

    /// How long it may take to say what it has; `None` where nothing is said about that.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        match self {
            Self::Gha(options) => options.timeout,
            Self::Registry(_) | Self::Directory { .. } | Self::S3(_) | Self::Azblob(_) => None,
        }
    }
}

/// One `--cache-from`.
#[derive(Debug, Clone)]
pub struct CacheSource {
    /// Where it is.
    pub location: CacheLocation,
    /// `verify=`: only what one of these keys has signed counts; without any, everything does.
    pub verify: Vec<VerifyingKey>,
    /// `mounts=`: contents of cache mounts are taken from there.
    pub mounts: bool,
}

/// One `--cache-to`.
#[derive(Debug, Clone)]
pub struct CacheTarget {
    /// Where it is.
    pub location: CacheLocation,
    /// `mode=`
    pub mode: CacheMode,
    /// `format=`
    pub format: CacheFormat,
    /// How layers are compressed.
    pub compression: Compression,
    /// `sign=`
    pub sign: Option<Arc<SigningKey>>,
    /// `mounts=`, `mounts-max-size=`: contents of cache mounts are added, so many bytes at most.
    pub mounts: Option<u64>,
    /// `ignore-error=`: that it cannot be written is a warning.
    pub ignore_error: bool,
}

/// Who can read a cache that is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheFormat {
    /// `mybuild`: we can. Others' records stay.
    #[default]
    Own,
    /// `buildkit`: BuildKit and we can. What was there before is replaced.
    BuildKit,
}

/// Which steps are added to a cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// Those whose layers the image has.
    #[default]
    Min,
    /// All.
    Max,
}
