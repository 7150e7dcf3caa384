//! What a fetched file is called, and how old it is.

use http_client::header::{CONTENT_DISPOSITION, DATE, HeaderMap};
use http_client::{Response, Url, Validators};
use jiff::Zoned;
use jiff::fmt::rfc2822;
use llb::HttpSource;

use super::cause::Cause;

/// The longest name on Linux, in bytes.
const LENGTH_MAX: usize = 255;
/// The name of what has none.
const DEFAULT: &str = "download";

/// The name that was asked for; else that which the answer gives it (RFC 6266), else the URL's last part.
pub(super) fn of(source: &HttpSource, headers: &HeaderMap) -> Result<String, Cause> {
    if !source.filename.is_empty() {
        let name = safe(&source.filename);
        return match name.len() <= LENGTH_MAX {
            true => Ok(name),
            false => Err(Cause::Name(name.chars().take(LENGTH_MAX).collect())),
        };
    }
    let header = headers.get(CONTENT_DISPOSITION);
    let header = header.and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    let given = header.and_then(file_name).filter(|name| !name.ends_with('/'));
    Ok(given.map_or_else(|| of_url(&source.url), |name| short(safe(&name))))
}

/// The same before there is an answer.
pub(super) fn without_answer(source: &HttpSource) -> String {
    match source.filename.as_str() {
        "" => of_url(&source.url),
        name => safe(name),
    }
}

fn of_url(url: &str) -> String {
    let path = url.parse().map(|url: Url| url.path().to_owned()).unwrap_or_default();
    let path = String::from_utf8(decoded(&path)).unwrap_or(path);
    short(safe(path.trim_end_matches('/')))
}

fn short(name: String) -> String {
    if name.len() <= LENGTH_MAX { name } else { DEFAULT.to_owned() }
}

/// The last part of a path, if a file can have that name.
fn safe(path: &str) -> String {
    let name = path.trim().rsplit('/').next().unwrap_or_default();
    match name {
        "" | "." | ".." => DEFAULT.to_owned(),
        name if name.contains(char::is_control) => DEFAULT.to_owned(),
        name => name.to_owned(),
    }
}

/// `filename` in a `Content-Disposition`; `filename*` (RFC 8187) goes before it.
fn file_name(header: &str) -> Option<String> {
    let (_, mut rest) = header.split_once(';')?;
    let (mut plain, mut extended) = (None, None);
    loop {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = value(after.trim_start())?;
        match name.trim().to_ascii_lowercase().as_str() {
            "filename" if plain.is_none() => plain = Some(value),
            "filename*" if extended.is_none() => extended = Some(extended_value(&value)?),
            "filename" | "filename*" => return None,
            _ => {}
        }
        match after.trim_start() {
            "" | ";" => break,
            after => rest = after.strip_prefix(';')?,
        }
    }
    extended.or(plain).filter(|name| !name.is_empty())
}

/// A token or quoted string (RFC 9110, section 5.6), and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(letters.next()?.1),
            letter => value.push(letter),
        }
    }
    None
}

/// `UTF-8'en'na%20me`
fn extended_value(text: &str) -> Option<String> {
    let (charset, rest) = text.split_once('\'')?;
    let (_, encoded) = rest.split_once('\'')?;
    let is_known = ["utf-8", "us-ascii"].contains(&charset.to_ascii_lowercase().as_str());
    String::from_utf8(decoded(encoded)).ok().filter(|_| is_known)
}

/// Replaces `%XX`.
pub(super) fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match (first, digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

/// Seconds since 1970 of a time in any of HTTP's forms (RFC 9110, section 5.6.7).
pub(super) fn date(text: &str) -> Option<i64> {
    let usual = || rfc2822::parse(text).ok().map(|time: Zoned| time.timestamp());
    let old = |format: &str| {
        let time = jiff::civil::DateTime::strptime(format, text).ok()?;
        Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    };
    let time = usual()
        .or_else(|| old("%A, %d-%b-%y %H:%M:%S GMT"))
        .or_else(|| old("%a %b %e %H:%M:%S %Y"))?;
    Some(time.as_second())
}

/// By what a file is known again. A time about that of the answer is left out: the file may have changed
/// within the same second since (RFC 9110, section 8.8.2.2).
pub(super) fn validators(response: &Response) -> Validators {
    let of = Validators::of(response);
    let answered = response.header(&DATE).and_then(date);
    let answered = answered.unwrap_or_else(|| jiff::Timestamp::now().as_second());
    let is_settled = |time: &String| date(time).is_some_and(|time| time < answered);
    Validators { last_modified: of.last_modified.filter(is_settled), etag: of.etag }
}

#[cfg(test)]
mod tests {
    use http_client::header::HeaderValue;

    use super::*;

    fn source(url: &str, filename: &str) -> HttpSource {
        let (url, filename) = (url.to_owned(), filename.to_owned());
        HttpSource { url, checksum: None, filename, mode: 0o600, uid: 0, gid: 0 }
    }

    fn name(url: &str, disposition: &[u8]) -> String {
        let mut headers = HeaderMap::new();
        if !disposition.is_empty() {
            headers.insert(CONTENT_DISPOSITION, HeaderValue::from_bytes(disposition).unwrap());
        }
        of(&source(url, ""), &headers).unwrap()
    }

    #[test]
    fn a_file_is_called_what_the_server_says() {
        let long = format!("attachment; filename={}", "x".repeat(300));
        for (disposition, expected) in [
            ("", "file.txt"),
            ("attachment", "file.txt"),
            ("attachment; filename=a.tar", "a.tar"),
            ("attachment; filename=\"a b.tar\"; size=3", "a b.tar"),
            ("inline;FileName = \"a\\\"b\" ;", "a\"b"),
            ("attachment; filename=\"a;b=c\"", "a;b=c"),
            ("attachment; filename=a; filename*=UTF-8''%c3%a9%20b", "é b"),
            ("attachment; filename*=utf-8'en'b; filename=a", "b"),
            ("attachment; filename*=latin9''b; filename=a", "file.txt"),
            ("attachment; filename=a; filename=b", "file.txt"),
            ("attachment; filename=\"a", "file.txt"),
            ("attachment; filename=", "file.txt"),
            ("attachment; filename=\"\"", "file.txt"),
            ("attachment; filename=\"dir/\"", "file.txt"),
            ("attachment; filename=\"../../x\"", "x"),
            ("attachment; filename=\"/etc/passwd\"", "passwd"),
            ("attachment; filename=\"..\"", "download"),
            ("attachment; filename=\"a/.\"", "download"),
            ("attachment; filename=\"  \"", "download"),
            ("attachment; filename*=UTF-8''a%00b", "download"),
            ("attachment; filename*=UTF-8''a%0ab", "download"),
            ("attachment; filename*=UTF-8''..%2fa", "a"),
            (&long, "download"),
        ] {
            assert_eq!(name("http://h/dir/file.txt?x", disposition.as_bytes()), expected);
        }
        assert_eq!(name("http://h/file", b"attachment; filename=\xff"), "file");
        assert_eq!(name("http://h/", b"attachment; filename=a"), "a");
    }

    #[test]
    fn without_a_word_of_the_server_it_is_called_after_the_url() {
        for (url, expected) in [
            ("http://h/a/b.tar", "b.tar"),
            ("http://h/a/b%20c?x=/y#/z", "b c"),
            ("http://h/dir/", "dir"),
            ("http://h/", "download"),
            ("http://h", "download"),
            ("http://h/a/%2e%2e%2f", "download"),
            ("http://h/a%2f%2fb", "b"),
            ("http://h/%00", "download"),
            ("no url", "download"),
        ] {
            assert_eq!(name(url, b""), expected, "{url}");
            assert_eq!(without_answer(&source(url, "")), expected, "{url}");
        }
        assert_eq!(name(&format!("http://h/{}", "y".repeat(256)), b""), "download");
        let asked = |filename: &str| of(&source("http://h/a", filename), &HeaderMap::new());
        assert_eq!(asked("asked").unwrap(), "asked");
        assert_eq!(asked("../asked").unwrap(), "asked");
        assert!(matches!(asked(&"y".repeat(256)), Err(Cause::Name(_))));
    }

    #[test]
    fn times_have_three_forms() {
        for (text, expected) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777)),
            ("Sun Nov  6 08:49:37 1994", Some(784_111_777)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("1994-11-06", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(date(text), expected, "{text}");
        }
    }

    /// Headers as a hostile server may send them, pieced together at random.
    #[test]
    fn no_header_gives_a_name_that_leads_out() {
        const PIECES: [&str; 24] = [
            "attachment",
            ";",
            "=",
            "filename",
            "filename*",
            "\"",
            "\\",
            "'",
            "UTF-8''",
            "%2f",
            "%00",
            "..",
            "/",
            ".",
            " ",
            "\t",
            "a",
            "é",
            "%",
            "%c3",
            "%0a",
            "%2e%2e",
            "name",
            "Sun, 06 Nov 1994",
        ];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as usize
        };
        for _ in 0..20_000 {
            let length = next() % 12;
            let text: String = (0..length).map(|_| PIECES[next() % PIECES.len()]).collect();
            date(&text);
            let found = match HeaderValue::from_bytes(text.as_bytes()) {
                Ok(_) => name("http://h/f", text.as_bytes()),
                Err(_) => name(&format!("http://h/{text}"), b""),
            };
            let is_good = !found.is_empty()
                && found.len() <= LENGTH_MAX
                && ![".", ".."].contains(&found.as_str())
                && !found.contains(['/', '\0', '\n']);
            assert!(is_good, "{text:?} gives {found:?}");
        }
    }
}
