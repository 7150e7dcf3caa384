//! What a token of Actions says of itself.
//!
//! It is a JWT whose claim `ac` lists git refs, as JSON in a text: a job may read the entries of its own branch
//! and of those that it comes from, and write those of its own.

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;

/// The bit of a ref whose entries may be written.
const WRITE: u32 = 2;
/// No job has more refs.
const REFS_MAX: usize = 16;

/// The refs of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refs {
    /// Whose entries may be read.
    pub(super) readable: Vec<String>,
    /// Whose entries may be written; `None` if none.
    pub(super) writable: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    ac: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Access {
    scope: String,
    permission: u32,
}

impl Refs {
    /// Those of a token. One of another form is good for all that its server has.
    pub(super) fn of(token: &str) -> Self {
        Self::parse(token).unwrap_or_else(|| Self {
            readable: vec![String::new()],
            writable: Some(String::new()),
        })
    }

    fn parse(token: &str) -> Option<Self> {
        let claims = token.split('.').nth(1)?;
        let claims = BASE64URL_NOPAD.decode(claims.trim_end_matches('=').as_bytes()).ok()?;
        let claims: Claims = serde_json::from_slice(&claims).ok()?;
        let mut access: Vec<Access> = serde_json::from_str(&claims.ac).ok()?;
        access.truncate(REFS_MAX);
        let may_write = |access: &&Access| access.permission & WRITE != 0;
        Some(Self {
            writable: access.iter().rev().find(may_write).map(|access| access.scope.clone()),
            readable: access.into_iter().map(|access| access.scope).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(claims: &str) -> String {
        format!("e30.{}.c2ln", BASE64URL_NOPAD.encode(claims.as_bytes()))
    }

    fn refs(readable: &[&str], writable: Option<&str>) -> Refs {
        let readable = readable.iter().map(|name| (*name).to_owned()).collect();
        Refs { readable, writable: writable.map(str::to_owned) }
    }

    #[test]
    fn a_token_names_what_may_be_read_and_written() {
        let branch = r#"{\"Scope\":\"refs/heads/b\",\"Permission\":3}"#;
        let main = r#"{\"Scope\":\"refs/heads/main\",\"Permission\":1}"#;
        let both = token(&format!(r#"{{"ac":"[{branch},{main}]","exp":1}}"#));
        assert_eq!(
            Refs::of(&both),
            refs(&["refs/heads/b", "refs/heads/main"], Some("refs/heads/b"))
        );
        let only_read = token(&format!(r#"{{"ac":"[{main}]"}}"#));
        assert_eq!(Refs::of(&only_read), refs(&["refs/heads/main"], None));
        for other in ["", "word", "a.b.c", &token("{}"), &token(r#"{"ac":"[7]"}"#)] {
            assert_eq!(Refs::of(other), refs(&[""], Some("")), "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_token_makes_reading_fail_otherwise(text in ".{0,60}", claims in ".{0,60}") {
            let _ = Refs::of(&text);
            prop_assert!(Refs::of(&token(&claims)).readable.len() <= REFS_MAX);
        }
    }
}
