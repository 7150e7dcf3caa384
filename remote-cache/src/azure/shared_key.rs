//! Signatures of requests to Azure's storage with an account's key ("Shared Key" of its REST interface).

use std::collections::BTreeMap;
use std::fmt;

use data_encoding::BASE64;
use http_client::header::{HeaderValue, IF_NONE_MATCH, RANGE};
use http_client::{Authorization, Payload, Request};
use ring::hmac;

/// An account and its key.
#[derive(Clone)]
pub(crate) struct SharedKey {
    account: String,
    key: hmac::Key,
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedKey({})", self.account)
    }
}

impl SharedKey {
    /// The key of `account` as the portal shows it, in base64; `None` for anything else.
    pub(crate) fn new(account: &str, key: &str) -> Option<Self> {
        let key = BASE64.decode(key.trim().as_bytes()).ok()?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        Some(Self { account: account.to_owned(), key })
    }

    /// The header that lets the request in, once it has all others.
    pub(crate) fn authorization(&self, request: &Request) -> Authorization {
        let signature = hmac::sign(&self.key, self.signed(request).as_bytes());
        let text = format!("SharedKey {}:{}", self.account, BASE64.encode(signature.as_ref()));
        let mut header = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""));
        header.set_sensitive(true);
        Authorization::new(header, &request.url)
    }

    /// What is signed: the method, twelve headers of which few are ever sent, Azure's own, and the resource.
    fn signed(&self, request: &Request) -> String {
        let text = |value: Option<&HeaderValue>| {
            value.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let length = match &request.payload {
            // What grows while it is sent says nothing about its length.
            Payload::Empty | Payload::Growing { .. } => 0,
            Payload::Bytes(bytes) => bytes.len() as u64,
            Payload::Stream { size, .. } => *size,
        };
        let length = if length == 0 { String::new() } else { length.to_string() };
        let none = String::new;
        let if_none_match = text(request.headers.get(IF_NONE_MATCH));
        let range = text(request.headers.get(RANGE));
        let headers = [
            none(), // Content-Encoding
            none(), // Content-Language
            length,
            none(), // Content-MD5
            none(), // Content-Type
            none(), // Date
            none(), // If-Modified-Since
            none(), // If-Match
            if_none_match,
            none(), // If-Unmodified-Since
            range,
        ];
        let own: BTreeMap<&str, String> = (request.headers.iter())
            .filter(|(name, _)| name.as_str().starts_with("x-ms-"))
            .map(|(name, value)| (name.as_str(), text(Some(value))))
            .collect();
        let own: String = own.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let mut query: Vec<(String, String)> = (request.url.query_pairs())
            .map(|(name, value)| (name.to_lowercase(), value.into_owned()))
            .collect();
        query.sort();
        let query: String = query.iter().map(|(name, value)| format!("\n{name}:{value}")).collect();
        let (method, path) = (&request.method, request.url.path());
        format!("{method}\n{}\n{own}/{}{path}{query}", headers.join("\n"), self.account)
    }
}

#[cfg(test)]
mod tests {
    use http_client::Method;
    use http_client::header::HeaderName;

    use super::*;

    #[test]
    fn a_request_is_signed_as_azure_documents_it() {
        let url = "https://acct.blob.core.windows.net/box?restype=container&comp=list&prefix=a%2Fb";
        let mut request = Request::new(Method::GET, url.parse().unwrap());
        for (name, value) in [
            ("x-ms-version", "2021-12-02"),
            ("x-ms-date", "Fri, 26 Jun 2015 23:39:12 GMT"),
            ("range", "bytes=0-9"),
            ("accept", "application/xml"),
        ] {
            let name: HeaderName = name.parse().unwrap();
            request.headers.insert(name, HeaderValue::from_static(value));
        }
        let key = SharedKey::new("acct", "c2VjcmV0").unwrap();
        assert_eq!(
            key.signed(&request),
            "GET\n\n\n\n\n\n\n\n\n\n\nbytes=0-9\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\n\
             x-ms-version:2021-12-02\n/acct/box\ncomp:list\nprefix:a/b\nrestype:container"
        );
        request.payload = Payload::Bytes(b"seven!!".as_slice().into());
        request.method = Method::PUT;
        assert!(key.signed(&request).starts_with("PUT\n\n\n7\n\n\n\n"));
        assert!(SharedKey::new("acct", "no base64").is_none());
        assert!(!format!("{key:?}").contains("c2Vj"));
    }
}
