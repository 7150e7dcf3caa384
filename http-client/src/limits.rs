//! Limits on the time, connections and attempts that a server may take.

use std::time::Duration;

/// Limits on the time, connections and attempts that a server may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Time to connect.
    pub connect: Duration,
    /// Time without a single byte, and time until the answer's headers.
    pub idle: Duration,
    /// Time for a small document, with all attempts; a transfer gets this and its size over
    /// `minimum_rate`.
    pub request: Duration,
    /// Bytes per second below which a transfer is given up …
    pub minimum_rate: u64,
    /// … when it is no faster for this long.
    pub slow: Duration,
    /// Attempts in a row that may fail before the operation does.
    pub attempts: u32,
    /// Delay after the first failure; it doubles with each further one.
    pub first_delay: Duration,
    /// The longest delay. If a server asks for more with `Retry-After`, the operation fails.
    pub longest_delay: Duration,
    /// Requests in flight to one host.
    pub connections: usize,
    /// Size in bytes from which a resource is fetched as several ranges at once.
    pub parallel_from: u64,
    /// Size of such a range in bytes.
    pub segment: u64,
    /// Bytes per second from which a single connection is fast enough.
    pub fast: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(20),
            request: Duration::from_secs(60),
            minimum_rate: 4 << 10,
            slow: Duration::from_secs(30),
            attempts: 5,
            first_delay: Duration::from_millis(250),
            longest_delay: Duration::from_secs(20),
            connections: 8,
            parallel_from: 32 << 20,
            segment: 8 << 20,
            fast: 64 << 20,
        }
    }
}
