//! A cache that is written.

use std::collections::{BTreeMap, HashMap};

use data_encoding::BASE64;
use oci::{Descriptor, DiffId, Digest, media_type};

use crate::artifact::{CREATED, DIFF_ID};
use crate::cache::{Blob, Made};
use crate::config::{self, Config, Layer, Layers, Link, Record, Stack};
use crate::key;
use crate::step::{Input, Records, Step, StepInput};

/// Steps and their results, to be written as one cache.
#[derive(Debug, Clone, Default)]
pub struct Export {
    config: Config,
    blobs: BTreeMap<Digest, Descriptor>,
    /// Digests of the tars of the config's layers.
    diff_ids: Vec<DiffId>,
    /// Places of layers, by blob and the layer below.
    layers: HashMap<(Digest, Option<usize>), usize>,
    /// Places of records, by digest and inputs.
    records: HashMap<(Digest, Vec<Vec<Link>>), usize>,
}

impl Export {
    /// Adds the output `output` of a step with what is known of its inputs (all inputs of the vertex, by
    /// number), and perhaps what it gave. A step with an input of which nothing is known cannot be found
    /// again: it is left out, and so are those that take it.
    pub fn add(
        &mut self,
        step: &Step,
        output: usize,
        inputs: &[Input],
        made: Option<&Made>,
    ) -> Records {
        let links: Vec<_> =
            step.inputs.iter().map(|wanted| self.links(wanted, &inputs[wanted.number])).collect();
        if links.iter().any(Vec::is_empty) {
            return Records::default();
        }
        let digests = step.digests.iter().map(|digest| key::of_output(digest, output));
        let places: Vec<usize> = digests.map(|digest| self.record(digest, links.clone())).collect();
        // Whichever of an image's records is found, its layers come from the image.
        if let ([place], Some(made)) = (&places[..], made) {
            self.add_result(*place, made);
        }
        Records(places)
    }

    /// The config, and the blobs that it needs, each once.
    pub fn finish(self) -> (Config, Vec<Descriptor>) {
        (self.config, self.blobs.into_values().collect())
    }

    /// The records that an image with these layers, bottom first, carries in its config: those that lead to
    /// results of which the image has all layers. `None` if there are none.
    pub fn inline(mut self, image: &[DiffId]) -> Option<String> {
        let records = &mut self.config.records;
        for record in records.iter_mut() {
            let results = std::mem::take(&mut record.results).into_iter();
            let stack = |stack| inside(&self.config.layers, &self.diff_ids, &stack, image);
            record.results = results.filter_map(stack).collect();
        }
        let records = leading_somewhere(std::mem::take(records));
        (!records.is_empty()).then(|| BASE64.encode(&config::inline_bytes(&records)))
    }

    fn links(&mut self, wanted: &StepInput, input: &Input) -> Vec<Link> {
        let link = |&record| Link { record, selector: wanted.selector.clone() };
        let mut links: Vec<Link> = input.records.0.iter().map(link).collect();
        if let (Some(content), true) = (&input.content, wanted.content.is_some()) {
            let record = self.record(key::of_content(content), Vec::new());
            links.push(Link { record, selector: String::new() });
        }
        links.sort_unstable();
        links
    }

    fn record(&mut self, digest: Digest, inputs: Vec<Vec<Link>>) -> usize {
        let records = &mut self.config.records;
        *self.records.entry((digest, inputs)).or_insert_with_key(|(digest, inputs)| {
            let (digest, inputs) = (digest.clone(), inputs.clone());
            records.push(Record { digest, inputs, results: Vec::new() });
            records.len() - 1
        })
    }

    /// Only the newest result of a record is ever used.
    fn add_result(&mut self, place: usize, made: &Made) {
        let newest = self.config.records[place].results.first();
        if newest.is_some_and(|newest| newest.created >= made.created) {
            return;
        }
        let top = made.layers.iter().fold(None, |below, blob| Some(self.layer(blob, below)));
        let stack = top.map(|top| Stack { layers: Layers::Down(top), created: made.created });
        self.config.records[place].results = stack.into_iter().collect();
    }

    fn layer(&mut self, blob: &Blob, parent: Option<usize>) -> usize {
        let digest = &blob.descriptor.digest;
        self.blobs.entry(digest.clone()).or_insert_with(|| annotated(blob));
        let layers = &mut self.config.layers;
        *self.layers.entry((digest.clone(), parent)).or_insert_with(|| {
            layers.push(Layer { blob: digest.clone(), parent, annotations: None });
            self.diff_ids.push(blob.diff_id.clone());
            layers.len() - 1
        })
    }
}

/// A stack by the places that its layers have in an image.
fn inside(layers: &[Layer], diff_ids: &[DiffId], stack: &Stack, image: &[DiffId]) -> Option<Stack> {
    let Layers::Down(top) = stack.layers else { return None };
    let below = |place: &usize| layers[*place].parent;
    let mut places: Vec<usize> = std::iter::successors(Some(top), below).collect();
    places.reverse();
    let place = |place: usize| image.iter().position(|known| *known == diff_ids[place]);
    let places: Vec<usize> = places.into_iter().map(place).collect::<Option<_>>()?;
    let is_prefix = places.iter().enumerate().all(|(place, number)| place == *number);
    let layers = match is_prefix {
        true => Layers::Down(places.len() - 1),
        false => Layers::Each(places),
    };
    Some(Stack { layers, created: stack.created })
}

/// Without the records that are inputs of none with a result, and have none.
fn leading_somewhere(records: Vec<Record>) -> Vec<Record> {
    let mut wanted = vec![false; records.len()];
    // Inputs stand before those that take them.
    for (place, record) in records.iter().enumerate().rev() {
        wanted[place] |= !record.results.is_empty();
        if wanted[place] {
            record.inputs.iter().flatten().for_each(|link| wanted[link.record] = true);
        }
    }
    let mut places = Vec::with_capacity(records.len());
    let mut kept: Vec<Record> = Vec::new();
    for (mut record, is_wanted) in records.into_iter().zip(wanted) {
        places.push(kept.len());
        if is_wanted {
            record.inputs.iter_mut().flatten().for_each(|link| link.record = places[link.record]);
            kept.push(record);
        }
    }
    kept
}

fn annotated(blob: &Blob) -> Descriptor {
    let kind = media_type::of_oci(&blob.descriptor.media_type);
    let mut descriptor =
        Descriptor::new(kind, blob.descriptor.digest.clone(), blob.descriptor.size);
    let mut annotate = |key: &str, text: String| descriptor.annotations.insert(key.into(), text);
    annotate(DIFF_ID, blob.diff_id.to_string());
    if let Some(created) = blob.created {
        annotate(CREATED, created.to_string());
    }
    descriptor
}
