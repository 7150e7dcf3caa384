//! Shell patterns of `${name#pattern}`, `${name%pattern}` and `${name/pattern/text}`.
//!
//! `*` is any run of characters, `?` one character, neither a line feed; `\` takes the meaning
//! from `*`, `?` and itself, and is dropped before `}` and `/`, which it only hides from `${…}`.
//! Matching is a simulation of all ways at once, so its time is the product of the lengths at
//! worst, whatever the pattern.

use std::ops::Range;

/// A pattern that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid escape '\\{found}'")]
pub struct PatternError {
    /// What follows the backslash; U+FFFD at the end of the pattern.
    pub found: char,
}

/// How much `*` takes when there is a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greed {
    /// As little as it can.
    Shortest,
    /// As much as it can.
    Longest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Literal(char),
    One,
    Run,
}

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    tokens: Vec<Token>,
    greed: Greed,
}

impl Pattern {
    /// Compiles `text`.
    pub fn new(text: &str, greed: Greed) -> Result<Self, PatternError> {
        let mut tokens = Vec::new();
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            tokens.push(match character {
                '*' => Token::Run,
                '?' => Token::One,
                '\\' => match characters.next() {
                    Some(literal @ ('*' | '?' | '\\' | '}' | '/')) => Token::Literal(literal),
                    found => return Err(PatternError { found: found.unwrap_or('\u{fffd}') }),
                },
                literal => Token::Literal(literal),
            });
        }
        Ok(Self { tokens, greed })
    }

    /// An upper bound on the steps it takes to match against `characters` characters.
    pub fn cost(&self, characters: usize) -> usize {
        (self.tokens.len() + 1).saturating_mul(characters + 1)
    }

    /// `value` without the beginning that matches.
    pub fn trim_prefix<'a>(&self, value: &'a str) -> &'a str {
        match Search::new(self).run(value.char_indices(), Anchor::Start, value.len()) {
            Some(found) => &value[found.end..],
            None => value,
        }
    }

    /// `value` without the end that matches. The search runs backwards, so that the shortest or
    /// longest match is found as for a beginning.
    pub fn trim_suffix<'a>(&self, value: &'a str) -> &'a str {
        let reversed =
            Self { tokens: self.tokens.iter().rev().copied().collect(), greed: self.greed };
        let backwards =
            value.char_indices().rev().map(|(at, c)| (value.len() - at - c.len_utf8(), c));
        match Search::new(&reversed).run(backwards, Anchor::Start, value.len()) {
            Some(found) => &value[..value.len() - found.end],
            None => value,
        }
    }

    /// The leftmost match at or after `from`.
    pub fn find(&self, value: &str, from: usize) -> Option<Range<usize>> {
        let characters = value[from..].char_indices().map(|(at, c)| (at + from, c));
        Search::new(self).run(characters, Anchor::None, value.len())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Anchor {
    Start,
    None,
}

/// One way through the pattern that is still open: the next token, and where the match began.
#[derive(Clone, Copy)]
struct Thread {
    token: usize,
    start: usize,
}

struct Search<'p> {
    pattern: &'p Pattern,
    /// For each token the round that last put it in the list: the first, preferred way wins.
    seen: Vec<usize>,
    round: usize,
}

impl<'p> Search<'p> {
    fn new(pattern: &'p Pattern) -> Self {
        Self { pattern, seen: vec![0; pattern.tokens.len() + 1], round: 1 }
    }

    fn run(
        &mut self,
        characters: impl Iterator<Item = (usize, char)>,
        anchor: Anchor,
        end: usize,
    ) -> Option<Range<usize>> {
        // Open ways in order of preference, before and after a character.
        let (mut threads, mut next) = (Vec::new(), Vec::new());
        let mut found = None;
        let mut may_start = true;
        for (at, character) in characters {
            if may_start && found.is_none() {
                self.add(&mut threads, Thread { token: 0, start: at });
            }
            may_start = anchor == Anchor::None;
            self.cut_at_match(&mut threads, at, &mut found);
            if threads.is_empty() && (found.is_some() || !may_start) {
                return found;
            }
            self.round += 1;
            for thread in threads.drain(..) {
                match self.pattern.tokens[thread.token] {
                    Token::Literal(literal) if literal != character => {}
                    Token::One | Token::Run if character == '\n' => {}
                    Token::Run => self.add(&mut next, thread),
                    Token::Literal(_) | Token::One => {
                        self.add(&mut next, Thread { token: thread.token + 1, ..thread });
                    }
                }
            }
            std::mem::swap(&mut threads, &mut next);
        }
        if may_start && found.is_none() {
            self.add(&mut threads, Thread { token: 0, start: end });
        }
        self.cut_at_match(&mut threads, end, &mut found);
        found
    }

    /// Adds `thread` and, where it stands before a `*`, the ways that go past the `*`.
    fn add(&mut self, threads: &mut Vec<Thread>, thread: Thread) {
        let runs = self.pattern.tokens[thread.token..]
            .iter()
            .take_while(|token| **token == Token::Run)
            .count();
        let last = thread.token + runs;
        let mut push = |token: usize| {
            if self.seen[token] != self.round {
                self.seen[token] = self.round;
                threads.push(Thread { token, ..thread });
            }
        };
        match self.pattern.greed {
            Greed::Longest => (thread.token..=last).for_each(&mut push),
            Greed::Shortest => (thread.token..=last).rev().for_each(&mut push),
        }
    }

    /// Takes note of the most preferred finished way; whatever is less preferred is dropped.
    fn cut_at_match(&self, threads: &mut Vec<Thread>, at: usize, found: &mut Option<Range<usize>>) {
        let done = self.pattern.tokens.len();
        if let Some(index) = threads.iter().position(|thread| thread.token == done) {
            *found = Some(threads[index].start..at);
            threads.truncate(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Greed, Pattern};

    #[test]
    fn both_ends_trim_by_the_shortest_or_longest_match() {
        // pattern, value, without shortest prefix, longest prefix, shortest suffix, longest suffix
        let cases = [
            ("*/", "a/b/c", "b/c", "c", "a/b/c", "a/b/c"),
            ("/*", "a/b/c", "a/b/c", "a/b/c", "a/b", "a"),
            ("*", "abc", "abc", "", "abc", ""),
            ("?", "abc", "bc", "bc", "ab", "ab"),
            ("", "abc", "abc", "abc", "abc", "abc"),
            ("a*b", "axbyb", "yb", "", "", ""),
            ("\\*", "*a*", "a*", "a*", "*a", "*a"),
            ("*é", "aébé", "bé", "", "aéb", ""),
            ("*b", "a\nb", "a\nb", "a\nb", "a\n", "a\n"),
        ];
        for (pattern, value, short, long, short_end, long_end) in cases {
            let shortest = Pattern::new(pattern, Greed::Shortest).unwrap();
            let longest = Pattern::new(pattern, Greed::Longest).unwrap();
            assert_eq!(shortest.trim_prefix(value), short, "{pattern} # {value}");
            assert_eq!(longest.trim_prefix(value), long, "{pattern} ## {value}");
            assert_eq!(shortest.trim_suffix(value), short_end, "{pattern} % {value}");
            assert_eq!(longest.trim_suffix(value), long_end, "{pattern} %% {value}");
        }
    }

    #[test]
    fn find_takes_the_leftmost_match() {
        let cases = [
            ("b", "abcb", 0, Some(1..2)),
            ("b", "abcb", 2, Some(3..4)),
            ("b*", "abcb", 0, Some(1..4)),
            ("", "ab", 1, Some(1..1)),
            ("", "", 0, Some(0..0)),
            ("x", "ab", 0, None),
            ("a?", "a", 0, None),
        ];
        for (pattern, value, from, want) in cases {
            let pattern = Pattern::new(pattern, Greed::Longest).unwrap();
            assert_eq!(pattern.find(value, from), want, "{pattern:?} in {value}");
        }
    }
}
