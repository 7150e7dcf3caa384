//! The `distribution/reference` answers, from a folder beside the workspace.

use std::path::{Path, PathBuf};

use oci::reference::grammar;
use oci::{InvalidReference, RawReference, Reference};
use serde_json::Value;

/// The cases of one suite; none, and a word about it, where the data is absent.
fn cases(suite: &str) -> Vec<Value> {
    let root = match std::env::var_os("MYBUILD_CONFORMANCE") {
        Some(root) => PathBuf::from(root),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance"),
    };
    let path = root.join("data").join(format!("{suite}.json"));
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: no conformance data at {}", path.display());
        return Vec::new();
    };
    let suite: Value = serde_json::from_str(&text).unwrap();
    let cases = suite["cases"].as_array().unwrap().clone();
    assert_eq!(cases.len() as u64, suite["count"].as_u64().unwrap());
    cases
}

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_default()
}

/// The reference implementation's name for an error.
fn error_name(error: &InvalidReference) -> &'static str {
    match error {
        InvalidReference::NameEmpty => "ErrNameEmpty",
        InvalidReference::NameContainsUppercase => "ErrNameContainsUppercase",
        InvalidReference::NameTooLong => "ErrNameTooLong",
        InvalidReference::NameNotCanonical => "ErrNameNotCanonical",
        InvalidReference::DigestUnsupported => "digest.ErrDigestUnsupported",
        InvalidReference::DigestInvalidLength => "digest.ErrDigestInvalidLength",
        InvalidReference::DigestInvalidFormat => "digest.ErrDigestInvalidFormat",
        InvalidReference::TagInvalidFormat => "ErrTagInvalidFormat",
        InvalidReference::Format
        | InvalidReference::NotLowercase(_)
        | InvalidReference::BareId(_)
        | InvalidReference::BadPattern => "ErrReferenceInvalidFormat",
    }
}

/// Compares `case` with an outcome: its error, or the named parts.
fn check<T>(
    case: &Value,
    outcome: Result<T, InvalidReference>,
    parts: impl Fn(&T, &str) -> Option<String>,
) {
    let error = [text(case, "error"), text(case, "err")].concat();
    match outcome {
        Err(found) => assert_eq!(error_name(&found), error, "{case}"),
        Ok(_) if !error.is_empty() => panic!("should be {error}: {case}"),
        Ok(found) => {
            for (key, expected) in case.as_object().unwrap() {
                if let Some(part) = parts(&found, key) {
                    assert_eq!(&Value::from(part), expected, "`{key}` of {case}");
                }
            }
        }
    }
}

fn raw_part(reference: &RawReference, key: &str) -> Option<String> {
    Some(match key {
        "repository" | "name" => reference.repository(),
        "domain" => reference.domain().to_owned(),
        "path" => reference.path().to_owned(),
        "tag" => reference.tag().unwrap_or_default().to_owned(),
        "digest" => reference.digest().unwrap_or_default().to_owned(),
        "combined" => reference.to_string(),
        _ => return None,
    })
}

fn part(reference: &Reference, key: &str) -> Option<String> {
    Some(match key {
        "familiar" => reference.familiar_name(),
        "full" => reference.repository(),
        "domain" => reference.domain().to_owned(),
        "path" => reference.path().to_owned(),
        _ => return None,
    })
}

#[test]
fn references_are_cut_as_typed() {
    for case in cases("ref_parse") {
        check(&case, RawReference::parse(text(&case, "input")), raw_part);
    }
}

#[test]
fn references_are_normalised() {
    for case in cases("ref_normalize") {
        check(&case, text(&case, "input").parse::<Reference>(), part);
        // Each way of writing the same repository means the same one.
        for key in ["familiar", "full"].into_iter().filter(|key| case[key].is_string()) {
            let reference: Reference = text(&case, key).parse().unwrap();
            assert_eq!(reference, text(&case, "input").parse().unwrap(), "{case}");
        }
    }
}

#[test]
fn names_that_are_no_references_are_refused() {
    for case in cases("ref_valid") {
        let is_valid = Reference::parse_normalized(text(&case, "input")).is_ok();
        assert_eq!(Value::from(is_valid), case["valid"], "{case}");
    }
}

#[test]
fn references_are_put_together_from_parts() {
    for case in cases("ref_components") {
        let name = RawReference::with_name(text(&case, "name"));
        let (tag, digest) = (text(&case, "tag"), text(&case, "digest"));
        match text(&case, "op") {
            "with_name" => check(&case, RawReference::with_name(text(&case, "input")), raw_part),
            "with_tag" if digest.is_empty() => check(&case, name.unwrap().with_tag(tag), raw_part),
            "with_tag" => {
                check(&case, name.unwrap().with_digest(digest).unwrap().with_tag(tag), raw_part)
            }
            "with_digest" if tag.is_empty() => {
                check(&case, name.unwrap().with_digest(digest), raw_part)
            }
            "with_digest" => {
                check(&case, name.unwrap().with_tag(tag).unwrap().with_digest(digest), raw_part)
            }
            "parse_named" => check(&case, Reference::parse_canonical(text(&case, "input")), part),
            "serialize" => serializes(&case),
            other => panic!("unknown operation {other}"),
        }
    }
}

fn serializes(case: &Value) {
    let json = Value::from(text(case, "input"));
    match serde_json::from_value::<RawReference>(json.clone()) {
        Ok(reference) => {
            check(case, Ok(reference.clone()), raw_part);
            assert_eq!(serde_json::to_value(&reference).unwrap(), json);
        }
        Err(error) => {
            let expected = RawReference::parse(text(case, "input")).unwrap_err();
            assert_eq!(error_name(&expected), text(case, "err"));
            assert_eq!(error.to_string(), expected.to_string());
        }
    }
}

#[test]
fn ids_defaults_and_patterns_work_as_docker_s() {
    for case in cases("ref_strings") {
        let reference = |key| Reference::parse_normalized(text(&case, key)).unwrap();
        match text(&case, "op") {
            "any" => {
                assert_eq!(
                    Reference::parse_any(text(&case, "input")).unwrap().to_string(),
                    text(&case, "expect")
                );
            }
            "docker_ref" => {
                assert_eq!(reference("input").docker_ref().to_string(), text(&case, "expect"))
            }
            "familiar_match" => {
                let matches =
                    reference("reference").familiar_matches(text(&case, "pattern")).unwrap();
                assert_eq!(Value::from(matches), case["expect"], "{case}");
            }
            other => panic!("unknown operation {other}"),
        }
    }
}

#[test]
fn grammar_rules_match_whole_texts() {
    for case in cases("ref_regexp") {
        let input = text(&case, "input");
        let parts: Option<Vec<&str>> = match text(&case, "regexp") {
            "DomainRegexp" => grammar::is_domain(input).then(Vec::new),
            "IdentifierRegexp" => grammar::is_identifier(input).then(Vec::new),
            "FullNameRegexp" => grammar::full_name(input).map(|(domain, path)| vec![domain, path]),
            "ReferenceRegexp" => grammar::reference(input).map(|parts| {
                vec![parts.name, parts.tag.unwrap_or_default(), parts.digest.unwrap_or_default()]
            }),
            other => panic!("unknown rule {other}"),
        };
        assert_eq!(Value::from(parts.is_some()), case["match"], "{case}");
        if case["subs"].is_array() {
            assert_eq!(Value::from(parts.unwrap()), case["subs"], "{case}");
        }
    }
}
