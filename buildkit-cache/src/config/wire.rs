//! The JSON of a cache config, with Go's habits: what is zero or empty is left out, and a list may be
//! `null`.

use jiff::Timestamp;
use oci::Digest;
use oci::config::null_as_default;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub(super) struct Config {
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub(super) layers: Vec<Layer>,
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub(super) records: Vec<Record>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Layer {
    pub(super) blob: Digest,
    /// Place of the layer below, -1 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) parent: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) annotations: Option<Annotations>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Annotations {
    #[serde(default)]
    pub(super) media_type: String,
    #[serde(rename = "diffID", default, skip_serializing_if = "Option::is_none")]
    pub(super) diff_id: Option<Digest>,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default)]
    pub(super) created_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub(super) layers: Vec<Result>,
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub(super) chains: Vec<Chain>,
    pub(super) digest: Digest,
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub(super) inputs: Vec<Vec<Input>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Result {
    pub(super) layer: u64,
    #[serde(default)]
    pub(super) created_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Chain {
    #[serde(deserialize_with = "null_as_default")]
    pub(super) layers: Vec<u64>,
    #[serde(default)]
    pub(super) created_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Input {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) selector: String,
    pub(super) link: u64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}
