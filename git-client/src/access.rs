//! What proves to a server who is asking.

use std::fmt;
use std::path::PathBuf;

use crate::remote::Remote;

/// What a server is shown. Nothing of it is on a command line or in a message.
#[derive(Clone, Default)]
pub struct Access {
    header: Option<Header>,
    pub(crate) ssh: Option<Ssh>,
}

/// A value of `Authorization`, and the only origin that gets it.
#[derive(Clone)]
struct Header {
    origin: String,
    value: String,
}

/// Keys for SSH, and the hosts that are known.
#[derive(Debug, Clone)]
pub struct Ssh {
    /// The socket of an agent.
    pub agent: PathBuf,
    /// A file in the form of `known_hosts`.
    pub known_hosts: PathBuf,
}

/// The header contains a line break or another character that cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it contains a character that cannot be sent in a header")]
pub struct InvalidHeader;

impl Access {
    /// `Authorization: VALUE` for the origin of `remote`, which must be on the web.
    ///
    /// # Errors
    /// [`InvalidHeader`] for a value that would be more than one header.
    pub fn header(remote: &Remote, value: &str) -> Result<Self, InvalidHeader> {
        let value = value.trim();
        if value.is_empty() || value.chars().any(char::is_control) {
            return Err(InvalidHeader);
        }
        let origin = remote.web_origin().ok_or(InvalidHeader)?.to_owned();
        Ok(Self { header: Some(Header { origin, value: value.to_owned() }), ssh: None })
    }

    /// The same with a name and a password (RFC 7617).
    ///
    /// # Errors
    /// [`InvalidHeader`] without a repository on the web.
    pub fn login(remote: &Remote, name: &str, password: &str) -> Result<Self, InvalidHeader> {
        let pair = format!("{name}:{password}");
        Self::header(remote, &format!("basic {}", data_encoding::BASE64.encode(pair.as_bytes())))
    }

    /// Keys of an agent.
    pub fn ssh(ssh: Ssh) -> Self {
        Self { header: None, ssh: Some(ssh) }
    }

    /// The value of `Authorization`, if `remote` may see it.
    pub fn authorization(&self, remote: &Remote) -> Option<&str> {
        let header = self.header.as_ref()?;
        (remote.web_origin() == Some(&header.origin)).then_some(&header.value)
    }

    /// Settings of `git` that make it show this.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        let Some(Header { origin, value }) = &self.header else { return Vec::new() };
        vec![
            (format!("http.{origin}.extraHeader"), format!("Authorization: {value}")),
            // `git` would go on to send the header to where it is redirected.
            ("http.followRedirects".to_owned(), "false".to_owned()),
        ]
    }
}

/// Without the secret.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.header.as_ref().map(|header| &header.origin);
        f.debug_struct("Access").field("header_for", &origin).field("ssh", &self.ssh).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_for_one_origin_and_never_shown() {
        let remote = Remote::parse("https://example.org/a.git").unwrap();
        let access = Access::header(&remote, "basic c2VjcmV0\n").unwrap();
        assert_eq!(access.authorization(&remote), Some("basic c2VjcmV0"));
        for other in
            ["https://example.org:8443/a.git", "http://example.org/a.git", "git://example.org/a"]
        {
            assert_eq!(access.authorization(&Remote::parse(other).unwrap()), None, "{other}");
        }
        assert!(!format!("{access:?}").contains("c2VjcmV0"));
        for bad in ["", "a\r\nHost: x", "a\0"] {
            assert_eq!(Access::header(&remote, bad).unwrap_err(), InvalidHeader);
        }
    }
}
