//! `--add-host`.

use std::net::IpAddr;

use crate::error::UsageError;

/// `HOST=ADDRESS` or `HOST:ADDRESS`; the address may stand in brackets.
pub(crate) fn parse(text: &str) -> Result<(String, String), UsageError> {
    let invalid = |what: String| UsageError::new(format!("`--add-host {text}`: {what}"));
    let (host, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .filter(|(host, address)| !host.is_empty() && !address.is_empty())
        .ok_or_else(|| invalid("want HOST=ADDRESS or HOST:ADDRESS".to_owned()))?;
    if host.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(invalid(format!("`{host}` is not a host name")));
    }
    if address == "host-gateway" {
        return Err(invalid("`host-gateway` is not supported".to_owned())
            .with_hint("give the gateway's address, or use `--network=host`"));
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if bare.parse::<IpAddr>().is_err() {
        return Err(invalid(format!("`{bare}` is not an address")));
    }
    Ok((host.to_owned(), bare.to_owned()))
}
