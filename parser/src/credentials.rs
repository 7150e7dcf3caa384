//! Users and passwords in addresses, which are not shown.

use std::ops::Range;

/// `text` without the passwords in the addresses in it (RFC 3986, section 3.2.1), and without what stands
/// before the host of HTTP ones: a token may be in the user's place.
pub fn without_credentials(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut from = 0;
    for (secret, separator) in secrets(text) {
        shown.push_str(&text[from..secret.start]);
        from = secret.end + separator;
    }
    shown + &text[from..]
}

/// `text` with a star for each byte of what [`without_credentials`] leaves out, as long as it was: places
/// in it stay what they are.
pub fn masked_credentials(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut from = 0;
    for (secret, _) in secrets(text) {
        shown.push_str(&text[from..secret.start]);
        shown.extend(std::iter::repeat_n('*', secret.len()));
        from = secret.end;
    }
    shown + &text[from..]
}

/// Where secrets are in `text`, each with how many bytes behind it go with it.
fn secrets(text: &str) -> Vec<(Range<usize>, usize)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find("://") {
        let host = from + at + 3;
        let end = text[host..].find(ends_authority).map_or(text.len(), |end| host + end);
        let authority = &text[host..end];
        if let Some(user) = authority.rfind('@') {
            match authority[..user].find(':') {
                _ if is_http(&text[..host]) => found.push((host..host + user, 1)),
                Some(colon) => found.push((host + colon..host + user, 0)),
                None => {}
            }
        }
        from = host;
    }
    found
}

fn is_http(before: &str) -> bool {
    let before = before.trim_end_matches("://").to_ascii_lowercase();
    before.ends_with("http") || before.ends_with("https")
}

fn ends_authority(c: char) -> bool {
    matches!(c, '/' | '?' | '#' | '"' | '\'' | '`') || c.is_whitespace()
}

#[cfg(test)]
mod tests {
    use super::{masked_credentials, without_credentials};

    #[test]
    fn what_stands_before_the_host_is_left_out() {
        for (text, expected) in [
            ("ADD https://me:secret@example.org/a@b /", "ADD https://example.org/a@b /"),
            ("https://token@example.org", "https://example.org"),
            ("HTTP://me:sec@ret@example.org:80?a=b@c", "HTTP://example.org:80?a=b@c"),
            ("[\"https://a@b\", \"http://c@d/\"]", "[\"https://b\", \"http://d/\"]"),
            ("ssh://git@example.org/a", "ssh://git@example.org/a"),
            ("ssh://git:secret@example.org/a", "ssh://git@example.org/a"),
            ("git://me:sec:ret@example.org", "git://me@example.org"),
            ("git@example.org:a", "git@example.org:a"),
            ("https://example.org https://a@b", "https://example.org https://b"),
            ("https://", "https://"),
            ("://@", "://@"),
            ("http://@é", "http://é"),
        ] {
            assert_eq!(without_credentials(text), expected);
            let masked = masked_credentials(text);
            assert_eq!(masked.len(), text.len(), "{masked}");
            assert!(!masked.contains("secret") && !masked.contains("token"), "{masked}");
        }
        let masked = masked_credentials("ADD https://me:pw@a/b ssh://git:pw@c/d /");
        assert_eq!(masked, "ADD https://*****@a/b ssh://git***@c/d /");
    }
}
