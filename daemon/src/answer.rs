//! What a build has come to, on the wire.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use engine::{Outcome, Prepared};
use oci::Platform;
use serde_json::json;

use crate::definition;
use crate::wire::gateway::{self, Ref, RefMap, result};
use crate::words::Answered;

/// A result that can be returned under `name`: one image, or one a platform.
pub(crate) fn result(prepared: &Prepared, name: &str, allows_refs: bool) -> gateway::Result {
    let mut metadata = BTreeMap::new();
    let mut platforms = Vec::new();
    let is_index = prepared.is_index();
    for (platform, config) in prepared.images() {
        let config = serde_json::to_vec(config).expect("a config is JSON");
        let key = "containerimage.config".to_owned();
        let key = if is_index { format!("{key}/{platform}") } else { key };
        metadata.insert(key, config);
        platforms.push(platform);
    }
    let all: Vec<_> = platforms
        .iter()
        .map(|platform| json!({ "ID": platform.to_string(), "Platform": platform }))
        .collect();
    let all = json!({ "Platforms": all });
    metadata.insert("refs.platforms".to_owned(), all.to_string().into_bytes());
    let ids = platforms
        .iter()
        .map(|platform| (platform.to_string(), tree_name(prepared, name, platform)));
    let of_id = |id: String| Ref { def: Some(definition::of_result(&id)), id };
    let result = match (is_index, allows_refs) {
        (true, true) => {
            let refs = ids.map(|(platform, id)| (platform, of_id(id))).collect();
            result::Result::Refs(RefMap { refs })
        }
        (true, false) => {
            result::Result::RefsDeprecated(gateway::RefMapDeprecated { refs: ids.collect() })
        }
        (false, true) => result::Result::Ref(of_id(name.to_owned())),
        (false, false) => result::Result::RefDeprecated(name.to_owned()),
    };
    gateway::Result { result: Some(result), metadata, attestations: BTreeMap::new() }
}

/// What the files of one of the images are called.
pub(crate) fn tree_name(prepared: &Prepared, name: &str, platform: &Platform) -> String {
    match prepared.is_index() {
        true => format!("{name}/{platform}"),
        false => name.to_owned(),
    }
}

/// The name of the result that a client returns; `None` for an empty one.
pub(crate) fn name(returned: &gateway::Result) -> Option<&str> {
    let id = match returned.result.as_ref()? {
        result::Result::RefDeprecated(id) => id,
        result::Result::RefsDeprecated(refs) => refs.refs.values().next()?,
        result::Result::Ref(of) => &of.id,
        result::Result::Refs(refs) => &refs.refs.values().next()?.id,
    };
    let name = id.split_once('/').map_or(id.as_str(), |(name, _)| name);
    Some(name).filter(|name| !name.is_empty())
}

/// The answer to a question about a Dockerfile.
pub(crate) fn told(answered: Answered) -> gateway::Result {
    let text = |text: &str| text.as_bytes().to_vec();
    let mut metadata: BTreeMap<String, Vec<u8>> = [
        ("result.json".to_owned(), text(&answered.json)),
        ("result.txt".to_owned(), text(&answered.text)),
        ("version".to_owned(), text("1.0.0")),
    ]
    .into();
    if let Some(is_clean) = answered.is_clean {
        let code = if is_clean { "0" } else { "1" };
        metadata.insert("result.statuscode".to_owned(), text(code));
    }
    let result = Some(result::Result::Ref(Ref::default()));
    gateway::Result { result, metadata, attestations: BTreeMap::new() }
}

/// What exporters answer.
pub(crate) fn exported(outcome: &Outcome) -> BTreeMap<String, String> {
    // What a registry has counts for who asks it next.
    let target = outcome.pushed.first().map_or(&outcome.target, |pushed| &pushed.target);
    let mut response = BTreeMap::from([
        ("containerimage.digest".to_owned(), target.digest.to_string()),
        (
            "containerimage.descriptor".to_owned(),
            BASE64.encode(&serde_json::to_vec(target).expect("a descriptor is JSON")),
        ),
    ]);
    if let [image] = &*outcome.images
        && image.manifest.digest == outcome.target.digest
    {
        response.insert("containerimage.config.digest".to_owned(), image.config.to_string());
    }
    let pushed = outcome.pushed.iter().flat_map(|pushed| &pushed.names);
    let mut names: Vec<String> = pushed.map(ToString::to_string).collect();
    for name in &outcome.names {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    if !names.is_empty() {
        response.insert("image.name".to_owned(), names.join(","));
    }
    response
}
