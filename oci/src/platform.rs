//! Platforms: operating system, architecture and variant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Platform of an image, as in the OCI image index specification, in its normal form:
/// `amd64` (never `x86_64`), `arm64` without variant `v8`, `arm` with a variant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture (`amd64`, `arm64`, …).
    #[serde(default)]
    pub architecture: String,
    /// Operating system (`linux`).
    #[serde(default)]
    pub os: String,
    /// Version of the operating system (Windows).
    #[serde(rename = "os.version", default, skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Features of the operating system (Windows).
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Variant of the architecture (`v7`).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// A string that does not name a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a platform (want OS/ARCH or OS/ARCH/VARIANT)")]
pub struct InvalidPlatform(pub String);

impl Platform {
    /// A platform in its normal form.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let architecture = architecture.to_ascii_lowercase();
        let variant = variant.to_ascii_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64" | "amd64", v) => ("amd64", v),
            ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
            ("aarch64" | "arm64", v) => ("arm64", v),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("arm", "" | "7") => ("arm", "v7"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "6") => ("arm", "v6"),
            ("arm", "8") => ("arm", "v8"),
            (a, v) => (a, v),
        };
        Self {
            architecture: architecture.to_owned(),
            os,
            os_version: String::new(),
            os_features: Vec::new(),
            variant: variant.to_owned(),
        }
    }

    /// The platform this program runs on.
    pub fn host() -> Self {
        Self::new(std::env::consts::OS, std::env::consts::ARCH, "")
    }
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let invalid = || InvalidPlatform(text.to_owned());
        let is_name = |s: &str| {
            !matches!(s, "" | "." | "..")
                && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        let mut parts: Vec<&str> = text.split('/').collect();
        let (os, details) = split_details(parts[0]).ok_or_else(invalid)?;
        parts[0] = os;
        let named =
            if details.len() > 1 && details[0].is_empty() { &details[1..] } else { &details };
        let are_names = parts.iter().chain(named).all(|part| is_name(part));
        if !are_names || !details.is_empty() && parts.len() == 1 {
            return Err(invalid());
        }
        let host = Self::host();
        let platform = match parts.as_slice() {
            ["local"] => Ok(host),
            [one] => {
                let known_os = ["linux", "windows", "darwin", "macos", "freebsd"]
                    .contains(&one.to_ascii_lowercase().as_str());
                Ok(if known_os {
                    Self::new(one, &host.architecture, "")
                } else {
                    Self::new(&host.os, one, "")
                })
            }
            [os, architecture] => Ok(Self::new(os, architecture, "")),
            [os, architecture, variant] => Ok(Self::new(os, architecture, variant)),
            _ => Err(invalid()),
        };
        let mut details = details.into_iter().map(str::to_owned);
        Ok(Self {
            os_version: details.next().unwrap_or_default(),
            os_features: details.collect(),
            ..platform?
        })
    }
}

/// `windows(10.0.20348.1006+feature)`: the system, and its version and features, where they are named.
fn split_details(os: &str) -> Option<(&str, Vec<&str>)> {
    match os.split_once('(') {
        None => Some((os, Vec::new())),
        Some((os, details)) => Some((os, details.strip_suffix(')')?.split('+').collect())),
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.os)?;
        if !self.os_version.is_empty() || !self.os_features.is_empty() {
            write!(f, "({}", self.os_version)?;
            self.os_features.iter().try_for_each(|feature| write!(f, "+{feature}"))?;
            f.write_str(")")?;
        }
        write!(f, "/{}", self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}
