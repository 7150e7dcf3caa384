//! TLS: the certificates that are trusted, and the one that is shown.

use std::io;
use std::path::{Path, PathBuf};

use reqwest::{Certificate, ClientBuilder, Identity};

/// TLS settings for one host. The system's root certificates are always trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Do not verify the server's certificate.
    pub insecure: bool,
    /// PEM files with additional root certificates.
    pub roots: Vec<PathBuf>,
    /// Certificates for a server that requires one. Only one is supported.
    pub certificates: Vec<ClientCertificate>,
    /// Directories with more of both, as in Docker's `certs.d`: root certificates are `*.crt`, a
    /// certificate to show is `NAME.cert` with `NAME.key`. Those that do not exist are empty.
    pub directories: Vec<PathBuf>,
}

/// A client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// PEM file with the private key.
    pub key: PathBuf,
    /// PEM file with the certificate chain.
    pub chain: PathBuf,
}

/// Why a connection cannot be set up from its settings.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file with certificates or keys cannot be read.
    #[error("failed to read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file with certificates or keys is invalid.
    #[error("`{}` is not valid", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: reqwest::Error,
    },
    /// A file contains no root certificate.
    #[error("`{}` contains no certificate", .0.display())]
    NoCertificate(PathBuf),
    /// A certificate in a directory has no key beside it.
    #[error("`{}` has no key: there is no `{}`", .0.display(), .0.with_extension("key").display())]
    NoKey(PathBuf),
    /// There is more than one client certificate.
    #[error("several client certificates are configured, and only one is supported")]
    SeveralCertificates,
    /// The settings cannot be combined, or the system's certificates cannot be read.
    #[error("the settings cannot be used")]
    Client(#[source] reqwest::Error),
}

impl Tls {
    /// Makes `builder` follow these settings. Reads files.
    pub(crate) fn apply(&self, mut builder: ClientBuilder) -> Result<ClientBuilder, SetupError> {
        let Found { roots, certificates } = self.found()?;
        for path in self.roots.iter().chain(&roots) {
            builder = builder.tls_certs_merge(root_certificates(path)?);
        }
        // What is configured by name goes before what lies in a directory.
        let certificates = [&self.certificates, &certificates].into_iter().find(|c| !c.is_empty());
        builder = match certificates.map_or(&[][..], |certificates| &certificates[..]) {
            [] => builder,
            [certificate] => builder.identity(certificate.identity()?),
            _ => return Err(SetupError::SeveralCertificates),
        };
        Ok(builder.tls_danger_accept_invalid_certs(self.insecure))
    }

    /// What the directories have, in the order of names.
    fn found(&self) -> Result<Found, SetupError> {
        let mut found = Found::default();
        for directory in &self.directories {
            for path in files(directory)? {
                match path.extension().and_then(|extension| extension.to_str()) {
                    Some("crt") => found.roots.push(path),
                    Some("cert") => {
                        let key = path.with_extension("key");
                        if !key.is_file() {
                            return Err(SetupError::NoKey(path));
                        }
                        found.certificates.push(ClientCertificate { key, chain: path });
                    }
                    _ => {}
                }
            }
        }
        Ok(found)
    }
}

/// What lies in directories.
#[derive(Default)]
struct Found {
    roots: Vec<PathBuf>,
    certificates: Vec<ClientCertificate>,
}

/// The files of a directory, in the order of their names.
fn files(directory: &Path) -> Result<Vec<PathBuf>, SetupError> {
    let failed = |source| SetupError::Read { path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let paths: Result<Vec<PathBuf>, _> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(failed)?;
    paths.sort();
    Ok(paths)
}

impl ClientCertificate {
    fn identity(&self) -> Result<Identity, SetupError> {
        let pem = [read(&self.chain)?, b"\n".to_vec(), read(&self.key)?].concat();
        Identity::from_pem(&pem)
            .map_err(|source| SetupError::Invalid { path: self.chain.clone(), source })
    }
}

fn root_certificates(path: &Path) -> Result<Vec<Certificate>, SetupError> {
    let certificates = Certificate::from_pem_bundle(&read(path)?)
        .map_err(|source| SetupError::Invalid { path: path.to_owned(), source })?;
    if certificates.is_empty() {
        return Err(SetupError::NoCertificate(path.to_owned()));
    }
    Ok(certificates)
}

fn read(path: &Path) -> Result<Vec<u8>, SetupError> {
    std::fs::read(path).map_err(|source| SetupError::Read { path: path.to_owned(), source })
}
