//! Submodules: what a commit says of the repositories in it.

use std::collections::BTreeMap;

use crate::error::GitError;
use crate::reference::Commit;
use crate::remote::Remote;
use crate::repository::Repository;

/// A repository inside another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submodule {
    /// Its name, which may have slashes, and is safe to be a path.
    pub name: String,
    /// Its directory in the other one, a clean relative path.
    pub path: String,
    /// Where it is.
    pub remote: Remote,
    /// The commit that belongs there.
    pub commit: Commit,
}

/// What `.gitmodules` says of one.
#[derive(Debug, Default)]
struct Section {
    path: Option<String>,
    url: Option<String>,
    update: Option<String>,
}

/// The file's name.
const FILE: &str = ".gitmodules";

impl Repository {
    /// The submodules of a commit of `remote`. Those that say `update = none` are not among them.
    ///
    /// # Errors
    /// [`GitError::Submodule`] for one whose path or address is not allowed.
    pub async fn submodules(
        &self,
        commit: &Commit,
        remote: &Remote,
    ) -> Result<Vec<Submodule>, GitError> {
        let listed =
            self.ask(["ls-tree", "--full-tree", "-z", commit.as_str(), "--", FILE]).await?;
        if !listed.starts_with(b"100") {
            return Ok(Vec::new());
        }
        let blob = format!("{commit}:{FILE}");
        let text = self.ask(["config", "--blob", &blob, "--list", "-z"]).await?;
        let mut submodules = Vec::new();
        for (name, section) in sections(&String::from_utf8_lossy(&text)) {
            let (Some(path), Some(url)) = (section.path, section.url) else { continue };
            if section.update.as_deref() == Some("none") {
                continue;
            }
            let wrong = |why: &str| GitError::Submodule { path: path.clone(), why: why.to_owned() };
            if !is_inside(&path) {
                return Err(wrong("its path is not allowed"));
            }
            // A section without a submodule is what is left of one.
            let Some(commit) = self.commit_at(commit, &path).await? else { continue };
            if !is_inside(&name) {
                return Err(wrong("its name is not allowed"));
            }
            let remote = remote.join(&url);
            let remote =
                remote.map_err(|error| wrong(&format!("its address is refused: {error}")))?;
            submodules.push(Submodule { name, path, remote, commit });
        }
        Ok(submodules)
    }

    /// The commit that a tree has at `path` in place of files.
    async fn commit_at(&self, tree: &Commit, path: &str) -> Result<Option<Commit>, GitError> {
        let listed = self.ask(["ls-tree", "--full-tree", "-z", tree.as_str(), "--", path]).await?;
        let listed = String::from_utf8_lossy(&listed);
        let entry = listed.split('\0').find_map(|entry| {
            let (what, found) = entry.split_once('\t')?;
            (found == path).then_some(what)
        });
        let commit = entry.and_then(|what| what.strip_prefix("160000 commit "));
        Ok(commit.and_then(|commit| commit.parse().ok()))
    }
}

/// What the list of a configuration says of submodules, by their names.
fn sections(list: &str) -> BTreeMap<String, Section> {
    let mut sections: BTreeMap<String, Section> = BTreeMap::new();
    for entry in list.split('\0') {
        let (key, value) = entry.split_once('\n').unwrap_or((entry, ""));
        let Some((name, field)) =
            key.strip_prefix("submodule.").and_then(|rest| rest.rsplit_once('.'))
        else {
            continue;
        };
        let section = sections.entry(name.to_owned()).or_default();
        let place = match field {
            "path" => &mut section.path,
            "url" => &mut section.url,
            "update" => &mut section.update,
            _ => continue,
        };
        *place = Some(value.to_owned());
    }
    sections
}

/// Whether a path leads into the repository, and not into what `git` keeps there.
fn is_inside(path: &str) -> bool {
    let is_plain = |part: &str| {
        let git = part.to_ascii_lowercase();
        !part.is_empty()
            && part != "."
            && part != ".."
            // Other systems take these for `.git`; `git` itself refuses them in trees.
            && git != ".git"
            && git != "git~1"
            && !part.contains(|c: char| c.is_control() || c == '\\')
    };
    !path.starts_with('-') && path.split('/').all(is_plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_stay_inside() {
        for path in ["a", "a/b", "a b", "...", "a.git", "ä"] {
            assert!(is_inside(path), "{path}");
        }
        for path in [
            "",
            "/a",
            "a/",
            "../a",
            "a/../b",
            ".",
            ".git",
            "a/.GIT/hooks",
            "-a",
            "a\r",
            "a\\b",
            "git~1",
        ] {
            assert!(!is_inside(path), "{path}");
        }
    }

    #[test]
    fn a_list_of_a_configuration_is_read() {
        let list = "core.bare\nfalse\0submodule.a.b.path\nx\0submodule.a.b.url\n../y\nz\0\
                    submodule.c.update\nnone\0submodule.d\0submodule.e.path\0";
        let sections = sections(list);
        assert_eq!(sections["a.b"].path.as_deref(), Some("x"));
        assert_eq!(sections["a.b"].url.as_deref(), Some("../y\nz"));
        assert_eq!(sections["c"].update.as_deref(), Some("none"));
        assert_eq!(sections["e"].path.as_deref(), Some(""));
        assert_eq!(sections.len(), 3);
    }

    proptest! {
        #[test]
        fn whatever_a_list_says_no_path_leads_out(
            list in "(submodule\\.|\\.path|\\.url|a|\\.\\.|/|\\.git|\n|\\x00|\\PC){0,30}",
        ) {
            for (name, section) in sections(&list) {
                for path in section.path.iter().chain([&name]).filter(|path| is_inside(path)) {
                    let mut parts = std::path::Path::new(path).components();
                    prop_assert!(parts.all(|part| matches!(part, std::path::Component::Normal(_))));
                }
            }
        }
    }
}
