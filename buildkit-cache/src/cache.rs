//! A cache that is asked for steps.

use std::collections::HashMap;

use jiff::Timestamp;
use oci::{Descriptor, DiffId, Digest, ImageConfig};
use serde_json::Value;

use crate::artifact::{CREATED, DIFF_ID};
use crate::config::{Config, InvalidConfig, Layer, Link, Stack};
use crate::key;
use crate::step::{Input, Records, Step, StepInput};

/// Where an image config keeps records.
pub const INLINE: &str = "moby.buildkit.cache.v0";

/// A cache config and the blobs that are there for it.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    config: Config,
    blobs: HashMap<Digest, Blob>,
    by_digest: HashMap<Digest, Vec<usize>>,
}

/// A layer as a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// The blob.
    pub descriptor: Descriptor,
    /// Digest of its tar.
    pub diff_id: DiffId,
    /// When the layer was made, if that is known.
    pub created: Option<Timestamp>,
}

/// What a step gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its layers, those of its base among them, bottom first.
    pub layers: Vec<Blob>,
    /// When it ran.
    pub created: Timestamp,
}

impl Cache {
    /// The cache whose layers are among the blobs that a manifest or index lists.
    pub fn new(config: Config, descriptors: &[Descriptor]) -> Self {
        let blobs = descriptors.iter().filter_map(described);
        Self::with_blobs(config, blobs.collect())
    }

    /// The cache whose config itself describes the blobs, as in stores without manifests.
    pub fn described(config: Config) -> Self {
        let blobs = config.layers.iter().filter_map(annotated).collect();
        Self::with_blobs(config, blobs)
    }

    /// The cache that an image carries, `None` if it carries none. `layers` are those of its manifest.
    pub fn of_image(
        image: &ImageConfig,
        layers: &[Descriptor],
    ) -> Result<Option<Self>, InvalidConfig> {
        let Some(Value::String(text)) = image.extra.get(INLINE) else { return Ok(None) };
        let Ok(records) = data_encoding::BASE64.decode(text.as_bytes()) else { return Ok(None) };
        let diff_ids = &image.rootfs.diff_ids;
        if diff_ids.len() != layers.len() {
            return Ok(None);
        }
        let blobs: Vec<Digest> = layers.iter().map(|layer| layer.digest.clone()).collect();
        let config = Config::parse_inline(&records, &blobs)?;
        let blob = |(layer, diff_id): (&Descriptor, &DiffId)| Blob {
            descriptor: layer.clone(),
            diff_id: diff_id.clone(),
            created: None,
        };
        let blobs = layers.iter().zip(diff_ids).map(blob);
        let blobs = blobs.map(|blob| (blob.descriptor.digest.clone(), blob));
        Ok(Some(Self::with_blobs(config, blobs.collect())))
    }

    fn with_blobs(config: Config, blobs: HashMap<Digest, Blob>) -> Self {
        let mut by_digest: HashMap<Digest, Vec<usize>> = HashMap::new();
        for (place, record) in config.records.iter().enumerate() {
            by_digest.entry(record.digest.clone()).or_default().push(place);
        }
        Self { config, blobs, by_digest }
    }

    /// The records of `step`'s output `output`. `inputs` are all inputs of the vertex, by number. What is
    /// not found by the records of its inputs may still be by their content: ask again once that is known.
    pub fn find(&self, step: &Step, output: usize, inputs: &[Input]) -> Records {
        let mut found: Vec<usize> = Vec::new();
        for digest in &step.digests {
            let places = self.by_digest.get(&key::of_output(digest, output)).into_iter().flatten();
            found.extend(places.filter(|&&place| self.takes(place, &step.inputs, inputs)));
        }
        found.sort_unstable();
        Records(found)
    }

    /// Whether each input of the record at `place` may be what the step takes there.
    fn takes(&self, place: usize, wanted: &[StepInput], inputs: &[Input]) -> bool {
        let record = &self.config.records[place];
        record.inputs.len() == wanted.len()
            && record.inputs.iter().zip(wanted).all(|(links, wanted)| {
                let input = &inputs[wanted.number];
                let content = input.content.as_ref().filter(|_| wanted.content.is_some());
                let content = content.map(key::of_content);
                links.iter().any(|link| {
                    link.selector == wanted.selector && input.records.0.contains(&link.record)
                        || content.as_ref().is_some_and(|content| self.is_content(link, content))
                })
            })
    }

    fn is_content(&self, link: &Link, content: &Digest) -> bool {
        let record = &self.config.records[link.record];
        link.selector.is_empty() && record.inputs.is_empty() && record.digest == *content
    }

    /// What the steps with these records gave, the newest first. What has layers that are not there is
    /// left out.
    pub fn made(&self, records: &Records) -> Vec<Made> {
        let stacks = records.0.iter().flat_map(|&place| &self.config.records[place].results);
        let mut made: Vec<Made> = stacks.filter_map(|stack| self.stack(stack)).collect();
        made.sort_by_key(|made| std::cmp::Reverse(made.created));
        made
    }

    fn stack(&self, stack: &Stack) -> Option<Made> {
        let layers = self.config.layers_of(stack).into_iter();
        let layers = layers.map(|layer| self.blobs.get(&layer.blob).cloned());
        Some(Made { layers: layers.collect::<Option<_>>()?, created: stack.created })
    }

    /// The blobs of its layers.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        self.blobs.values()
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.config.records.len()
    }

    /// There are no records.
    pub fn is_empty(&self) -> bool {
        self.config.records.is_empty()
    }
}

/// A blob by the annotations of its descriptor. Without the digest of its tar BuildKit does not use it.
fn described(descriptor: &Descriptor) -> Option<(Digest, Blob)> {
    let diff_id = descriptor.annotations.get(DIFF_ID)?.parse().ok()?;
    let created = descriptor.annotations.get(CREATED).and_then(|time| time.parse().ok());
    Some((descriptor.digest.clone(), Blob { descriptor: descriptor.clone(), diff_id, created }))
}

fn annotated(layer: &Layer) -> Option<(Digest, Blob)> {
    let about = layer.annotations.as_ref()?;
    let descriptor = Descriptor::new(&about.media_type, layer.blob.clone(), about.size);
    let blob = Blob { descriptor, diff_id: about.diff_id.clone()?, created: Some(about.created) };
    Some((layer.blob.clone(), blob))
}
