//! Image references: what users type after `FROM`, `-t` and `pull`.
//!
//! [`Reference`] is the normal form that everything behind the command line carries;
//! [`RawReference`] is what was typed, without Docker's defaults filled in. The rules are those of
//! the `distribution/reference` grammar, see [`grammar`].

pub mod grammar;
mod pattern;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::Digest;

/// The registry meant when a reference names none.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The tag meant when a reference has neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";

const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const PATH_MAX: usize = 255;

/// Why a text is not an image reference. The messages are the ones Docker's tools give.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// Nothing was given.
    #[error("repository name must have at least one component")]
    NameEmpty,
    /// The text does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// The text would follow the grammar in lower case.
    #[error("invalid reference format: repository name must be lowercase")]
    NameContainsUppercase,
    /// The path has upper-case letters.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    NotLowercase(String),
    /// The path is longer than 255 bytes.
    #[error("repository name must not be more than {PATH_MAX} characters")]
    NameTooLong,
    /// The text is a normalised reference's short form where the whole one is wanted.
    #[error("repository name must be canonical")]
    NameNotCanonical,
    /// A bare image id, which is not a repository name.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    BareId(String),
    /// The digest's algorithm is not one we know.
    #[error("unsupported digest algorithm")]
    DigestUnsupported,
    /// The digest has too many or too few digits.
    #[error("invalid checksum digest length")]
    DigestInvalidLength,
    /// The digest has other characters than lower-case hex digits.
    #[error("invalid checksum digest format")]
    DigestInvalidFormat,
    /// The tag does not follow the grammar.
    #[error("invalid tag format")]
    TagInvalidFormat,
    /// The glob pattern of [`Reference::familiar_matches`] is malformed.
    #[error("syntax error in pattern")]
    BadPattern,
}

/// A normalised image reference: registry and repository are always there, `ubuntu` being
/// `docker.io/library/ubuntu`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads what a user typed, filling in Docker's defaults for registry and namespace (not the tag).
    pub fn parse_normalized(text: &str) -> Result<Self, InvalidReference> {
        if grammar::is_identifier(text) {
            return Err(InvalidReference::BareId(text.to_owned()));
        }
        let (domain, remainder) = split_domain(text);
        let path = remainder.split_once(':').map_or(&*remainder, |(path, _)| path);
        if path.to_lowercase() != path {
            return Err(InvalidReference::NotLowercase(path.to_owned()));
        }
        let raw = RawReference::parse(&format!("{domain}/{remainder}"))?;
        Ok(Self {
            domain: raw.domain,
            path: raw.path,
            tag: raw.tag,
            digest: raw.digest.map(|digest| check_digest(&digest)).transpose()?,
        })
    }

    /// Reads a reference that must already be in its canonical form (`docker.io/library/ubuntu`).
    pub fn parse_canonical(text: &str) -> Result<Self, InvalidReference> {
        let reference = Self::parse_normalized(text)?;
        if reference.to_string() == text {
            Ok(reference)
        } else {
            Err(InvalidReference::NameNotCanonical)
        }
    }

    /// Reads a reference, a bare image id (64 hex digits) or a digest.
    pub fn parse_any(text: &str) -> Result<AnyReference, InvalidReference> {
        if grammar::is_identifier(text) {
            let digest = format!("sha256:{text}").parse().expect("an identifier is 64 hex digits");
            return Ok(AnyReference::Digest(digest));
        }
        match text.parse() {
            Ok(digest) => Ok(AnyReference::Digest(digest)),
            Err(_) => Self::parse_normalized(text).map(AnyReference::Named),
        }
    }

    /// The registry's host and port (`docker.io`, `127.0.0.1:5000`).
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository inside the registry (`library/ubuntu`).
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Registry and repository, without tag and digest.
    pub fn repository(&self) -> String {
        match self.domain.as_str() {
            // What looks like a host and is none (`a_b.c/d`) is part of the path, as in Go.
            "" => self.path.clone(),
            domain => format!("{domain}/{}", self.path),
        }
    }

    /// The tag, if one is named.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one is named.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same repository with `tag` instead of its own; the digest stays.
    pub fn with_tag(&self, tag: &str) -> Result<Self, InvalidReference> {
        if !grammar::is_tag(tag) {
            return Err(InvalidReference::TagInvalidFormat);
        }
        Ok(Self { tag: Some(tag.to_owned()), ..self.clone() })
    }

    /// The same reference pinned to `digest`; the tag stays.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// The repository alone, without tag and digest.
    pub fn without_tag(&self) -> Self {
        Self { tag: None, digest: None, ..self.clone() }
    }

    /// The same reference, with `:latest` when it has neither tag nor digest.
    pub fn with_default_tag(&self) -> Self {
        let tag = match (&self.tag, &self.digest) {
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (tag, _) => tag.clone(),
        };
        Self { tag, ..self.clone() }
    }

    /// What BuildKit's `FROM` resolves: `:latest` when nothing is said, and the digest alone when
    /// there are both tag and digest.
    pub fn docker_ref(&self) -> Self {
        match self.digest {
            Some(_) => Self { tag: None, ..self.clone() },
            None => self.with_default_tag(),
        }
    }

    /// The short form that Docker shows (`ubuntu:24.04`).
    pub fn familiar(&self) -> String {
        let mut text = self.familiar_name();
        push_tag_and_digest(&mut text, self.tag(), self.digest.as_ref().map(Digest::as_str));
        text
    }

    /// The short form of the repository (`ubuntu`).
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.repository();
        }
        let short = match self.path.strip_prefix(OFFICIAL_PREFIX) {
            Some(official) if !official.contains('/') => official,
            _ => &self.path,
        };
        // Without its host, `docker.io/example.com/app` would be somebody else's image.
        match Self::parse_normalized(short) {
            Ok(again) if again.domain == self.domain && again.path == self.path => short.to_owned(),
            _ => self.repository(),
        }
    }

    /// Whether the short form, or that of the repository alone, matches a shell pattern as in
    /// `docker images --filter reference=PATTERN`.
    pub fn familiar_matches(&self, pattern: &str) -> Result<bool, InvalidReference> {
        let matches =
            |name: &str| pattern::matches(pattern, name).ok_or(InvalidReference::BadPattern);
        Ok(matches(&self.familiar())? || matches(&self.familiar_name())?)
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        Self::parse_normalized(text)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.repository();
        push_tag_and_digest(&mut text, self.tag(), self.digest.as_ref().map(Digest::as_str));
        f.write_str(&text)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a text that may be a name or an id turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyReference {
    /// An image in a repository.
    Named(Reference),
    /// An image by its id.
    Digest(Digest),
}

impl fmt::Display for AnyReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(reference) => reference.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// A reference as typed, cut into its parts without any default; the domain is empty when there
/// is none. The digest follows the reference grammar, which is wider than [`Digest`]'s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawReference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl RawReference {
    /// Cuts a reference into its parts.
    pub fn parse(text: &str) -> Result<Self, InvalidReference> {
        let Some(parts) = grammar::reference(text) else {
            return Err(match text {
                "" => InvalidReference::NameEmpty,
                _ if grammar::reference(&text.to_lowercase()).is_some() => {
                    InvalidReference::NameContainsUppercase
                }
                _ => InvalidReference::Format,
            });
        };
        let mut reference = Self::with_name(parts.name)?;
        reference.tag = parts.tag.map(str::to_owned);
        if let Some(digest) = parts.digest {
            check_digest(digest)?;
            reference.digest = Some(digest.to_owned());
        }
        Ok(reference)
    }

    /// A reference with neither tag nor digest.
    pub fn with_name(name: &str) -> Result<Self, InvalidReference> {
        let (domain, path) = grammar::full_name(name).ok_or(InvalidReference::Format)?;
        if path.len() > PATH_MAX {
            return Err(InvalidReference::NameTooLong);
        }
        Ok(Self { domain: domain.to_owned(), path: path.to_owned(), tag: None, digest: None })
    }

    /// The same reference with a tag.
    pub fn with_tag(self, tag: &str) -> Result<Self, InvalidReference> {
        if !grammar::is_tag(tag) {
            return Err(InvalidReference::TagInvalidFormat);
        }
        Ok(Self { tag: Some(tag.to_owned()), ..self })
    }

    /// The same reference with a digest, of which only the grammar is checked.
    pub fn with_digest(self, digest: &str) -> Result<Self, InvalidReference> {
        if !grammar::is_digest(digest) {
            return Err(InvalidReference::DigestInvalidFormat);
        }
        Ok(Self { digest: Some(digest.to_owned()), ..self })
    }

    /// Host and port, empty when none was typed.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The path below the domain.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Domain and path as typed.
    pub fn repository(&self) -> String {
        if self.domain.is_empty() {
            self.path.clone()
        } else {
            format!("{}/{}", self.domain, self.path)
        }
    }

    /// The tag, if one was typed.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was typed.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }
}

impl FromStr for RawReference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        Self::parse(text)
    }
}

impl fmt::Display for RawReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.repository();
        push_tag_and_digest(&mut text, self.tag(), self.digest());
        f.write_str(&text)
    }
}

impl Serialize for RawReference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RawReference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

fn push_tag_and_digest(text: &mut String, tag: Option<&str>, digest: Option<&str>) {
    for (separator, part) in [(':', tag), ('@', digest)] {
        if let Some(part) = part {
            text.push(separator);
            text.push_str(part);
        }
    }
}

/// Cuts the registry off, as Docker does: the first component is a registry when it is
/// `localhost`, has a dot or a colon, or has upper-case letters (which no repository may have).
fn split_domain(name: &str) -> (&str, String) {
    let (domain, remainder) = match name.split_once('/') {
        Some((LEGACY_DEFAULT_DOMAIN, remainder)) => (DEFAULT_DOMAIN, remainder),
        Some((first, remainder)) if is_domain_like(first) => (first, remainder),
        _ => (DEFAULT_DOMAIN, name),
    };
    if domain == DEFAULT_DOMAIN && !remainder.contains('/') {
        (domain, format!("{OFFICIAL_PREFIX}{remainder}"))
    } else {
        (domain, remainder.to_owned())
    }
}

fn is_domain_like(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.to_lowercase() != first
}

/// References are pinned by SHA-256 alone: no registry in use serves another algorithm.
fn check_digest(digest: &str) -> Result<Digest, InvalidReference> {
    let (algorithm, hex) = digest.split_once(':').ok_or(InvalidReference::DigestInvalidFormat)?;
    match (algorithm, hex.len()) {
        ("sha256", 64) => digest.parse().map_err(|_| InvalidReference::DigestInvalidFormat),
        ("sha256", _) => Err(InvalidReference::DigestInvalidLength),
        _ => Err(InvalidReference::DigestUnsupported),
    }
}
