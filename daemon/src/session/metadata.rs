//! Metadata of calls to a client.

use std::fmt::Write as _;

use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::{Request, Status};

/// Keys and values that go with a call.
#[derive(Debug, Default)]
pub(crate) struct Metadata(MetadataMap);

impl Metadata {
    /// Adds `values` under `key`. If one of them is not plain text, all are escaped, and it is said.
    pub(crate) fn add(&mut self, key: &'static str, values: &[String]) {
        let is_plain = values.iter().all(|value| value.bytes().all(|b| (b' '..=b'~').contains(&b)));
        let name = AsciiMetadataKey::from_static(key);
        for value in values {
            let text = if is_plain { value.clone() } else { escaped(value) };
            let value = AsciiMetadataValue::try_from(text).expect("plain text was made");
            self.0.append(name.clone(), value);
        }
        if !is_plain {
            let name = AsciiMetadataKey::from_bytes(format!("{key}-encoded").as_bytes());
            self.0.insert(name.expect("a key with an ending"), AsciiMetadataValue::from(1));
        }
    }

    /// A call with them.
    pub(crate) fn request<T>(self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.0;
        request
    }
}

/// As in the query of a URL.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(byte.into());
            }
            b' ' => escaped.push('+'),
            byte => write!(escaped, "%{byte:02X}").expect("text takes text"),
        }
    }
    escaped
}

/// Whether the client says that it has no such thing.
pub(crate) fn is_absent(status: &Status) -> bool {
    matches!(status.code(), tonic::Code::NotFound | tonic::Code::Unimplemented)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_not_plain_are_escaped_together() {
        for (values, expected, is_encoded) in [
            (vec!["src dir/*.rs", "a"], vec!["src dir/*.rs", "a"], false),
            (vec!["ä b", "c/d"], vec!["%C3%A4+b", "c%2Fd"], true),
            (vec!["line\nbreak"], vec!["line%0Abreak"], true),
        ] {
            let values: Vec<String> = values.into_iter().map(str::to_owned).collect();
            let mut metadata = Metadata::default();
            metadata.add("followpaths", &values);
            let request = metadata.request(());
            let sent: Vec<_> = request.metadata().get_all("followpaths").iter().collect();
            assert_eq!(sent, expected);
            assert_eq!(request.metadata().contains_key("followpaths-encoded"), is_encoded);
        }
    }
}
