//! Whether another attempt may succeed.

use std::time::Duration;

/// A failure of something that can be tried again.
pub trait Failure {
    /// Whether another attempt may succeed.
    fn retry(&self) -> Retry;
}

/// Whether another attempt may succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It would fail in the same way again.
    Never,
    /// One more attempt is enough to know.
    Once,
    /// A few attempts: a wrong name or a stopped server is rarely fixed while a user waits.
    Reconnect,
    /// As often as [`Limits::attempts`](crate::Limits::attempts) allows, each time after the delay that the server asked for.
    Later(Duration),
}

impl Retry {
    /// What an answer's status and its `Retry-After` say (RFC 9110, sections 10.2.3 and 15; RFC
    /// 6585, section 4).
    pub fn of_status(status: u16, retry_after: Option<Duration>) -> Self {
        match status {
            408 | 429 | 500 | 502 | 503 | 504 => Self::Later(retry_after.unwrap_or_default()),
            _ => Self::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_that_pass_are_tried_again() {
        let minute = Duration::from_secs(60);
        for status in [408, 429, 500, 502, 503, 504] {
            assert_eq!(Retry::of_status(status, None), Retry::Later(Duration::ZERO));
            assert_eq!(Retry::of_status(status, Some(minute)), Retry::Later(minute));
        }
        for status in [304, 400, 401, 403, 404, 416, 501] {
            assert_eq!(Retry::of_status(status, Some(minute)), Retry::Never);
        }
    }
}
