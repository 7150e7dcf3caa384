//! JSON text in lines, with its members in the order in which they came and its numbers as they are
//! written. Go's `json.Indent` does the same.

/// `text`, which must be JSON, in lines that are indented with `indent`. No line break at the end.
pub fn indented(text: &str, indent: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0;
    let mut is_empty = false;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => continue,
            '{' | '[' => {
                open_line(&mut out, &mut is_empty, depth, indent);
                out.push(c);
                depth += 1;
                is_empty = true;
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                if !is_empty {
                    new_line(&mut out, depth, indent);
                }
                is_empty = false;
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth, indent);
            }
            ':' => out.push_str(": "),
            '"' => {
                open_line(&mut out, &mut is_empty, depth, indent);
                string(&mut rest, &mut out);
            }
            c => {
                open_line(&mut out, &mut is_empty, depth, indent);
                out.push(c);
            }
        }
    }
    out
}

/// The first thing in brackets stands on a line of its own.
fn open_line(out: &mut String, is_empty: &mut bool, depth: usize, indent: &str) {
    if std::mem::take(is_empty) {
        new_line(out, depth, indent);
    }
}

fn new_line(out: &mut String, depth: usize, indent: &str) {
    out.push('\n');
    out.extend(std::iter::repeat_n(indent, depth));
}

/// The rest of a string, with its quotes.
fn string(rest: &mut std::str::Chars<'_>, out: &mut String) {
    out.push('"');
    while let Some(c) = rest.next() {
        out.push(c);
        match c {
            '"' => return,
            '\\' => out.extend(rest.next()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::indented;

    #[test]
    fn json_is_indented_and_otherwise_as_it_came() {
        for (text, want) in [
            ("{}", "{}"),
            (" [ ] ", "[]"),
            ("1.10", "1.10"),
            (
                r#"{"z":1e3,"a":{"e":{},"l":[1,"x, {\"}\\",[]]}}"#,
                "{\n\t\"z\": 1e3,\n\t\"a\": {\n\t\t\"e\": {},\n\t\t\"l\": [\n\t\t\t1,\n\t\t\t\"x, {\\\"}\\\\\",\n\t\t\t[]\n\t\t]\n\t}\n}",
            ),
        ] {
            assert_eq!(indented(text, "\t"), want, "{text}");
            // Indenting again changes nothing.
            assert_eq!(indented(want, "\t"), want, "{text}");
        }
        for broken in ["", "]}", "\"", "\"\\", "{", "[1,", ":::"] {
            indented(broken, "\t");
        }
    }
}
