//! `mybuild prune`

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use engine::{Engine, EngineOptions, PruneFilter, Pruned};

use super::image::tell_warnings;
use crate::build_args::quantity;
use crate::cli::PruneArgs;
use crate::docker_units::size;
use crate::error::UsageError;
use crate::exit::Exit;
use crate::ui;

/// What `mybuild prune` has to do.
pub(super) struct Prune {
    filter: PruneFilter,
    force: bool,
}

impl Prune {
    pub(super) fn resolve(args: &PruneArgs) -> Result<Self, UsageError> {
        let mut filter = PruneFilter { all: args.all, ..PruneFilter::default() };
        for text in &args.filters {
            let invalid = |why: &str| UsageError::new(format!("`--filter {text}`: {why}"));
            match text.split_once('=') {
                Some(("until", time)) => {
                    let unused_for = until(time, jiff::Timestamp::now());
                    filter.unused_for = Some(unused_for.ok_or_else(|| {
                        invalid("neither a duration nor a time")
                            .with_hint("write 24h, 1h30m or 2024-05-01")
                    })?);
                }
                _ => return Err(invalid("not a filter of prune").with_hint("there is until=")),
            }
        }
        let keep = args.keep_storage.as_deref();
        filter.keep_bytes = keep.map(|size| quantity::bytes("--keep-storage", size)).transpose()?;
        if !args.force && !std::io::stdin().is_terminal() {
            return Err(UsageError::new(
                "`prune` asks before it removes anything, and nobody is there to answer",
            )
            .with_hint("say `--force` to have it done without asking"));
        }
        Ok(Self { filter, force: args.force })
    }

    pub(super) async fn run(self, options: &EngineOptions) -> anyhow::Result<Exit> {
        if !self.force && !self.confirmed()? {
            return Ok(Exit::Failed);
        }
        // The store's session starts now: one that had waited for the answer would keep things.
        let engine = Engine::open(options)?;
        let pruned = engine.prune(self.filter).await?;
        ui::data(summary(&pruned).as_bytes())?;
        tell_warnings(&engine);
        Ok(Exit::Success)
    }

    fn confirmed(&self) -> std::io::Result<bool> {
        let what = match (self.filter.all, self.filter.unused_for, self.filter.keep_bytes) {
            (_, Some(_), _) => "everything in the cache that was not used for that long",
            (_, None, Some(_)) => "what was not used for longest",
            (true, None, None) => "all of the cache",
            (false, None, None) => "what nothing leads to any more",
        };
        ui::error(&format!("This removes {what}; images with names stay.\nContinue? [y/N] "));
        std::io::stderr().flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }
}

fn summary(pruned: &Pruned) -> String {
    let mut text = format!(
        "removed: {} steps, {} layers, {} blobs, {} cache mounts\nTotal reclaimed space: {}\n",
        pruned.steps,
        pruned.layers,
        pruned.blobs,
        pruned.mounts,
        size(pruned.freed)
    );
    if pruned.waiting > 0 {
        text.push_str(&format!(
            "{} more when the builds that run now are over\n",
            size(pruned.waiting)
        ));
    }
    text
}

/// How long ago: a duration as Go writes them, seconds since 1970, or a time.
fn until(text: &str, now: jiff::Timestamp) -> Option<Duration> {
    if let Some(duration) = duration(text) {
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

/// `1h30m`, `1.5h`, `90s`, `2d`.
fn duration(text: &str) -> Option<Duration> {
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
