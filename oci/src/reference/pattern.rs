//! Shell patterns as Go's `path.Match` reads them: `*` and `?` stop at `/`, `[…]` is a class.

/// Whether `name` matches `pattern` as a whole; `None` when the pattern is malformed.
pub(super) fn matches(pattern: &str, name: &str) -> Option<bool> {
    let tokens = parse(pattern)?;
    let name: Vec<char> = name.chars().collect();
    // Which positions of `name` the tokens so far can end at: linear in pattern × name.
    let mut ends = vec![false; name.len() + 1];
    ends[0] = true;
    for token in &tokens {
        ends = step(token, &ends, &name);
    }
    Some(ends[name.len()])
}

enum Token {
    Star,
    Any,
    Literal(char),
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Token {
    fn matches(&self, c: char) -> bool {
        match self {
            Self::Star | Self::Any => c != '/',
            Self::Literal(literal) => *literal == c,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (low..=high).contains(&&c)) != *negated
            }
        }
    }
}

fn step(token: &Token, ends: &[bool], name: &[char]) -> Vec<bool> {
    let mut next = vec![false; ends.len()];
    if matches!(token, Token::Star) {
        next.copy_from_slice(ends);
    }
    for (at, &c) in name.iter().enumerate() {
        let from = if matches!(token, Token::Star) { next[at] } else { ends[at] };
        next[at + 1] |= from && token.matches(c);
    }
    next
}

fn parse(pattern: &str) -> Option<Vec<Token>> {
    let mut chars = pattern.chars().peekable();
    let mut tokens = Vec::new();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' => Token::Star,
            '?' => Token::Any,
            '\\' => Token::Literal(chars.next()?),
            '[' => parse_class(&mut chars)?,
            c => Token::Literal(c),
        });
    }
    Some(tokens)
}

fn parse_class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    while ranges.is_empty() || chars.next_if_eq(&']').is_none() {
        let low = class_char(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() { class_char(chars)? } else { low };
        ranges.push((low, high));
    }
    Some(Token::Class { negated, ranges })
}

fn class_char(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match chars.next()? {
        '-' | ']' => None,
        '\\' => chars.next(),
        c => Some(c),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_go_path_match_does() {
        for (pattern, name, expected) in [
            ("abc", "abc", Some(true)),
            ("*", "abc", Some(true)),
            ("*", "a/b", Some(false)),
            ("a*/b", "abc/b", Some(true)),
            ("a*b?c*x", "abxbbxdbxebxczzx", Some(true)),
            ("a?b", "a/b", Some(false)),
            ("[^a]", "b", Some(true)),
            ("[a-c]x", "bx", Some(true)),
            ("[\\]a]", "]", Some(true)),
            ("[]a]", "]", None),
            ("[a", "a", None),
            ("a\\", "a", None),
            ("\\*", "*", Some(true)),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} on {name}");
        }
    }
}
