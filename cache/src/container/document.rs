//! What is known of a container, as its directory has it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use oci::{Descriptor, Digest, ImageConfig};
use serde::{Deserialize, Serialize};

use crate::disk::read_capped;
use crate::layer_id::LayerId;

/// A longer document is not read, in bytes: a config may have 8 MiB.
const SIZE_MAX: u64 = 16 << 20;

/// What is known of a container. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// 64 hexadecimal digits, at random.
    pub id: String,
    /// Its name, which no other has.
    pub name: String,
    /// The image as the user has named it.
    pub image: String,
    /// The image's manifest.
    pub manifest: Descriptor,
    /// The image's id: the digest of its config.
    pub image_id: Digest,
    /// The image's layers, the bottom one first.
    pub layers: Vec<LayerId>,
    /// The image's config, with what the container has another.
    pub config: ImageConfig,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// It goes when its command ends.
    pub is_removed_at_end: bool,
    /// When it was made.
    pub created: i64,
    /// How far it has come.
    pub state: ContainerState,
    /// What it needs of the store, as sessions name what they hold.
    pub(crate) holds: Vec<String>,
}

/// How far a container has come. Times are seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum ContainerState {
    /// Its command has not started.
    Created,
    /// Its command runs.
    Running {
        /// Since when.
        started: i64,
    },
    /// Its command has ended.
    Ended {
        /// When it started.
        started: i64,
        /// When it ended.
        finished: i64,
        /// With which exit code.
        code: i32,
    },
    /// Whoever ran it was killed, and with it everything in the container. Nobody could write this down.
    #[serde(skip)]
    Killed {
        /// When it started.
        started: i64,
    },
}

impl ContainerRecord {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a record is plain data")
    }

    pub(super) fn read(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&read_capped(path, SIZE_MAX)?)?)
    }
}

pub(super) fn random_id() -> io::Result<String> {
    let mut random = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(data_encoding::HEXLOWER.encode(&random))
}
