//! What is taken out of the image's config.

use std::collections::BTreeMap;

use oci::ContainerConfig;

use super::options::Unset;
use crate::suggest::{Case, did_you_mean};

impl Unset {
    /// Takes it out, and gives back a line for each that is not there.
    pub(super) fn apply(&self, config: &mut ContainerConfig) -> Vec<String> {
        let mut notes = Vec::new();
        for name in &self.variables {
            let names = || config.env.iter().map(|variable| name_of(variable));
            match names().any(|known| known == name) {
                true => config.env.retain(|variable| name_of(variable) != name),
                false => notes.push(note("env", "variable", name, names())),
            }
        }
        notes.extend(remove("label", "label", &self.labels, &mut config.labels));
        notes.extend(remove("volume", "volume", &self.volumes, &mut config.volumes));
        notes.extend(remove("expose", "port", &self.ports, &mut config.exposed_ports));
        notes
    }
}

fn remove<T>(
    flag: &str,
    kind: &str,
    names: &[String],
    from: &mut BTreeMap<String, T>,
) -> Vec<String> {
    let missing = |name: &&String| from.remove(*name).is_none();
    let missing: Vec<&String> = names.iter().filter(missing).collect();
    let known = || from.keys().map(String::as_str);
    missing.into_iter().map(|name| note(flag, kind, name, known())).collect()
}

fn note<'n>(flag: &str, kind: &str, name: &str, known: impl Iterator<Item = &'n str>) -> String {
    let meant = did_you_mean(name, known, Case::Sensitive);
    format!("`--unset-{flag} {name}` does nothing: the image has no {kind} `{name}`{meant}")
}

fn name_of(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}
