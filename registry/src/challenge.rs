//! The `WWW-Authenticate` header (RFC 9110, section 11.6.1).

/// One authentication scheme that a server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// Lower-case name: `bearer`, `basic`.
    pub(crate) scheme: String,
    /// Parameters, names in lower case.
    pub(crate) parameters: Vec<(String, String)>,
}

impl Challenge {
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Parses a header that may contain several challenges; the list ends where it cannot be parsed.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = token(rest);
        if word.is_empty() {
            return challenges;
        }
        let after_word = after.trim_start();
        match (after_word.strip_prefix('='), challenges.last_mut()) {
            (Some(value), Some(challenge)) => {
                let Some((value, after)) = parameter_value(value.trim_start()) else {
                    return challenges;
                };
                challenge.parameters.push((word.to_ascii_lowercase(), value));
                rest = after;
            }
            (Some(_), None) => return challenges,
            (None, _) => {
                challenges
                    .push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
                rest = after;
            }
        }
    }
}

/// The token at the start of `text` and what follows it.
fn token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c);
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    text.split_at(end)
}

fn parameter_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        // Some servers do not quote the realm, against the grammar: take all up to a comma or space.
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::parse;

    proptest::proptest! {
        #[test]
        fn no_header_makes_parsing_panic(header in "[ ,=\"\\\\a-zB\\PC]{0,60}") {
            for challenge in parse(&header) {
                proptest::prop_assert!(!challenge.scheme.is_empty());
            }
        }
    }

    fn check(header: &str, expected: &str) {
        let found = parse(header).into_iter().map(|c| {
            let parameters = c.parameters.iter().map(|(k, v)| format!(" {k}=<{v}>"));
            format!("{}{}", c.scheme, parameters.collect::<String>())
        });
        assert_eq!(found.collect::<Vec<_>>().join(" | "), expected, "{header}");
    }

    #[test]
    fn challenges_are_read_with_quotes_and_in_lists() {
        check("Basic", "basic");
        check(r#"Basic realm="a \"b\", c""#, r#"basic realm=<a "b", c>"#);
        check(
            r#"Bearer realm="https://auth.example/token",service="registry",scope="repository:a/b:pull,push""#,
            "bearer realm=<https://auth.example/token> service=<registry> scope=<repository:a/b:pull,push>",
        );
        check(
            r#"Basic realm="x", Bearer realm=https://a.example/t , service = "s""#,
            "basic realm=<x> | bearer realm=<https://a.example/t> service=<s>",
        );
        check("NEGOTIATE, BEARER Realm=\"r\"", "negotiate | bearer realm=<r>");
    }

    #[test]
    fn broken_headers_end_the_list() {
        check("", "");
        check("realm=\"x\"", "");
        check("Bearer realm=\"never ends", "bearer");
        check("Bearer realm=\"ends in a backslash\\", "bearer");
        check("Bearer \u{fc}", "bearer");
    }
}
