//! Which representation of a resource an answer has (RFC 9110, section 8.8).

use reqwest::header::{
    ETAG, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED,
};

use crate::request::Request;
use crate::response::Response;

/// The longest validator that is kept, in bytes. Longer ones are as good as none.
const LENGTH_MAX: usize = 1024;

/// By what a server tells one representation of a resource from another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validators {
    /// `ETag`, as written.
    pub etag: Option<String>,
    /// `Last-Modified`, as written.
    pub last_modified: Option<String>,
}

impl Validators {
    /// Those of an answer.
    pub fn of(response: &Response) -> Self {
        let header = |name: HeaderName| {
            let text = response.header(&name).map(str::trim)?;
            (!text.is_empty() && text.len() <= LENGTH_MAX).then(|| text.to_owned())
        };
        Self { etag: header(ETAG), last_modified: header(LAST_MODIFIED) }
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }

    /// Requests only another representation than this one (sections 13.1.2 and 13.1.3): the
    /// answer is 304 if there is none.
    pub fn ask_for_another(&self, request: &mut Request) {
        set(request, IF_NONE_MATCH, self.etag.as_deref());
        set(request, IF_MODIFIED_SINCE, self.last_modified.as_deref());
    }

    /// Requests a range only if it is of this representation (section 13.1.5): otherwise the answer is
    /// the whole of another one.
    pub fn ask_for_the_same(&self, request: &mut Request) {
        let date = self.last_modified.as_deref().filter(|_| self.etag.is_none());
        set(request, IF_RANGE, self.etag.as_deref().filter(|etag| is_strong(etag)).or(date));
    }

    /// Whether both answers surely have the same content: their tags are equal, weak or not
    /// (section 8.8.3.2). Times alone are too coarse for that.
    pub fn is_same(&self, other: &Self) -> bool {
        let weak = |etag: &Option<String>| etag.as_deref().map(opaque).map(str::to_owned);
        self.etag.is_some() && weak(&self.etag) == weak(&other.etag)
    }

    /// Whether the answers are of different content as far as both say. A part need not say all that
    /// the whole does (section 15.3.7).
    pub fn differs_from(&self, other: &Self) -> bool {
        let differ = |one: &Option<String>, other: &Option<String>| {
            one.as_ref().zip(other.as_ref()).is_some_and(|(one, other)| one != other)
        };
        differ(&self.etag, &other.etag) || differ(&self.last_modified, &other.last_modified)
    }
}

fn is_strong(etag: &str) -> bool {
    !etag.starts_with("W/")
}

fn opaque(etag: &str) -> &str {
    etag.strip_prefix("W/").unwrap_or(etag)
}

fn set(request: &mut Request, name: HeaderName, value: Option<&str>) {
    // What was a header once is one again, unless somebody has changed it meanwhile.
    if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
        request.headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validators(etag: &str, last_modified: &str) -> Validators {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Validators { etag: some(etag), last_modified: some(last_modified) }
    }

    /// The headers that `ask` sets, one after the other.
    fn headers(ask: impl FnOnce(&mut Request)) -> String {
        let url = "http://r.example/".parse().unwrap();
        let mut request = Request::new(reqwest::Method::GET, url);
        ask(&mut request);
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().unwrap())
        };
        request.headers.iter().map(line).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn validators_make_requests_conditional() {
        for (known, another, same) in [
            (validators("", ""), "", ""),
            (validators("\"a\"", ""), "if-none-match: \"a\"", "if-range: \"a\""),
            (validators("W/\"a\"", ""), "if-none-match: W/\"a\"", ""),
            (validators("", "then"), "if-modified-since: then", "if-range: then"),
            (validators("W/\"a\"", "then"), "if-none-match: W/\"a\", if-modified-since: then", ""),
            (
                validators("\"a\"", "then"),
                "if-none-match: \"a\", if-modified-since: then",
                "if-range: \"a\"",
            ),
            (validators("\"a\nb\"", ""), "", ""),
        ] {
            assert_eq!(headers(|request| known.ask_for_another(request)), another, "{known:?}");
            assert_eq!(headers(|request| known.ask_for_the_same(request)), same, "{known:?}");
        }
    }

    #[test]
    fn equal_tags_are_of_the_same_content() {
        for (one, other, is_same, differs) in [
            (validators("\"a\"", "then"), validators("\"a\"", "now"), true, true),
            (validators("\"a\"", "then"), validators("\"a\"", ""), true, false),
            (validators("W/\"a\"", ""), validators("\"a\"", ""), true, true),
            (validators("\"a\"", "then"), validators("\"b\"", "then"), false, true),
            (validators("", "then"), validators("", "then"), false, false),
            (validators("\"a\"", "then"), validators("", "then"), false, false),
            (validators("", ""), validators("", ""), false, false),
        ] {
            assert_eq!(one.is_same(&other), is_same, "{one:?} {other:?}");
            assert_eq!(one.differs_from(&other), differs, "{one:?} {other:?}");
        }
    }
}
