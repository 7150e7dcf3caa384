//! `--filter` of commands that list and remove parts of the cache, and of clients that ask for the same.

use std::time::Duration;

use engine::{PruneFilter, units};

use crate::error::UsageError;

/// What `--filter` says of the cache.
pub(crate) fn filter(command: &str, texts: &[String]) -> Result<PruneFilter, UsageError> {
    let mut filter = PruneFilter::default();
    for text in texts {
        match text.split_once('=') {
            Some((_, time)) if is_age(text) => filter.unused_for = Some(since(text, time)?),
            _ => filter.matches.push(
                engine::gc::filter(text)
                    .map_err(|why| UsageError::new(format!("`--filter` of {command}: {why}")))?,
            ),
        }
    }
    Ok(filter)
}

/// The filters that are properties, as they were written.
pub(crate) fn match_texts(texts: &[String]) -> Vec<String> {
    texts.iter().filter(|text| !is_age(text)).cloned().collect()
}

/// Whether a filter is about the time of the last use.
fn is_age(text: &str) -> bool {
    matches!(text.split_once('='), Some(("until" | "unused-for", _)))
}

/// How long ago the time of an `until=` was.
pub(crate) fn since(filter: &str, time: &str) -> Result<Duration, UsageError> {
    until(time, jiff::Timestamp::now()).ok_or_else(|| {
        UsageError::new(format!("`--filter {filter}`: neither a duration nor a time"))
            .with_hint("write 24h, 1h30m or 2024-05-01")
    })
}

/// How long ago: a duration as Go writes them, seconds since 1970, or a time.
fn until(text: &str, now: jiff::Timestamp) -> Option<Duration> {
    if let Some(duration) = units::duration(text) {
        return Some(duration);
    }
    let utc = jiff::tz::TimeZone::UTC;
    let time = match text.parse::<i64>() {
        Ok(seconds) => jiff::Timestamp::from_second(seconds).ok(),
        Err(_) => text.parse::<jiff::Timestamp>().ok().or_else(|| {
            let civil: jiff::civil::DateTime = text.parse().ok()?;
            civil.to_zoned(utc).ok().map(|zoned| zoned.timestamp())
        }),
    };
    u64::try_from(now.as_second() - time?.as_second()).ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn until_is_a_duration_or_a_time() {
        let now = "2024-05-02T00:00:00Z".parse().unwrap();
        for (text, seconds) in [
            ("24h", Some(86_400)),
            ("1h30m", Some(5400)),
            ("1.5h", Some(5400)),
            ("2d", Some(172_800)),
            ("0s", Some(0)),
            ("2024-05-01", Some(86_400)),
            ("2024-05-01T12:00:00", Some(43_200)),
            ("2024-05-01T12:00:00Z", Some(43_200)),
            ("1714521600", Some(86_400)),
            ("2025-01-01", None),
            ("", None),
            ("h", None),
            ("1y", None),
            ("soon", None),
        ] {
            assert_eq!(until(text, now), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
