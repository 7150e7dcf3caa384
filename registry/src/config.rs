//! How registries are reached.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// Settings for all registries.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Settings by registry, the key being a host and maybe a port (`docker.io`, `127.0.0.1:5000`).
    pub hosts: BTreeMap<String, HostConfig>,
    /// Bounds on what a registry may cost.
    pub limits: Limits,
}

/// Settings for one registry: a `[registry."HOST"]` table, whose fields mean what they mean in
/// BuildKit's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    /// Hosts (with an optional port and path) that are asked first.
    #[serde(default)]
    pub mirrors: Vec<String>,
    /// Whether plain HTTP is spoken; by default only on loopback addresses.
    #[serde(default)]
    pub http: Option<bool>,
    /// Do not verify the server's certificate.
    #[serde(default)]
    pub insecure: bool,
    /// PEM files with additional root certificates.
    #[serde(default)]
    pub ca: Vec<PathBuf>,
    /// Client certificates.
    #[serde(default)]
    pub keypair: Vec<KeyPair>,
}

/// A client certificate.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPair {
    /// PEM file with the private key.
    pub key: PathBuf,
    /// PEM file with the certificate chain.
    pub cert: PathBuf,
}

/// Bounds on what a registry may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Time to connect.
    pub connect: Duration,
    /// Time without a single byte, and time to the answer's headers.
    pub idle: Duration,
    /// Time for a manifest or token, with all attempts; blobs get this and their size over
    /// `minimum_rate`.
    pub request: Duration,
    /// Bytes a second below which a blob is given up …
    pub minimum_rate: u64,
    /// … when it comes no faster for this long.
    pub slow: Duration,
    /// Attempts in a row that may fail without progress.
    pub attempts: u32,
    /// Delay after the first failure; it doubles with each further one.
    pub first_delay: Duration,
    /// The longest delay. A server that asks for more with `Retry-After` is not asked again.
    pub longest_delay: Duration,
    /// Requests in flight to one host.
    pub connections: usize,
    /// Size from which a blob is fetched as several ranges at once.
    pub parallel_from: u64,
    /// Size of such a range.
    pub segment: u64,
    /// Bytes a second from which one connection is fast enough alone.
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
