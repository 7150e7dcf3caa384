//! Registries as they are typed: a host, or an address of it.

use oci::Reference;
use oci::reference::DEFAULT_DOMAIN;

use crate::error::UsageError;

/// Other names of Docker Hub.
const HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
/// Paths under which registries answer.
const PATHS: [&str; 3] = ["", "v1", "v2"];

/// The registry's name in references (`docker.io`, `registry.example.com:5000`), of what was typed for `SERVER`;
/// Docker Hub if nothing was.
pub fn parse(text: Option<&str>) -> Result<String, UsageError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(DEFAULT_DOMAIN.to_owned());
    };
    let invalid = || {
        UsageError::new(format!("`{text}` is not the host of a registry"))
            .with_hint("write `registry.example.com` or `registry.example.com:5000`")
    };
    let address = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let address = address.unwrap_or(text);
    let (host, path) = address.split_once('/').unwrap_or((address, ""));
    if !PATHS.contains(&path.trim_matches('/')) {
        return Err(UsageError::new(format!("`{text}` names a repository"))
            .with_hint(format!("credentials are those of a whole registry: `{host}`")));
    }
    if HUB.contains(&host) {
        return Ok(DEFAULT_DOMAIN.to_owned());
    }
    // A host without a dot or a port is one here: nothing else can be meant.
    let is_plain = !host.is_empty()
        && host.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        && !host.starts_with('-')
        && !host.ends_with('-');
    match format!("{host}/x").parse::<Reference>() {
        Ok(reference) if reference.domain() == host => Ok(host.to_owned()),
        _ if is_plain => Ok(host.to_owned()),
        _ => Err(invalid()),
    }
}

/// The registry's name for people.
pub fn shown(domain: &str) -> &str {
    if domain == DEFAULT_DOMAIN { "Docker Hub" } else { domain }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_registry_is_a_host_however_it_is_typed() {
        for (text, want) in [
            (None, Ok("docker.io")),
            (Some(""), Ok("docker.io")),
            (Some("docker.io"), Ok("docker.io")),
            (Some("https://index.docker.io/v1/"), Ok("docker.io")),
            (Some("registry-1.docker.io"), Ok("docker.io")),
            (Some("r.example"), Ok("r.example")),
            (Some("https://r.example:5000/v2/"), Ok("r.example:5000")),
            (Some("http://127.0.0.1:5000"), Ok("127.0.0.1:5000")),
            (Some("[::1]:5000"), Ok("[::1]:5000")),
            (Some("localhost"), Ok("localhost")),
            (Some("registry"), Ok("registry")),
            (Some("r.example/team"), Err("`r.example/team` names a repository")),
            (Some("a b"), Err("`a b` is not the host of a registry")),
            (Some("-u"), Err("`-u` is not the host of a registry")),
            (Some("r.example:port"), Err("`r.example:port` is not the host of a registry")),
            (
                Some("me:secret@r.example"),
                Err("`me:secret@r.example` is not the host of a registry"),
            ),
            (Some("https://"), Err("`https://` is not the host of a registry")),
        ] {
            let got = parse(text).map_err(|error| error.message);
            assert_eq!(got.as_deref().map_err(String::as_str), want, "{text:?}");
        }
    }
}
