//! Quoting as BuildKit's messages and tree dumps have it (Go's `strconv.Quote`).

use std::fmt::Write;

/// `text` in double quotes, control characters and unprintable ones escaped.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        push_escaped(&mut quoted, character);
    }
    quoted.push('"');
    quoted
}

fn push_escaped(quoted: &mut String, character: char) {
    match character {
        '"' => quoted.push_str("\\\""),
        '\\' => quoted.push_str("\\\\"),
        '\u{7}' => quoted.push_str("\\a"),
        '\u{8}' => quoted.push_str("\\b"),
        '\u{c}' => quoted.push_str("\\f"),
        '\n' => quoted.push_str("\\n"),
        '\r' => quoted.push_str("\\r"),
        '\t' => quoted.push_str("\\t"),
        '\u{b}' => quoted.push_str("\\v"),
        ' '..='~' => quoted.push(character),
        '\0'..='\u{7f}' => push_code(quoted, 'x', 2, character),
        _ if is_printable(character) => quoted.push(character),
        '\u{80}'..='\u{ffff}' => push_code(quoted, 'u', 4, character),
        _ => push_code(quoted, 'U', 8, character),
    }
}

fn push_code(quoted: &mut String, kind: char, width: usize, character: char) {
    write!(quoted, "\\{kind}{:0width$x}", u32::from(character)).expect("a String takes any text");
}

/// What the standard library shows unescaped in the middle of a word. (At the start it also
/// escapes combining marks, hence the letter in front.)
fn is_printable(character: char) -> bool {
    let word: String = ['x', character].iter().collect();
    word.escape_debug().nth(1) == Some(character)
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn controls_are_escaped_and_letters_are_not() {
        let cases = [
            ("plain", r#""plain""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("\t\n\r\u{7}\u{8}\u{b}\u{c}", r#""\t\n\r\a\b\v\f""#),
            ("\0\u{7f}", r#""\x00\x7f""#),
            ("é한👍", "\"é한👍\""),
            ("e\u{301}", "\"e\u{301}\""),
            ("\u{a0}\u{feff}\u{e000}", r#""\u00a0\ufeff\ue000""#),
        ];
        for (text, want) in cases {
            assert_eq!(quote(text), want);
        }
    }
}
