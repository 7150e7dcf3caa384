//! From a finished root and a config to an image in the store.

use std::collections::BTreeMap;

use cache::{Memo, Store};
use oci::{Descriptor, History, ImageConfig, media_type};

use crate::document::{put, write_manifest};
use crate::error::BuildError;
use crate::layer::AssembledLayer;
use crate::request::MediaTypes;

/// Domain of the memos of when images were put together.
const ASSEMBLED: &str = "assembled";

/// An image whose parts are all in the store.
#[derive(Debug, Clone)]
pub(crate) struct AssembledImage {
    pub(crate) config: ImageConfig,
    pub(crate) config_descriptor: Descriptor,
    pub(crate) manifest: Descriptor,
    pub(crate) layers: Vec<AssembledLayer>,
    /// The time of the sources, in seconds since 1970.
    pub(crate) epoch: Option<i64>,
}

/// What an image is made of.
pub(crate) struct Parts {
    pub(crate) config: ImageConfig,
    /// How many entries of the config's history are the base's: they keep their times.
    pub(crate) base_history: usize,
    pub(crate) layers: Vec<AssembledLayer>,
    /// The time of the sources, in seconds since 1970.
    pub(crate) epoch: Option<i64>,
    /// Of its manifest.
    pub(crate) annotations: BTreeMap<String, String>,
    /// Of the manifest's descriptor.
    pub(crate) descriptor_annotations: BTreeMap<String, String>,
}

/// Writes config and manifest.
pub(crate) fn assemble(store: &Store, parts: Parts) -> Result<AssembledImage, BuildError> {
    let Parts { mut config, base_history, layers, epoch, annotations, .. } = parts;
    config.rootfs.diff_ids = layers.iter().map(|l| l.diff_id.clone()).collect();
    let own = config.history.len() - base_history;
    let described = config.history.iter().filter(|h| !h.empty_layer).count();
    if described != layers.len() {
        complete_history(&mut config.history, layers.len());
    }
    let base_history = config.history.len().saturating_sub(own);
    // The newest of its layers dates an image, wherever it is put together.
    let newest = || layers.iter().filter_map(|layer| layer.created).max();
    let fallback = epoch.or_else(newest).unwrap_or_else(|| first_assembled(store, &config));
    fill_times(&mut config, &layers, fallback, epoch, base_history);
    let config_bytes = serde_json::to_vec(&config).expect("a config is plain data");
    let config_descriptor = put(store, media_type::CONFIG, &config_bytes)?;
    let descriptors = layers.iter().map(|l| l.descriptor.clone()).collect();
    let mut manifest =
        write_manifest(store, MediaTypes::Oci, &config_descriptor, descriptors, &annotations)?;
    manifest.annotations = parts.descriptor_annotations;
    Ok(AssembledImage { config, config_descriptor, manifest, layers, epoch })
}

/// The history of what a build adds where `layers` become one, as Docker's `--squash` has it: each entry
/// without a layer, and at the end one with it.
pub(crate) fn squashed(mut own: Vec<History>, layers: usize) -> Vec<History> {
    own.iter_mut().for_each(|entry| entry.empty_layer = true);
    if layers > 0 {
        let s = if layers == 1 { "" } else { "s" };
        let comment = format!("merge of {layers} layer{s}");
        own.push(History { comment, ..History::default() });
    }
    own
}

/// A base image may have less history than layers; engines want one entry a layer.
fn complete_history(history: &mut Vec<History>, layers: usize) {
    let described = history.iter().filter(|h| !h.empty_layer).count();
    for _ in described..layers {
        history.insert(0, History::default());
    }
    let mut surplus = described.saturating_sub(layers);
    history.retain(|entry| {
        let drop = surplus > 0 && !entry.empty_layer;
        surplus -= usize::from(drop);
        !drop
    });
}

/// When an image with this content was first put together in this store: building it again gives
/// the same image.
fn first_assembled(store: &Store, config: &ImageConfig) -> i64 {
    let mut timeless = config.clone();
    timeless.created = None;
    let bytes = serde_json::to_vec(&timeless).expect("a config is plain data");
    let mut encoder = llb::encode::Encoder::new(ASSEMBLED);
    encoder.bytes(&bytes);
    let key = encoder.finish();
    if let Some(known) = store.memo(ASSEMBLED, &key) {
        return known.created;
    }
    let memo = Memo::new(Vec::new());
    store.put_memo(ASSEMBLED, &key, &memo);
    memo.created
}

/// Gives every entry of the history that has none a time: the epoch, else that of its layer. The
/// first `base` entries are an input: what they say stays.
fn fill_times(
    config: &mut ImageConfig,
    layers: &[AssembledLayer],
    fallback: i64,
    epoch: Option<i64>,
    base: usize,
) {
    let mut layers = layers.iter();
    for (number, entry) in config.history.iter_mut().enumerate() {
        let layer = if entry.empty_layer { None } else { layers.next() };
        if entry.created.is_none() || number >= base {
            let made = layer.and_then(|l| l.created).unwrap_or(fallback);
            entry.created = Some(rfc3339(epoch.unwrap_or(made)));
        }
    }
    config.created = Some(rfc3339(epoch.unwrap_or(fallback)));
}

/// A time in seconds since 1970 as documents have it.
fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use oci::Digest;

    use super::*;

    /// A history in letters: `l` an entry of a layer, `e` one of none, capital with a time.
    fn history(letters: &str) -> Vec<History> {
        let entry = |letter: char| History {
            created: letter.is_uppercase().then(|| "2001-01-01T00:00:00.5Z".to_owned()),
            empty_layer: letter.eq_ignore_ascii_case(&'e'),
            created_by: letter.to_string(),
            ..History::default()
        };
        letters.chars().map(entry).collect()
    }

    #[test]
    fn a_history_has_an_entry_for_each_layer() {
        for (given, layers, expected) in [
            ("le", 1, "le"),
            ("", 2, "--"),
            ("el", 3, "--el"),
            ("lele", 1, "ele"),
            ("llll", 0, ""),
            ("ee", 0, "ee"),
        ] {
            let mut history = history(given);
            complete_history(&mut history, layers);
            let letters =
                history.iter().map(|h| if h.created_by.is_empty() { "-" } else { &h.created_by });
            assert_eq!(letters.collect::<String>(), expected, "{given} for {layers}");
        }
    }

    #[test]
    fn times_are_those_of_the_layers_or_the_epoch_and_the_base_keeps_its_own() {
        let layer = |created| {
            let digest = Digest::of(b"");
            let descriptor = Descriptor::new(media_type::LAYER, digest.clone(), 0);
            let store = tempfile::tempdir().unwrap();
            let store = Store::open(store.path(), cache::Options::default()).unwrap();
            let diff_id = oci::DiffId(digest);
            let id = store.add_blob_layer(&diff_id, &descriptor);
            AssembledLayer { id, diff_id, descriptor, created }
        };
        let layers = [layer(None), layer(Some(100)), layer(None)];
        // The base's entry has its time, the second layer knows when it was made.
        let base = "2001-01-01T00:00:00.5Z";
        for (epoch, expected) in [
            (None, [base, "1970-01-01T00:01:40Z", "1970-01-01T00:16:40Z", "1970-01-01T00:16:40Z"]),
            (
                Some(50),
                [base, "1970-01-01T00:00:50Z", "1970-01-01T00:00:50Z", "1970-01-01T00:00:50Z"],
            ),
        ] {
            let mut config = ImageConfig { history: history("Llel"), ..ImageConfig::default() };
            config.history[0].created = Some(base.to_owned());
            fill_times(&mut config, &layers, epoch.unwrap_or(1000), epoch, 2);
            let times: Vec<&str> =
                config.history.iter().filter_map(|h| h.created.as_deref()).collect();
            assert_eq!(times, expected, "{epoch:?}");
        }
    }
}
