//! Sizes and limits.

use engine::request::Ulimit;

use crate::error::UsageError;

/// A size in bytes: a number with an optional unit (`b k m g t p`, also `kb`, `KiB`), each 1024
/// times the one before, as Docker reads `--shm-size`.
pub(crate) fn bytes(flag: &str, text: &str) -> Result<u64, UsageError> {
    let invalid = || {
        UsageError::new(format!("`{flag}`: `{text}` is not a size"))
            .with_hint("write a number and a unit: 64m, 1g")
    };
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| invalid())?;
    let unit = unit.trim_start().to_ascii_lowercase();
    let power = match unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(invalid()),
    };
    let bytes = number * 1024_f64.powi(power);
    // 2^53: beyond, an f64 is no exact number of bytes, and no machine has that much.
    if bytes > 9_007_199_254_740_992.0 { Err(invalid()) } else { Ok(bytes as u64) }
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
