//! A cache that is written.

use std::collections::{BTreeMap, HashMap};

use oci::{Descriptor, Digest, media_type};

use crate::artifact::{CREATED, DIFF_ID};
use crate::cache::{Blob, Made};
use crate::config::{Config, Layer, Layers, Link, Record, Stack};
use crate::key;
use crate::step::{Input, Records, Step, StepInput};

/// Steps and their results, to be written as one cache.
#[derive(Debug, Clone, Default)]
pub struct Export {
    config: Config,
    blobs: BTreeMap<Digest, Descriptor>,
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
            layers.len() - 1
        })
    }
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
