//! Durations and sizes for people.

use std::time::Duration;

/// `3.1s`, `2m05s`, `1h02m`.
pub fn duration(duration: Duration) -> String {
    // Rounded to tenths first: 59.96 s is a minute, not 60.0 s.
    let tenths = (duration.as_millis() + 50) / 100;
    let seconds = tenths / 10;
    match seconds {
        0..100 => format!("{seconds}.{}s", tenths % 10),
        100..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// `123B`, `1.23MB`, in powers of 1000 and three digits, as Docker writes sizes.
pub fn bytes(bytes: u64) -> String {
    const UNITS: &[&str] = &["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = match value {
        _ if unit == 0 => 0,
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}{}", UNITS[unit])
}

/// `1.2MB / 3.4MB`, or the first alone where the second is not known.
pub fn transfer(current: u64, total: Option<u64>) -> String {
    match total {
        Some(total) => format!("{} / {}", bytes(current), bytes(total)),
        None => bytes(current),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_short() {
        for (millis, want) in [
            (0, "0.0s"),
            (49, "0.0s"),
            (50, "0.1s"),
            (3_140, "3.1s"),
            (99_949, "99.9s"),
            (99_950, "1m40s"),
            (125_000, "2m05s"),
            (3_599_900, "59m59s"),
            (3_599_960, "1h00m"),
            (3_720_000, "1h02m"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), want);
        }
        for (size, want) in [
            (0, "0B"),
            (999, "999B"),
            (1_000, "1.00kB"),
            (12_345, "12.3kB"),
            (999_499, "999kB"),
            (999_500, "1.00MB"),
            (3_500_000_000, "3.50GB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(bytes(size), want);
        }
    }
}
