//! JSON as Go writes it: BuildKit's digests are over such bytes.

use std::io::{self, Write};

use oci::Digest;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

/// The bytes that Go's `encoding/json` gives for the same fields in the same order.
pub(crate) fn to_json(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, Escaping);
    value.serialize(&mut serializer).expect("plain fields are JSON");
    bytes
}

/// The digest of these bytes.
pub(crate) fn digest(value: &impl Serialize) -> Digest {
    Digest::of(&to_json(value))
}

/// Go writes what means something in HTML or ends a line in JavaScript by its number.
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (before, special) = rest.split_at(at);
            let character = special.chars().next().expect("something was found");
            CompactFormatter.write_string_fragment(writer, before)?;
            write!(writer, "\\u{:04x}", u32::from(character))?;
            rest = &special[character.len_utf8()..];
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::to_json;

    #[test]
    fn strings_are_escaped_as_go_does() {
        let text = "a<b>&\"\\/\u{2028}\u{2029}\n\r\t\u{8}\u{c}\u{1}\u{1f}\u{7f}ä";
        let json = r#""a\u003cb\u003e\u0026\"\\/\u2028\u2029\n\r\t\b\f\u0001\u001f"#;
        let json = format!("{json}\u{7f}ä\"");
        assert_eq!(String::from_utf8(to_json(&text)).unwrap(), json);
    }
}
