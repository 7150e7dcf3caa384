//! `--add-host`.

use engine::request::NetworkMode;
use engine::run::HostAddress;

use crate::error::UsageError;

/// Names and what they stand for, in their order.
pub(crate) fn parse_all(
    texts: &[String],
    network: NetworkMode,
) -> Result<Vec<(String, HostAddress)>, UsageError> {
    texts.iter().map(|text| parse(text, network)).collect()
}

/// `HOST=ADDRESS` or `HOST:ADDRESS`; the address may stand in brackets, or be `host-gateway`.
fn parse(text: &str, network: NetworkMode) -> Result<(String, HostAddress), UsageError> {
    let invalid = |what: String| UsageError::new(format!("`--add-host {text}`: {what}"));
    let (host, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .filter(|(host, address)| !host.is_empty() && !address.is_empty())
        .ok_or_else(|| invalid("want HOST=ADDRESS or HOST:ADDRESS".to_owned()))?;
    if host.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(invalid(format!("`{host}` is not a host name")));
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let parsed = bare.parse().map_err(|_| {
        invalid(format!("`{bare}` is not an address"))
            .with_hint("want an IP address or `host-gateway`")
    })?;
    if parsed == HostAddress::Gateway && network == NetworkMode::None {
        let message = format!("`--add-host {text}` and `--network=none` do not go together");
        return Err(UsageError::new(message)
            .with_hint("without a network the host cannot be reached; leave one of them out"));
    }
    Ok((host.to_owned(), parsed))
}
