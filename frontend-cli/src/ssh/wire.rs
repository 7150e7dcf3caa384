//! Bytes as SSH writes them (RFC 4251, section 5).

/// Reads one thing after the other; nothing where the bytes end too early.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        self.bytes(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// A `string`, or a number of any length.
    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.bytes(length.try_into().ok()?)
    }
}

/// Writes one thing after the other.
#[derive(Debug, Clone, Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    #[must_use]
    pub(super) fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    #[must_use]
    pub(super) fn number(mut self, number: u32) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    #[must_use]
    pub(super) fn string(self, bytes: &[u8]) -> Self {
        let length = u32::try_from(bytes.len()).expect("keys, names and signatures are short");
        let mut writer = self.number(length);
        writer.0.extend(bytes);
        writer
    }

    /// A number from its bytes, the largest first (`mpint`, not negative).
    #[must_use]
    pub(super) fn integer(self, bytes: &[u8]) -> Self {
        let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
        let digits = &bytes[start..];
        match digits.first() {
            // It would be read as a sign.
            Some(first) if first & 0x80 != 0 => self.string(&[&[0], digits].concat()),
            _ => self.string(digits),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let written = Writer::default().byte(7).number(9).string(b"ab").integer(&[0, 0x80]).0;
        assert_eq!(written, b"\x07\0\0\0\x09\0\0\0\x02ab\0\0\0\x02\0\x80");
        let mut reader = Reader(&written);
        assert_eq!(reader.bytes(1), Some(&[7][..]));
        assert_eq!(reader.number(), Some(9));
        assert_eq!(reader.string(), Some(&b"ab"[..]));
        assert_eq!(reader.string(), Some(&[0, 0x80][..]));
        assert_eq!(reader.string(), None);
    }

    #[test]
    fn a_length_beyond_the_end_is_no_string() {
        for bytes in [&[0, 0, 0, 3, 1, 2][..], &[0xff; 8], &[0, 0, 0], &[]] {
            assert_eq!(Reader(bytes).string(), None);
        }
    }
}
