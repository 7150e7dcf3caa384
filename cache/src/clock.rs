//! Time as rows keep it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Seconds since 1970, `duration` ago.
pub(crate) fn ago(duration: Duration) -> i64 {
    now().saturating_sub(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX))
}
