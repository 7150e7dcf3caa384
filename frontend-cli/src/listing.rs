//! Lists of things: tables, templates, JSON lines, as Docker's commands print them.

use serde_json::{Map, Value};

use crate::error::UsageError;
use crate::template::{Data, Template, TemplateError};
use crate::terminal::{harmless, width};

/// How a list is shown.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// Columns under headings; cells stand between tabs.
    Table(Template),
    /// One JSON object a line.
    Json,
    /// A line an entry.
    Lines(Template),
}

/// A field of a list's entries, and the heading of its column.
pub type Field = (&'static str, &'static str);

impl Format {
    /// Reads `--format`: `table`, `table TEMPLATE`, `json` or a template. `table` is the template
    /// of the table that is shown without the flag. Fields that are not among `fields` are refused.
    pub fn parse(text: Option<&str>, table: &str, fields: &[Field]) -> Result<Self, UsageError> {
        let parse = |text: &str| -> Result<Template, UsageError> {
            // What a shell does not unescape in single quotes.
            let text = text.replace("\\t", "\t").replace("\\n", "\n");
            let invalid = |error: TemplateError| UsageError::new(format!("`--format`: {error}"));
            let template = Template::parse(&text).map_err(invalid)?;
            check_fields(&template, fields)?;
            Ok(template)
        };
        match text {
            None | Some("table") => Ok(Self::Table(parse(table)?)),
            Some("json") => Ok(Self::Json),
            Some(text) => match text.strip_prefix("table ") {
                Some(columns) => Ok(Self::Table(parse(columns.trim_start())?)),
                None => Ok(Self::Lines(parse(text)?)),
            },
        }
    }

    /// All entries as text.
    pub fn render(
        &self,
        entries: &[Map<String, Value>],
        fields: &[Field],
    ) -> Result<String, TemplateError> {
        let line =
            |template: &Template, entry: &Map<String, Value>, json: fn(&str, &Value) -> Value| {
                template.render(Data { value: &Value::Object(entry.clone()), json })
            };
        let as_it_is: fn(&str, &Value) -> Value = |_, value| value.clone();
        match self {
            Self::Json => {
                let lines = entries.iter().map(|entry| {
                    format!("{}\n", serde_json::to_string(entry).expect("a JSON value is JSON"))
                });
                Ok(lines.collect())
            }
            Self::Lines(template) => {
                let lines = entries
                    .iter()
                    .map(|entry| Ok(format!("{}\n", line(template, entry, as_it_is)?)));
                lines.collect()
            }
            Self::Table(template) => {
                let headings = fields
                    .iter()
                    .map(|(field, heading)| ((*field).to_owned(), Value::from(*heading)));
                let headings = line(template, &headings.collect(), as_it_is)?.replace('"', "");
                let mut rows = vec![headings];
                for entry in entries {
                    rows.push(line(template, entry, as_it_is)?);
                }
                Ok(align(&rows))
            }
        }
    }
}

fn check_fields(template: &Template, fields: &[Field]) -> Result<(), UsageError> {
    let known = |name: &String| fields.iter().any(|(field, _)| field == name);
    for path in template.fields() {
        let unknown = match path.as_slice() {
            [] => None,
            [field] => Some(field).filter(|field| !known(field)),
            [_, below, ..] => Some(below),
        };
        if let Some(unknown) = unknown {
            let known: Vec<&str> = fields.iter().map(|(field, _)| *field).collect();
            let path = path.join(".");
            return Err(UsageError::new(format!(
                "`--format`: `{{{{.{path}}}}}`: no field `{unknown}`"
            ))
            .with_hint(format!("there are {}", known.join(", "))));
        }
    }
    Ok(())
}

/// The narrowest column, and the gap after a column.
const NARROWEST: usize = 10;
const GAP: usize = 3;

/// Puts cells that stand between tabs into columns. The last cell of a row stays as it is.
pub fn align(rows: &[String]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.split('\t').map(harmless).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter(|row| column + 1 < row.len()).map(|row| &row[column]);
            cells.map(|cell| width(cell) + GAP).max().unwrap_or(0).max(NARROWEST)
        })
        .collect();
    let mut text = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < row.len() {
                text.extend(std::iter::repeat_n(' ', widths[column] - width(cell)));
            }
        }
        text.push('\n');
    }
    text
}

/// `text` in at most `columns` columns, with `…` where it was cut.
pub fn shorten(text: &str, columns: usize) -> String {
    crate::terminal::fit(&harmless(text), columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &[Field] = &[("Name", "NAME"), ("Size", "SIZE")];

    fn entries() -> Vec<Map<String, Value>> {
        let entry = |name: &str, size: &str| {
            Map::from_iter([("Name".to_owned(), name.into()), ("Size".to_owned(), size.into())])
        };
        vec![entry("a", "1B"), entry("a-rather-long-name", "12MB")]
    }

    fn check(format: Option<&str>, wanted: &str) {
        let format = Format::parse(format, "{{.Name}}\\t{{.Size}}", FIELDS).unwrap();
        assert_eq!(format.render(&entries(), FIELDS).unwrap(), wanted);
    }

    #[test]
    fn lists_are_tables_lines_or_json() {
        let table =
            "NAME                 SIZE\na                    1B\na-rather-long-name   12MB\n";
        check(None, table);
        check(Some("table"), table);
        check(
            Some(r"table {{.Size}}\t{{.Name}}"),
            "SIZE      NAME\n1B        a\n12MB      a-rather-long-name\n",
        );
        check(Some("table {{json .Size}}"), "SIZE\n\"1B\"\n\"12MB\"\n");
        check(Some(r"{{.Name}}\n{{.Size}}"), "a\n1B\na-rather-long-name\n12MB\n");
        check(
            Some("json"),
            "{\"Name\":\"a\",\"Size\":\"1B\"}\n{\"Name\":\"a-rather-long-name\",\"Size\":\"12MB\"}\n",
        );
        check(
            Some("{{json .}}"),
            "{\"Name\":\"a\",\"Size\":\"1B\"}\n{\"Name\":\"a-rather-long-name\",\"Size\":\"12MB\"}\n",
        );
    }

    #[test]
    fn unknown_fields_are_refused_by_name() {
        for (format, wanted) in [
            ("{{.Nosuch}}", "`{{.Nosuch}}`: no field `Nosuch`"),
            ("table {{.Name}}\t{{.Nosuch}}", "no field `Nosuch`"),
            ("{{.Name.Below}}", "no field `Below`"),
            ("{{range .}}", "`range` without `end`"),
        ] {
            let error = Format::parse(Some(format), "", FIELDS).expect_err(format);
            assert!(error.message.contains(wanted), "{format}: {}", error.message);
        }
    }

    #[test]
    fn escape_sequences_do_not_reach_a_table() {
        assert_eq!(align(&["\x1b[31mred\tx".to_owned()]), "red       x\n");
    }
}
