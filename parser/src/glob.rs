//! Wildcards of `COPY`: Go's `filepath.Match`, one name at a time.
//!
//! `*` is any run of characters, `?` one character, `[a-z]` and `[^a-z]` one of a class; `\` takes
//! the meaning from the next character. A name never holds a slash, so neither does a match.

/// A pattern that is not one (Go: `syntax error in pattern`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadPattern;

/// Whether `text` holds a wildcard.
pub fn has_wildcard(text: &[u8]) -> bool {
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

/// Whether `pattern` can be read to its end.
pub fn check(pattern: &[u8]) -> Result<(), BadPattern> {
    let mut rest = pattern;
    while !rest.is_empty() {
        rest = match rest[0] {
            b'[' => class(rest, None)?.1,
            b'\\' if rest.len() == 1 => return Err(BadPattern),
            b'\\' => &rest[2..],
            _ => &rest[1..],
        };
    }
    Ok(())
}

/// Whether the whole of `name` matches `pattern`. Linear in the product of the lengths at worst:
/// only the last `*` is ever tried again.
pub fn matches(pattern: &[u8], name: &[u8]) -> Result<bool, BadPattern> {
    check(pattern)?;
    let (mut rest, mut left) = (pattern, name);
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if rest.first() == Some(&b'*') {
            rest = &rest[1..];
            retry = Some((rest, left));
            continue;
        }
        match step(rest, left)? {
            Step::Next(pattern, name) => (rest, left) = (pattern, name),
            Step::End => return Ok(true),
            Step::Fail => match retry {
                Some((pattern, name)) if !name.is_empty() => {
                    let name = &name[character(name)..];
                    retry = Some((pattern, name));
                    (rest, left) = (pattern, name);
                }
                _ => return Ok(false),
            },
        }
    }
}

enum Step<'a> {
    Next(&'a [u8], &'a [u8]),
    End,
    Fail,
}

fn step<'a>(pattern: &'a [u8], name: &'a [u8]) -> Result<Step<'a>, BadPattern> {
    let Some(first) = pattern.first() else {
        return Ok(if name.is_empty() { Step::End } else { Step::Fail });
    };
    if name.is_empty() {
        return Ok(Step::Fail);
    }
    let width = character(name);
    Ok(match first {
        b'?' => Step::Next(&pattern[1..], &name[width..]),
        b'[' => match class(pattern, Some(&name[..width]))? {
            (true, rest) => Step::Next(rest, &name[width..]),
            (false, _) => Step::Fail,
        },
        b'\\' => literal(&pattern[1..], name),
        _ => literal(pattern, name),
    })
}

fn literal<'a>(pattern: &'a [u8], name: &'a [u8]) -> Step<'a> {
    match pattern[0] == name[0] {
        true => Step::Next(&pattern[1..], &name[1..]),
        false => Step::Fail,
    }
}

/// Reads the class at the start of `pattern`: whether `wanted` is in it, and what follows it.
fn class<'a>(pattern: &'a [u8], wanted: Option<&[u8]>) -> Result<(bool, &'a [u8]), BadPattern> {
    let wanted = wanted.map(scalar);
    let mut rest = &pattern[1..];
    let negated = rest.first() == Some(&b'^');
    if negated {
        rest = &rest[1..];
    }
    let mut found = false;
    let mut ranges = 0;
    loop {
        if rest.first() == Some(&b']') && ranges > 0 {
            return Ok((found != negated, &rest[1..]));
        }
        let (low, after) = bound(rest)?;
        let (high, after) = match after.first() {
            Some(b'-') => bound(&after[1..])?,
            _ => (low, after),
        };
        found |= wanted.is_some_and(|c| low <= c && c <= high);
        rest = after;
        ranges += 1;
    }
}

/// One end of a range in a class.
fn bound(rest: &[u8]) -> Result<(u32, &[u8]), BadPattern> {
    let rest = match rest.first() {
        None | Some(b'-' | b']') => return Err(BadPattern),
        Some(b'\\') => &rest[1..],
        Some(_) => rest,
    };
    if rest.is_empty() {
        return Err(BadPattern);
    }
    let (low, after) = rest.split_at(character(rest));
    // A class that ends with the pattern is never closed.
    if after.is_empty() { Err(BadPattern) } else { Ok((scalar(low), after)) }
}

/// Bytes of the first character; 1 where it is not UTF-8.
fn character(text: &[u8]) -> usize {
    let width = match text[0] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    match text.get(..width).map(str::from_utf8) {
        Some(Ok(_)) => width,
        _ => 1,
    }
}

fn scalar(character: &[u8]) -> u32 {
    match str::from_utf8(character) {
        Ok(text) => text.chars().next().map_or(0, u32::from),
        // Go's replacement character for a byte that is no character.
        Err(_) => 0xfffd,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_go_matches_them() {
        for (pattern, name, want) in [
            ("abc", "abc", Ok(true)),
            ("*", "abc", Ok(true)),
            ("*c", "abc", Ok(true)),
            ("a*", "a", Ok(true)),
            ("a*b?c*x", "abxbbxdbxebxczzx", Ok(true)),
            ("a*b?c*x", "abxbbxdbxebxczzy", Ok(false)),
            ("ab[c]", "abc", Ok(true)),
            ("ab[b-d]", "abc", Ok(true)),
            ("ab[e-g]", "abc", Ok(false)),
            ("ab[^c]", "abc", Ok(false)),
            ("ab[^e-g]", "abc", Ok(true)),
            ("a\\*b", "a*b", Ok(true)),
            ("a\\*b", "ab", Ok(false)),
            ("a?b", "a☺b", Ok(true)),
            ("a[^a]b", "a☺b", Ok(true)),
            ("a???b", "a☺b", Ok(false)),
            ("[a-ζ]*", "α", Ok(true)),
            ("*[a-ζ]", "A", Ok(false)),
            ("[\\]a]", "]", Ok(true)),
            ("[\\-]", "-", Ok(true)),
            ("[x\\-]", "x", Ok(true)),
            ("[]a]", "]", Err(BadPattern)),
            ("[-]", "-", Err(BadPattern)),
            ("[x-]", "x", Err(BadPattern)),
            ("[-x]", "x", Err(BadPattern)),
            ("\\", "a", Err(BadPattern)),
            ("[a-b-c]", "a", Err(BadPattern)),
            ("[", "a", Err(BadPattern)),
            ("[^bc", "a", Err(BadPattern)),
            ("a[", "ab", Err(BadPattern)),
            ("*x", "xxx", Ok(true)),
            ("", "", Ok(true)),
            ("", "a", Ok(false)),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), want, "{pattern} {name}");
        }
    }
}
