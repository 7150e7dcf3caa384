//! What an engine answers: a status, and JSON documents, one of which may be an error.

use serde::Deserialize;

/// What became of an archive.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Response {
    Loaded,
    /// Why it was not taken.
    Refused(String),
}

/// Reads an answer; `None`: it is not all there, or is no answer.
pub(super) fn parse(answer: &[u8]) -> Option<Response> {
    let at = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..at]).ok()?;
    let mut lines = head.split("\r\n");
    let mut status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').skip(1);
    let status: u16 = status.next()?.parse().ok()?;
    let is_chunked = lines.any(|line| {
        let (name, value) = line.split_once(':').unwrap_or_default();
        name.eq_ignore_ascii_case("transfer-encoding")
            && value.trim().eq_ignore_ascii_case("chunked")
    });
    let body = &answer[at + 4..];
    let body = if is_chunked { dechunked(body)? } else { body.to_vec() };
    let error = error(&body)?;
    Some(match error {
        Some(why) => Response::Refused(why),
        None if status == 200 => Response::Loaded,
        None => Response::Refused(format!("the engine answered with status {status}")),
    })
}

/// The first error that the documents tell of.
fn error(body: &[u8]) -> Option<Option<String>> {
    #[derive(Deserialize)]
    struct Document {
        message: Option<String>,
        error: Option<String>,
    }
    for document in serde_json::Deserializer::from_slice(body).into_iter::<Document>() {
        let document = document.ok()?;
        if let Some(why) = document.error.or(document.message) {
            return Some(Some(why));
        }
    }
    Some(None)
}

fn dechunked(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let end = body.windows(2).position(|window| window == b"\r\n")?;
        let line = std::str::from_utf8(&body[..end]).ok()?;
        let size = line.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        body = &body[end + 2..];
        if size == 0 {
            return Some(all);
        }
        all.extend_from_slice(body.get(..size)?);
        body = body.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_say_whether_the_archive_was_taken() {
        let refused = |why: &str| Some(Response::Refused(why.to_owned()));
        for (answer, expected) in [
            (
                "HTTP/1.1 200 OK\r\n\r\n{\"stream\":\"Loaded image: a:1\\n\"}\r\n",
                Some(Response::Loaded),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
                Some(Response::Loaded),
            ),
            (
                "HTTP/1.1 200 OK\r\n\r\n{\"errorDetail\":{\"message\":\"x\"},\"error\":\"no space\"}",
                refused("no space"),
            ),
            ("HTTP/1.1 200 OK\r\n\r\n{\"stream\":\"\"}\n{\"error\":\"late\"}", refused("late")),
            ("HTTP/1.1 500 X\r\nA: b\r\n\r\n{\"message\":\"broken\"}", refused("broken")),
            ("HTTP/1.1 404 X\r\n\r\n", refused("the engine answered with status 404")),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}", None),
            ("HTTP/1.1 200 OK\r\n\r\n<html>", None),
            ("HTTP/1.1 200 OK\r\n", None),
            ("", None),
        ] {
            assert_eq!(parse(answer.as_bytes()), expected, "{answer}");
        }
    }

    #[test]
    fn whatever_comes_is_read_to_an_end() {
        let good = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n12;x\r\n{\"error\": \"a\"}  \r\n\r\n0\r\n\r\n";
        for at in 0..good.len() {
            let _ = parse(&good[..at]);
            for byte in [0, b'0', b'f', b'\r', b'\n', b'{', 0xff] {
                let mut bad = good.to_vec();
                bad[at] = byte;
                let _ = parse(&bad);
            }
        }
        let endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n";
        assert_eq!(parse(endless), None);
    }
}
