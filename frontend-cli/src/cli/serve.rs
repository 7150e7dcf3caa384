//! The flags of `serve`: those of buildkitd.

use std::path::PathBuf;

/// `mybuild serve`
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Where to listen: `unix://PATH` or `tcp://ADDRESS:PORT`; may be given several times
    ///
    /// Without it: unix:///run/mybuild/mybuild.sock for root, $XDG_RUNTIME_DIR/mybuild/mybuild.sock for others. A port
    /// that other machines reach needs TLS.
    #[arg(long = "addr", value_name = "ADDRESS")]
    pub addresses: Vec<String>,
    /// Group whose members may use the socket, by name or number; only its owner may without
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// Certificate of the daemon for `tcp://` (PEM)
    #[arg(long = "tlscert", value_name = "FILE")]
    pub tls_certificate: Option<PathBuf>,
    /// Its key
    #[arg(long = "tlskey", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Certificate of who signs those of clients, which have to have one then
    #[arg(long = "tlscacert", value_name = "FILE")]
    pub tls_authority: Option<PathBuf>,
    /// What clients may grant to steps: `network.host`, `security.insecure`, `device` or `device=NAME`
    #[arg(long = "allow-insecure-entitlement", value_name = "ENTITLEMENT")]
    pub entitlements: Vec<String>,
}
