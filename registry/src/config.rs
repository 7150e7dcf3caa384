//! How registries are reached.

use std::collections::BTreeMap;
use std::path::PathBuf;

use http_client::{ClientCertificate, Limits, Tls};
use serde::Deserialize;

/// Settings for all registries.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Settings by registry. The key is a host with an optional port (`docker.io`, `127.0.0.1:5000`).
    pub hosts: BTreeMap<String, HostConfig>,
    /// Directories like Docker's `certs.d`, which have one for each registry, called like it.
    pub certificates: Vec<PathBuf>,
    /// Limits on the time and connections that a registry may take.
    pub limits: Limits,
}

impl Config {
    /// Lets the registry `domain` speak plain HTTP, or show a certificate that nobody trusts.
    pub fn trust_blindly(&mut self, domain: &str) {
        let host = self.hosts.entry(domain.to_owned()).or_default();
        host.http = Some(true);
        host.insecure = true;
    }
}

/// Settings for one registry: a `[registry."HOST"]` table, whose fields mean what they mean in
/// BuildKit's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    /// Hosts (with an optional port and path) to try first.
    #[serde(default)]
    pub mirrors: Vec<String>,
    /// Whether to use plain HTTP. By default it is tried on loopback addresses only.
    #[serde(default)]
    pub http: Option<bool>,
    /// Do not verify the server's certificate.
    #[serde(default)]
    pub insecure: bool,
    /// PEM files with additional root certificates.
    #[serde(default)]
    pub ca: Vec<PathBuf>,
    /// Client certificates; only one is supported.
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

impl HostConfig {
    /// The certificates, with those that lie in directories for the registry `domain`.
    pub(crate) fn tls(&self, domain: &str, directories: &[PathBuf]) -> Tls {
        let certificate =
            |pair: &KeyPair| ClientCertificate { key: pair.key.clone(), chain: pair.cert.clone() };
        Tls {
            insecure: self.insecure,
            roots: self.ca.clone(),
            certificates: self.keypair.iter().map(certificate).collect(),
            directories: directories.iter().map(|directory| directory.join(domain)).collect(),
        }
    }
}
