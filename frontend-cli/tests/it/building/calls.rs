//! `--check` and `--call`: what is said about a build without building it.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::{World, stderr, stdout};

/// A warning of each kind that a place can have: a line, several, a part of the file that is not UTF-8
/// of one byte a character.
const DOUBTFUL: &str = "FROM scratch AS Base\nENV a b\nLABEL x=ü \\\n    y=$z\n";

fn check_text(world: &World, words: &[&str], dockerfile: &str, code: i32, expected: &Expect) {
    let output = world.run(words, dockerfile);
    assert_eq!(output.status.code(), Some(code), "{words:?}: {}", stderr(&output));
    expected.assert_eq(&stdout(&output));
}

#[test]
fn privileged_checks_are_told_as_buildx_tells_them() {
    let Some(world) = World::new() else { return };
    let clean = expect![[r#"
        Check complete, no warnings found.
    "#]];
    check_text(&world, &["--check", "-"], "FROM scratch\n", 0, &clean);
    let doubtful = expect![[r#"
        Check complete, 3 warnings have been found!

        WARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/
        Stage name 'Base' should be lowercase
        Dockerfile:1
        --------------------
           1 | >>> FROM scratch AS Base
           2 |     ENV a b
           3 |     LABEL x=ü \
        --------------------

        WARNING: LegacyKeyValueFormat - https://docs.docker.com/go/dockerfile/rule/legacy-key-value-format/
        "ENV key=value" should be used instead of legacy "ENV key value" format
        Dockerfile:2
        --------------------
           1 |     FROM scratch AS Base
           2 | >>> ENV a b
           3 |     LABEL x=ü \
           4 |         y=$z
        --------------------

        WARNING: UndefinedVar - https://docs.docker.com/go/dockerfile/rule/undefined-var/
        Usage of undefined variable '$z' (did you mean $a?)
        Dockerfile:3
        --------------------
           1 |     FROM scratch AS Base
           2 |     ENV a b
           3 | >>> LABEL x=ü \
           4 | >>>     y=$z
        --------------------
    "#]];
    check_text(&world, &["--check", "-"], DOUBTFUL, 1, &doubtful);
    check_text(&world, &["--call", "check,ignorestatus", "-"], DOUBTFUL, 0, &doubtful);
}

#[test]
fn privileged_all_stages_are_checked_but_where_one_is_the_target() {
    let Some(world) = World::new() else { return };
    let file = "FROM scratch AS One\nCOPY $x /\nFROM scratch AS two\nMAINTAINER me\nFROM scratch\n";
    for (words, count) in [(&["--check", "-"][..], 3), (&["--check", "--target", "two", "-"], 2)] {
        let checked = world.run(words, file);
        let told = stdout(&checked);
        assert_eq!(checked.status.code(), Some(1), "{told}");
        let first = format!("Check complete, {count} warnings have been found!\n");
        assert!(told.starts_with(&first), "{told}");
    }
    // What nobody needs is checked, not built.
    let built = world.run(&["--progress", "plain", "-"], file);
    assert!(built.status.success() && !stderr(&built).contains("UndefinedVar"), "{built:?}");
}

#[test]
fn privileged_what_is_wrong_is_told_with_what_is_doubtful() {
    let Some(world) = World::new() else { return };
    let broken = format!("{DOUBTFUL}RUN --nosuch x\n");
    let output = world.run(&["--call", "check,format=json,ignorestatus", "-"], &broken);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("error: unknown flag: --nosuch"), "{}", stderr(&output));
    let report: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    // Nothing is known of variables and old forms in a file that cannot be read to its end.
    let rules: Vec<&str> = rules(&report["warnings"], "ruleName");
    assert_eq!(rules, ["StageNameCasing"]);
    let error = json!({
        "message": "unknown flag: --nosuch (did you mean mount?)",
        "location": { "ranges": [{ "start": { "line": 5 }, "end": { "line": 5 } }] },
    });
    assert_eq!(report["buildError"]["location"], error["location"], "{report}");
}

fn rules<'r>(list: &'r Value, key: &str) -> Vec<&'r str> {
    let list = list.as_array().expect("a list").iter();
    list.map(|found| found[key].as_str().expect("a rule")).collect()
}

#[test]
fn privileged_checks_are_written_for_programs() {
    let Some(world) = World::new() else { return };
    world.write("context/Dockerfile", DOUBTFUL);
    let written = |format: &str| {
        let call = format!("check,format={format}");
        let output = world.run(&["--call", &call, "./context"], "");
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        stdout(&output)
    };
    let report: Value = serde_json::from_str(&written("json")).expect("JSON");
    let names = ["StageNameCasing", "LegacyKeyValueFormat", "UndefinedVar"];
    assert_eq!(rules(&report["warnings"], "ruleName"), names);
    let third = json!({
        "ruleName": "UndefinedVar",
        "description": "Variables should be defined before their use",
        "url": "https://docs.docker.com/go/dockerfile/rule/undefined-var/",
        "detail": "Usage of undefined variable '$z' (did you mean $a?)",
        "location": { "ranges": [{ "start": { "line": 3 }, "end": { "line": 4 } }] },
    });
    assert_eq!(report["warnings"][2], third);
    let data = data_encoding::BASE64.encode(DOUBTFUL.as_bytes());
    let source = json!({ "filename": "Dockerfile", "data": data, "language": "Dockerfile" });
    assert_eq!(report["sources"], json!([source]));

    expect![[r#"
        ::warning file=context/Dockerfile,line=1,endLine=1,col=1,endColumn=21,title=StageNameCasing::Stage name 'Base' should be lowercase
        ::warning file=context/Dockerfile,line=2,endLine=2,col=1,endColumn=8,title=LegacyKeyValueFormat::"ENV key=value" should be used instead of legacy "ENV key value" format
        ::warning file=context/Dockerfile,line=3,endLine=4,title=UndefinedVar::Usage of undefined variable '$z' (did you mean $a?)
    "#]]
    .assert_eq(&written("github"));

    let log: Value = serde_json::from_str(&written("sarif")).expect("JSON");
    check_sarif(&log);
    let results = &log["runs"][0]["results"];
    assert_eq!(rules(results, "ruleId"), names);
    let place = &results[2]["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "context/Dockerfile");
    let region = json!({ "startLine": 3, "startColumn": 1, "endLine": 4, "endColumn": 9 });
    assert_eq!(place["region"], region);
}

/// What the schema of SARIF 2.1.0 requires of a log like ours.
fn check_sarif(log: &Value) {
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    let driver = &run["tool"]["driver"];
    assert!(driver["name"].is_string());
    for rule in driver["rules"].as_array().expect("rules") {
        assert!(rule["id"].is_string() && rule["shortDescription"]["text"].is_string(), "{rule}");
    }
    for result in run["results"].as_array().expect("results") {
        assert!(result["message"]["text"].is_string(), "{result}");
        assert!(["none", "note", "warning", "error"].iter().any(|l| result["level"] == *l));
        let index = result["ruleIndex"].as_u64().expect("an index") as usize;
        assert_eq!(driver["rules"][index]["id"], result["ruleId"], "{result}");
        let region = &result["locations"][0]["physicalLocation"]["region"];
        let at = |name: &str| region[name].as_u64().expect("from one on");
        assert!(at("startLine") >= 1 && at("endColumn") >= 1, "{result}");
        assert!((at("startLine"), at("startColumn")) < (at("endLine"), at("endColumn")));
    }
}

const PARAMETERS: &str = "ARG shared=box
# sfx is a suffix
ARG sfx=-$shared
ARG unused=1
FROM scratch AS first
# FOO, which is not how a description begins
ARG FOO=1
# BAR is a number
ARG BAR=2
RUN --mount=type=secret,id=key,required --mount=type=ssh x
FROM scratch AS other
ARG elsewhere
# app is what ships
FROM scratch AS app
ARG sfx
ARG late
COPY --from=first /x /
RUN --mount=type=cache,target=/c --mount=type=secret,id=late,env=LATE x
FROM app
";

#[test]
fn privileged_a_targets_parameters_are_listed() {
    let Some(world) = World::new() else { return };
    let words = ["--call", "outline", "--target=app", "--build-arg=BAR=678", "-"];
    let listed = expect![[r#"
        TARGET:      app
        DESCRIPTION: is what ships

        BUILD ARG   VALUE   DESCRIPTION
        shared      box     
        sfx         -box    is a suffix
        FOO         1       
        BAR         678     is a number
        late                

        SECRET   REQUIRED
        key      true
        late     

        SSH       REQUIRED
        default   

    "#]];
    check_text(&world, &words, PARAMETERS, 0, &listed);
    let none = expect![[""]];
    check_text(&world, &["--call", "outline", "-"], "FROM scratch\n", 0, &none);
    let output = world.run(&["--call", "outline,format=json", "-"], PARAMETERS);
    let outline: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    let at =
        |line: u32| json!({ "ranges": [{ "start": { "line": line }, "end": { "line": line } }] });
    // The last stage has no name, and what it stands on counts.
    assert_eq!(outline["name"], Value::Null);
    let suffix = json!({
        "name": "sfx", "value": "-box", "description": "is a suffix", "location": at(3),
    });
    assert_eq!(outline["args"][1], suffix);
    let key = json!({ "name": "key", "required": true, "location": at(10) });
    assert_eq!(outline["secrets"][0], key);
    assert_eq!(outline["ssh"], json!([{ "name": "default", "location": at(10) }]));
    assert_eq!(outline["cache"], json!([{ "ID": "/c", "location": at(18) }]));
    let source = data_encoding::BASE64.encode(PARAMETERS.as_bytes());
    assert_eq!(outline["sources"], json!([source]));
}

#[test]
fn privileged_targets_and_methods_are_listed() {
    let Some(world) = World::new() else { return };
    let targets = expect![[r#"
        TARGET    DESCRIPTION
        first     
        other     
        app       is what ships
        (default) 
    "#]];
    check_text(&world, &["--call", "targets", "-"], PARAMETERS, 0, &targets);
    let output = world.run(&["--call", "targets,format=json", "-"], PARAMETERS);
    let list: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    let at =
        |line: u32| json!({ "ranges": [{ "start": { "line": line }, "end": { "line": line } }] });
    let app = json!({
        "name": "app", "description": "is what ships", "base": "scratch", "location": at(14),
    });
    assert_eq!(list["targets"][2], app);
    assert_eq!(list["targets"][3], json!({ "default": true, "base": "app", "location": at(19) }));
    let methods = expect![[r#"
        NAME                 VERSION DESCRIPTION
        outline              1.0.0   List all parameters current build target supports
        targets              1.0.0   List all targets current build supports
        lint                 1.0.0   Lint a Dockerfile
        subrequests.describe 1.0.0   List available subrequest types
    "#]];
    check_text(&world, &["--call", "subrequests.describe", "-"], "FROM scratch\n", 0, &methods);
    let output = world.run(&["--call", "subrequests.describe,format=json", "-"], "FROM scratch\n");
    let methods: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(methods[0]["opts"][0]["name"], "target");
    assert_eq!(
        methods[2]["metadata"][2],
        json!({ "name": "result.statuscode", "description": "" })
    );
}

#[test]
fn privileged_a_dockerfile_is_mended() {
    let Some(world) = World::new() else { return };
    let old = "# syntax=docker/dockerfile:1\nFROM scratch as Base\nENV a b c\nWORKDIR x\n\n\n\nCMD run -x\n";
    let new = "# syntax=docker/dockerfile:1\nFROM scratch AS base\nENV a=\"b c\"\nWORKDIR x\n\n\n\n\
               CMD [\"run\", \"-x\"]\n";
    world.write("context/dockerfile", old);
    let shown = world.run(&["--check=fix", "context"], "");
    assert_eq!(shown.status.code(), Some(1), "{}", stderr(&shown));
    let difference = expect![[r#"
        --- dockerfile
        +++ dockerfile
        @@ -1,8 +1,8 @@
         # syntax=docker/dockerfile:1
        -FROM scratch as Base
        +FROM scratch AS base
        -ENV a b c
        +ENV a="b c"
         WORKDIR x
         
         
         
        -CMD run -x
        +CMD ["run", "-x"]
    "#]];
    difference.assert_eq(&stdout(&shown));
    assert_eq!(world.read("context/dockerfile"), old, "it is only shown");
    assert!(stderr(&shown).ends_with(
        "can mend FromAsCasing (1), JSONArgsRecommended (1), LegacyKeyValueFormat (1), \
         StageNameCasing (1) with `--write`; 1 warning is left\n"
    ));

    let written = world.run(&["--check=fix", "--write", "context"], "");
    // A warning is left that nothing mends.
    assert_eq!(written.status.code(), Some(1), "{}", stderr(&written));
    assert!(stderr(&written).contains("WorkdirRelativePath"), "{}", stderr(&written));
    difference.assert_eq(&stdout(&written));
    assert_eq!(world.read("context/dockerfile"), new);
    let again = world.run(&["--check=fix", "--write", "context"], "");
    assert_eq!((stdout(&again).as_str(), again.status.code()), ("", Some(1)));

    let clean = world.run(&["--check=fix", "-"], "FROM scratch\n");
    assert_eq!(stderr(&clean), "nothing to mend, no warnings are left\n");
    assert_eq!((stdout(&clean).as_str(), clean.status.code()), ("", Some(0)));
    let piped = world.run(&["--check=fix", "--write", "-"], old);
    assert_eq!(piped.status.code(), Some(2), "{}", stderr(&piped));
    let archive = super::tar(&world.path("context"));
    let archived = world.run(&["--check=fix", "--write", "-f", "dockerfile", "-"], &archive);
    assert_eq!(archived.status.code(), Some(2), "{}", stderr(&archived));
}

#[test]
fn privileged_notes_are_told_and_fail_nothing() {
    let Some(world) = World::new() else { return };
    let noted = "FROM scratch\nENV a=ghp_16C7e42F292c6912E7710c838347Ae178B4a\n";
    let text = expect![[r#"
        Check complete, no warnings found.

        NOTE: SecretInLiteral
        ENV a seems to hold a secret: a token for GitHub
        hint: mount it where it is needed: `RUN --mount=type=secret,id=NAME`, and build with `--secret id=NAME,src=FILE`
        Dockerfile:2
        --------------------
           1 |     FROM scratch
           2 | >>> ENV a=ghp_16C7e42F292c6912E7710c838347Ae178B4a
        --------------------
    "#]];
    check_text(&world, &["--check", "-"], noted, 0, &text);
    let report = world.run(&["--call", "check,format=json", "-"], noted);
    let report: Value = serde_json::from_str(&stdout(&report)).expect("JSON");
    assert_eq!(report["warnings"], json!([]), "BuildKit's readers see what BuildKit tells");
    assert_eq!(rules(&report["notes"], "ruleName"), ["SecretInLiteral"]);
    let log = world.run(&["--call", "check,format=sarif", "-"], noted);
    let log: Value = serde_json::from_str(&stdout(&log)).expect("JSON");
    check_sarif(&log);
    assert_eq!(log["runs"][0]["results"][0]["level"], "note");
    let commands = world.run(&["--call", "check,format=github", "-"], noted);
    assert!(stdout(&commands).starts_with("::notice file=Dockerfile,line=2,"), "{commands:?}");
    let built = world.run(&["--progress=plain", "-"], noted);
    assert!(built.status.success() && !stderr(&built).contains("SecretInLiteral"), "{built:?}");
}
