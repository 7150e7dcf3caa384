//! What may be written to a terminal, and how wide it is there.

use unicode_width::UnicodeWidthChar as _;

/// Columns and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
}

/// What a terminal has that does not say.
const DEFAULT: Size = Size { columns: 80, rows: 24 };

/// Size of the terminal behind standard error; 80 × 24 where there is none.
pub fn size_of_stderr() -> Size {
    match rustix::termios::tcgetwinsize(std::io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            Size { columns: size.ws_col.into(), rows: size.ws_row.into() }
        }
        _ => DEFAULT,
    }
}

/// `text` with escape sequences removed and everything else that could move the cursor, change the
/// terminal's state or reorder the line made visible. Line breaks become spaces, tabs stay.
pub fn harmless(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\t' => result.push('\t'),
            '\n' | '\r' => result.push(' '),
            '\x1b' => skip_escape(&mut rest),
            '\u{9b}' => skip_control_sequence(&mut rest),
            c if c.is_control() || is_reordering(c) => result.push('\u{fffd}'),
            c => result.push(c),
        }
    }
    result
}

/// Skips what follows an ESC: a control sequence (`[`), a string (`]`, `P`, …), or two characters.
fn skip_escape(rest: &mut std::str::Chars<'_>) {
    let before = rest.clone();
    match rest.next() {
        Some('[') => skip_control_sequence(rest),
        Some(']' | 'P' | 'X' | '^' | '_') => skip_string(rest),
        // Intermediate characters, then the final one: `ESC ( B`.
        Some(' '..='/') => {
            rest.find(|c| !(' '..='/').contains(c));
        }
        Some('0'..='~') => {}
        _ => *rest = before,
    }
}

fn skip_control_sequence(rest: &mut std::str::Chars<'_>) {
    loop {
        let before = rest.clone();
        match rest.next() {
            Some('@'..='~') | None => return,
            Some(' '..='?') => {}
            // Not a sequence after all: what follows is text.
            Some(_) => {
                *rest = before;
                return;
            }
        }
    }
}

/// Skips up to the string's end (BEL or ESC `\`), or to the line's where it has none.
fn skip_string(rest: &mut std::str::Chars<'_>) {
    while let Some(c) = rest.next() {
        match c {
            '\x07' | '\n' | '\u{9c}' => return,
            '\x1b' => {
                let before = rest.clone();
                if rest.next() != Some('\\') {
                    *rest = before;
                    skip_escape(rest);
                }
                return;
            }
            _ => {}
        }
    }
}

/// Marks that change the direction of text: a line could show other than it is.
fn is_reordering(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
}

/// Columns that `text` takes; it must be [`harmless`] and without tabs.
pub fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// `text` in at most `columns` columns, with `…` where something is left out.
pub fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    if columns == 0 {
        return String::new();
    }
    let mut result = String::new();
    let mut used = 0;
    for c in text.chars() {
        let next = c.width().unwrap_or(0);
        if used + next > columns - 1 {
            break;
        }
        used += next;
        result.push(c);
    }
    result.push('…');
    result
}

/// Tabs become spaces up to the next multiple of eight columns.
pub fn expand_tabs(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut column = 0;
    for c in text.chars() {
        if c == '\t' {
            let spaces = 8 - column % 8;
            result.extend(std::iter::repeat_n(' ', spaces));
            column += spaces;
        } else {
            result.push(c);
            column += c.width().unwrap_or(0);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_bytes_of_a_step_do_nothing() {
        for (text, want) in [
            ("plain", "plain"),
            ("\x1b[31mred\x1b[0m", "red"),
            ("\x1b]0;title\x07after", "after"),
            ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            ("\x1b[2J\x1b[Hgone", "gone"),
            ("\x1b(Bcharset", "charset"),
            ("\x1bcreset", "reset"),
            ("bell\x07 back\x08", "bell\u{fffd} back\u{fffd}"),
            ("\u{9b}31mC1", "C1"),
            ("a\u{202e}b", "a\u{fffd}b"),
            ("cut off \x1b[", "cut off "),
            ("cut off \x1b", "cut off "),
            ("two\nlines", "two lines"),
            ("Köln 東京 🚢", "Köln 東京 🚢"),
        ] {
            assert_eq!(harmless(text), want, "{text:?}");
        }
    }

    #[test]
    fn text_is_cut_by_columns_not_bytes() {
        for (text, columns, want) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("東京都", 6, "東京都"),
            ("東京都", 5, "東京…"),
            ("東京都", 4, "東…"),
            ("abc", 1, "…"),
            ("abc", 0, ""),
        ] {
            let got = fit(text, columns);
            assert_eq!(got, want);
            assert!(width(&got) <= columns);
        }
    }

    #[test]
    fn tabs_go_to_the_next_stop() {
        assert_eq!(expand_tabs("a\tb"), "a       b");
        assert_eq!(expand_tabs("12345678\tb"), "12345678        b");
    }
}
