//! The exec form: a JSON array of strings.
//!
//! What is no valid JSON array is taken for shell form, so validity is decided by JSON's grammar
//! to the letter. Lone surrogates become U+FFFD. Nothing recurses: other values than strings are
//! only skipped, brackets counted.

use std::ops::Range;

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while, take_while_m_n, take_while1};
use nom::character::complete::{anychar, char, digit1, one_of};
use nom::combinator::{map_opt, opt, recognize, value, verify};
use nom::multi::fold_many0;
use nom::sequence::{delimited, preceded, terminated};
use nom::{IResult, Parser};

/// How deep arrays and objects may nest to still count as JSON.
const MAX_DEPTH: usize = 10_000;

/// What text in place of an exec form is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JsonForm {
    /// No JSON array: shell form.
    None,
    /// A JSON array with something else than strings in it.
    NotStrings,
    /// The strings, and where each literal stands in the text.
    Strings(Vec<(String, Range<usize>)>),
}

/// Decides whether `text` is an exec form.
pub fn parse(text: &str) -> JsonForm {
    let body = text.trim_start();
    if !body.starts_with('[') {
        return JsonForm::None;
    }
    if let Ok(("", strings)) = string_array(body) {
        let offset = text.len() - body.len();
        let place = |literal: &str| {
            let start = offset + (literal.as_ptr() as usize - body.as_ptr() as usize);
            start..start + literal.len()
        };
        return JsonForm::Strings(strings.into_iter().map(|(s, l)| (s, place(l))).collect());
    }
    if is_json(body) { JsonForm::NotStrings } else { JsonForm::None }
}

/// The strings with the literals they came from.
fn string_array(input: &str) -> IResult<&str, Vec<(String, &str)>> {
    let (rest, _) = token('[').parse(input)?;
    if let Ok((rest, _)) = token(']').parse(rest) {
        return Ok((rest, Vec::new()));
    }
    let (rest, first) = literal(rest)?;
    let more = fold_many0(preceded(token(','), literal), Vec::new, |mut strings, string| {
        strings.push(string);
        strings
    });
    let (rest, mut strings) = terminated(more, token(']')).parse(rest)?;
    strings.insert(0, first);
    Ok((rest, strings))
}

fn literal(input: &str) -> IResult<&str, (String, &str)> {
    let (rest, text) = string(input)?;
    let literal = &input[..input.len() - rest.len()];
    let (rest, _) = blanks(rest)?;
    Ok((rest, (text, literal)))
}

fn blanks(input: &str) -> IResult<&str, &str> {
    take_while(|c| matches!(c, ' ' | '\t' | '\n' | '\r')).parse(input)
}

/// A punctuation character and the blanks after it.
fn token<'i>(
    character: char,
) -> impl Parser<&'i str, Output = char, Error = nom::error::Error<&'i str>> {
    terminated(char(character), blanks)
}

/// A piece of a string.
enum Piece<'i> {
    Plain(&'i str),
    Character(char),
    /// A UTF-16 unit that is half of a pair.
    Surrogate(u16),
}

fn string(input: &str) -> IResult<&str, String> {
    let pieces = fold_many0(piece, Text::default, Text::push);
    let (rest, text) = delimited(char('"'), pieces, char('"')).parse(input)?;
    Ok((rest, text.finish()))
}

fn piece(input: &str) -> IResult<&str, Piece<'_>> {
    alt((
        take_while1(|c| c >= ' ' && c != '"' && c != '\\').map(Piece::Plain),
        preceded(char('\\'), alt((simple_escape.map(Piece::Character), unicode_escape))),
    ))
    .parse(input)
}

fn simple_escape(input: &str) -> IResult<&str, char> {
    let meaning = |c| match c {
        '"' | '\\' | '/' => Some(c),
        'b' => Some('\u{8}'),
        'f' => Some('\u{c}'),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        _ => None,
    };
    map_opt(anychar, meaning).parse(input)
}

fn unicode_escape(input: &str) -> IResult<&str, Piece<'_>> {
    let digits = take_while_m_n(4, 4, |c: char| c.is_ascii_hexdigit());
    let unit = map_opt(digits, |digits| u16::from_str_radix(digits, 16).ok());
    preceded(char('u'), unit)
        .map(|unit| match char::from_u32(u32::from(unit)) {
            Some(character) => Piece::Character(character),
            None => Piece::Surrogate(unit),
        })
        .parse(input)
}

/// A string on the way; `high` is the first half of a pair.
#[derive(Default)]
struct Text {
    text: String,
    high: Option<u16>,
}

impl Text {
    fn push(mut self, piece: Piece<'_>) -> Self {
        let high = self.high.take();
        if let (Some(high), Piece::Surrogate(low)) = (high, &piece)
            && let Some(Ok(character)) = char::decode_utf16([high, *low]).next()
        {
            self.text.push(character);
            return self;
        }
        if high.is_some() {
            self.text.push('\u{fffd}');
        }
        match piece {
            Piece::Plain(text) => self.text.push_str(text),
            Piece::Character(character) => self.text.push(character),
            Piece::Surrogate(unit) if unit < 0xdc00 => self.high = Some(unit),
            Piece::Surrogate(_) => self.text.push('\u{fffd}'),
        }
        self
    }

    fn finish(self) -> String {
        match self.high {
            Some(_) => self.text + "\u{fffd}",
            None => self.text,
        }
    }
}

/// Whether `input`, which begins with a bracket, is one JSON value and nothing more.
fn is_json(input: &str) -> bool {
    // For each open bracket whether it is an object's.
    let mut open = Vec::new();
    let mut rest = input;
    loop {
        let Some(after) = value_start(rest, &mut open) else { return false };
        rest = after;
        // A finished value: close what ends here, go on at a comma.
        loop {
            let Some(object) = open.last().copied() else { return rest.is_empty() };
            if let Some(after) = rest.strip_prefix(if object { '}' } else { ']' }) {
                open.pop();
                rest = skip_blanks(after);
                continue;
            }
            let Some(after) = rest.strip_prefix(',') else { return false };
            rest = skip_blanks(after);
            if object {
                let Ok((after, _)) = key(rest) else { return false };
                rest = after;
            }
            break;
        }
    }
}

/// Goes past a scalar, or into nested brackets up to the first scalar or empty pair.
fn value_start<'i>(input: &'i str, open: &mut Vec<bool>) -> Option<&'i str> {
    let mut rest = input;
    while let Some(bracket @ ('[' | '{')) = rest.chars().next() {
        rest = skip_blanks(&rest[1..]);
        let object = bracket == '{';
        if let Some(after) = rest.strip_prefix(if object { '}' } else { ']' }) {
            return Some(skip_blanks(after));
        }
        open.push(object);
        if open.len() > MAX_DEPTH {
            return None;
        }
        if object {
            rest = key(rest).ok()?.0;
        }
    }
    scalar(rest).ok().map(|(after, ())| skip_blanks(after))
}

fn skip_blanks(input: &str) -> &str {
    input.trim_start_matches([' ', '\t', '\n', '\r'])
}

fn key(input: &str) -> IResult<&str, ()> {
    value((), (string, blanks, token(':'))).parse(input)
}

fn scalar(input: &str) -> IResult<&str, ()> {
    let words = alt((tag("true"), tag("false"), tag("null")));
    alt((value((), string), value((), words), value((), number))).parse(input)
}

fn number(input: &str) -> IResult<&str, &str> {
    let integer = verify(digit1, |digits: &str| digits.len() == 1 || !digits.starts_with('0'));
    let fraction = opt((char('.'), digit1));
    let exponent = opt((one_of("eE"), opt(one_of("+-")), digit1));
    recognize((opt(char('-')), integer, fraction, exponent)).parse(input)
}

#[cfg(test)]
mod tests {
    use super::{JsonForm, parse};

    fn strings(text: &str) -> Option<Vec<String>> {
        match parse(text) {
            JsonForm::Strings(strings) => Some(strings.into_iter().map(|(s, _)| s).collect()),
            _ => None,
        }
    }

    #[test]
    fn arrays_of_strings_are_exec_forms() {
        let cases: [(&str, &[&str]); 5] = [
            ("[]", &[]),
            (" [ \"a\" , \"b\" ] ", &["a", "b"]),
            (r#"["\ud83d\ude00\u00e9\/"]"#, &["😀é/"]),
            (r#"["\ud83d", "\ude00x", "\ud83dA"]"#, &["\u{fffd}", "\u{fffd}x", "\u{fffd}A"]),
            (r#"["\ud83d\ud83d\ude00"]"#, &["\u{fffd}😀"]),
        ];
        for (text, want) in cases {
            assert_eq!(strings(text).unwrap_or_else(|| panic!("{text}")), want);
        }
        assert_eq!(
            parse(" [\"é\",\"b\"]"),
            JsonForm::Strings(vec![("é".to_owned(), 2..6), ("b".to_owned(), 7..10),])
        );
    }

    #[test]
    fn other_values_are_told_from_text_that_is_no_json() {
        for text in ["[1]", "[\"a\", {\"b\": [null, -1.5e+3]}]", "[[]]", "[{}, true]", "[[\"a\"]]"]
        {
            assert_eq!(parse(text), JsonForm::NotStrings, "{text}");
        }
        let deep = "[".repeat(100_000);
        for text in [
            "",
            "a",
            "[",
            "[a]",
            "['a']",
            "[\"a\",]",
            "[\"a\"] x",
            "[01]",
            "[1.]",
            "[ -f x ]",
            "[\"\t\"]",
            "[\"\\x\"]",
            "[{\"a\"}]",
            "[{\"a\":1,}]",
            "[1}",
            "{\"a\":1}",
            &deep,
        ] {
            assert_eq!(parse(text), JsonForm::None, "{text}");
        }
    }
}
