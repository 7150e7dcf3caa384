//! What an answer's status means.

use std::time::Duration;

use http_client::Response;

use crate::cause::Cause;

const ERROR_BODY_MAX: usize = 64 << 10;

/// The answer, if it is a success.
pub(crate) async fn success(response: Response) -> Result<Response, Cause> {
    if response.status().is_success() { Ok(response) } else { Err(failure(response).await) }
}

/// What an answer that is not a success means (OCI distribution specification, "Error Codes").
pub(crate) async fn failure(response: Response) -> Cause {
    let status = response.status().as_u16();
    let retry_after = response.retry_after();
    // An error's text is worth waiting for, but not for long.
    let detail = error_detail(&response.start(ERROR_BODY_MAX, Duration::from_secs(1)).await);
    match status {
        404 => Cause::NotFound,
        401 => Cause::Unauthorized(detail),
        403 => Cause::Denied(detail),
        429 => Cause::TooManyRequests { retry_after, detail },
        status => Cause::Status { status, retry_after, detail },
    }
}

/// Reads an answer of which only the status matters, so that its connection can serve again.
pub(crate) async fn discard(response: Response) {
    drop(response.body(ERROR_BODY_MAX as u64).await);
}

/// The registry's message in an error body, made short and safe for a terminal.
fn error_detail(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Body {
        errors: Vec<Item>,
    }
    #[derive(serde::Deserialize)]
    struct Item {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let text = match serde_json::from_slice::<Body>(body) {
        Ok(body) => {
            let items = body.errors.iter().map(|item| match (&*item.code, &*item.message) {
                (code, "") => code.to_lowercase(),
                ("", message) => message.to_owned(),
                (code, message) => format!("{}: {message}", code.to_lowercase()),
            });
            items.collect::<Vec<_>>().join("; ")
        }
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::error_detail;

    #[test]
    fn a_registry_s_message_is_short_and_safe_for_a_terminal() {
        for (body, expected) in [
            ("", ""),
            (" come\u{1b}[31m back\nlater ", "come [31m back later"),
            (r#"{"errors":[{"code":"DENIED","message":"go away"}]}"#, "denied: go away"),
            (r#"{"errors":[{"code":"DENIED"},{"message":"x"}]}"#, "denied; x"),
            (r#"{"errors":[]}"#, ""),
            (r#"{"error":"other"}"#, r#"{"error":"other"}"#),
        ] {
            assert_eq!(error_detail(body.as_bytes()), expected, "{body}");
        }
        assert_eq!(error_detail(&[b'x'; 1000]).len(), 300);
    }
}
