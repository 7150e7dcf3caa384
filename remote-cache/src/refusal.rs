//! What servers of objects say when they refuse.

use std::fmt;

use serde::Deserialize;

/// The longest code that is shown.
const CODE_MAX: usize = 100;

/// A refusal's reason as the server calls it: a word such as `AccessDenied`. It is all that is shown of an
/// error's document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code(String);

impl Code {
    /// The code in an error's document: `<Code>` in the XML of S3 and Azure, `code` in the JSON of Twirp,
    /// `typeKey` in that of GitHub's older services, `error` in that of Azure's directory.
    pub(crate) fn of(body: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(body);
        let text = text.trim_start_matches('\u{feff}');
        let xml = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
        match xml {
            Some((code, _)) => Self::plain(code),
            None => {
                let json: Json = serde_json::from_str(text).ok()?;
                let error = json.error.as_ref().and_then(serde_json::Value::as_str);
                Self::plain(json.code.as_deref().or(json.type_key.as_deref()).or(error)?)
            }
        }
    }

    fn plain(code: &str) -> Option<Self> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let fits = !code.is_empty() && code.len() < CODE_MAX && code.chars().all(is_plain);
        fits.then(|| Self(code.to_owned()))
    }

    /// Whether it says that something of this name is there.
    pub(crate) fn is_already_there(&self) -> bool {
        self.0 == "already_exists" || self.0.contains("AlreadyExists")
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Json {
    code: Option<String>,
    type_key: Option<String>,
    error: Option<serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_by_its_code_alone() {
        for (body, code) in [
            ("<Error><Code>AccessDenied</Code></Error>", Some("AccessDenied")),
            ("\u{feff}<?xml?><Error><Code>BlobNotFound</Code></Error>", Some("BlobNotFound")),
            (r#"{"code":"already_exists","msg":"a secret"}"#, Some("already_exists")),
            (
                r#"{"typeKey":"ArtifactCacheItemAlreadyExistsException"}"#,
                Some("ArtifactCacheItemAlreadyExistsException"),
            ),
            (
                r#"{"error":"invalid_client","error_description":"a secret"}"#,
                Some("invalid_client"),
            ),
            (r#"{"code":"late","error":{}}"#, Some("late")),
            (r#"{"code":null}"#, None),
            (r#"{"code":7}"#, None),
            ("<Code>a\u{1b}[2J</Code>", None),
            ("<Code></Code>", None),
            ("<html>", None),
            ("", None),
        ] {
            assert_eq!(
                Code::of(body.as_bytes()).map(|code| code.0),
                code.map(str::to_owned),
                "{body}"
            );
        }
        assert!(Code::of(br#"{"code":"already_exists"}"#).unwrap().is_already_there());
        assert!(!Code::of(br#"{"code":"unauthenticated"}"#).unwrap().is_already_there());
    }
}
