//! Whether another attempt may fare better.

use std::time::Duration;

/// Something that failed and may be tried again.
pub trait Failure {
    /// Whether another attempt may fare better.
    fn retry(&self) -> Retry;
}

/// Whether another attempt may fare better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It would fail in the same way.
    Never,
    /// One more attempt is enough to know.
    Once,
    /// Nobody listens: a wrong name or a stopped server rarely mends itself while a user waits.
    Reconnect,
    /// As often as [`Limits::attempts`](crate::Limits::attempts) allows, each time after the pause that the server asked for.
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
