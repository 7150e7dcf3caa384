//! Addresses of git repositories, as `ADD` and contexts take them.

use llb::SourceOp;

use super::fault::{Fallible, Fault};
use crate::check::parse_bool;
use crate::path;
use crate::quote::quote;

/// A repository, and what of it is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct GitSource {
    /// What `git` is told.
    pub(super) remote: String,
    /// Branch, tag or commit; empty for the default branch.
    pub(super) reference: String,
    /// Directory in the repository, empty for all of it.
    pub(super) subdirectory: String,
    /// Commit the reference must be at.
    pub(super) checksum: Option<String>,
    pub(super) keep_git_dir: Option<bool>,
    /// Query keys that are understood and cannot be followed.
    unsupported: Option<String>,
}

impl GitSource {
    /// The source op; refuses by name what it cannot express.
    pub(super) fn into_op(self) -> Fallible<SourceOp> {
        if let Some(query) = self.unsupported {
            return Err(Fault::new(format!("git query `{query}` is not supported")));
        }
        let mut url = self.remote;
        if !self.reference.is_empty() || !self.subdirectory.is_empty() {
            url = format!("{url}#{}", self.reference);
        }
        if !self.subdirectory.is_empty() {
            url = format!("{url}:{}", self.subdirectory);
        }
        let keep_git_dir = self.keep_git_dir.unwrap_or(false);
        Ok(SourceOp::Git { url, keep_git_dir, checksum: self.checksum })
    }

    fn set_fragment(&mut self, fragment: &str) {
        let (reference, subdirectory) = fragment.split_once(':').unwrap_or((fragment, ""));
        self.reference = reference.to_owned();
        self.subdirectory = path::join("/", subdirectory).trim_start_matches('/').to_owned();
    }

    fn set_query(&mut self, query: &str) -> Fallible {
        let pairs = parse_query(query);
        let (mut tag, mut branch) = (None, None);
        for (at, (key, value)) in pairs.iter().enumerate() {
            if pairs[..at].iter().any(|(earlier, _)| earlier == key) {
                return Err(Fault::new(format!("query {} has multiple values", quote(key))));
            }
            let is_switch =
                matches!(key.as_str(), "submodules" | "keep-git-dir" | "fetch-by-commit");
            if value.is_empty() && !is_switch {
                return Err(Fault::new(format!("query {} has no value", quote(key))));
            }
            match key.as_str() {
                "ref" => set_once("ref", &mut self.reference, value)?,
                "subdir" => set_once("subdir", &mut self.subdirectory, value)?,
                "tag" => tag = Some(value),
                "branch" => branch = Some(value),
                "checksum" | "commit" => self.checksum = Some(value.clone()),
                "keep-git-dir" => self.keep_git_dir = Some(switch(key, value)?),
                "submodules" if switch(key, value)? => {}
                "fetch-by-commit" if !switch(key, value)? => {}
                "submodules" | "fetch-by-commit" => self.refuse(key, value),
                "mtime" if value == "checkout" => {}
                "mtime" if value == "commit" => self.refuse(key, value),
                "mtime" => {
                    let allowed = "(must be \"checkout\" or \"commit\")";
                    let message = format!("invalid mtime value: {} {allowed}", quote(value));
                    return Err(Fault::new(message));
                }
                _ => return Err(Fault::new(format!("unexpected query {}", quote(key)))),
            }
        }
        match (tag, branch) {
            (Some(_), Some(_)) => Err(Fault::new("branch conflicts with tag")),
            (Some(tag), None) => self.set_full_reference("refs/tags/", tag),
            (None, Some(branch)) => self.set_full_reference("refs/heads/", branch),
            (None, None) => Ok(()),
        }
    }

    fn refuse(&mut self, key: &str, value: &str) {
        self.unsupported =
            Some(if value.is_empty() { key.to_owned() } else { format!("{key}={value}") });
    }

    fn set_full_reference(&mut self, prefix: &str, name: &str) -> Fallible {
        let full =
            if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") };
        set_once("ref", &mut self.reference, &full)
    }
}

fn set_once(what: &str, place: &mut String, value: &str) -> Fallible {
    if !place.is_empty() && place != value {
        let message = format!("{what} conflicts: {} vs {}", quote(place), quote(value));
        return Err(Fault::new(message));
    }
    value.clone_into(place);
    Ok(())
}

fn switch(key: &str, value: &str) -> Fallible<bool> {
    if value.is_empty() {
        return Ok(true);
    }
    parse_bool(value).ok_or_else(|| Fault::new(format!("invalid {key} value: {}", quote(value))))
}

/// Reads `https://…/repository.git`, `ssh://…`, `git://…` or `user@host:path`, with `?query` and
/// `#ref:subdirectory`. `None` if the text is something else.
pub(super) fn parse(text: &str) -> Fallible<Option<GitSource>> {
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (remote, query) = rest.split_once('?').unwrap_or((rest, ""));
    let is_git = match scheme_of(text) {
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("ssh") => true,
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("git") => true,
        Some((scheme, _)) => {
            let scheme = scheme.to_ascii_lowercase();
            let web = matches!(scheme.as_str(), "http" | "https");
            web && remote[scheme.len() + 3..]
                .split_once('/')
                .is_some_and(|(_, path)| path.ends_with(".git"))
        }
        None => is_scp_style(text),
    };
    if !is_git {
        return Ok(None);
    }
    let mut source = GitSource { remote: remote.to_owned(), ..GitSource::default() };
    source.set_fragment(fragment);
    source.set_query(query)?;
    Ok(Some(source))
}

/// The part before `://`, if it is made of letters and digits.
fn scheme_of(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let valid = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric());
    valid.then_some((scheme, rest))
}

/// `user@host:path`.
fn is_scp_style(text: &str) -> bool {
    let Some((user, rest)) = text.split_once('@') else { return false };
    let Some((host, _)) = rest.split_once(':') else { return false };
    let is_name = |name: &str, more: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    is_name(user, "-_") && is_name(host, "-.")
}

fn parse_query(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let decoded = pairs.map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(&key.replace('+', " ")), decode(&value.replace('+', " ")))
    });
    decoded.collect()
}

/// Replaces `%XX`; what is no valid escape or no text stays as it is.
pub(super) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let value = escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, value) {
            (b'%', Some(value)) => {
                bytes.push(value);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse;

    fn url(text: &str) -> Option<String> {
        let source = parse(text).expect("a valid query")?;
        match source.into_op().expect("a supported query") {
            llb::SourceOp::Git { url, .. } => Some(url),
            _ => None,
        }
    }

    #[test]
    fn repositories_are_told_from_other_sources() {
        let cases = [
            ("https://example.org/a/b.git", Some("https://example.org/a/b.git")),
            ("https://example.org/b.git#v1:sub/../dir", Some("https://example.org/b.git#v1:dir")),
            (
                "https://example.org/b.git?tag=v1&subdir=x",
                Some("https://example.org/b.git#refs/tags/v1:x"),
            ),
            ("git@example.org:a/b", Some("git@example.org:a/b")),
            ("ssh://git@example.org/b", Some("ssh://git@example.org/b")),
            ("git://example.org/b#main", Some("git://example.org/b#main")),
            ("https://example.org/b.tar.gz", None),
            ("./a@b:c", None),
            ("github.com/a/b", None),
            ("file.git", None),
        ];
        for (text, want) in cases {
            assert_eq!(url(text).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn queries_that_contradict_or_cannot_be_followed_are_refused() {
        let error = |text: &str| match parse(text) {
            Err(_) => true,
            Ok(source) => source.is_some_and(|source| source.into_op().is_err()),
        };
        for query in [
            "?ref=a#b",
            "?tag=a&branch=b",
            "?ref=",
            "?ref=a&ref=b",
            "?what=1",
            "?keep-git-dir=perhaps",
            "?submodules=false",
            "?mtime=commit",
            "?mtime=now",
        ] {
            assert!(error(&format!("https://example.org/b.git{query}")), "{query}");
        }
        assert!(!error("https://example.org/b.git?submodules&keep-git-dir&mtime=checkout"));
    }
}
