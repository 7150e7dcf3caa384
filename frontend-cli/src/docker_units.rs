//! Sizes and ages as Docker's tables show them.

/// A size in units of 1000 with three significant digits: `0B`, `1.24MB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    // 999.5 would be shown as 1000.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    let number = format!("{value:.decimals$}");
    let number =
        if decimals > 0 { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
    format!("{number}{}", UNITS[unit])
}

/// How long ago something was, in words: `2 hours ago`.
pub fn age(seconds: i64) -> String {
    let minutes = seconds / 60;
    let hours = (seconds as f64 / 3600.0 + 0.5) as i64;
    let days = hours / 24;
    let text = match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if days < 14 => format!("{days} days"),
        () if days < 60 => format!("{} weeks", days / 7),
        () if days < 730 => format!("{} months", days / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    };
    format!("{text} ago")
}

/// What is shown where a time is not known.
pub const UNKNOWN_TIME: &str = "N/A";

/// How long before `now` an RFC 3339 time was.
pub fn since(time: Option<&str>, now: jiff::Timestamp) -> String {
    match time.and_then(|time| time.parse::<jiff::Timestamp>().ok()) {
        Some(time) => age(now.as_second() - time.as_second()),
        None => UNKNOWN_TIME.to_owned(),
    }
}

/// An RFC 3339 time in the time zone of `zone`: `2024-05-22 18:18:12 +0000 UTC`.
pub fn at(time: Option<&str>, zone: &jiff::tz::TimeZone) -> String {
    match time.and_then(|time| time.parse::<jiff::Timestamp>().ok()) {
        Some(time) => time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string(),
        None => UNKNOWN_TIME.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, wanted) in [
            (0, "0B"),
            (1, "1B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (1_236_000, "1.24MB"),
            (12_345_678, "12.3MB"),
            (123_456_789, "123MB"),
            (999_499, "999kB"),
            (999_999, "1MB"),
            (9_996, "10kB"),
            (99_960, "100kB"),
            (7_800_000, "7.8MB"),
            (1_500_000_000_000, "1.5TB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(size(bytes), wanted, "{bytes}");
        }
    }

    #[test]
    fn ages_are_words() {
        const HOUR: i64 = 3600;
        const DAY: i64 = 24 * HOUR;
        for (seconds, wanted) in [
            (-5, "Less than a second ago"),
            (0, "Less than a second ago"),
            (1, "1 second ago"),
            (59, "59 seconds ago"),
            (60, "About a minute ago"),
            (120, "2 minutes ago"),
            (HOUR, "About an hour ago"),
            (2 * HOUR, "2 hours ago"),
            (47 * HOUR, "47 hours ago"),
            (2 * DAY, "2 days ago"),
            (13 * DAY, "13 days ago"),
            (14 * DAY, "2 weeks ago"),
            (59 * DAY, "8 weeks ago"),
            (60 * DAY, "2 months ago"),
            (729 * DAY, "24 months ago"),
            (730 * DAY, "2 years ago"),
            (55 * 365 * DAY, "55 years ago"),
        ] {
            assert_eq!(age(seconds), wanted, "{seconds}");
        }
    }

    #[test]
    fn times_are_shown_in_a_zone() {
        let zone = jiff::tz::TimeZone::UTC;
        assert_eq!(at(Some("2024-05-22T18:18:12.9Z"), &zone), "2024-05-22 18:18:12 +0000 UTC");
        assert_eq!(at(None, &zone), "N/A");
        let now = "2024-05-22T20:18:12Z".parse().unwrap();
        assert_eq!(since(Some("2024-05-22T18:18:12Z"), now), "2 hours ago");
        assert_eq!(since(Some("never"), now), "N/A");
    }
}
