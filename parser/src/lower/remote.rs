//! `ADD` from outside: git repositories and files fetched over HTTP.

use llb::{HttpSource, Input, Op, SourceOp};

use super::Lowering;
use super::copy::Request;
use super::fault::{Fallible, Fault};
use super::git::{self, WrittenGit};
use super::stage::StageId;
use crate::check::Place;
use crate::path;
use crate::quote::quote;

/// A source of `ADD` or `COPY`, by how it is written.
pub(super) enum Written {
    /// A path in the context, stage or image.
    Path,
    /// A git repository.
    Git(WrittenGit),
    /// Any other URL.
    Http,
}

pub(super) fn classify(source: &str) -> Fallible<Written> {
    if !source.starts_with("./")
        && !source.starts_with("../")
        && let Some(git) = git::parse(source)?
    {
        return Ok(Written::Git(git));
    }
    Ok(if is_http(source) { Written::Http } else { Written::Path })
}

/// What is at the address of a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remote {
    /// A git repository.
    Git,
    /// A file over HTTP.
    Http,
}

/// What is at the address `text` of a context, by the rules by which BuildKit tells addresses from paths;
/// `None` for a path.
pub fn remote(text: &str) -> Option<Remote> {
    match git::parse_context(text) {
        // A query that is wrong is told when it is used.
        Ok(Some(_)) | Err(_) => Some(Remote::Git),
        Ok(None) => is_http(text).then_some(Remote::Http),
    }
}

fn is_http(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// `--checksum` needs exactly one source, and one that can change unseen.
pub(super) fn check_checksum(request: &Request<'_>) -> Fallible {
    if request.checksum.is_empty() {
        return Ok(());
    }
    let [source] = request.sources.as_slice() else {
        return Err(Fault::new("checksum can't be specified for multiple sources"));
    };
    match classify(source) {
        Ok(Written::Path) => Err(Fault::new("checksum requires HTTP(S) or Git sources")),
        _ => Ok(()),
    }
}

impl Lowering<'_> {
    pub(super) fn add_git(
        &mut self,
        id: StageId,
        request: &Request<'_>,
        mut git: WrittenGit,
        name: &str,
    ) -> Fallible<Input> {
        if !request.is_add {
            return Err(Fault::new("source can't be a git ref for COPY"));
        }
        if let (Some(flag), Some(query)) = (request.keep_git_dir, git.keep_git_dir)
            && flag != query
        {
            return Err(Fault::new("inconsistent keep-git-dir configuration"));
        }
        git.keep_git_dir = git.keep_git_dir.or(request.keep_git_dir);
        if !request.checksum.is_empty() {
            let flag = &request.checksum;
            let query = git.source.checksum.get_or_insert_with(|| flag.clone());
            if query != flag {
                let message = format!("checksum mismatch {} != {}", quote(flag), quote(query));
                return Err(Fault::new(message));
            }
        }
        self.add_remote(id, git.into_op(), name, request.place())
    }

    /// The fetched file, and its name.
    pub(super) fn add_http(
        &mut self,
        id: StageId,
        request: &Request<'_>,
        url: &str,
        name: &str,
    ) -> Fallible<(Input, String)> {
        if !request.is_add {
            return Err(Fault::new("source can't be a URL for COPY"));
        }
        let checksum = match request.checksum.as_str() {
            "" => None,
            text => Some(parse_checksum(text)?),
        };
        let filename = file_name(url);
        let source = http_source(url, checksum, &filename);
        Ok((self.add_remote(id, source, name, request.place())?, filename))
    }

    fn add_remote(
        &mut self,
        id: StageId,
        source: SourceOp,
        name: &str,
        place: Place<'_>,
    ) -> Fallible<Input> {
        let metadata = self.metadata(id, name.to_owned(), place);
        let metadata = llb::Metadata { ignore_cache: false, ..metadata };
        let vertex = self.definition.add(Op::Source(source), &[], metadata)?;
        Ok(Input { vertex, output: 0 })
    }
}

/// A file fetched over HTTP, root's alone.
pub(super) fn http_source(url: &str, checksum: Option<oci::Digest>, filename: &str) -> SourceOp {
    SourceOp::Http(HttpSource {
        url: url.to_owned(),
        checksum,
        filename: filename.to_owned(),
        mode: 0o600,
        uid: 0,
        gid: 0,
    })
}

/// A digest, or what go-digest says about it.
pub(super) fn parse_checksum(text: &str) -> Fallible<oci::Digest> {
    let (algorithm, encoded) = text.split_once(':').unwrap_or((text, ""));
    let length = match algorithm {
        "sha256" => Some(64),
        "sha384" => Some(96),
        "sha512" => Some(128),
        _ => None,
    };
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-=".contains(&b))
    };
    text.parse().map_err(|_| {
        Fault::new(match length {
            Some(length) if !encoded.is_empty() && encoded.len() != length => {
                "invalid checksum digest length"
            }
            None if is_word(algorithm) && is_word(encoded) => "unsupported digest algorithm",
            _ => "invalid checksum digest format",
        })
    })
}

/// What the fetched file is called: the last part of the URL's path.
pub(super) fn file_name(url: &str) -> String {
    let without_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let end = without_scheme.find(['?', '#']).unwrap_or(without_scheme.len());
    let path = without_scheme[..end].split_once('/').map_or("", |(_, path)| path);
    match path::base(&git::decode(path)) {
        "." | "/" => "__unnamed__".to_owned(),
        base => base.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Remote, file_name, parse_checksum, remote};

    #[test]
    fn checksums_that_are_none_are_told_apart() {
        let sha256 = format!("sha256:{}", "0a".repeat(32));
        assert!(parse_checksum(&sha256).is_ok());
        let cases = [
            ("sha256:0a", "invalid checksum digest length"),
            ("sha256:", "invalid checksum digest format"),
            ("0a0a", "invalid checksum digest format"),
            ("md5:0a0a", "unsupported digest algorithm"),
            ("md5:0a 0a", "invalid checksum digest format"),
        ];
        for (text, want) in cases {
            let fault = parse_checksum(text).expect_err(text);
            assert_eq!(fault.at(crate::check::Place::default()).message, want, "{text}");
        }
    }

    #[test]
    fn contexts_are_told_from_paths() {
        for (text, expected) in [
            ("https://example.org/a.git#v1", Some(Remote::Git)),
            ("https://example.org/a.git?what", Some(Remote::Git)),
            ("github.com/a/b", Some(Remote::Git)),
            ("git@example.org:a/b", Some(Remote::Git)),
            ("ssh://git@example.org/a", Some(Remote::Git)),
            ("https://example.org/a.tar.gz", Some(Remote::Http)),
            ("http://example.org", Some(Remote::Http)),
            ("gitlab.com/a/b", None),
            ("./a", None),
            ("a:b", None),
            ("ftp://example.org/a", None),
            ("", None),
        ] {
            assert_eq!(remote(text), expected, "{text}");
        }
    }

    #[test]
    fn a_url_names_its_file() {
        let cases = [
            ("https://example.org/a/b.tar", "b.tar"),
            ("https://example.org/a/b%20c?x=/y#/z", "b c"),
            ("https://example.org/dir/", "dir"),
            ("https://example.org/", "__unnamed__"),
            ("https://example.org", "__unnamed__"),
            ("https://example.org?file=/x", "__unnamed__"),
        ];
        for (url, want) in cases {
            assert_eq!(file_name(url), want);
        }
    }
}
