//! What services answer, as documents.

use std::time::{Duration, SystemTime};

use serde::Deserialize;

use super::aws::S3Credentials;
use crate::lease::Granted;
use crate::xml;

/// Keys as the services of containers and instances give them ("Credentials" in their JSON).
pub(super) fn keys_in_json(text: &str) -> Option<Granted<S3Credentials>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        code: Option<String>,
        access_key_id: String,
        secret_access_key: String,
        token: Option<String>,
        expiration: Option<String>,
    }
    let answer: Answer = serde_json::from_str(text).ok()?;
    let is_good = answer.code.is_none_or(|code| code == "Success");
    let until = answer.expiration.as_deref().map(time);
    is_good.then_some(())?;
    keys(answer.access_key_id, answer.secret_access_key, answer.token, until)
}

/// Keys as the token service gives them ("AssumeRoleWithWebIdentityResponse").
pub(super) fn keys_in_xml(text: &str) -> Option<Granted<S3Credentials>> {
    let credentials = xml::texts(text, "Credentials").next()?;
    let field = |name: &str| xml::texts(&credentials, name).next();
    let until = field("Expiration").map(|text| time(&text));
    keys(field("AccessKeyId")?, field("SecretAccessKey")?, field("SessionToken"), until)
}

/// With an end that cannot be read they are none.
fn keys(
    id: String,
    secret: String,
    token: Option<String>,
    until: Option<Option<SystemTime>>,
) -> Option<Granted<S3Credentials>> {
    let until = match until {
        Some(until) => Some(until?),
        None => None,
    };
    let token = token.filter(|token| !token.is_empty());
    let is_whole = !id.is_empty() && !secret.is_empty();
    is_whole.then_some(Granted { value: S3Credentials { id, secret, token }, until })
}

fn time(text: &str) -> Option<SystemTime> {
    text.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
}

/// A token of Azure's (RFC 6749, section 5.1); managed identities write numbers as text.
pub(super) fn token(text: &str, now: SystemTime) -> Option<Granted<String>> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Seconds {
        Number(u64),
        Text(String),
    }
    #[derive(Deserialize)]
    struct Answer {
        access_token: String,
        expires_in: Option<Seconds>,
    }
    let answer: Answer = serde_json::from_str(text).ok()?;
    let seconds = match answer.expires_in {
        Some(Seconds::Number(seconds)) => seconds,
        Some(Seconds::Text(text)) => text.parse().ok()?,
        // The next request asks again.
        None => 0,
    };
    let until = now.checked_add(Duration::from_secs(seconds))?;
    let is_whole = !answer.access_token.is_empty();
    is_whole.then_some(Granted { value: answer.access_token, until: Some(until) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const JSON: &str = r#"{"Code":"Success","AccessKeyId":"id","SecretAccessKey":"s","Token":"t","Expiration":"1970-01-01T00:01:40Z"}"#;
    const XML: &str = "<R><Credentials><AccessKeyId>id</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
        <SessionToken>t</SessionToken><Expiration>1970-01-01T00:01:40Z</Expiration></Credentials></R>";

    fn shown(granted: Option<Granted<S3Credentials>>) -> Option<String> {
        let Granted { value: key, until } = granted?;
        let until = until.map(|t| t.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
        Some(format!("{} {} {:?} {until:?}", key.id, key.secret, key.token))
    }

    #[test]
    fn keys_are_read_whole_or_not_at_all() {
        let all = Some("id s Some(\"t\") Some(100)".to_owned());
        assert_eq!(shown(keys_in_xml(XML)), all);
        for (json, expected) in [
            (JSON.to_owned(), all.clone()),
            (JSON.replace("Success", "AssumeRoleUnauthorizedAccess"), None),
            (JSON.replace("1970-01-01T00:01:40Z", "soon"), None),
            (JSON.replace("\"id\"", "\"\""), None),
            (JSON.replace("\"AccessKeyId\":\"id\",", ""), None),
            (
                r#"{"AccessKeyId":"id","SecretAccessKey":"s","Token":""}"#.to_owned(),
                Some("id s None None".to_owned()),
            ),
            ("[]".to_owned(), None),
        ] {
            assert_eq!(shown(keys_in_json(&json)), expected, "{json}");
        }
        for xml in [
            XML.replace("SessionToken", "X").replace("SecretAccessKey", "Y"),
            XML.replace("1970", "x"),
            XML.replace("<Credentials>", ""),
            String::new(),
        ] {
            assert_eq!(shown(keys_in_xml(&xml)), None, "{xml}");
        }
    }

    #[test]
    fn tokens_have_an_end() {
        let seconds = |text: &str| {
            let granted = token(text, SystemTime::UNIX_EPOCH)?;
            Some(granted.until?.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
        };
        for (text, expected) in [
            (r#"{"access_token":"t","expires_in":3599,"token_type":"Bearer"}"#, Some(3599)),
            (r#"{"access_token":"t","expires_in":"86399","expires_on":"1"}"#, Some(86399)),
            (r#"{"access_token":"t"}"#, Some(0)),
            (r#"{"access_token":"t","expires_in":"soon"}"#, None),
            (r#"{"access_token":"t","expires_in":18446744073709551615}"#, None),
            (r#"{"access_token":""}"#, None),
            (r#"{"error":"invalid_client"}"#, None),
            ("", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_service_says_is_read_to_an_end(at in 0..200usize, byte in any::<u8>()) {
            for document in [JSON, XML] {
                let mut bytes = document.as_bytes().to_vec();
                let at = at % bytes.len();
                bytes[at] = byte;
                let text = String::from_utf8_lossy(&bytes);
                let _ = (keys_in_json(&text), keys_in_xml(&text), token(&text, SystemTime::UNIX_EPOCH));
                let _ = (keys_in_json(&document[..at]), keys_in_xml(&document[..at]));
            }
        }
    }
}
