//! A place in a word, and what is taken from there on.

use nom::branch::alt;
use nom::bytes::complete::{take_while, take_while1};
use nom::character::complete::one_of;
use nom::combinator::recognize;
use nom::{IResult, Parser};

/// A place in a word; what lies before it has been read.
pub(super) struct Cursor<'v> {
    source: &'v str,
    rest: &'v str,
}

impl<'v> Cursor<'v> {
    pub(super) fn new(source: &'v str) -> Self {
        Self { source, rest: source }
    }

    /// The whole word.
    pub(super) fn source(&self) -> &'v str {
        self.source
    }

    /// What is not read yet.
    pub(super) fn rest(&self) -> &'v str {
        self.rest
    }

    /// How many bytes were read.
    pub(super) fn at(&self) -> usize {
        self.source.len() - self.rest.len()
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    pub(super) fn advance(&mut self, character: char) {
        self.skip(character.len_utf8());
    }

    pub(super) fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    pub(super) fn skip_all(&mut self) {
        self.rest = "";
    }

    pub(super) fn next_or_replacement(&mut self) -> char {
        let character = self.take_one().chars().next();
        character.unwrap_or('\u{fffd}')
    }

    /// The next character; nothing at the end.
    pub(super) fn take_one(&mut self) -> &'v str {
        self.take_bytes(self.peek().map_or(0, char::len_utf8))
    }

    pub(super) fn take(&mut self, wanted: impl Fn(char) -> bool) -> &'v str {
        self.take_bytes(self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len()))
    }

    pub(super) fn take_bytes(&mut self, length: usize) -> &'v str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    /// A name: digits, or one special character, or letters, digits and `_`. May be empty.
    pub(super) fn name(&mut self) -> &'v str {
        let (rest, name) = name(self.rest).expect("a name may be empty");
        self.rest = rest;
        name
    }
}

fn name(input: &str) -> IResult<&str, &str> {
    alt((
        take_while1(char::is_numeric),
        recognize(one_of("@*#?-$!")),
        take_while(|c: char| c.is_alphanumeric() || c == '_'),
    ))
    .parse(input)
}
