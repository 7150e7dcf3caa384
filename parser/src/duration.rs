//! Durations as `HEALTHCHECK` has them: Go's notation, such as `1m30s` or `1.5h`.

use nom::bytes::complete::take_till;
use nom::character::complete::digit0;
use nom::{IResult, Parser};

use crate::quote::quote;

/// Why text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// No digits, too much, or something else entirely.
    #[error("time: invalid duration {}", quote(.0))]
    Invalid(String),
    /// A number without a unit.
    #[error("time: missing unit in duration {}", quote(.0))]
    MissingUnit(String),
    /// A unit there is not.
    #[error("time: unknown unit {} in duration {}", quote(unit), quote(text))]
    UnknownUnit {
        /// The unit.
        unit: String,
        /// The whole text.
        text: String,
    },
}

/// Nanoseconds of a sequence of numbers with units (`ns us µs ms s m h`), maybe with a sign.
pub fn parse(text: &str) -> Result<i64, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (after, (whole, fraction, unit)) = term(rest).map_err(|_| invalid())?;
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let scale = nanoseconds(unit).ok_or_else(|| match unit {
            "" => DurationError::MissingUnit(text.to_owned()),
            unit => DurationError::UnknownUnit { unit: unit.to_owned(), text: text.to_owned() },
        })?;
        let part = scaled(whole, fraction, scale).ok_or_else(invalid)?;
        total = total.checked_add(part).filter(|t| *t <= 1 << 63).ok_or_else(invalid)?;
        rest = after;
    }
    match (negative, i64::try_from(total)) {
        (false, Ok(total)) => Ok(total),
        (true, Ok(total)) => Ok(-total),
        (true, Err(_)) => Ok(i64::MIN),
        (false, Err(_)) => Err(invalid()),
    }
}

/// Whole digits, digits after the point, unit.
fn term(input: &str) -> IResult<&str, (&str, &str, &str)> {
    let (rest, whole) = digit0(input)?;
    let (rest, fraction) = match rest.strip_prefix('.') {
        Some(rest) => digit0(rest)?,
        None => (rest, ""),
    };
    let (rest, unit) = take_till(|c: char| c == '.' || c.is_ascii_digit()).parse(rest)?;
    Ok((rest, (whole, fraction, unit)))
}

fn scaled(whole: &str, fraction: &str, scale: u64) -> Option<u64> {
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // More digits than nanoseconds of an hour can tell apart change nothing.
    let digits = &fraction[..fraction.len().min(18)];
    let part: u64 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    let ten = 10f64.powi(digits.len() as i32);
    let part = (part as f64 * (scale as f64 / ten)) as u64;
    whole.checked_mul(scale)?.checked_add(part).filter(|total| *total <= 1 << 63)
}

fn nanoseconds(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn durations_are_numbers_with_units() {
        let cases = [
            ("0", Ok(0)),
            ("5s", Ok(5_000_000_000)),
            ("1m30s", Ok(90_000_000_000)),
            ("1.5h", Ok(5_400_000_000_000)),
            (".5ms", Ok(500_000)),
            ("-1µs", Ok(-1_000)),
            ("", Err("time: invalid duration \"\"")),
            ("5", Err("time: missing unit in duration \"5\"")),
            ("5x", Err("time: unknown unit \"x\" in duration \"5x\"")),
            (".s", Err("time: invalid duration \".s\"")),
            ("s", Err("time: invalid duration \"s\"")),
            ("9223372036854775808ns", Err("time: invalid duration \"9223372036854775808ns\"")),
            ("99999999999999999999h", Err("time: invalid duration \"99999999999999999999h\"")),
        ];
        for (text, want) in cases {
            let found = parse(text).map_err(|error| error.to_string());
            assert_eq!(found, want.map_err(str::to_owned), "{text}");
        }
    }
}
