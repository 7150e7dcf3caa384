//! Sizes and limits.

use engine::request::Ulimit;

use crate::error::UsageError;

/// A size in bytes: a number with an optional unit (`b k m g t p`, also `kb`, `KiB`), each 1024
/// times the one before, as Docker reads `--shm-size`.
pub(crate) fn bytes(flag: &str, text: &str) -> Result<u64, UsageError> {
    engine::units::bytes(text).ok_or_else(|| {
        UsageError::new(format!("`{flag}`: `{text}` is not a size"))
            .with_hint("write a number and a unit: 64m, 1g")
    })
}

/// Resource limits that Linux has (`getrlimit(2)`), in Docker's spelling.
const LIMITS: &[&str] = &[
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// `name=soft[:hard]`.
pub(crate) fn ulimit(text: &str) -> Result<Ulimit, UsageError> {
    let invalid = |what: String| UsageError::new(format!("`--ulimit {text}`: {what}"));
    let (name, values) = text
        .split_once('=')
        .ok_or_else(|| invalid("want NAME=SOFT or NAME=SOFT:HARD".to_owned()))?;
    if !LIMITS.contains(&name) {
        return Err(invalid(format!("`{name}` is not one of {}", LIMITS.join(", "))));
    }
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let number = |text: &str| match text.parse::<i64>() {
        Ok(number) if number >= -1 => Ok(number),
        _ => Err(invalid(format!("`{text}` is not a limit (want a number, or -1 for unlimited)"))),
    };
    let (soft, hard) = (number(soft)?, number(hard)?);
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(invalid(format!("the soft limit ({soft}) is above the hard limit ({hard})")));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

/// A number of at least one.
pub(crate) fn positive(flag: &str, text: &str) -> Result<usize, UsageError> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(UsageError::new(format!("`{flag}`: `{text}` is not a number above zero"))),
    }
}
