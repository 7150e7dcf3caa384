//! Addresses of git repositories, as `ADD` and contexts take them.

use llb::{GitSource, GitTimes, SourceOp};

use super::fault::{Fallible, Fault};
use crate::check::parse_bool;
use crate::path;
use crate::quote::quote;

/// A repository, and what of it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WrittenGit {
    pub(super) source: GitSource,
    /// What the address says of the `.git` directory.
    pub(super) keep_git_dir: Option<bool>,
    /// What it says of the times of files.
    times: Option<GitTimes>,
}

/// What is said of a context besides its address.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct GitContext {
    pub(super) keep_git_dir: bool,
    /// Times of the files, where the address says nothing of them.
    pub(super) times: GitTimes,
}

impl WrittenGit {
    /// The source op.
    pub(super) fn into_op(self) -> SourceOp {
        let keep_git_dir = self.keep_git_dir.unwrap_or(false);
        let times = self.times.unwrap_or(self.source.times);
        SourceOp::Git(GitSource { keep_git_dir, times, ..self.source })
    }

    fn set_fragment(&mut self, fragment: &str) {
        let (reference, subdirectory) = fragment.split_once(':').unwrap_or((fragment, ""));
        reference.clone_into(&mut self.source.reference);
        self.source.subdirectory = clean(subdirectory);
    }

    fn set_query(&mut self, query: &str) -> Fallible {
        let pairs = parse_query(query);
        let (mut tag, mut branch) = (None, None);
        for (at, (key, value)) in pairs.iter().enumerate() {
            if pairs[..at].iter().any(|(earlier, _)| earlier == key) {
                return Err(Fault::new(format!("query {} has multiple values", quote(key))));
            }
            if value.is_empty() && !SWITCHES.contains(&key.as_str()) {
                return Err(Fault::new(format!("query {} has no value", quote(key))));
            }
            let source = &mut self.source;
            match key.as_str() {
                "ref" => set_once("ref", &mut source.reference, value)?,
                "subdir" => set_once("subdir", &mut source.subdirectory, &clean(value))?,
                "tag" => tag = Some(value),
                "branch" => branch = Some(value),
                "checksum" | "commit" => source.checksum = Some(value.clone()),
                "keep-git-dir" => self.keep_git_dir = Some(switch(key, value)?),
                "submodules" => source.submodules = switch(key, value)?,
                "fetch-by-commit" => source.fetch_by_commit = switch(key, value)?,
                "lfs" => source.lfs = switch(key, value)?,
                "mtime" => self.times = Some(times(value)?),
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

    fn set_full_reference(&mut self, prefix: &str, name: &str) -> Fallible {
        let full =
            if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") };
        set_once("ref", &mut self.source.reference, &full)
    }
}

/// Query keys that mean yes without a value.
const SWITCHES: [&str; 4] = ["submodules", "keep-git-dir", "fetch-by-commit", "lfs"];

/// A directory in a repository: nothing leads out of it.
fn clean(subdirectory: &str) -> String {
    path::join("/", subdirectory).trim_start_matches('/').to_owned()
}

fn times(value: &str) -> Fallible<GitTimes> {
    match value {
        "checkout" => Ok(GitTimes::Checkout),
        "commit" => Ok(GitTimes::Commit),
        _ => {
            let allowed = "(must be \"checkout\" or \"commit\")";
            Err(Fault::new(format!("invalid mtime value: {} {allowed}", quote(value))))
        }
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
pub(super) fn parse(text: &str) -> Fallible<Option<WrittenGit>> {
    let remote = text.split(['?', '#']).next().unwrap_or(text);
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
    if is_git { parse_git(text).map(Some) } else { Ok(None) }
}

fn parse_git(text: &str) -> Fallible<WrittenGit> {
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (remote, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut git = WrittenGit { source: GitSource::new(remote), keep_git_dir: None, times: None };
    git.set_fragment(fragment);
    git.set_query(query)?;
    Ok(git)
}

/// The source op of a context. Addresses of contexts may also begin with `github.com/`.
pub(super) fn context(url: &str, context: GitContext) -> Fallible<SourceOp> {
    let Some(mut git) = parse_context(url)? else {
        return Err(Fault::new(format!("invalid git context {url}")));
    };
    git.keep_git_dir = Some(context.keep_git_dir || git.keep_git_dir == Some(true));
    git.source.times = context.times;
    Ok(git.into_op())
}

/// Reads the address of a context; `None` if it is none of git.
pub(super) fn parse_context(url: &str) -> Fallible<Option<WrittenGit>> {
    match url.strip_prefix("github.com/") {
        Some(_) => parse_git(&format!("https://{url}")).map(Some),
        None => parse(url),
    }
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

/// Replaces `%XX`; what is not a valid escape, or not text, stays as it is.
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
    use super::{GitTimes, WrittenGit, parse};
    use crate::check::Place;

    /// Address, reference and directory.
    fn parts(text: &str) -> Option<[String; 3]> {
        let source = parse(text).expect("a valid query")?.source;
        Some([source.remote, source.reference, source.subdirectory])
    }

    #[test]
    fn repositories_are_told_from_other_sources() {
        let web = "https://example.org/b.git";
        let cases = [
            ("https://example.org/a/b.git", Some(["https://example.org/a/b.git", "", ""])),
            ("https://example.org/b.git#v1:sub/../dir", Some([web, "v1", "dir"])),
            ("https://example.org/b.git#v1:../../dir/", Some([web, "v1", "dir"])),
            ("https://example.org/b.git#:dir", Some([web, "", "dir"])),
            ("https://example.org/b.git?tag=v1&subdir=/x/", Some([web, "refs/tags/v1", "x"])),
            ("https://example.org/b.git?branch=refs/heads/a", Some([web, "refs/heads/a", ""])),
            ("git@example.org:a/b", Some(["git@example.org:a/b", "", ""])),
            ("ssh://git@example.org/b", Some(["ssh://git@example.org/b", "", ""])),
            ("git://example.org/b#main", Some(["git://example.org/b", "main", ""])),
            ("https://example.org/b.tar.gz", None),
            ("./a@b:c", None),
            ("github.com/a/b", None),
            ("file.git", None),
        ];
        for (text, want) in cases {
            assert_eq!(parts(text), want.map(|parts| parts.map(str::to_owned)), "{text}");
        }
    }

    #[test]
    fn queries_say_what_is_wanted() {
        let of = |query: &str| parse(&format!("https://example.org/b.git{query}")).unwrap();
        let base = || of("").expect("a repository");
        type Change = fn(&mut WrittenGit);
        let cases: [(&str, Change); 12] = [
            ("?checksum=abc", |git| git.source.checksum = Some("abc".to_owned())),
            ("?commit=abc", |git| git.source.checksum = Some("abc".to_owned())),
            ("?submodules=false", |git| git.source.submodules = false),
            ("?submodules", |_| ()),
            ("?fetch-by-commit", |git| git.source.fetch_by_commit = true),
            ("?fetch-by-commit=0", |_| ()),
            ("?lfs=1", |git| git.source.lfs = true),
            ("?keep-git-dir", |git| git.keep_git_dir = Some(true)),
            ("?keep-git-dir=false", |git| git.keep_git_dir = Some(false)),
            ("?mtime=commit", |git| git.times = Some(GitTimes::Commit)),
            ("?mtime=checkout", |git| git.times = Some(GitTimes::Checkout)),
            ("?ref=a%2Fb", |git| git.source.reference = "a/b".to_owned()),
        ];
        for (query, change) in cases {
            let mut want = base();
            change(&mut want);
            assert_eq!(of(query), Some(want), "{query}");
        }
    }

    #[test]
    fn queries_that_contradict_are_refused() {
        for (query, message) in [
            ("?ref=a#b", "ref conflicts: \"b\" vs \"a\""),
            ("?subdir=a#b:c", "subdir conflicts: \"c\" vs \"a\""),
            ("?tag=a&branch=b", "branch conflicts with tag"),
            ("?ref=", "query \"ref\" has no value"),
            ("?ref=a&ref=b", "query \"ref\" has multiple values"),
            ("?what=1", "unexpected query \"what\""),
            ("?keep-git-dir=perhaps", "invalid keep-git-dir value: \"perhaps\""),
            ("?lfs=perhaps", "invalid lfs value: \"perhaps\""),
            ("?mtime=now", "invalid mtime value: \"now\" (must be \"checkout\" or \"commit\")"),
        ] {
            let fault = parse(&format!("https://example.org/b.git{query}")).expect_err(query);
            assert_eq!(fault.at(Place::default()).message, message, "{query}");
        }
    }
}
