//! The proxies of Docker's own configuration, which `docker build` hands to the steps and `docker run` to
//! containers.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::environment::Environment;

/// Largest file that is read, in bytes.
const SIZE_MAX: u64 = 4 << 20;

/// Docker's names for the proxies, and the variables they become.
const NAMES: [(&str, &str); 5] = [
    ("httpProxy", "HTTP_PROXY"),
    ("httpsProxy", "HTTPS_PROXY"),
    ("ftpProxy", "FTP_PROXY"),
    ("noProxy", "NO_PROXY"),
    ("allProxy", "ALL_PROXY"),
];

/// The file is there and cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the proxies in `{}` are not used", path.display())]
pub(crate) struct UnusableConfig {
    path: PathBuf,
    source: io::Error,
}

/// The proxies in `$DOCKER_CONFIG/config.json` (`~/.docker` without it), by the name of their
/// variable in upper case. Of the daemons that may have their own, the default's count.
pub(crate) fn proxies(
    environment: &Environment,
) -> Result<BTreeMap<String, String>, UnusableConfig> {
    let directory = environment
        .path("DOCKER_CONFIG")
        .or_else(|| environment.path("HOME").map(|home| home.join(".docker")));
    let Some(directory) = directory else { return Ok(BTreeMap::new()) };
    let path = directory.join("config.json");
    match read(&path) {
        Ok(text) => parse(&text).map_err(|error| UnusableConfig { path, source: error.into() }),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound) => Ok(BTreeMap::new()),
        Err(source) => Err(UnusableConfig { path, source }),
    }
}

/// All of a file of Docker's.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    File::open(path)?.take(SIZE_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > SIZE_MAX {
        return Err(io::Error::other("it is larger than 4 MiB"));
    }
    Ok(text)
}

fn parse(text: &[u8]) -> Result<BTreeMap<String, String>, serde_json::Error> {
    #[derive(serde::Deserialize)]
    struct Config {
        proxies: Option<BTreeMap<String, BTreeMap<String, String>>>,
    }
    // As for Docker, a file with nothing in it says nothing.
    if text.is_empty() {
        return Ok(BTreeMap::new());
    }
    let config: Config = serde_json::from_slice(text)?;
    let Some(proxies) = config.proxies.unwrap_or_default().remove("default") else {
        return Ok(BTreeMap::new());
    };
    let named = |(key, name): (&str, &str)| {
        let value = proxies.get(key).filter(|value| !value.is_empty())?;
        Some((name.to_owned(), value.clone()))
    };
    Ok(NAMES.into_iter().filter_map(named).collect())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_default_proxies_become_variables() {
        let text = r#"{"auths": {}, "proxies": {
            "default": {"httpProxy": "http://p:1", "noProxy": "a,b", "ftpProxy": "", "other": "x"},
            "tcp://host": {"httpsProxy": "http://q:1"}}}"#;
        let proxies = parse(text.as_bytes()).expect("good");
        let want = [("HTTP_PROXY", "http://p:1"), ("NO_PROXY", "a,b")];
        assert!(proxies.iter().map(|(n, v)| (n.as_str(), v.as_str())).eq(want), "{proxies:?}");
        for (text, want) in [("", true), ("{}", true), ("{\"proxies\": 1}", false), ("x", false)] {
            assert_eq!(parse(text.as_bytes()).is_ok(), want, "{text}");
        }
    }
}
