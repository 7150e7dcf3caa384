//! Names of references, and commits.

use std::fmt;
use std::str::FromStr;

/// The full name of an object: 40 hexadecimal digits (SHA-1) or 64 (SHA-256), in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Commit(String);

/// It is not the full name of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a full commit: it has 40 or 64 hexadecimal digits")]
pub struct NotACommit;

impl Commit {
    /// Its digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What repositories with such names call their format.
    pub fn format(&self) -> &'static str {
        if self.0.len() == 40 { "sha1" } else { "sha256" }
    }
}

impl FromStr for Commit {
    type Err = NotACommit;

    fn from_str(text: &str) -> Result<Self, NotACommit> {
        let is_digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        let is_whole = matches!(text.len(), 40 | 64) && text.bytes().all(is_digit);
        is_whole.then(|| Self(text.to_owned())).ok_or(NotACommit)
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `git` may be asked for a reference of this name (`git check-ref-format`, and nothing that
/// begins like an option).
pub fn is_name(text: &str) -> bool {
    let is_bad = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    let is_bad_part =
        |part: &str| part.is_empty() || part.starts_with(['.', '-']) || part.ends_with(".lock");
    !text.chars().any(is_bad)
        && !text.contains("..")
        && !text.contains("@{")
        && !text.ends_with('.')
        && text != "@"
        && !text.split('/').any(is_bad_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_git_would_take_for_something_else_are_refused() {
        for name in ["main", "v1.0", "refs/heads/a/b", "a-b", "HEAD", "refs/pull/1/head", "ä"] {
            assert!(is_name(name), "{name}");
        }
        for name in [
            "",
            "-x",
            "--upload-pack=touch",
            "a b",
            "a..b",
            "a^{}",
            "a:b",
            "a*",
            "a\n",
            "/a",
            "a/",
            "a//b",
            "a.lock",
            ".a",
            "a/-b",
            "a@{1}",
            "@",
            "a.",
            "a\\b",
        ] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn a_commit_is_whole() {
        let sha1 = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(sha1.parse::<Commit>().unwrap().format(), "sha1");
        let sha256 = format!("{sha1}{}", &sha1[..24]);
        assert_eq!(sha256.parse::<Commit>().unwrap().format(), "sha256");
        for text in [&sha1[1..], "main", "", &sha1.to_uppercase(), &sha1.replace('0', "g")] {
            assert_eq!(text.parse::<Commit>(), Err(NotACommit), "{text}");
        }
    }
}
