//! Checks, against what BuildKit warns about.

use std::collections::BTreeMap;

use oci::ImageConfig;
use parser::check::{Checks, find_rule, warnings_of_broken};
use parser::lower::{BaseImage, ImageRequest, MainContext, Options, Outcome, lower};
use parser::{Diagnostic, Severity};
use serde_json::Value;

use crate::conformance::{self, Differences};

/// Some image: the checks do not depend on which.
pub(crate) fn image(request: &ImageRequest) -> BaseImage {
    let config = ImageConfig::parse(
        br#"{"architecture": "amd64", "os": "linux",
             "config": {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["sh"]},
             "rootfs": {"type": "layers", "diff_ids":
                 ["sha256:0000000000000000000000000000000000000000000000000000000000000000"]}}"#,
    );
    let digest = oci::Digest::of(format!("{:?}", request.image).as_bytes());
    BaseImage { digest, config: config.expect("a config") }
}

/// All that is found in a case, the error of the build last.
fn diagnose(case: &Value, all_stages: bool) -> Vec<Diagnostic> {
    let text = case["dockerfile"].as_str().expect("a Dockerfile");
    let parse = parser::parse(text);
    if parse.has_errors() {
        let checks = Checks::of(&parse.dockerfile, &BTreeMap::new()).expect("a setting");
        let mut all = warnings_of_broken(&parse.dockerfile, checks, &parse.diagnostics);
        all.extend(parse.errors().cloned());
        return all;
    }
    let ignore = case["dockerignore"].as_str().unwrap_or_default();
    let mut options = Options {
        main_context: MainContext::Local { exclude_patterns: parser::ignore::parse_file(ignore) },
        build_platform: oci::Platform::new("linux", "amd64", ""),
        target_platform: oci::Platform::new("linux", "amd64", ""),
        syntax_warnings: parse.diagnostics,
        all_stages,
        ..Options::default()
    };
    for (name, value) in case["attrs"].as_object().expect("attrs") {
        let name = name.strip_prefix("build-arg:").expect("only build arguments");
        let value = value.as_str().expect("a string").to_owned();
        options.build_args.insert(name.to_owned(), value);
    }
    let mut images = BTreeMap::new();
    loop {
        match lower(&parse.dockerfile, &options, &images) {
            Ok(Outcome::NeedImages(requests)) => {
                images.extend(requests.into_iter().map(|r| (r.clone(), image(&r))));
            }
            Ok(Outcome::Lowered(lowered)) => return lowered.warnings,
            Err(diagnostics) => return diagnostics,
        }
    }
}

/// Rule, text and line of each warning.
fn warnings(diagnostics: &[Diagnostic]) -> Vec<(String, String, u64)> {
    let warnings = diagnostics.iter().filter(|d| d.severity == Severity::Warning);
    let plain = warnings.map(|warning| {
        let rule = warning.rule.unwrap_or_default().to_owned();
        (rule, warning.message.clone(), u64::from(warning.lines.start))
    });
    plain.collect()
}

fn wanted(list: &Value) -> Vec<(String, String, u64)> {
    let list = list.as_array().expect("a list").iter();
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    list.map(|warning| {
        let line = warning["line"].as_u64().expect("a line");
        (text(&warning["rule"]), text(&warning["detail"]), line)
    })
    .collect()
}

#[test]
fn warnings_are_those_of_buildkit() {
    let Some(cases) = conformance::cases("lint.json") else { return };
    let mut differences = Differences::default();
    for case in &cases {
        let name = case["name"].as_str().expect("a name");
        let found = diagnose(case, false);
        differences.compare(name, &warnings(&found), &wanted(&case["warnings"]));
        let error = found.iter().find(|d| d.severity == Severity::Error);
        let message = error.map(|error| error.message.as_str());
        let want = case["build_err"].as_str();
        // The parser leaves it to others to say on which line a message belongs.
        let want = want.map(|text| match text.split_once("parse error on line ") {
            Some((_, rest)) => rest.split_once(": ").map_or(rest, |(_, message)| message),
            None => text,
        });
        differences.compare(format_args!("{name}: error"), &message, &want);
        if let (Some(error), Some(line)) = (error, case["build_err_line"].as_u64()) {
            let found = u64::from(error.lines.start);
            differences.compare(format_args!("{name}: line of the error"), &found, &line);
        }
        for warning in case["warnings"].as_array().expect("a list") {
            let rule = find_rule(warning["rule"].as_str().expect("a rule")).expect("a known rule");
            differences.compare(name, &Some(rule.description), &warning["description"].as_str());
            differences.compare(
                name,
                &rule.url().as_str(),
                &warning["url"].as_str().unwrap_or_default(),
            );
        }
        if let Some(list) = case.get("lint_subrequest_warnings") {
            let found = warnings(&diagnose(case, true));
            differences.compare(format_args!("{name}: all stages"), &found, &wanted(list));
        }
    }
    differences.finish();
}

/// Rule, text and line of a warning.
type Told = (&'static str, &'static str, u64);

/// The rules that no recorded case has, with the words of BuildKit's own tests.
#[test]
fn rules_beyond_the_recorded_cases_say_what_buildkit_says() {
    let cases: [(&str, &[Told]); 5] = [
        (
            "FROM x:1\nCMD a b\nENTRYPOINT a b\nHEALTHCHECK CMD a b\nRUN a b\n",
            &[
                (
                    "JSONArgsRecommended",
                    "JSON arguments recommended for CMD to prevent unintended behavior related to \
                     OS signals",
                    2,
                ),
                (
                    "JSONArgsRecommended",
                    "JSON arguments recommended for ENTRYPOINT to prevent unintended behavior \
                     related to OS signals",
                    3,
                ),
            ],
        ),
        (
            "FROM x:1 AS a\nWORKDIR app\nWORKDIR b\nFROM a\nWORKDIR /c\nWORKDIR d\nFROM a\nWORKDIR e\n",
            &[(
                "WorkdirRelativePath",
                "Relative workdir \"app\" can have unexpected results if the base image changes",
                2,
            )],
        ),
        (
            "FROM --platform=linux/arm64 x:1 AS for-arm64\n",
            &[(
                "InvalidBaseImagePlatform",
                "Base image x:1 was pulled with platform \"linux/amd64\", expected \"linux/arm64\" \
                 for current build",
                1,
            )],
        ),
        (
            "FROM x:1\nEXPOSE 80 127.0.0.1:80:80 \\\n 80:8080\n",
            &[
                (
                    "ExposeInvalidFormat",
                    "EXPOSE instruction should not define an IP address or host-port mapping, \
                     found '127.0.0.1:80:80'",
                    2,
                ),
                (
                    "ExposeInvalidFormat",
                    "EXPOSE instruction should not define an IP address or host-port mapping, \
                     found '80:8080'",
                    2,
                ),
            ],
        ),
        (
            "# check=experimental=InvalidDefinitionDescription\n# bar this is the bar\nARG foo=bar\n\
             # BasE this is the BasE image\nFROM scratch AS base\n# definitely a bad comment\n\
             ARG version=latest\n# definitely a bad comment\nARG foo=baz bar=qux baz=quux\n\
             # baz this is the baz\nARG foo=baz bar=qux baz=quux\n#\nARG bit=bat\n\
             # comment for something other than ARG or FROM\nCOPY Dockerfile .\n",
            &[
                (
                    "InvalidDefinitionDescription",
                    "Comment for ARG should follow the format: `# foo <description>`",
                    3,
                ),
                (
                    "InvalidDefinitionDescription",
                    "Comment for FROM should follow the format: `# base <description>`",
                    5,
                ),
                (
                    "InvalidDefinitionDescription",
                    "Comment for ARG should follow the format: `# version <description>`",
                    7,
                ),
                (
                    "InvalidDefinitionDescription",
                    "Comment for ARG should follow the format: `# <arg_key> <description>`",
                    9,
                ),
            ],
        ),
    ];
    for (dockerfile, wanted) in cases {
        let case = serde_json::json!({ "dockerfile": dockerfile, "attrs": {} });
        let found = warnings(&diagnose(&case, true));
        let found: Vec<_> = found.iter().map(|(r, m, l)| (r.as_str(), m.as_str(), *l)).collect();
        assert_eq!(found, wanted, "{dockerfile}");
    }
}
