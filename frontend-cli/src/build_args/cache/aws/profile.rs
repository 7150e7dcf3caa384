//! Profiles in the two files that the tools of AWS share: `~/.aws/config` and `~/.aws/credentials`.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::environment::Environment;

/// Larger files are none of theirs, in bytes.
const SIZE_MAX: u64 = 4 << 20;
const DEFAULT: &str = "default";
/// What a profile may say of where keys come from that is not asked here.
const UNSUPPORTED: [&str; 6] = [
    "source_profile",
    "credential_source",
    "sso_session",
    "sso_start_url",
    "login_session",
    "credential_process",
];

/// A profile: what both files say of it.
#[derive(Debug, Default)]
pub(super) struct Profile {
    name: String,
    values: BTreeMap<String, String>,
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProfileError {
    #[error("failed to read `{}`: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("there is no profile `{0}` (AWS_PROFILE)")]
    Missing(String),
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AWS's profile `{}`", self.name)
    }
}

impl Profile {
    /// The profile that `AWS_PROFILE` names, or else the default one, which need not be there.
    pub(super) fn read(environment: &Environment) -> Result<Self, ProfileError> {
        let named = environment.text("AWS_PROFILE").filter(|name| !name.is_empty());
        let name = named.unwrap_or(DEFAULT);
        let mut values = BTreeMap::new();
        let mut is_there = false;
        // What is said in the file for keys counts.
        for (variable, file, kind) in [
            ("AWS_CONFIG_FILE", "config", Kind::Config),
            ("AWS_SHARED_CREDENTIALS_FILE", "credentials", Kind::Credentials),
        ] {
            let text = text(environment, variable, file)?;
            let found = section(&text, &kind.section(name));
            is_there |= found.is_some();
            values.extend(found.unwrap_or_default());
        }
        match named {
            Some(name) if !is_there => Err(ProfileError::Missing(name.to_owned())),
            _ => Ok(Self { name: name.to_owned(), values }),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// What it says of where keys come from that is not asked here.
    pub(super) fn unsupported(&self) -> Option<&'static str> {
        let role = self.get("role_arn").is_some() && self.get("web_identity_token_file").is_none();
        let other = UNSUPPORTED.into_iter().find(|key| self.get(key).is_some());
        other.or(role.then_some("role_arn"))
    }
}

/// Which of the files.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Config,
    Credentials,
}

impl Kind {
    fn section(self, profile: &str) -> String {
        match self {
            Self::Config if profile != DEFAULT => format!("profile {profile}"),
            Self::Config | Self::Credentials => profile.to_owned(),
        }
    }
}

/// One of the files; empty where there is none, unless `variable` names it.
fn text(environment: &Environment, variable: &str, file: &str) -> Result<String, ProfileError> {
    let named = environment.path(variable);
    let own = environment.path("HOME").map(|home| home.join(".aws").join(file));
    let is_named = named.is_some();
    let Some(path) = named.or(own) else { return Ok(String::new()) };
    match read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_named => Ok(String::new()),
        text => text.map_err(|source| ProfileError::Read { path, source }),
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(SIZE_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// What a file says in the section `name`, the last word for each key: lines `key = value` below `[name]`. Lines that
/// begin with a blank belong to the key before them and are left out, like comments.
fn section(text: &str, name: &str) -> Option<BTreeMap<String, String>> {
    let mut found: Option<BTreeMap<String, String>> = None;
    let mut is_in = false;
    for line in text.lines() {
        if line.starts_with([' ', '\t', '#', ';']) {
            continue;
        }
        if let Some(title) = line.strip_prefix('[') {
            let title = title.split(']').next().unwrap_or_default();
            is_in = title.split_whitespace().eq(name.split_whitespace());
            if is_in {
                found.get_or_insert_default();
            }
        } else if is_in
            && let (Some((key, value)), Some(found)) = (line.split_once('='), &mut found)
        {
            found.insert(key.trim().to_lowercase(), value_of(value).to_owned());
        }
    }
    found
}

/// A value ends before a comment, which has a blank before it.
fn value_of(text: &str) -> &str {
    let end = [" #", " ;", "\t#", "\t;"].iter().filter_map(|mark| text.find(mark)).min();
    text[..end.unwrap_or(text.len())].trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# a comment\n[default]\nregion = here\nS3 =\n  endpoint = x\n[profile ci]\n\
        Region=there ; that one\naws_access_key_id = a#b\n[profile  ci ]\nrole_arn = r\n[other\nregion = z\n";

    #[test]
    fn a_section_is_what_stands_below_its_title() {
        for (name, key, expected) in [
            ("default", "region", Some("here")),
            ("default", "s3", Some("")),
            ("default", "endpoint", None),
            ("profile ci", "region", Some("there")),
            ("profile ci", "aws_access_key_id", Some("a#b")),
            ("profile ci", "role_arn", Some("r")),
            ("other", "region", Some("z")),
        ] {
            let found = section(FILE, name).unwrap();
            assert_eq!(found.get(key).map(String::as_str), expected, "{name} {key}");
        }
        assert_eq!(section(FILE, "ci"), None);
        assert_eq!(section("", "default"), None);
    }

    #[test]
    fn whatever_a_file_has_is_read_to_an_end() {
        for at in 0..FILE.len() {
            for byte in [0, b'[', b']', b'=', b'\n', b' ', b'#', 0xff] {
                let mut bytes = FILE.as_bytes().to_vec();
                bytes[at] = byte;
                let _ = section(&String::from_utf8_lossy(&bytes), "profile ci");
            }
        }
    }
}
