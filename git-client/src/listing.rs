//! What a server says that its references are at: the output of `git ls-remote`.

use crate::reference::Commit;

/// What a reference is at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Found {
    /// The commit.
    pub commit: Commit,
    /// The annotated tag that names it.
    pub tag: Option<Commit>,
    /// The reference's full name; none for a default branch without a name.
    pub reference: Option<String>,
}

/// Names to ask a server for, when the user has written `wanted`: empty for the default branch.
pub(crate) fn patterns(wanted: &str) -> Vec<String> {
    if is_default(wanted) {
        return vec!["HEAD".to_owned()];
    }
    let [full, branch, tag] = names(wanted);
    let peeled = format!("{tag}^{{}}");
    vec![full, branch, tag, peeled]
}

/// What `wanted` is at by the server's `listing`: the full name, else a branch, else a tag. A branch goes
/// before a tag of the same name, as with `git checkout`.
pub(crate) fn choose(listing: &str, wanted: &str) -> Option<Found> {
    if is_default(wanted) {
        return default_branch(listing);
    }
    let [full, branch, tag] = names(wanted);
    [full, branch, tag].into_iter().find_map(|name| {
        let object = at(listing, &name)?;
        let peeled = at(listing, &format!("{name}^{{}}"));
        let reference = Some(name);
        Some(match peeled {
            Some(commit) => Found { commit, tag: Some(object), reference },
            None => Found { commit: object, tag: None, reference },
        })
    })
}

fn is_default(wanted: &str) -> bool {
    matches!(wanted, "" | "HEAD")
}

/// Full names that `wanted` may stand for.
fn names(wanted: &str) -> [String; 3] {
    ["refs/", "refs/heads/", "refs/tags/"]
        .map(|prefix| format!("{prefix}{}", wanted.strip_prefix(prefix).unwrap_or(wanted)))
}

fn at(listing: &str, name: &str) -> Option<Commit> {
    let lines = listing.lines().filter_map(|line| line.split_once('\t'));
    lines.filter(|(_, found)| *found == name).find_map(|(object, _)| object.parse().ok())
}

fn default_branch(listing: &str) -> Option<Found> {
    let named = listing.lines().find_map(|line| line.strip_prefix("ref: ")?.strip_suffix("\tHEAD"));
    let reference = named.filter(|name| crate::reference::is_name(name)).map(str::to_owned);
    Some(Found { commit: at(listing, "HEAD")?, tag: None, reference })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    const C: &str = "cccccccccccccccccccccccccccccccccccccccc";

    fn found(commit: &str, tag: Option<&str>, reference: Option<&str>) -> Option<Found> {
        Some(Found {
            commit: commit.parse().unwrap(),
            tag: tag.map(|tag| tag.parse().unwrap()),
            reference: reference.map(str::to_owned),
        })
    }

    #[test]
    fn branches_go_before_tags() {
        let listing = format!(
            "{A}\trefs/heads/both\n{B}\trefs/tags/both\n{B}\trefs/tags/v1\n{C}\trefs/tags/v1^{{}}\n\
             {C}\trefs/pull/1/head\nnonsense\n"
        );
        for (wanted, want) in [
            ("both", found(A, None, Some("refs/heads/both"))),
            ("refs/heads/both", found(A, None, Some("refs/heads/both"))),
            ("heads/both", found(A, None, Some("refs/heads/both"))),
            ("refs/tags/both", found(B, None, Some("refs/tags/both"))),
            ("v1", found(C, Some(B), Some("refs/tags/v1"))),
            ("tags/v1", found(C, Some(B), Some("refs/tags/v1"))),
            ("refs/pull/1/head", found(C, None, Some("refs/pull/1/head"))),
            ("pull/1/head", found(C, None, Some("refs/pull/1/head"))),
            ("main", None),
        ] {
            assert_eq!(choose(&listing, wanted), want, "{wanted}");
        }
    }

    #[test]
    fn the_default_branch_has_a_name() {
        let listing = format!("ref: refs/heads/main\tHEAD\n{A}\tHEAD\n");
        assert_eq!(choose(&listing, ""), found(A, None, Some("refs/heads/main")));
        assert_eq!(choose(&format!("{A}\tHEAD\n"), "HEAD"), found(A, None, None));
        let lie = format!("ref: --upload-pack=x\tHEAD\n{A}\tHEAD\n");
        assert_eq!(choose(&lie, ""), found(A, None, None));
        assert_eq!(choose("", ""), None);
        assert_eq!(choose("zz\tHEAD\n", ""), None);
    }

    proptest! {
        #[test]
        fn whatever_a_server_lists_gives_a_commit_or_nothing(
            text in "([a-f0-9]{38,42}|ref: |refs/(heads|tags)/|HEAD|v1|\\^\\{\\}|\t|\n|\\PC){0,40}",
            wanted in "(refs/)?(heads/|tags/)?[a-z0-9-]{0,4}",
        ) {
            if let Some(found) = choose(&text, &wanted) {
                prop_assert!(text.contains(found.commit.as_str()));
                let is_name = |name: &String| crate::reference::is_name(name);
                let asked = crate::reference::is_name(&wanted);
                prop_assert!(!asked || found.reference.as_ref().is_none_or(is_name));
            }
        }
    }
}
