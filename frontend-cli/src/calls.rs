//! What `--call` writes: the answers of BuildKit's subrequests, as text or JSON, and findings in
//! the forms that other programs read.

pub mod check;
pub mod describe;
mod github;
pub mod outline;
mod sarif;
pub mod targets;

use parser::Lines;
use serde_json::{Value, json};

/// Where something stands, as BuildKit's `Location` in JSON.
fn location(lines: Lines) -> Value {
    json!({ "ranges": [{ "start": { "line": lines.start }, "end": { "line": lines.end } }] })
}

/// An object without the members that are empty.
fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let is_empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    let given = members.into_iter().filter(|(_, value)| !is_empty(value));
    Value::Object(given.map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Bytes as JSON has them.
fn bytes(text: &str) -> String {
    data_encoding::BASE64.encode(text.as_bytes())
}

/// The value in lines, with a line break at the end.
fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// Rows in columns with so many blanks between them. The last column is as wide as it is.
fn columns<const N: usize>(rows: &[[&str; N]], gap: usize) -> String {
    let width = |column: usize| {
        rows.iter().map(|row| crate::terminal::width(row[column])).max().unwrap_or_default() + gap
    };
    let widths: Vec<usize> = (0..N - 1).map(width).collect();
    let mut out = String::new();
    for row in rows {
        for (cell, width) in row.iter().zip(&widths) {
            out.push_str(cell);
            out.extend(std::iter::repeat_n(' ', width - crate::terminal::width(cell)));
        }
        out.push_str(row[N - 1]);
        out.push('\n');
    }
    out
}
