//! Users and passwords in addresses, which are not shown.

/// `text` without what stands before the host in each HTTP address in it (RFC 3986, section 3.2.1): a
/// password, or a token in the user's place.
pub fn without_credentials(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        let end = after.find(ends_authority).unwrap_or(after.len());
        let user = after[..end].rfind('@').filter(|_| is_http(before));
        rest = user.map_or(after, |user| &after[user + 1..]);
    }
    shown + rest
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
    use super::without_credentials;

    #[test]
    fn what_stands_before_the_host_is_left_out() {
        for (text, expected) in [
            ("ADD https://me:secret@example.org/a@b /", "ADD https://example.org/a@b /"),
            ("https://token@example.org", "https://example.org"),
            ("HTTP://me:sec@ret@example.org:80?a=b@c", "HTTP://example.org:80?a=b@c"),
            ("[\"https://a@b\", \"http://c@d/\"]", "[\"https://b\", \"http://d/\"]"),
            ("ssh://git@example.org/a", "ssh://git@example.org/a"),
            ("git@example.org:a", "git@example.org:a"),
            ("https://example.org https://a@b", "https://example.org https://b"),
            ("https://", "https://"),
            ("://@", "://@"),
            ("http://@é", "http://é"),
        ] {
            assert_eq!(without_credentials(text), expected);
        }
    }
}
