//! Packs: records on their way, many in one document, and what cache mounts held.
//!
//! A pack is written once and never changed. It is JSON:
//!
//! ```json
//! {"version": 1,
//!  "includes": ["names of packs whose records are all here"],
//!  "layers": [{"diffId": "sha256:…", "below": 0, "blob": {"mediaType": …}}],
//!  "records": [{"key": "sha256:…", "outputs": [3], "name": "RUN make", …,
//!               "signatures": [{"signer": "hex", "signature": "base64"}]}],
//!  "mounts": [{"id": "/root/.npm", "created": 7, "size": 9, "after": ["hex"], "index": {…}, "bundles": [{…}],
//!              "signatures": […]}]}
//! ```
//!
//! A small blob is not a blob of the cache: it stands in its place, in base64, as `data`. Each entry of `layers` lies on the one that `below` numbers, which stands before it; an output is the number
//! of its topmost layer, or null for none.

use std::collections::{BTreeMap, HashMap};

use data_encoding::BASE64;
use oci::{Descriptor, DiffId, Digest};
use serde::{Deserialize, Serialize};

use crate::contents::Contents;
use crate::record::{Layer, Record};
use crate::signature::{Signature, VerifyingKey};
use crate::signed::Signed;

/// Version of the form, and of what keys are made from.
const VERSION: u32 = 1;
/// The largest pack that is read, in bytes.
pub const PACK_MAX: u64 = 16 << 20;
/// No stack of layers is higher; nor may all stacks of a pack together have more than a thousand times that.
const HEIGHT_MAX: usize = 1024;
const STACKS_MAX: usize = 1_000_000;
/// No record has more signatures.
const SIGNATURES_MAX: usize = 16;

/// Records and contents of cache mounts, and which other packs they make superfluous.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pack {
    /// Names of packs that have nothing else that counts.
    pub includes: Vec<String>,
    /// The records.
    pub records: Vec<Signed<Record>>,
    /// What cache mounts held.
    pub mounts: Vec<Signed<Contents>>,
}

/// Why bytes are not a pack.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPack {
    /// Not JSON of the right form.
    #[error("not records of a cache: {0}")]
    Form(String),
    /// Another version's.
    #[error("records of version {0}, which this program does not know")]
    Version(u32),
    /// A number that leads nowhere, or to what stands behind it.
    #[error("a layer's number is wrong")]
    Number,
    /// More layers than a build could have.
    #[error("too many layers")]
    TooLarge,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    version: u32,
    #[serde(default)]
    includes: Vec<String>,
    #[serde(default)]
    layers: Vec<Node>,
    #[serde(default)]
    records: Vec<Entry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mounts: Vec<Mount>,
}

/// What a cache mount held.
#[derive(Serialize, Deserialize)]
struct Mount {
    id: String,
    created: i64,
    size: u64,
    #[serde(default)]
    after: Vec<String>,
    index: Bytes,
    #[serde(default)]
    bundles: Vec<Bytes>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    signatures: Vec<Mark>,
}

/// A layer on a stack.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
struct Node {
    diff_id: DiffId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    below: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blob: Option<Bytes>,
}

/// A blob, as short as can be.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
struct Bytes {
    media_type: String,
    digest: Digest,
    size: u64,
    /// All of it, in base64, where it is embedded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<String>,
}

impl Bytes {
    fn of(blob: &Descriptor) -> Self {
        let Descriptor { media_type, digest, size, data, .. } = blob.clone();
        Self { media_type, digest, size, data }
    }

    fn descriptor(&self) -> Descriptor {
        let blob = Descriptor::new(&self.media_type, self.digest.clone(), self.size);
        Descriptor { data: self.data.clone(), ..blob }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    key: Digest,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<Digest>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    salt: String,
    outputs: Vec<Option<u32>>,
    #[serde(default)]
    name: String,
    created: i64,
    #[serde(default)]
    duration: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    parts: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    signatures: Vec<Mark>,
}

/// A signature as text.
#[derive(Serialize, Deserialize)]
struct Mark {
    signer: String,
    signature: String,
}

impl Pack {
    /// The pack as bytes; equal packs give equal ones.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut stacks = Stacks::default();
        let records = self.records.iter().map(|signed| entry(signed, &mut stacks)).collect();
        let includes = self.includes.clone();
        let mounts = self.mounts.iter().map(mount).collect();
        let document =
            Document { version: VERSION, includes, layers: stacks.nodes, records, mounts };
        serde_json::to_vec(&document).expect("a pack is plain data")
    }

    /// Reads a pack. Records of which nothing can be made are left out: another builder may say more in them
    /// than this one knows.
    ///
    /// # Errors
    /// [`InvalidPack`] if the document as a whole is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidPack> {
        let document: Document =
            serde_json::from_slice(bytes).map_err(|e| InvalidPack::Form(e.to_string()))?;
        if document.version != VERSION {
            return Err(InvalidPack::Version(document.version));
        }
        let stacks = Heights::of(&document.layers)?;
        let mut room = STACKS_MAX;
        let mut records = Vec::with_capacity(document.records.len());
        for entry in document.records {
            records.push(signed(entry, &stacks, &mut room)?);
        }
        let mounts = document.mounts.into_iter().map(contents).collect();
        Ok(Self { includes: document.includes, records, mounts })
    }

    /// All blobs that the records and the cache mounts' contents name, each once, but for those that are in the
    /// pack itself.
    pub fn blobs(&self) -> Vec<Descriptor> {
        let layers = self.records.iter().flat_map(|signed| signed.said.outputs.iter().flatten());
        let layers = layers.filter_map(|layer| layer.blob.as_ref());
        let mounts = self.mounts.iter().map(|signed| &signed.said);
        let mounts = mounts.flat_map(|said| std::iter::once(&said.index).chain(&said.bundles));
        let by_digest: BTreeMap<&Digest, &Descriptor> = layers
            .chain(mounts)
            .filter(|blob| blob.data.is_none())
            .map(|blob| (&blob.digest, blob))
            .collect();
        by_digest.into_values().cloned().collect()
    }
}

/// Numbers layers as they come.
#[derive(Default)]
struct Stacks {
    nodes: Vec<Node>,
    numbers: HashMap<Node, u32>,
}

impl Stacks {
    fn top(&mut self, layers: &[Layer]) -> Option<u32> {
        layers.iter().fold(None, |below, layer| {
            let blob = layer.blob.as_ref().map(Bytes::of);
            let node = Node { diff_id: layer.diff_id.clone(), below, blob };
            let next = u32::try_from(self.nodes.len()).expect("a build has fewer layers");
            let number = *self.numbers.entry(node.clone()).or_insert(next);
            if number == next {
                self.nodes.push(node);
            }
            Some(number)
        })
    }
}

fn marks(signatures: &[Signature]) -> Vec<Mark> {
    let mark = |signature: &Signature| Mark {
        signer: signature.signer.to_string(),
        signature: BASE64.encode(&signature.bytes),
    };
    signatures.iter().map(mark).collect()
}

/// A signature that cannot be read is nobody's.
fn signatures(marks: &[Mark]) -> Vec<Signature> {
    let signature = |mark: &Mark| {
        let signer = VerifyingKey::parse(&mark.signer).ok()?;
        Some(Signature { signer, bytes: BASE64.decode(mark.signature.as_bytes()).ok()? })
    };
    marks.iter().take(SIGNATURES_MAX).filter_map(signature).collect()
}

fn mount(signed: &Signed<Contents>) -> Mount {
    let Contents { id, created, size, after, index, bundles } = signed.said.clone();
    Mount {
        id,
        created,
        size,
        after,
        index: Bytes::of(&index),
        bundles: bundles.iter().map(Bytes::of).collect(),
        signatures: marks(&signed.signatures),
    }
}

fn contents(mount: Mount) -> Signed<Contents> {
    let said = Contents {
        id: mount.id,
        created: mount.created,
        size: mount.size,
        after: mount.after,
        index: mount.index.descriptor(),
        bundles: mount.bundles.iter().map(Bytes::descriptor).collect(),
    };
    Signed { said, signatures: signatures(&mount.signatures) }
}

fn entry(signed: &Signed<Record>, stacks: &mut Stacks) -> Entry {
    let record = signed.said.clone();
    Entry {
        outputs: record.outputs.iter().map(|layers| stacks.top(layers)).collect(),
        key: record.key,
        aliases: record.aliases,
        salt: record.salt,
        name: record.name,
        created: record.created,
        duration: record.duration,
        parts: record.parts,
        warnings: record.warnings,
        signatures: marks(&signed.signatures),
    }
}

/// Layers by number, each of which lies on an earlier one.
struct Heights<'a> {
    nodes: &'a [Node],
}

impl<'a> Heights<'a> {
    fn of(nodes: &'a [Node]) -> Result<Self, InvalidPack> {
        let mut heights: Vec<usize> = Vec::with_capacity(nodes.len());
        for node in nodes {
            let below = match node.below {
                None => 0,
                Some(below) => *heights.get(below as usize).ok_or(InvalidPack::Number)?,
            };
            if below >= HEIGHT_MAX {
                return Err(InvalidPack::TooLarge);
            }
            heights.push(below + 1);
        }
        Ok(Self { nodes })
    }

    fn layers(&self, top: Option<u32>, room: &mut usize) -> Result<Vec<Layer>, InvalidPack> {
        let mut layers = Vec::new();
        let mut next = top;
        while let Some(number) = next {
            let node = self.nodes.get(number as usize).ok_or(InvalidPack::Number)?;
            *room = room.checked_sub(1).ok_or(InvalidPack::TooLarge)?;
            let blob = node.blob.as_ref().map(Bytes::descriptor);
            layers.push(Layer { diff_id: node.diff_id.clone(), blob });
            next = node.below;
        }
        layers.reverse();
        Ok(layers)
    }
}

fn signed(
    entry: Entry,
    stacks: &Heights<'_>,
    room: &mut usize,
) -> Result<Signed<Record>, InvalidPack> {
    let outputs =
        entry.outputs.iter().map(|top| stacks.layers(*top, room)).collect::<Result<_, _>>()?;
    let signatures = signatures(&entry.signatures);
    let said = Record {
        key: entry.key,
        aliases: entry.aliases,
        salt: entry.salt,
        outputs,
        name: entry.name,
        created: entry.created,
        duration: entry.duration,
        parts: entry.parts,
        warnings: entry.warnings,
    };
    Ok(Signed { said, signatures })
}
