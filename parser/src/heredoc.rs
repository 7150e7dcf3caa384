//! Here-document markers: `<<NAME`, `<<-NAME`, `3<<'NAME'`.

use nom::bytes::complete::tag;
use nom::character::complete::{digit0, multispace0};
use nom::combinator::opt;
use nom::{IResult, Parser};

use crate::expand::{ExpandError, Expander};

/// A marker, not yet with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    /// The delimiter without quotes.
    pub name: String,
    /// The number in front, 0 if none.
    pub fd: u32,
    /// Written `<<-`: tabs at the start of the body's lines go away.
    pub chomp: bool,
    /// No part of the delimiter is quoted, so that variables in the body expand.
    pub expand: bool,
}

/// The marker that `word` is, if it is one. Quotes that do not close are an error.
pub fn parse(word: &str) -> Result<Option<Marker>, ExpandError> {
    let Ok((rest, (fd, chomp))) = head(word) else { return Ok(None) };
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let expander = Expander::new('\\').keep_unset();
    let [name] = &expander.words(rest, &no_variables)?[..] else { return Ok(None) };
    let kept = expander.keep_quotes().words(rest, &no_variables)?;
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    // Quotes that went away were there.
    let expand = kept.iter().map(|word| quotes(word)).sum::<usize>() == quotes(name);
    Ok(Some(Marker { name: name.clone(), fd, chomp, expand }))
}

/// The markers on a line, in order.
pub(crate) fn markers(line: &str) -> Result<Vec<Marker>, ExpandError> {
    if !line.contains("<<") {
        return Ok(Vec::new());
    }
    let expander = Expander::new('\\').keep_quotes().keep_escapes().keep_unset();
    // What does not fall into words has no markers; a shell may still understand it.
    let words = expander.words(line, &no_variables).unwrap_or_default();
    words.iter().filter_map(|word| parse(word).transpose()).collect()
}

/// `content` without the tabs at the start of each line.
pub fn chomp(content: &str) -> String {
    content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

fn no_variables(_: &str) -> Option<String> {
    None
}

/// The number and whether there is a dash.
fn head(input: &str) -> IResult<&str, (u32, bool)> {
    let (rest, (digits, _, dash, _)) =
        (digit0, tag("<<"), opt(tag("-")), multispace0).parse(input)?;
    let fd = if digits.is_empty() { 0 } else { digits.parse().unwrap_or(u32::MAX) };
    Ok((rest, (fd, dash.is_some())))
}
