//! How the rest of an instruction's line falls into command, flags and words.

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while, take_while1};
use nom::character::complete::{anychar, char, one_of};
use nom::combinator::{eof, opt, recognize, value};
use nom::multi::fold_many0;
use nom::sequence::preceded;
use nom::{IResult, Parser};

/// What separates words where quotes do not count; other Unicode blanks do not.
pub(crate) fn is_blank(character: char) -> bool {
    matches!(character, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// The command word and the rest of `line`.
pub(crate) fn split_command(line: &str) -> (&str, &str) {
    let line = line.trim();
    match line.find(is_blank) {
        Some(end) => (&line[..end], line[end..].trim_start_matches(is_blank)),
        None => (line, ""),
    }
}

/// A flag: its text without quotes and escapes, and the word as written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Flag<'l> {
    pub(crate) value: String,
    pub(crate) written: &'l str,
}

/// The `--flags` at the start of `line`, and the arguments after them.
pub(crate) fn split_flags(line: &str, escape: char) -> (Vec<Flag<'_>>, &str) {
    let mut flags = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start();
        if !rest.starts_with("--") {
            return (flags, rest.trim());
        }
        let (after, value) = flag_word(rest, escape).expect("a flag word is never refused");
        let written = &rest[..rest.len() - after.len()];
        rest = after;
        if value == "--" {
            return (flags, rest.trim());
        }
        flags.push(Flag { value, written });
    }
}

/// One part of a flag word.
#[derive(Clone)]
enum Part<'l> {
    Plain(&'l str),
    Escaped(char),
    Quote(char),
    /// An escape character at the end of the line: dropped.
    End,
}

fn flag_word(input: &str, escape: char) -> IResult<&str, String> {
    let mut word = String::new();
    let mut rest = input;
    let mut quote = None;
    loop {
        let stop = |c: char| {
            c == escape
                || match quote {
                    Some(quote) => c == quote,
                    None => c.is_whitespace() || c == '\'' || c == '"',
                }
        };
        let (after, part) = match flag_part(rest, escape, stop) {
            Ok(found) => found,
            Err(_) => return Ok((rest, word)),
        };
        rest = after;
        match part {
            Part::Plain(text) => word.push_str(text),
            Part::Escaped(character) => word.push(character),
            Part::Quote(character) => quote = quote.xor(Some(character)),
            Part::End => quote = None,
        }
    }
}

fn flag_part<'l>(
    input: &'l str,
    escape: char,
    stop: impl Fn(char) -> bool,
) -> IResult<&'l str, Part<'l>> {
    alt((
        take_while1(|c| !stop(c)).map(Part::Plain),
        preceded(char(escape), opt(anychar)).map(|c| c.map_or(Part::End, Part::Escaped)),
        one_of("'\"").map(Part::Quote),
    ))
    .parse(input)
}

/// The words of `line`, quotes and escapes kept: a blank inside either does not separate. An
/// escape character at the very end is dropped.
pub(crate) fn quoted_words(line: &str, escape: char) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (after, _) = quoted_word(rest, escape).expect("a word is never refused");
        let mut word = &rest[..rest.len() - after.len()];
        if after.is_empty() && ends_in_escape(word, escape) {
            word = &word[..word.len() - escape.len_utf8()];
        }
        if !word.is_empty() {
            words.push(word);
        }
        rest = after.trim_start();
    }
    words
}

fn quoted_word(input: &str, escape: char) -> IResult<&str, &str> {
    let plain =
        take_while1(move |c: char| c != escape && c != '\'' && c != '"' && !c.is_whitespace());
    let part = alt((plain, escaped(escape), single_quoted, double_quoted(escape)));
    recognize(fold_many0(part, || (), |(), _| ())).parse(input)
}

fn escaped<'l>(
    escape: char,
) -> impl Parser<&'l str, Output = &'l str, Error = nom::error::Error<&'l str>> {
    recognize((char(escape), opt(anychar)))
}

/// `'…'`, closed or not; nothing escapes in it.
fn single_quoted(input: &str) -> IResult<&str, &str> {
    recognize((tag("'"), take_while(|c| c != '\''), opt(tag("'")))).parse(input)
}

/// `"…"`, closed or not.
fn double_quoted<'l>(
    escape: char,
) -> impl Parser<&'l str, Output = &'l str, Error = nom::error::Error<&'l str>> {
    let plain = take_while1(move |c: char| c != '"' && c != escape);
    let inner = fold_many0(alt((plain, escaped(escape))), || (), |(), _| ());
    recognize((tag("\""), inner, alt((value((), tag("\"")), value((), eof)))))
}

/// Whether the word's last character is an escape character that escapes nothing.
fn ends_in_escape(word: &str, escape: char) -> bool {
    let mut quote = None;
    let mut pending = false;
    for character in word.chars() {
        match quote {
            _ if pending => pending = false,
            _ if character == escape && quote != Some('\'') => pending = true,
            None if character == '\'' || character == '"' => quote = Some(character),
            Some(open) if open == character => quote = None,
            _ => {}
        }
    }
    pending
}

/// The words of `line` by blanks alone.
pub(crate) fn plain_words(line: &str) -> impl Iterator<Item = &str> {
    line.split(is_blank).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{quoted_words, split_command, split_flags};

    #[test]
    fn a_line_is_a_command_then_flags_then_arguments() {
        let cases: [(&str, &str, &[&str], &str); 10] = [
            ("RUN ls", "RUN", &[], "ls"),
            ("RUN\t--a=b  --c ls --d", "RUN", &["--a=b", "--c"], "ls --d"),
            ("RUN --a='b c' x", "RUN", &["--a=b c"], "x"),
            ("RUN --a=\"b\\\"c\" x", "RUN", &["--a=b\"c"], "x"),
            ("RUN --a\\ b x", "RUN", &["--a b"], "x"),
            ("RUN --a -- --b x", "RUN", &["--a"], "--b x"),
            ("RUN -- --b", "RUN", &[], "--b"),
            ("RUN --a=é\u{a0}x", "RUN", &["--a=é"], "x"),
            ("RUN --a='b", "RUN", &["--a=b"], ""),
            (" RUN ", "RUN", &[], ""),
        ];
        for (line, command, flags, arguments) in cases {
            let (found, rest) = split_command(line);
            let (found_flags, rest) = split_flags(rest, '\\');
            let found_flags: Vec<_> = found_flags.iter().map(|f| f.value.as_str()).collect();
            assert_eq!((found, &found_flags[..], rest), (command, flags, arguments), "{line:?}");
        }
    }

    #[test]
    fn quotes_and_escapes_hold_words_together() {
        let cases: [(&str, &[&str]); 11] = [
            ("a b", &["a", "b"]),
            ("a='b c' d", &["a='b c'", "d"]),
            ("a=\"b \\\" c\" d", &["a=\"b \\\" c\"", "d"]),
            ("a='b \\' c", &["a='b \\'", "c"]),
            ("a\\ b c", &["a\\ b", "c"]),
            ("a\\", &["a"]),
            ("a\\\\", &["a\\\\"]),
            ("\"a\\", &["\"a"]),
            ("'a\\", &["'a\\"]),
            ("'a b", &["'a b"]),
            ("\\", &[]),
        ];
        for (line, want) in cases {
            assert_eq!(quoted_words(line, '\\'), want, "{line:?}");
        }
    }
}
