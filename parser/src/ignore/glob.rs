//! One pattern of an ignore file.

use super::regex::Program;

/// A pattern, in the cheapest form that does what it says.
#[derive(Debug, Clone)]
pub(super) struct Glob {
    text: String,
    matcher: Matcher,
}

/// How a pattern is matched. The distinctions are those of Docker's matcher, since they show: a
/// text with `**` only at its end is compared as a prefix, not part by part.
#[derive(Debug, Clone)]
enum Matcher {
    /// The whole path.
    Exact,
    /// `text**`.
    Prefix(String),
    /// `**text`.
    Suffix(String),
    /// Anything else.
    Program(Program),
}

impl Glob {
    /// `None` if the pattern is malformed.
    pub(super) fn new(text: &str) -> Option<Self> {
        if !is_well_formed(text) {
            return None;
        }
        let matcher = match translate(text) {
            Translated::Exact => Matcher::Exact,
            Translated::Prefix => Matcher::Prefix(text[..text.len() - 2].to_owned()),
            Translated::Suffix => Matcher::Suffix(text[2..].to_owned()),
            Translated::Regex(regex) => Matcher::Program(Program::new(&regex)?),
        };
        Some(Self { text: text.to_owned(), matcher })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn matches(&self, path: &str) -> bool {
        match &self.matcher {
            Matcher::Exact => path == self.text,
            Matcher::Prefix(prefix) => path.starts_with(prefix.as_str()),
            // `**/name` is also `name` at the top.
            Matcher::Suffix(suffix) => {
                path.ends_with(suffix.as_str()) || suffix.strip_prefix('/') == Some(path)
            }
            Matcher::Program(program) => program.matches(path),
        }
    }

    /// Whether some path below `directory` could match.
    pub(super) fn may_match_below(&self, directory: &str) -> bool {
        let below = format!("{}/", directory.trim_end_matches('/'));
        match &self.matcher {
            Matcher::Exact => self.text.starts_with(&below),
            Matcher::Prefix(prefix) => {
                prefix.starts_with(&below) || below.starts_with(prefix.as_str())
            }
            Matcher::Suffix(_) => true,
            Matcher::Program(program) => program.may_match_after(&below),
        }
    }
}

/// What kind of matching a pattern wants.
#[derive(Debug, PartialEq, Eq)]
enum Translated {
    Exact,
    Prefix,
    Suffix,
    Regex(String),
}

/// Docker's translation into a regular expression, its oddities included: brackets are handed
/// over as they are, so that what is special inside them is special there, too.
fn translate(pattern: &str) -> Translated {
    let mut regex = "^".to_owned();
    let mut kind = Translated::Exact;
    let mut is_regex = false;
    let mut characters = pattern.chars().peekable();
    let mut first = true;
    while let Some(character) = characters.next() {
        match character {
            '*' if characters.next_if_eq(&'*').is_some() => {
                characters.next_if_eq(&'/');
                let at_end = characters.peek().is_none();
                match (at_end, is_regex || kind != Translated::Exact) {
                    (true, false) => kind = Translated::Prefix,
                    (true, true) => {
                        regex.push_str(".*");
                        is_regex = true;
                    }
                    (false, _) => {
                        regex.push_str("(.*/)?");
                        is_regex = true;
                    }
                }
                if first {
                    kind = Translated::Suffix;
                    is_regex = false;
                }
            }
            '*' => {
                regex.push_str("[^/]*");
                is_regex = true;
            }
            '?' => {
                regex.push_str("[^/]");
                is_regex = true;
            }
            '.' | '+' | '(' | ')' | '|' | '{' | '}' | '$' => regex.extend(['\\', character]),
            '\\' => {
                regex.push('\\');
                if let Some(escaped) = characters.next() {
                    regex.push(escaped);
                    is_regex = true;
                }
            }
            '[' | ']' => {
                regex.push(character);
                is_regex = true;
            }
            _ => regex.push(character),
        }
        first = false;
    }
    if is_regex {
        regex.push('$');
        return Translated::Regex(regex);
    }
    kind
}

/// Whether Go's `filepath.Match` takes the pattern.
fn is_well_formed(pattern: &str) -> bool {
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if characters.next().is_none() => return false,
            '[' => {
                characters.next_if_eq(&'^');
                if skip_ranges(&mut characters).is_none() {
                    return false;
                }
            }
            _ => {}
        }
    }
    true
}

/// The inside of brackets, up to and with the closing one; there is at least one range.
fn skip_ranges(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<()> {
    loop {
        skip_bound(characters)?;
        if characters.next_if_eq(&'-').is_some() {
            skip_bound(characters)?;
        }
        if characters.next_if_eq(&']').is_some() {
            return Some(());
        }
    }
}

fn skip_bound(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<()> {
    match characters.next()? {
        '-' | ']' => None,
        '\\' => characters.next().map(drop),
        _ => Some(()),
    }
    // Nothing may end here: the closing bracket is still to come.
    .filter(|()| characters.peek().is_some())
}

#[cfg(test)]
mod tests {
    use super::{Glob, Translated, translate};

    #[test]
    fn the_cheapest_form_is_chosen() {
        let cases = [
            ("a/b", Translated::Exact),
            ("a**", Translated::Prefix),
            ("a/**", Translated::Prefix),
            ("**", Translated::Suffix),
            ("**/a", Translated::Suffix),
            ("**/a*", Translated::Regex("^(.*/)?a[^/]*$".to_owned())),
            ("**a**", Translated::Regex("^(.*/)?a.*$".to_owned())),
            ("a.?", Translated::Regex("^a\\.[^/]$".to_owned())),
        ];
        for (pattern, want) in cases {
            assert_eq!(translate(pattern), want, "{pattern}");
        }
    }

    #[test]
    fn directories_without_hope_are_known() {
        let cases = [
            ("a/b/c", "a", true),
            ("a/b/c", "a/b", true),
            ("a/b/c", "a/b/c", false),
            ("a/b/c", "x", false),
            ("a/*.c", "a", true),
            ("a/*.c", "b", false),
            ("a/*.c", "a/b", false),
            ("a/**/*.c", "a/b/c", true),
            ("a/**", "a/b", true),
            ("a/**", "b", false),
            ("**/keep", "x/y", true),
        ];
        for (pattern, directory, want) in cases {
            let glob = Glob::new(pattern).expect(pattern);
            assert_eq!(glob.may_match_below(directory), want, "{pattern} {directory}");
        }
    }
}
