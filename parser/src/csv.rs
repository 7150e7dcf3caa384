//! One line of comma-separated values, as flag values have them.

use std::borrow::Cow;

use nom::bytes::complete::{tag, take_till};
use nom::sequence::terminated;
use nom::{IResult, Parser};

/// Why a value is no line of comma-separated values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsvError {
    /// There is nothing.
    #[error("EOF")]
    Empty,
    /// A quote in a field that does not begin with one.
    #[error("parse error on line 1, column {column}: bare \" in non-quoted field")]
    BareQuote {
        /// Where, in bytes from 1.
        column: usize,
    },
    /// A quoted field that does not end, or does not end at a comma.
    #[error("parse error on line 1, column {column}: extraneous or missing \" in quoted-field")]
    Quote {
        /// Where, in bytes from 1.
        column: usize,
    },
}

/// The fields of `line`. A field in double quotes may hold commas, and quotes written twice.
pub fn fields(line: &str) -> Result<Vec<Cow<'_, str>>, CsvError> {
    if line.is_empty() {
        return Err(CsvError::Empty);
    }
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let column = |at: &str| line.len() - at.len() + 1;
        let (after, field) = if let Some(inner) = rest.strip_prefix('"') {
            let found = quoted(inner).map_err(|at| CsvError::Quote { column: column(at) })?;
            (found.0, Cow::Owned(found.1))
        } else {
            let (after, field) = plain(rest).expect("a plain field may be empty");
            if let Some(at) = field.find('"') {
                return Err(CsvError::BareQuote { column: column(rest) + at });
            }
            (after, Cow::Borrowed(field))
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok(fields),
        }
    }
}

fn plain(input: &str) -> IResult<&str, &str> {
    take_till(|c| c == ',').parse(input)
}

/// The field behind an opening quote; the error is the text from the place of the problem on.
fn quoted(input: &str) -> Result<(&str, String), &str> {
    let mut field = String::new();
    let mut rest = input;
    loop {
        let Ok((after, part)) = up_to_quote(rest) else { return Err(rest) };
        field.push_str(part);
        match after.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None if after.is_empty() || after.starts_with(',') => return Ok((after, field)),
            None => return Err(&rest[part.len()..]),
        }
    }
}

fn up_to_quote(input: &str) -> IResult<&str, &str> {
    terminated(take_till(|c| c == '"'), tag("\"")).parse(input)
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn fields_are_separated_by_commas_outside_quotes() {
        let cases: [(&str, Result<&[&str], &str>); 9] = [
            ("a,b=c", Ok(&["a", "b=c"])),
            ("a,", Ok(&["a", ""])),
            ("\"a,b\",c", Ok(&["a,b", "c"])),
            ("\"a\"\"b\"", Ok(&["a\"b"])),
            ("\"\",x", Ok(&["", "x"])),
            ("", Err("EOF")),
            ("a,b\"c", Err("parse error on line 1, column 4: bare \" in non-quoted field")),
            (
                "\"a",
                Err("parse error on line 1, column 2: extraneous or missing \" in quoted-field"),
            ),
            (
                "\"a\"b",
                Err("parse error on line 1, column 3: extraneous or missing \" in quoted-field"),
            ),
        ];
        for (line, want) in cases {
            let found = fields(line).map_err(|error| error.to_string());
            let want = want.map(|w| w.iter().map(|f| (*f).into()).collect());
            assert_eq!(found, want.map_err(str::to_owned), "{line}");
        }
    }
}
