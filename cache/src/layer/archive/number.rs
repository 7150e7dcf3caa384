//! Numbers as tar headers and PAX records have them.

/// The number in a header's field: octal digits between blanks and NULs, or a binary number whose
/// first bit is set. Nothing if it is neither or does not fit.
pub(super) fn field(bytes: &[u8]) -> Option<i64> {
    if bytes.first()? & 0x80 != 0 {
        return binary(bytes);
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = bytes.iter().position(|byte| !is_blank(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
    // What follows a NUL is not part of the number.
    let digits = bytes[start..end].split(|&byte| byte == 0).next()?;
    if digits.is_empty() {
        return Some(0);
    }
    digits.iter().try_fold(0_i64, |number, &digit| {
        let digit = matches!(digit, b'0'..=b'7').then(|| i64::from(digit - b'0'))?;
        number.checked_mul(8)?.checked_add(digit)
    })
}

/// A two's complement number in big-endian order, without its first bit.
fn binary(bytes: &[u8]) -> Option<i64> {
    let negative = bytes[0] & 0x40 != 0;
    let flip = if negative { 0xff } else { 0 };
    let mut number: u64 = 0;
    for (position, &byte) in bytes.iter().enumerate() {
        let byte = (byte ^ flip) & if position == 0 { 0x7f } else { 0xff };
        if number >> 56 != 0 {
            return None;
        }
        number = number << 8 | u64::from(byte);
    }
    let number = i64::try_from(number).ok()?;
    Some(if negative { !number } else { number })
}

/// A whole decimal number.
pub(super) fn decimal<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    // `parse` would take a plus sign.
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.starts_with('+'))?;
    text.parse().ok()
}

/// Decimal seconds with an optional fraction, as seconds and nanoseconds; digits beyond the ninth
/// are cut off.
pub(super) fn time(bytes: &[u8]) -> Option<(i64, u32)> {
    let dot = bytes.iter().position(|&byte| byte == b'.').unwrap_or(bytes.len());
    let seconds: i64 = decimal(&bytes[..dot])?;
    let fraction = bytes.get(dot + 1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = digits.fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    if bytes.first() == Some(&b'-') && nanoseconds > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds));
    }
    Some((seconds, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_hold_octal_or_binary_numbers() {
        for (bytes, number) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0", Some(0)),
            (b"    ", Some(0)),
            (b"77777777777\0", Some(0o77777777777)),
            (b"0008\0", None),
            (b"-1\0", None),
            (b"\x80\0\0\0\0\0\0\x02\0\0\0\0", Some(1 << 33)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"\xc0\0\0\0\0\0\0\0\0\0\0\0", None),
        ] {
            assert_eq!(field(bytes), number, "{bytes:?}");
        }
    }

    #[test]
    fn times_have_fractions() {
        for (text, value) in [
            ("0", Some((0, 0))),
            ("1350244992.023960108", Some((1350244992, 23960108))),
            ("1.5", Some((1, 500_000_000))),
            ("1.", Some((1, 0))),
            ("1.0000000019", Some((1, 1))),
            ("-1.5", Some((-2, 500_000_000))),
            ("-1", Some((-1, 0))),
            ("", None),
            ("1.x", None),
            ("+1", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(time(text.as_bytes()), value, "{text}");
        }
    }
}
