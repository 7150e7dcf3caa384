//! Range requests (RFC 9110, section 14) and checks of their answers.

use std::ops::Range;

use reqwest::header::{CONTENT_ENCODING, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};

use crate::request::Request;

/// An answer without the bytes that were requested.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// The bytes are encoded, although `identity` was requested.
    #[error("unexpected answer: the content is encoded as `{0}`")]
    Encoded(String),
    /// They are of another range.
    #[error("unexpected answer: asked for bytes {}-{}, got `{got}`", asked.start, asked.end - 1)]
    OtherPart {
        /// The range that was requested.
        asked: Range<u64>,
        /// The answer's `Content-Range`.
        got: String,
    },
}

impl Request {
    /// Requests `range` of a resource of `size` bytes. Nothing changes if that is all of it.
    pub fn ask_for(&mut self, range: Range<u64>, size: u64) {
        if range != (0..size) {
            let text = format!("bytes={}-{}", range.start, range.end - 1);
            let value = HeaderValue::from_str(&text).expect("numbers fit into a header");
            self.headers.insert(RANGE, value);
        }
    }
}

/// Whether the bytes are sent as they are stored.
pub(crate) fn check_encoding(headers: &HeaderMap) -> Result<(), RangeError> {
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            let encoding = String::from_utf8_lossy(encoding.as_bytes());
            Err(RangeError::Encoded(encoding.chars().take(100).collect()))
        }
        _ => Ok(()),
    }
}

/// Whether a partial answer is the range that was requested, or the start of it.
pub(crate) fn check_part(
    headers: &HeaderMap,
    asked: &Range<u64>,
    size: u64,
) -> Result<(), RangeError> {
    let text = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let parse = || {
        let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let fits_total = total == "*" || total.parse() == Ok(size);
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        (fits_total && first == asked.start && last >= first && last < asked.end).then_some(())
    };
    parse().ok_or_else(|| RangeError::OtherPart { asked: asked.clone(), got: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_the_one_asked_for_or_its_start() {
        // Of bytes 20 to 49 of 100.
        for (header, fits) in [
            ("bytes 20-49/100", true),
            ("bytes 20-49/*", true),
            ("bytes 20-20/100", true),
            ("bytes 20-50/100", false),
            ("bytes 19-49/100", false),
            ("bytes 21-49/100", false),
            ("bytes 20-19/100", false),
            ("bytes 20-49/99", false),
            ("bytes 20-49", false),
            ("bytes */100", false),
            ("20-49/100", false),
            ("bytes 20-99999999999999999999/100", false),
            ("bytes -20-49/100", false),
            ("", false),
        ] {
            let value = HeaderValue::from_static(header);
            let headers = HeaderMap::from_iter([(CONTENT_RANGE, value)]);
            assert_eq!(check_part(&headers, &(20..50), 100).is_ok(), fits, "{header}");
        }
        let error = check_part(&HeaderMap::new(), &(20..50), 100).unwrap_err();
        assert_eq!(error.to_string(), "unexpected answer: asked for bytes 20-49, got ``");
    }

    #[test]
    fn encoded_content_is_refused() {
        assert_eq!(check_encoding(&HeaderMap::new()), Ok(()));
        for (encoding, fits) in [("identity", true), ("gzip", false), ("", false)] {
            let value = HeaderValue::from_static(encoding);
            let headers = HeaderMap::from_iter([(CONTENT_ENCODING, value)]);
            assert_eq!(check_encoding(&headers).is_ok(), fits, "{encoding}");
        }
    }

    #[test]
    fn the_whole_is_asked_for_without_a_range() {
        for (range, expected) in
            [(0..10, None), (0..9, Some("bytes=0-8")), (3..10, Some("bytes=3-9"))]
        {
            let mut request =
                Request::new(reqwest::Method::GET, "http://r.example/".parse().unwrap());
            request.ask_for(range, 10);
            let header = request.headers.get(RANGE).map(|value| value.to_str().unwrap());
            assert_eq!(header, expected);
        }
    }
}
