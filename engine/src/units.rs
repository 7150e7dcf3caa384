//! Sizes and durations as users write them.

use std::time::Duration;

/// A size in bytes: a number with an optional unit (`b k m g t p`, also `kb`, `KiB`), each 1024
/// times the one before, as Docker reads `--shm-size`.
pub fn bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let unit = unit.trim_start().to_ascii_lowercase();
    let power = match unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let bytes = number * 1024_f64.powi(power);
    // 2^53: beyond, an f64 is no exact number of bytes, and no machine has that much.
    (bytes <= 9_007_199_254_740_992.0).then_some(bytes as u64)
}

/// A size in bytes, or a share of `whole` (`10%`), as BuildKit's configuration has them.
pub fn bytes_or_share(text: &str, whole: u64) -> Option<u64> {
    let Some(percent) = text.strip_suffix('%') else { return bytes(text) };
    let percent: f64 = percent.trim_end().parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some((whole as f64 * percent / 100.0) as u64)
}

/// Bytes in the units that limits are given in, to be read.
pub(crate) fn told(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    // A tenth, where there is one.
    format!("{} {}", (value * 10.0).round() / 10.0, UNITS[unit])
}

/// A duration as Go writes them, and in days: `1h30m`, `1.5h`, `90s`, `2d`.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit() || c == '.');
        let unit = &rest[digits..unit_end.map_or(rest.len(), |end| digits + end)];
        seconds += number
            * match unit {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                "d" => 86_400.0,
                _ => return None,
            };
        rest = &rest[digits + unit.len()..];
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(seconds).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_or_are_shares() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1000", Some(1000)),
            ("512MB", Some(512 << 20)),
            ("1.5GiB", Some(3 << 29)),
            ("10%", Some(20)),
            ("100 %", Some(200)),
            ("101%", None),
            ("%", None),
            ("many", None),
            ("-1", None),
        ] {
            assert_eq!(bytes_or_share(text, 200), expected, "{text}");
        }
    }
}
