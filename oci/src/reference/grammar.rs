//! The grammar rules of image references, each a function over a whole text.
//!
//! The rules are regular, and cutting at the right separators decides them without a regular
//! expression engine: a name holds no `@`, a tag neither `/` nor `:`.

/// The parts that the rule `reference` finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts<'a> {
    /// Domain and path.
    pub name: &'a str,
    /// What follows `:`.
    pub tag: Option<&'a str>,
    /// What follows `@`.
    pub digest: Option<&'a str>,
}

/// `name [ ":" tag ] [ "@" digest ]`
pub fn reference(text: &str) -> Option<Parts<'_>> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    // A colon before the last slash belongs to the domain's port.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    let fits = full_name(name).is_some() && tag.is_none_or(is_tag) && digest.is_none_or(is_digest);
    fits.then_some(Parts { name, tag, digest })
}

/// `[ domain "/" ] path-component *( "/" path-component )`, as domain (maybe empty) and path.
///
/// The first component is the domain whenever it can be one and something follows it.
pub fn full_name(text: &str) -> Option<(&str, &str)> {
    match text.split_once('/') {
        Some((domain, path)) if is_domain(domain) && is_path(path) => Some((domain, path)),
        _ if is_path(text) => Some(("", text)),
        _ => None,
    }
}

/// `host [ ":" port ]`
pub fn is_domain(text: &str) -> bool {
    let (host, port) = match text.rfind([':', ']']) {
        Some(at) if text.as_bytes()[at] == b':' => (&text[..at], Some(&text[at + 1..])),
        _ => (text, None),
    };
    is_host(host)
        && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

/// 64 lower-case hex digits: a bare image id.
pub fn is_identifier(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// A word character, then up to 127 word characters, dots and dashes.
pub fn is_tag(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|b| is_word(b) || matches!(b, b'.' | b'-'))
}

/// `algorithm ":" 32*hex`, the algorithm being words joined by single `-`, `_`, `+` or `.`.
pub fn is_digest(text: &str) -> bool {
    let is_word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic())
            && word.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        algorithm.split(['-', '_', '+', '.']).all(is_word)
            && hex.len() >= 32
            && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

fn is_path(text: &str) -> bool {
    text.split('/').all(is_path_component)
}

/// Runs of `[a-z0-9]` joined by `.`, `_`, `__` or any number of dashes.
fn is_path_component(text: &str) -> bool {
    let is_alphanumeric = |c: char| c.is_ascii_digit() || c.is_ascii_lowercase();
    let is_separator = |s: &str| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-');
    let has_ends = text.starts_with(is_alphanumeric) && text.ends_with(is_alphanumeric);
    // What lies between alphanumerics: empty between neighbours, which every separator rule admits.
    has_ends && text.split(is_alphanumeric).all(is_separator)
}

fn is_host(text: &str) -> bool {
    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(ipv6) => !ipv6.is_empty() && ipv6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'),
        None => text.split('.').all(is_host_component),
    }
}

fn is_host_component(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}
