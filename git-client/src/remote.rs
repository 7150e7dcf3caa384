//! Addresses of repositories: what `git` may be given, and what must not reach it.

use std::fmt;

use url::Url;

/// Where a repository is: an address with one of the allowed protocols, without a password.
///
/// [`fmt::Display`] is the address; it is safe to be shown, and cannot be taken for an option.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Remote {
    address: String,
    transport: Transport,
    /// Name and password that the address had.
    login: Option<(String, String)>,
}

/// How a repository is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Transport {
    /// HTTP or HTTPS.
    Web {
        /// `https://host:port/`, with the port as it was written.
        origin: String,
        /// `host:port`.
        host: String,
    },
    /// `git://`: nobody is asked who they are.
    Daemon,
    /// SSH.
    Ssh {
        /// The host's name alone.
        host: String,
        port: Option<u16>,
    },
}

/// Why an address is refused. It does not repeat the address, which may have a password in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// It is not an address of a repository.
    #[error("it is not the address of a repository")]
    Invalid,
    /// Spaces, line breaks and the like.
    #[error("it contains a character that is not allowed")]
    Character,
    /// A host, a user or a path that `git` or `ssh` would take for an option.
    #[error("a part of it begins with `-`")]
    Option,
    /// `file://`, `ext::` and whatever else `git` could run.
    #[error("only http, https, ssh and git are allowed")]
    Protocol,
    /// A relative address with more `../` than there is to go up.
    #[error("it leads out of the server")]
    Above,
}

impl Remote {
    /// Reads an address: `https://…`, `http://…`, `ssh://…`, `git://…` or `user@host:path`.
    ///
    /// # Errors
    /// [`RemoteError`] for whatever else it may be.
    pub fn parse(text: &str) -> Result<Self, RemoteError> {
        if text.starts_with('-') {
            return Err(RemoteError::Option);
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(RemoteError::Character);
        }
        match text.split_once("://") {
            Some((scheme, _)) => Self::parse_url(text, &scheme.to_ascii_lowercase()),
            None => Self::parse_scp(text),
        }
    }

    fn parse_url(text: &str, scheme: &str) -> Result<Self, RemoteError> {
        if !["http", "https", "ssh", "git"].contains(&scheme) {
            return Err(RemoteError::Protocol);
        }
        let mut url = Url::parse(text).map_err(|_| RemoteError::Invalid)?;
        let host = url.host_str().filter(|host| is_host(host)).ok_or(RemoteError::Invalid)?;
        let host = host.to_owned();
        if [host.as_str(), url.username()].iter().any(|part| is_option(part)) {
            return Err(RemoteError::Option);
        }
        // `git` unescapes paths before it hands them on.
        if is_option(url.path().trim_start_matches('/')) && scheme != "http" && scheme != "https" {
            return Err(RemoteError::Option);
        }
        url.set_fragment(None);
        let port = url.port();
        let with_port = || port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        let mut login = None;
        let transport = match scheme {
            "ssh" => Transport::Ssh { host, port },
            "git" => Transport::Daemon,
            _ => {
                login = login_of(&url);
                url.set_username("").map_err(|()| RemoteError::Invalid)?;
                let host = with_port();
                Transport::Web { origin: format!("{scheme}://{host}/"), host }
            }
        };
        // Only for HTTP would a password be used.
        if url.password().is_some() {
            url.set_password(None).map_err(|()| RemoteError::Invalid)?;
        }
        Ok(Self { address: url.to_string(), transport, login })
    }

    /// `user@host:path`, and `host:path`.
    fn parse_scp(text: &str) -> Result<Self, RemoteError> {
        // `git` hands `transport::address` to a program called after the transport.
        if text.contains("::") {
            return Err(RemoteError::Protocol);
        }
        let (place, path) = text.split_once(':').ok_or(RemoteError::Invalid)?;
        let (user, host) = place.split_once('@').unwrap_or(("", place));
        let is_name = |text: &str| {
            text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        };
        if !is_host(host) || path.is_empty() || !is_name(host) || !is_name(user) {
            return Err(RemoteError::Invalid);
        }
        if [user, host, path].iter().any(|part| is_option(part)) {
            return Err(RemoteError::Option);
        }
        let transport = Transport::Ssh { host: host.to_owned(), port: None };
        Ok(Self { address: text.to_owned(), transport, login: None })
    }

    /// The address that a submodule of this repository calls `text`: `./…` and `../…` start here.
    ///
    /// # Errors
    /// Those of [`parse`](Self::parse), and [`RemoteError::Above`].
    pub fn join(&self, text: &str) -> Result<Self, RemoteError> {
        if !text.starts_with("./") && !text.starts_with("../") {
            return Self::parse(text);
        }
        let start = self.path_start();
        let (server, path) = self.address.split_at(start);
        let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let mut rest = text;
        loop {
            if let Some(after) = rest.strip_prefix("./") {
                rest = after;
            } else if let Some(after) = rest.strip_prefix("../") {
                parts.pop().ok_or(RemoteError::Above)?;
                rest = after;
            } else {
                break;
            }
        }
        if rest.split('/').any(|part| part == "..") {
            return Err(RemoteError::Above);
        }
        parts.extend(rest.split('/').filter(|part| !part.is_empty()));
        let slash = if path.starts_with('/') { "/" } else { "" };
        let joined = Self::parse(&format!("{server}{slash}{}", parts.join("/")))?;
        Ok(Self { login: self.login.clone(), ..joined })
    }

    /// Where the path begins in the address.
    fn path_start(&self) -> usize {
        match self.address.split_once("://") {
            Some((scheme, rest)) => scheme.len() + 3 + rest.find('/').unwrap_or(rest.len()),
            None => self.address.find(':').map_or(0, |colon| colon + 1),
        }
    }

    /// What `git` is told, and what users are shown.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `https://host:port/` of a repository on the web.
    pub fn web_origin(&self) -> Option<&str> {
        match &self.transport {
            Transport::Web { origin, .. } => Some(origin),
            Transport::Daemon | Transport::Ssh { .. } => None,
        }
    }

    /// `host:port` of a repository on the web, as secrets for it are called.
    pub fn web_host(&self) -> Option<&str> {
        match &self.transport {
            Transport::Web { host, .. } => Some(host),
            Transport::Daemon | Transport::Ssh { .. } => None,
        }
    }

    /// Host and port of one that is reached over SSH.
    pub fn ssh_host(&self) -> Option<(&str, Option<u16>)> {
        match &self.transport {
            Transport::Ssh { host, port } => Some((host, *port)),
            Transport::Daemon | Transport::Web { .. } => None,
        }
    }

    /// Name and password that the address had.
    pub fn login(&self) -> Option<(&str, &str)> {
        self.login.as_ref().map(|(name, password)| (name.as_str(), password.as_str()))
    }
}

/// Whether it may be a host: no label of its name is empty at the beginning, so that it is no `..` either.
fn is_host(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('.')
}

/// What a program would take for an option.
fn is_option(part: &str) -> bool {
    part.starts_with('-') || part.to_ascii_lowercase().starts_with("%2d")
}

/// Name and password of a URL. A name alone says nothing to a server.
fn login_of(url: &Url) -> Option<(String, String)> {
    let password = url.password()?;
    let decode = |text: &str| -> Option<String> {
        let bytes = percent_decode(text);
        String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control))
    };
    Some((decode(url.username())?, decode(password)?))
}

/// Replaces `%XX`; what is no valid escape stays.
fn percent_decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.filter(|_| *first == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

/// Without the password.
impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Remote").field(&self.address).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_addresses_of_servers_reach_git() {
        use RemoteError::{Character, Invalid, Option, Protocol};
        let cases = [
            ("https://example.org/a.git", Ok("https://example.org/a.git")),
            ("HTTPS://example.org:8443/a.git", Ok("https://example.org:8443/a.git")),
            ("https://me:secret@example.org/a.git", Ok("https://example.org/a.git")),
            ("https://me@example.org/a.git", Ok("https://example.org/a.git")),
            ("http://[::1]:80/a.git", Ok("http://[::1]/a.git")),
            ("ssh://git@example.org:22/a/b", Ok("ssh://git@example.org:22/a/b")),
            ("ssh://git:secret@example.org/a", Ok("ssh://git@example.org/a")),
            ("git://example.org/a", Ok("git://example.org/a")),
            ("git@example.org:a/b.git", Ok("git@example.org:a/b.git")),
            ("example.org:a/b.git", Ok("example.org:a/b.git")),
            ("file:///etc", Err(Protocol)),
            ("FILE:///etc", Err(Protocol)),
            ("ext::sh -c touch", Err(Character)),
            ("ext::sh", Err(Protocol)),
            ("fd::17", Err(Protocol)),
            ("ftp://example.org/a", Err(Protocol)),
            ("-u./x", Err(Option)),
            ("--upload-pack=x", Err(Option)),
            ("ssh://-oProxyCommand=x/a", Err(Option)),
            ("ssh://-oProxyCommand=x@example.org/a", Err(Option)),
            ("ssh://%2doProxyCommand=x@example.org/a", Err(Option)),
            ("ssh://example.org/-x", Err(Option)),
            ("ssh://../a/a", Err(Invalid)),
            ("..:a/a", Err(Invalid)),
            ("-x@example.org:a", Err(Option)),
            ("git@-example.org:a", Err(Option)),
            ("git@example.org:-a", Err(Option)),
            ("/etc", Err(Invalid)),
            ("./a", Err(Invalid)),
            ("a/b:c", Err(Invalid)),
            ("git@example.org:", Err(Invalid)),
            ("https://", Err(Invalid)),
            ("https://example.org/a b", Err(Character)),
            ("https://example.org/a\n", Err(Character)),
            ("https://example.org/a\r", Err(Character)),
            ("", Err(Invalid)),
        ];
        for (text, want) in cases {
            let parsed = Remote::parse(text);
            assert_eq!(parsed.as_ref().map(Remote::address).map_err(|e| *e), want, "{text}");
        }
    }

    #[test]
    fn a_password_is_kept_apart() {
        let remote = Remote::parse("https://me:s%40cret@example.org/a.git").unwrap();
        assert_eq!(remote.login(), Some(("me", "s@cret")));
        assert!(!format!("{remote} {remote:?}").contains("cret"));
        let scoped = Remote::parse("https://example.org:8443/a.git").unwrap();
        assert_eq!(scoped.web_origin(), Some("https://example.org:8443/"));
        assert_eq!(scoped.web_host(), Some("example.org:8443"));
        assert_eq!(Remote::parse("https://me:a%0Ab@example.org/a.git").unwrap().login(), None);
    }

    #[test]
    fn submodules_stay_on_a_server() {
        let cases = [
            ("https://example.org/a/b.git", "../c.git", Ok("https://example.org/a/c.git")),
            ("https://example.org/a/b.git", "./c.git", Ok("https://example.org/a/b.git/c.git")),
            ("https://example.org/a/b.git/", "../../c", Ok("https://example.org/c")),
            ("https://example.org/a/b.git", "../../../c", Err(RemoteError::Above)),
            ("https://example.org/a/b.git", "../c/../../d", Err(RemoteError::Above)),
            ("git@example.org:a/b.git", "../c.git", Ok("git@example.org:a/c.git")),
            ("git@example.org:b.git", "../../c.git", Err(RemoteError::Above)),
            ("https://example.org/a", "https://other.org/b", Ok("https://other.org/b")),
            ("https://example.org/a", "file:///etc", Err(RemoteError::Protocol)),
            ("https://example.org/a", "/etc", Err(RemoteError::Invalid)),
            ("https://example.org/a", "-x", Err(RemoteError::Option)),
        ];
        for (from, text, want) in cases {
            let joined = Remote::parse(from).unwrap().join(text);
            assert_eq!(joined.as_ref().map(Remote::address).map_err(|e| *e), want, "{from} {text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_no_option_and_no_program(text in "\\PC{0,40}", more in "[-./:@a-z%]{0,30}") {
            for text in [&text, &more, &format!("https://{more}"), &format!("ssh://{more}")] {
                let Ok(remote) = Remote::parse(text) else { continue };
                let address = remote.address();
                let helper = address.split_once("::").map(|(helper, _)| helper);
                let is_helper = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric());
                prop_assert!(!helper.is_some_and(is_helper), "{}", address);
                prop_assert!(!address.starts_with('-'), "{}", address);
                prop_assert_eq!(Remote::parse(address).map(|again| again.address), Ok(address.to_owned()));
                if let Ok(joined) = remote.join(&format!("../{more}")) {
                    prop_assert!(!joined.address().contains("/../"));
                }
            }
        }
    }
}
