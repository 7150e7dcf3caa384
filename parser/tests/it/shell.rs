//! Expansion against BuildKit's answers.

use std::collections::BTreeMap;

use parser::expand::{MAX_BUILD_GROWTH, MAX_WORD_GROWTH, Variables};
use parser::pattern::{Greed, Pattern};
use parser::{Expander, heredoc};
use serde_json::Value;

use crate::conformance::{Differences, cases, strings};

fn map(value: &Value) -> BTreeMap<String, String> {
    let entries = value.as_object().into_iter().flatten();
    entries.map(|(k, v)| (k.clone(), v.as_str().expect("a string").to_owned())).collect()
}

#[test]
fn words_expand_as_in_buildkit() {
    let Some(cases) = cases("shell_envvar.json") else { return };
    let variables =
        map(&serde_json::json!({"PWD": "/home", "SHELL": "bash", "KOREAN": "한국어", "NULL": ""}));
    let mut differences = Differences::default();
    for case in cases.iter().filter(|case| case["platform"] != "windows") {
        let input = case["input"].as_str().unwrap();
        let found = Expander::new('\\').word(input, &variables).ok().map(|e| e.text);
        differences.compare(input, &found, &case["expect"].as_str().map(str::to_owned));
    }
    differences.finish();
}

#[test]
fn used_and_missing_names_are_told_as_in_buildkit() {
    let Some(cases) = cases("shell_process_word.json") else { return };
    let mut differences = Differences::default();
    for case in &cases {
        let input = case["input"].as_str().unwrap();
        let found = Expander::new('\\').word(input, &map(&case["env"]));
        let text = found.as_ref().ok().map(|e| e.text.clone());
        differences.compare(input, &text, &case["expect"].as_str().map(str::to_owned));
        match found {
            Ok(found) => {
                for (key, names) in [("matched", found.matched), ("unmatched", found.unmatched)] {
                    if case[key].is_array() {
                        let names: Vec<_> = names.into_iter().collect();
                        differences.compare(format!("{input} {key}"), &names, &strings(&case[key]));
                    }
                }
            }
            Err(error) => {
                let wanted = case["error_contains"].as_str().unwrap_or_default();
                differences.compare(input, &error.to_string().contains(wanted), &true);
            }
        }
    }
    differences.finish();
}

#[test]
fn words_split_as_in_buildkit() {
    let Some(cases) = cases("shell_words.json") else { return };
    let mut differences = Differences::default();
    for case in &cases {
        let input = case["input"].as_str().unwrap();
        let found = Expander::new('\\').words(input, &strings(&case["env"])[..]).ok();
        let wanted = case["expect"].is_array().then(|| strings(&case["expect"]));
        differences.compare(input, &found, &wanted);
    }
    differences.finish();
}

#[test]
fn the_last_value_of_a_name_counts() {
    let Some(cases) = cases("shell_getenv.json") else { return };
    let mut differences = Differences::default();
    for case in &cases {
        let environment = strings(&case["env"]);
        let name = case["name"].as_str().unwrap();
        let found = Variables::get(&environment[..], name).unwrap_or_default();
        differences.compare(&case["env"], &&*found, &case["expect"].as_str().unwrap());
    }
    differences.finish();
}

#[test]
fn bad_patterns_are_refused_as_in_buildkit() {
    let Some(cases) = cases("shell_patterns.json") else { return };
    let mut differences = Differences::default();
    for case in cases.iter().filter(|case| case["op"] == "pattern_to_regex") {
        let input = case["input"].as_str().unwrap();
        let found = Pattern::new(input, Greed::Longest).is_err();
        differences.compare(input, &found, &(case["error"] == true));
    }
    differences.finish();
}

#[test]
fn heredoc_markers_are_recognised_as_in_buildkit() {
    let Some(cases) = cases("parser_heredoc_words.json") else { return };
    let mut differences = Differences::default();
    for case in &cases {
        let input = case["input"].as_str().unwrap();
        match case["op"].as_str().unwrap() {
            "chomp" => {
                let wanted = case["expect"].as_str().unwrap();
                differences.compare(input, &heredoc::chomp(input).as_str(), &wanted);
            }
            "parse_heredoc" => {
                let (kind, name) = match heredoc::parse(input) {
                    Ok(Some(marker)) => ("heredoc", Some(marker.name)),
                    Ok(None) => ("none", None),
                    Err(_) => ("error", None),
                };
                let wanted = (case["expect"].as_str().unwrap(), case["name"].as_str());
                differences.compare(input, &(kind, name.as_deref()), &wanted);
            }
            "heredocs_from_line" => {
                // With all bodies there, so that only what the line says counts.
                let names = strings(&case["names"]);
                let bodies: String = names.iter().map(|name| format!("\n{name}")).collect();
                let tree = parser::parse_tree(&format!("{input}{bodies}\n")).expect("it parses");
                let found: Vec<_> = tree.nodes[0].heredocs.iter().map(|h| h.name.clone()).collect();
                differences.compare(input, &found, &names);
            }
            op => panic!("unknown op {op}"),
        }
    }
    differences.finish();
}

/// Expands `word` with `A=1`, `E=` (empty) and nothing else set.
fn expand(expander: &Expander, word: &str) -> Result<String, String> {
    let variables = map(&serde_json::json!({"A": "1", "E": "", "AB": "a b"}));
    expander.word(word, &variables).map(|e| e.text).map_err(|error| error.to_string())
}

#[test]
fn each_way_to_expand_keeps_what_it_says() {
    let usual = Expander::new('\\');
    let body = usual.for_heredoc();
    let kept = usual.clone().keep_quotes().keep_escapes().keep_unset();
    let cases = [
        (&usual, r#"'a' "b$A" \$A $X ${X:-y}"#, r"a b1 $A  y"),
        (&body, r#"'$A' "$A" \$A \x"#, r#"'1' "1" $A x"#),
        (&kept, r#"'a' "b$A" \$A $X ${X:-$A} ${X/a/$A}"#, r#"'a' "b1" \$A $X ${X:-1} ${X/a/1}"#),
        (&kept, r"${X#a\}b} ${A#\1}", r"${X#a\}b} "),
        (&Expander::new('`'), r"`$A \$A", r"$A \1"),
    ];
    for (expander, word, wanted) in cases {
        let found = expand(expander, word);
        if word.ends_with(r"${A#\1}") {
            // `\1` is no pattern: a backslash hides only what would mean something.
            assert!(
                found
                    .unwrap_err()
                    .ends_with(r"invalid pattern (\1) in substitution: invalid escape '\1'")
            );
        } else {
            assert_eq!(found.as_deref(), Ok(wanted), "{word}");
        }
    }
}

#[test]
fn a_pattern_may_belong_to_one_end() {
    let variables = map(&serde_json::json!({"P": "foo/bar/foo", "E": "", "H": "a#b%c"}));
    let cases = [
        ("${P/#foo/x}", "x/bar/foo"),
        ("${P/%foo/x}", "foo/bar/x"),
        ("${P/#bar/x}", "foo/bar/foo"),
        ("${P/%bar/x}", "foo/bar/foo"),
        // As much as fits.
        ("${P/#*\\//x}", "xfoo"),
        ("${P/%f*/x}", "x"),
        ("${P/#/x-}", "x-foo/bar/foo"),
        ("${P/%/-x}", "foo/bar/foo-x"),
        ("${E/#*/x}", "x"),
        ("${E/%a/x}", ""),
        ("${P/#foo/}", "/bar/foo"),
        // Escaped, and where all are replaced, they are what they are.
        ("${H/\\#/x}", "axb%c"),
        ("${H//#/x}", "axb%c"),
        ("${H//%/x}", "a#bxc"),
    ];
    for (word, wanted) in cases {
        let found = Expander::new('\\').word(word, &variables).map(|e| e.text);
        assert_eq!(found.as_deref(), Ok(wanted), "{word}");
    }
}

#[test]
fn errors_have_buildkits_words() {
    let cases = [
        ("${A", r#"failed to process "${A": unsupported modifier (�) in substitution"#),
        ("${", r#"failed to process "${": syntax error: missing '}'"#),
        ("${A:-x", r#"failed to process "${A:-x": syntax error: missing '}'"#),
        ("${A:-'x}", r#"failed to process "${A:-'x}": syntax error: missing '}'"#),
        ("${A/x}", r#"failed to process "${A/x}": syntax error: missing '/' in ${}"#),
        ("${A/x/y", r#"failed to process "${A/x/y": syntax error: missing '}'"#),
        ("${}", r#"failed to process "${}": syntax error: bad substitution"#),
        ("${A:=x}", r#"failed to process "${A:=x}": unsupported modifier (:=) in substitution"#),
        ("${A:#x}", r#"failed to process "${A:#x}": unsupported modifier (:#) in substitution"#),
        ("${X?}", r#"failed to process "${X?}": X: is not allowed to be unset"#),
        ("${E:?}", r#"failed to process "${E:?}": E: is not allowed to be empty"#),
        ("${X:?no $A}", r#"failed to process "${X:?no $A}": X: no 1"#),
        (
            "'a",
            r#"failed to process "'a": unexpected end of statement while looking for matching single-quote"#,
        ),
        (
            "\"a",
            r#"failed to process "\"a": unexpected end of statement while looking for matching double-quote"#,
        ),
    ];
    for (word, wanted) in cases {
        assert_eq!(
            expand(&Expander::new('\\'), word).as_ref().map_err(String::as_str),
            Err(wanted)
        );
    }
}

#[test]
fn expansion_inside_a_word_keeps_the_word_whole() {
    let variables = map(&serde_json::json!({"AB": "a b"}));
    let cases: [(&str, &[&str]); 4] = [
        ("x${N:-y}z", &["xyz"]),
        ("x${N:-y z}z", &["xy", "zz"]),
        ("x\"${N:-$AB}\"z", &["xa bz"]),
        ("a << b", &["a", "<< b"]),
    ];
    for (word, wanted) in cases {
        assert_eq!(Expander::new('\\').words(word, &variables).unwrap(), wanted, "{word}");
    }
}

#[test]
fn bombs_cost_no_more_than_their_length() {
    let expander = Expander::new('\\');
    let deep = 100_000;
    let nested = format!("{}x{}", "${a:-y".repeat(deep), "}".repeat(deep));
    assert_eq!(expand(&expander, &nested).unwrap().len(), deep + 1);
    let open = "${a:-".repeat(deep);
    assert!(expand(&expander, &open).unwrap_err().ends_with("missing '}'"));
    let kept = expander.clone().keep_unset();
    assert_eq!(expand(&kept, &nested).unwrap().len(), nested.len());

    let big = |name: &str| (name == "B").then(|| "b".repeat(MAX_WORD_GROWTH / 2));
    let cases = [
        ("$B$B", true),
        ("$B$B$B", false),
        ("${E:+$B}${E:+$B}${E:+$B}", false),
        ("${B//b/bbbb}", false),
        ("${B//?*?*?*?*?*?*?*?*?*?*?*?*?*?*?*?*?*?*?*?*?*?*?*?*?*?*?*?*?*?*?*?*x/}", false),
    ];
    for (word, fits) in cases {
        assert_eq!(Expander::new('\\').word(word, &big).is_ok(), fits, "{word}");
    }
    // All words of a build share one allowance.
    let expander = Expander::new('\\');
    let clone = expander.clone().keep_quotes();
    let words = (0..100).take_while(|_| expander.word("$B", &big).is_ok()).count();
    assert_eq!(words, MAX_BUILD_GROWTH / (MAX_WORD_GROWTH / 2));
    assert!(clone.word("$B", &big).is_err());
}
