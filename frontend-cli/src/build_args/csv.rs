//! Comma-separated fields of one flag, as BuildKit reads them (RFC 4180, one record).

use crate::error::UsageError;

/// The fields of `text`. A field in double quotes may hold commas; a quote inside is doubled.
pub fn fields(text: &str) -> Result<Vec<String>, UsageError> {
    let invalid = |what: &str| UsageError::new(format!("`{text}`: {what}"));
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let (field, after) = match rest.split_once(',') {
                Some((field, after)) => (field, Some(after)),
                None => (rest, None),
            };
            if field.contains('"') {
                return Err(invalid("a quote in a field that does not begin with one"));
            }
            fields.push(field.to_owned());
            match after {
                Some(after) => rest = after,
                None => return Ok(fields),
            }
            continue;
        };
        let (field, after) =
            quoted_field(quoted).ok_or_else(|| invalid("a quote is not closed"))?;
        fields.push(field);
        match after.strip_prefix(',') {
            Some(after) => rest = after,
            None if after.is_empty() => return Ok(fields),
            None => return Err(invalid("text between a closing quote and the next comma")),
        }
    }
}

/// The field whose opening quote is already taken off, and what follows its closing quote.
fn quoted_field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        field.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => return Some((field, after)),
        }
    }
}

/// The fields as `key=value`, keys trimmed and in lower case, in the order written. A field
/// without `=` is an error.
pub fn pairs(text: &str) -> Result<Vec<(String, String)>, UsageError> {
    fields(text)?
        .into_iter()
        .map(|field| match field.split_once('=') {
            Some((key, value)) => Ok((key.trim().to_lowercase(), value.to_owned())),
            None => {
                Err(UsageError::new(format!("`{field}` in `{text}` is not of the form key=value")))
            }
        })
        .collect()
}
