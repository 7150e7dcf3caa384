//! Ignore patterns, against what Docker's matcher answers.

use parser::ignore::{InvalidPattern, Patterns, parse_file};
use proptest::prelude::*;

use crate::conformance::{self, Differences, strings};

/// The answer of a walk from the top, which never looks at a directory twice.
fn walk(patterns: &Patterns, path: &str) -> bool {
    let mut state = patterns.top();
    let mut excluded = false;
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    for end in ends {
        let found = patterns.enter(&state, &path[..end]);
        (excluded, state) = (found.excluded, found.state);
    }
    excluded
}

#[test]
fn paths_match_as_dockers_matcher_says() {
    for file in ["ignore_match.json", "ignore_matches_simple.json"] {
        let Some(cases) = conformance::cases(file) else { return };
        let mut differences = Differences::default();
        for case in &cases {
            let written = strings(&case["patterns"]);
            let path = case["path"].as_str().expect("a path");
            let wants_error = case["error"].as_bool().unwrap_or(false);
            let what = format!("{file} {written:?} {path}");
            let patterns = Patterns::new(&written);
            differences.compare(format_args!("{what}: error"), &patterns.is_err(), &wants_error);
            let Ok(patterns) = patterns else { continue };
            let want = case["match"].as_bool().expect("an answer");
            differences.compare(&what, &patterns.matches(path), &want);
            differences.compare(format_args!("{what}: walk"), &walk(&patterns, path), &want);
        }
        differences.finish();
    }
}

#[test]
fn patterns_are_read_as_dockers_matcher_reads_them() {
    let Some(cases) = conformance::cases("ignore_new.json") else { return };
    let mut differences = Differences::default();
    for case in &cases {
        let written = strings(&case["patterns"]);
        let patterns = Patterns::new(&written);
        // What Go finds out when it matches for the first time, is found out at once.
        let want =
            [&case["error"], &case["error_on_match"]].iter().any(|v| v.as_bool() == Some(true));
        differences.compare(format_args!("{written:?}: error"), &patterns.is_err(), &want);
        let Ok(patterns) = patterns else { continue };
        if let Some(count) = case["n"].as_u64() {
            differences.compare(format_args!("{written:?}"), &(patterns.len() as u64), &count);
        }
        if let Some(exclusions) = case["exclusions"].as_bool() {
            let found = patterns.has_exceptions();
            differences.compare(format_args!("{written:?}"), &found, &exclusions);
        }
    }
    differences.finish();
}

#[test]
fn ignore_files_are_read_line_by_line() {
    let Some(cases) = conformance::cases("ignore_file.json") else { return };
    let mut differences = Differences::default();
    for case in &cases {
        let input = case["input"].as_str().expect("text");
        differences.compare(input, &parse_file(input), &strings(&case["expect"]));
    }
    differences.finish();
    assert_eq!(parse_file("\u{feff}a\r\n#b\n /c/../d/ \n"), ["a", "d"]);
}

#[test]
fn brackets_and_escapes_work_as_in_go() {
    let cases = [
        ("[a-c]x", "bx", true),
        ("[^a-c]x", "bx", false),
        ("[^a-c]x", "dx", true),
        ("a\\*b", "a*b", true),
        ("a\\*b", "axb", false),
        ("a[\\]]b", "a]b", true),
        ("*.go", "dir/x.go", false),
        ("**/*.go", "x.go", true),
        ("**/*.go", "a/b/x.go", true),
        ("a/**/b", "a/b", true),
        ("a/**/b", "a/x/y/b", true),
        ("a/**/b", "ab", false),
        ("déjà?", "déjà-", true),
        // A star in brackets is special nevertheless.
        ("[*]", "[]", true),
        ("[*]", "*", false),
        // Letters behind a backslash are classes of characters.
        ("\\d", "7", true),
        ("\\d", "d", false),
    ];
    for (pattern, path, want) in cases {
        let patterns = Patterns::new(&[pattern]).expect(pattern);
        assert_eq!(patterns.matches(path), want, "{pattern} {path}");
    }
    for pattern in ["[", "[]", "[]a]", "[a", "[a-", "[a-]", "a\\", "[-x]", "\\y"] {
        let error = Patterns::new(&[pattern]).expect_err(pattern);
        assert!(matches!(error, InvalidPattern::Syntax { .. }), "{pattern}");
    }
}

#[test]
fn many_stars_cost_no_more_than_their_number() {
    let pattern = "a*".repeat(2_000) + "b";
    let patterns = Patterns::new(&[pattern]).expect("a pattern");
    assert!(!patterns.matches(&"a".repeat(4_000)));
}

#[test]
fn a_directory_without_hope_is_not_entered() {
    let patterns = Patterns::new(&["*", "!src", "!docs/*.md", "src/target"]).expect("patterns");
    let enter = |path: &str| patterns.enter(&patterns.top(), path).excluded;
    assert!(enter("node_modules") && !patterns.may_reinclude_below("node_modules"));
    assert!(enter("docs") && patterns.may_reinclude_below("docs"));
    assert!(!enter("src"));
    assert!(walk(&patterns, "src/target") && !patterns.may_reinclude_below("src/target"));
    assert!(!walk(&patterns, "docs/a.md") && walk(&patterns, "docs/a.txt"));
}

/// Docker's walk does not ask an exception again about a directory where it had nothing to undo;
/// the question about a path alone does.
#[test]
fn a_walk_asks_each_directory_once() {
    let patterns = Patterns::new(&["*/x", "!a"]).expect("patterns");
    assert!(!patterns.matches("a/x"));
    assert!(walk(&patterns, "a/x"));
}

fn patterns() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("!?(a|b|\\*\\*|\\*|\\?|a\\*|[ab]/|\\*/|\\*\\*/){1,4}[ab]?", 1..5)
}

proptest! {
    /// A walker that does not enter a directory misses nothing.
    #[test]
    fn nothing_is_let_in_below_a_directory_that_is_skipped(
        patterns in patterns(),
        path in "[ab]{1,2}(/[ab]{1,2}){1,3}",
    ) {
        let Ok(patterns) = Patterns::new(&patterns) else { return Ok(()) };
        if !walk(&patterns, &path) {
            for (at, _) in path.match_indices('/') {
                let directory = &path[..at];
                let skipped = walk(&patterns, directory) && !patterns.may_reinclude_below(directory);
                prop_assert!(!skipped, "{directory}");
            }
        }
    }

    #[test]
    fn no_pattern_makes_the_matcher_panic(pattern in "\\PC{0,12}", path in "\\PC{0,12}") {
        if let Ok(patterns) = Patterns::new(&[pattern]) {
            patterns.matches(&path);
            patterns.may_reinclude_below(&path);
        }
    }
}
