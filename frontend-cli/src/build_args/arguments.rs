//! `--build-arg`, and what the surroundings add: proxies and `SOURCE_DATE_EPOCH`.

use std::collections::BTreeMap;

use crate::cli::BuildArgs;
use crate::docker_config;
use crate::environment::Environment;
use crate::error::UsageError;
use crate::settings;

const EPOCH: &str = "SOURCE_DATE_EPOCH";
/// Names of proxy variables; each counts in lower case, too.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// The build arguments.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    /// All of them.
    pub(super) all: BTreeMap<String, String>,
    /// What is not used, and why.
    pub(super) warnings: Vec<String>,
}

/// Gathers them. What was typed counts first, then Docker's configuration, then the environment.
pub(super) fn resolve(
    args: &BuildArgs,
    environment: &Environment,
) -> Result<Arguments, UsageError> {
    let mut all = typed(&args.build_args, environment)?;
    let mut warnings = settings::check(&all, environment, args.metadata_file.is_some())?;
    match docker_config::proxies(environment) {
        Ok(proxies) => add_proxies(&mut all, proxies),
        Err(error) => warnings.push(format!("{:#}", anyhow::Error::from(error))),
    }
    add_proxies(&mut all, proxies_of(environment));
    if let Some(value) = environment.text(EPOCH).filter(|value| !value.is_empty()) {
        all.entry(EPOCH.to_owned()).or_insert_with(|| value.to_owned());
    }
    Ok(Arguments { all, warnings })
}

fn typed(
    texts: &[String],
    environment: &Environment,
) -> Result<BTreeMap<String, String>, UsageError> {
    let mut result = BTreeMap::new();
    for text in texts {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text.as_str(), environment.text(text)),
        };
        if name.is_empty() {
            return Err(UsageError::new(format!("`--build-arg {text}`: the name is empty")));
        }
        // A bare name that is not set says nothing: the Dockerfile's default counts.
        if let Some(value) = value {
            result.insert(name.to_owned(), value.to_owned());
        }
    }
    Ok(result)
}

fn proxies_of(environment: &Environment) -> BTreeMap<String, String> {
    let names = PROXIES.iter().flat_map(|name| [(*name).to_owned(), name.to_lowercase()]);
    names
        .filter_map(|name| {
            let value = environment.text(&name).filter(|value| !value.is_empty())?.to_owned();
            Some((name, value))
        })
        .collect()
}

/// Adds the proxies that are not given already, in whatever case.
fn add_proxies(all: &mut BTreeMap<String, String>, proxies: BTreeMap<String, String>) {
    let given: Vec<String> = all.keys().map(|name| name.to_ascii_uppercase()).collect();
    all.extend(proxies.into_iter().filter(|(name, _)| !given.contains(&name.to_ascii_uppercase())));
}
