//! The cache config: which layers there are, and the records that lead to them.
//!
//! A record is one step with one output. It is found by a digest (see [`crate::key`]) and by the
//! records of its inputs; its results are stacks of layers. Media type
//! `application/vnd.buildkit.cacheconfig.v0`, JSON, at most [`SIZE_MAX`] bytes.

mod wire;

use jiff::Timestamp;
use oci::{DiffId, Digest};

/// Media type of a cache config.
pub const MEDIA_TYPE: &str = "application/vnd.buildkit.cacheconfig.v0";
/// The largest config that BuildKit reads, in bytes.
pub const SIZE_MAX: usize = 1 << 20;

/// A config whose numbers all lead somewhere: no layer is below itself and no record its own input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The layers.
    pub layers: Vec<Layer>,
    /// The records, inputs before those that take them.
    pub records: Vec<Record>,
}

/// A layer as part of a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the blob.
    pub blob: Digest,
    /// Place of the layer below.
    pub parent: Option<usize>,
    /// What else is known of the blob; configs beside a manifest leave it to that.
    pub annotations: Option<Annotations>,
}

/// A blob as stores without manifests describe it (`s3`, `azblob`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotations {
    /// Media type of the blob.
    pub media_type: String,
    /// Digest of its tar.
    pub diff_id: Option<DiffId>,
    /// Size of the blob in bytes.
    pub size: u64,
    /// When the layer was made.
    pub created: Timestamp,
}

/// One step with one output, or what a step has taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// By what it is found among those with the same inputs.
    pub digest: Digest,
    /// For each input, the records that it may be. None of a list is empty.
    pub inputs: Vec<Vec<Link>>,
    /// What the step gave.
    pub results: Vec<Stack>,
}

/// A record as an input.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// Place of the record.
    pub record: usize,
    /// Digest of the paths that are taken of it, empty for none.
    pub selector: String,
}

/// Layers over each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// Which.
    pub layers: Layers,
    /// When the step ran.
    pub created: Timestamp,
}

/// Which layers a stack has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layers {
    /// This one and all below.
    Down(usize),
    /// Just these, bottom first.
    Each(Vec<usize>),
}

/// Why bytes are not a cache config that can be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// Larger than [`SIZE_MAX`].
    #[error("the cache config has {0} bytes, more than {SIZE_MAX}")]
    TooLarge(usize),
    /// Not JSON, or not of a config's shape.
    #[error("the cache config is malformed")]
    Malformed(#[source] serde_json::Error),
    /// A number leads to no layer.
    #[error("the cache config has no layer {0}")]
    NoSuchLayer(i128),
    /// A number leads to no record.
    #[error("the cache config has no record {0}")]
    NoSuchRecord(u64),
    /// A layer is below itself.
    #[error("layer {0} of the cache config is below itself")]
    LayerCircle(usize),
    /// A record is an input of its own.
    #[error("record {0} of the cache config is its own input")]
    RecordCircle(usize),
    /// A list of links is empty.
    #[error("record {0} of the cache config has an input without records")]
    EmptyInput(usize),
}

impl Config {
    /// Reads a config that somebody else wrote.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidConfig> {
        check_size(bytes)?;
        let wire: wire::Config = serde_json::from_slice(bytes).map_err(InvalidConfig::Malformed)?;
        let count = wire.layers.len();
        let layers = wire.layers.into_iter().map(|layer| read_layer(layer, count));
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        check_parents(&layers)?;
        Ok(Self { records: read_records(wire.records, count)?, layers })
    }

    /// Reads the records that an image config carries of itself (`moby.buildkit.cache.v0`, decoded). Their
    /// layers are those of the image, `blobs`, over each other.
    pub fn parse_inline(bytes: &[u8], blobs: &[Digest]) -> Result<Self, InvalidConfig> {
        check_size(bytes)?;
        let records: Vec<wire::Record> =
            serde_json::from_slice(bytes).map_err(InvalidConfig::Malformed)?;
        let layer = |(place, blob): (usize, &Digest)| Layer {
            blob: blob.clone(),
            parent: place.checked_sub(1),
            annotations: None,
        };
        let layers = blobs.iter().enumerate().map(layer).collect();
        Ok(Self { records: read_records(records, blobs.len())?, layers })
    }

    /// The config as BuildKit reads it. [`InvalidConfig::TooLarge`] if BuildKit would not.
    pub fn to_bytes(&self) -> Result<Vec<u8>, InvalidConfig> {
        let wire = wire::Config {
            layers: self.layers.iter().map(write_layer).collect(),
            records: self.records.iter().map(write_record).collect(),
        };
        let bytes = serde_json::to_vec(&wire).expect("a config is JSON");
        check_size(&bytes)?;
        Ok(bytes)
    }

    /// The layers of `stack`, bottom first.
    pub fn layers_of(&self, stack: &Stack) -> Vec<&Layer> {
        match &stack.layers {
            Layers::Each(places) => places.iter().map(|&place| &self.layers[place]).collect(),
            Layers::Down(top) => {
                let top = &self.layers[*top];
                let below = |layer: &&Layer| layer.parent.map(|parent| &self.layers[parent]);
                let mut layers: Vec<_> = std::iter::successors(Some(top), below).collect();
                layers.reverse();
                layers
            }
        }
    }
}

/// Records as an image config carries them.
pub(crate) fn inline_bytes(records: &[Record]) -> Vec<u8> {
    let wire: Vec<wire::Record> = records.iter().map(write_record).collect();
    serde_json::to_vec(&wire).expect("records are JSON")
}

fn check_size(bytes: &[u8]) -> Result<(), InvalidConfig> {
    match bytes.len() {
        size if size > SIZE_MAX => Err(InvalidConfig::TooLarge(size)),
        _ => Ok(()),
    }
}

fn read_layer(layer: wire::Layer, count: usize) -> Result<Layer, InvalidConfig> {
    let parent = match layer.parent {
        -1 => None,
        number => Some(layer_place(number.into(), count)?),
    };
    let annotations = layer.annotations.map(|annotations| Annotations {
        media_type: annotations.media_type,
        diff_id: annotations.diff_id.map(DiffId),
        size: annotations.size,
        created: annotations.created_at,
    });
    Ok(Layer { blob: layer.blob, parent, annotations })
}

fn layer_place(number: i128, count: usize) -> Result<usize, InvalidConfig> {
    let place = usize::try_from(number).ok().filter(|&place| place < count);
    place.ok_or(InvalidConfig::NoSuchLayer(number))
}

fn check_parents(layers: &[Layer]) -> Result<(), InvalidConfig> {
    let mut ends = vec![false; layers.len()];
    for start in 0..layers.len() {
        let mut path = Vec::new();
        let mut at = Some(start);
        while let Some(place) = at.filter(|&place| !ends[place]) {
            if path.len() == layers.len() {
                return Err(InvalidConfig::LayerCircle(start));
            }
            path.push(place);
            at = layers[place].parent;
        }
        path.into_iter().for_each(|place| ends[place] = true);
    }
    Ok(())
}

/// The records in an order in which inputs stand before those that take them.
fn read_records(records: Vec<wire::Record>, layers: usize) -> Result<Vec<Record>, InvalidConfig> {
    let order = order(&records)?;
    let mut places = vec![0; records.len()];
    order.iter().enumerate().for_each(|(place, &number)| places[number] = place);
    let mut records: Vec<_> = records.into_iter().map(Some).collect();
    let take = |number: usize| records[number].take().expect("each record stands there once");
    order.iter().copied().map(take).map(|record| read_record(record, &places, layers)).collect()
}

fn read_record(
    record: wire::Record,
    places: &[usize],
    layers: usize,
) -> Result<Record, InvalidConfig> {
    let link = |input: wire::Input| Link {
        // Numbers of records were looked at when they were put in order.
        record: places[usize::try_from(input.link).expect("a record has this number")],
        selector: input.selector,
    };
    let links = |inputs: Vec<wire::Input>| inputs.into_iter().map(link).collect();
    let place = |number: u64| layer_place(number.into(), layers);
    let whole = record.layers.into_iter().map(|result| {
        Ok(Stack { layers: Layers::Down(place(result.layer)?), created: result.created_at })
    });
    let chained = record.chains.into_iter().map(|chain| {
        let layers = chain.layers.into_iter().map(place).collect::<Result<_, _>>()?;
        Ok(Stack { layers: Layers::Each(layers), created: chain.created_at })
    });
    Ok(Record {
        digest: record.digest,
        inputs: record.inputs.into_iter().map(links).collect(),
        results: whole.chain(chained).collect::<Result<_, _>>()?,
    })
}

/// Depth first along the inputs, without recursion: chains are as long as their author likes.
fn order(records: &[wire::Record]) -> Result<Vec<usize>, InvalidConfig> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        OnPath,
        Done,
    }
    let inputs = inputs(records)?;
    let mut order = Vec::with_capacity(records.len());
    let mut marks = vec![Mark::New; records.len()];
    for start in 0..records.len() {
        // Each entry: a record, and how many of its inputs have been followed.
        let mut path = vec![(start, 0)];
        while let Some((number, followed)) = path.pop() {
            if followed == 0 {
                match marks[number] {
                    Mark::Done => continue,
                    Mark::OnPath => return Err(InvalidConfig::RecordCircle(number)),
                    Mark::New => marks[number] = Mark::OnPath,
                }
            }
            match inputs[number].get(followed) {
                None => {
                    marks[number] = Mark::Done;
                    order.push(number);
                }
                Some(&input) => path.extend([(number, followed + 1), (input, 0)]),
            }
        }
    }
    Ok(order)
}

/// The numbers of all records that each takes.
fn inputs(records: &[wire::Record]) -> Result<Vec<Vec<usize>>, InvalidConfig> {
    let place = |link: u64| {
        let place = usize::try_from(link).ok().filter(|&place| place < records.len());
        place.ok_or(InvalidConfig::NoSuchRecord(link))
    };
    let inputs = |(number, record): (usize, &wire::Record)| {
        if record.inputs.iter().any(Vec::is_empty) {
            return Err(InvalidConfig::EmptyInput(number));
        }
        record.inputs.iter().flatten().map(|input| place(input.link)).collect()
    };
    records.iter().enumerate().map(inputs).collect()
}

fn write_layer(layer: &Layer) -> wire::Layer {
    let annotations = layer.annotations.as_ref().map(|annotations| wire::Annotations {
        media_type: annotations.media_type.clone(),
        diff_id: annotations.diff_id.clone().map(|diff_id| diff_id.0),
        size: annotations.size,
        created_at: annotations.created,
    });
    let parent = layer.parent.map_or(-1, |parent| parent as i64);
    wire::Layer { blob: layer.blob.clone(), parent, annotations }
}

fn write_record(record: &Record) -> wire::Record {
    let input =
        |link: &Link| wire::Input { selector: link.selector.clone(), link: link.record as u64 };
    let (mut layers, mut chains) = (Vec::new(), Vec::new());
    for stack in &record.results {
        let created_at = stack.created;
        match &stack.layers {
            Layers::Down(top) => layers.push(wire::Result { layer: *top as u64, created_at }),
            Layers::Each(each) => {
                let layers = each.iter().map(|&place| place as u64).collect();
                chains.push(wire::Chain { layers, created_at });
            }
        }
    }
    wire::Record {
        layers,
        chains,
        digest: record.digest.clone(),
        inputs: record.inputs.iter().map(|links| links.iter().map(input).collect()).collect(),
    }
}
