//! Trees and typed instructions against BuildKit's answers.

use parser::directive;
use parser::instruction::{
    CommandLine, Healthcheck, Heredoc, Instruction, Kind, Mount, Network, Security, Sharing, Stage,
};
use parser::json_form::{self, JsonForm};
use parser::span::Text;
use parser::tree::Node;
use parser::typed::{self, Typed};
use parser::{Diagnostic, Parse, flag, parse, parse_tree};
use serde_json::{Value, json};

use crate::conformance::{Differences, cases, strings};

fn text(case: &Value) -> &str {
    case["dockerfile"].as_str().expect("a case has a Dockerfile")
}

/// `text`, or `null` for nothing.
fn values(texts: &[Text]) -> Vec<&str> {
    texts.iter().map(|text| text.value.as_str()).collect()
}

fn value(text: Option<&Text>) -> &str {
    text.map_or("", |text| &text.value)
}

fn list_or_null(items: &[Text]) -> Value {
    if items.is_empty() { Value::Null } else { json!(values(items)) }
}

#[test]
fn trees_dump_as_in_buildkit() {
    let Some(cases) = cases("parser_ast.json") else { return };
    let mut differences = Differences::default();
    for case in &cases {
        let found = parse_tree(text(case)).map(|tree| tree.dump() + "\n");
        let wanted = case["expected_dump"].as_str().unwrap().to_owned();
        differences.compare(&case["name"], &found, &Ok(wanted));
    }
    differences.finish();
}

#[test]
fn lines_are_counted_as_in_buildkit() {
    let Some(cases) = cases("parser_lines.json") else { return };
    let mut differences = Differences::default();
    for case in &cases {
        let tree = parse_tree(text(case)).expect("it parses");
        let lines: Vec<_> =
            tree.nodes.iter().map(|n| json!([n.lines.start, n.lines.end])).collect();
        differences.compare(&case["name"], &json!(lines), &case["children"]);
        let ends = [lines.first().map(|l| &l[0]), lines.last().map(|l| &l[1])];
        differences.compare(&case["name"], &json!(ends), &case["root"]);
    }
    differences.finish();
}

#[test]
fn bad_files_are_refused() {
    let Some(cases) = cases("parser_negative.json") else { return };
    for case in &cases {
        assert!(parse(text(case)).has_errors(), "{}", case["name"]);
    }
}

#[test]
fn directives_are_found_as_in_buildkit() {
    let Some(cases) = cases("parser_directives.json") else { return };
    let mut differences = Differences::default();
    for case in &cases {
        let input = case["input"].as_str().unwrap();
        let found = match case["op"].as_str().unwrap() {
            "parse_all" => {
                let directives = parse(input).dockerfile.directives;
                let found: Vec<_> = directives
                    .iter()
                    .map(|d| json!({"name": d.name, "value": d.value.value}))
                    .collect();
                differences.compare(input, &json!(found), &case["expect"]);
                continue;
            }
            "detect_syntax" => directive::detect_syntax(input),
            op => directive::find(op.strip_prefix("directive:").expect("a known op"), input),
        };
        differences.compare(input, &found.is_some(), &(case["found"] == true));
        let found =
            found.map(|f| json!({"ref": f.value, "cmdline": f.command_line, "line": f.line}));
        for key in ["ref", "cmdline", "line"] {
            if let (Some(found), Some(wanted)) = (&found, case.get(key)) {
                differences.compare(format!("{input} {key}"), &found[key], wanted);
            }
        }
    }
    differences.finish();
}

fn heredoc_json(heredoc: &Heredoc) -> Value {
    json!({
        "name": heredoc.name, "content": heredoc.raw, "expand": heredoc.expand,
        "chomp": heredoc.chomp, "fd": heredoc.fd,
    })
}

#[test]
fn heredocs_are_found_as_in_buildkit() {
    let Some(cases) = cases("parser_heredoc_file.json") else { return };
    let mut differences = Differences::default();
    for case in &cases {
        let tree = parse_tree(text(case)).expect("it parses");
        let wanted = case["expected"].as_array().unwrap();
        differences.compare("count", &(tree.nodes.len() - 1), &wanted.len());
        for (node, wanted) in tree.nodes[1..].iter().zip(wanted) {
            let found: Vec<_> = node.heredocs.iter().map(heredoc_json).collect();
            let wanted = wanted.as_array().cloned().unwrap_or_default();
            differences.compare(&node.original, &found, &wanted);
        }
    }
    differences.finish();
}

#[test]
fn exec_forms_hold_no_heredocs() {
    let Some(cases) = cases("parser_heredoc_json.json") else { return };
    for case in &cases {
        let tree = parse_tree(text(case)).expect("it parses");
        assert!(tree.nodes.iter().all(|node| node.heredocs.is_empty()));
    }
}

#[test]
fn exec_forms_are_told_from_shell_forms() {
    let Some(cases) = cases("parser_json_form.json") else { return };
    let mut differences = Differences::default();
    for case in &cases {
        let input = case["input"].as_str().unwrap();
        let found = match json_form::parse(input) {
            JsonForm::Strings(strings) => json!(strings.iter().map(|(s, _)| s).collect::<Vec<_>>()),
            _ => Value::Null,
        };
        differences.compare(input, &found, &case["expect"]);
    }
    differences.finish();
}

#[test]
fn lines_that_are_too_long_are_refused() {
    let Some(cases) = cases("parser_limits.json") else { return };
    for case in &cases {
        let (unit, count) = (&case["repeat"][0], &case["repeat"][1]);
        let long = unit.as_str().unwrap().repeat(count.as_u64().unwrap() as usize);
        let input = case["dockerfile_template"].as_str().unwrap().replace("%s", &long);
        let errors: Vec<_> = parse(&input).errors().map(|e| e.message.clone()).collect();
        assert_eq!(errors, [case["error"].as_str().unwrap()]);
    }
}

/// The arguments of an instruction, or the first error.
fn arguments(line: &str) -> Result<Vec<String>, String> {
    match parse_tree(line) {
        Ok(tree) => Ok(tree.nodes[0].arguments.iter().map(|a| a.value.clone()).collect()),
        Err(errors) => Err(errors[0].message.clone()),
    }
}

#[test]
fn words_and_pairs_split_as_in_buildkit() {
    let mut differences = Differences::default();
    for case in cases("parser_words.json").unwrap_or_default() {
        let input = case["input"].as_str().unwrap();
        differences.compare(
            input,
            &arguments(&format!("ARG {input}")),
            &Ok(strings(&case["expect"])),
        );
    }
    for case in cases("parser_name_val.json").unwrap_or_default() {
        let line = format!("{} {}", case["cmd"].as_str().unwrap(), case["input"].as_str().unwrap());
        let wanted = match case["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(strings(&case["expect"])),
        };
        differences.compare(&line, &arguments(&line), &wanted);
    }
    differences.finish();
}

#[test]
fn empty_continuations_are_warned_of() {
    let Some(cases) = cases("parser_warnings.json") else { return };
    for case in &cases {
        let tree = parse_tree(text(case)).expect("it parses");
        assert_eq!(tree.empty_continuations.len() as u64, case["count"].as_u64().unwrap());
        let wanted = case["short_contains"].as_array().unwrap();
        for (found, parts) in tree.empty_continuations.iter().zip(wanted) {
            let message = format!("Empty continuation line found in: {}", found.original);
            assert!(strings(parts).iter().all(|part| message.contains(part)), "{message}");
        }
        let warnings = parse(text(case)).diagnostics;
        let is_warning = |w: &&Diagnostic| w.rule == Some("NoEmptyContinuation");
        assert_eq!(warnings.iter().filter(is_warning).count(), tree.empty_continuations.len());
    }
}

/// The one instruction of a file without FROM.
fn single(dockerfile: &str) -> Result<Typed, Vec<String>> {
    let tree = parse_tree(dockerfile).map_err(|errors| messages(&errors))?;
    typed_node(&tree.nodes[0])
}

fn typed_node(node: &Node) -> Result<Typed, Vec<String>> {
    let mut diagnostics = Vec::new();
    typed::read(node, &mut diagnostics).ok_or_else(|| messages(&diagnostics))
}

fn messages(diagnostics: &[Diagnostic]) -> Vec<String> {
    diagnostics.iter().map(|d| d.message.clone()).collect()
}

fn single_kind(dockerfile: &str) -> Kind {
    match single(dockerfile) {
        Ok(Typed::Instruction(instruction)) => instruction.kind,
        other => panic!("{dockerfile}: {other:?}"),
    }
}

#[test]
fn bad_instructions_are_refused_in_buildkits_words() {
    let Some(cases) = cases("instr_errors.json") else { return };
    let mut differences = Differences::default();
    for case in &cases {
        let result = match case["dockerfile"].as_str() {
            Some(dockerfile) => single(dockerfile),
            None => {
                let words = strings(&case["node"]);
                let text = |value: &String| Text { value: value.clone(), ..Text::default() };
                let arguments = words[1..].iter().map(text).collect();
                typed_node(&Node { command: text(&words[0]), arguments, ..Node::default() })
            }
        };
        let found = result.map_err(|errors| errors[0].clone()).map(|_| ());
        let wanted = case["error"].as_str().unwrap();
        let matches = match (&found, case["match"].as_str()) {
            (Err(found), Some("contains")) => found.contains(wanted),
            (Err(found), _) => found == wanted,
            (Ok(()), _) => false,
        };
        differences.compare(format!("{case} {found:?}"), &matches, &true);
    }
    differences.finish();
}

#[test]
fn flags_are_read_as_in_buildkit() {
    let Some(cases) = cases("instr_flags.json") else { return };
    let mut differences = Differences::default();
    for case in &cases {
        let declared = case["flags"].as_object().unwrap();
        let known: Vec<_> = declared
            .iter()
            .map(|(name, default)| {
                let takes =
                    if default.is_boolean() { flag::Takes::Switch } else { flag::Takes::Value };
                (name.as_str(), takes)
            })
            .collect();
        let written: Vec<_> = strings(&case["args"])
            .into_iter()
            .map(|value| Text { value, ..Text::default() })
            .collect();
        let Ok(flags) = flag::parse(&known, &written) else {
            differences.compare(case, &true, &(case["error"] == true));
            continue;
        };
        differences.compare(case, &true, &(case["ok"] == true));
        for (name, wanted) in case["values"].as_object().into_iter().flatten() {
            let found = match (flags.switch(name), flags.value(name)) {
                (_, Some(text)) if wanted.is_string() => json!(text.value),
                (Some(switch), _) => json!(switch),
                (None, _) => declared[name].clone(),
            };
            differences.compare(format!("{case} {name}"), &found, wanted);
        }
        if case["used"].is_array() {
            differences.compare(case, &flags.names(), &strings(&case["used"]));
        }
    }
    differences.finish();
}

#[test]
fn devices_are_read_as_in_buildkit() {
    let Some(cases) = cases("instr_device.json") else { return };
    let mut differences = Differences::default();
    for case in &cases {
        let found = match parser::device::parse(case["input"].as_str().unwrap()) {
            Ok(device) => json!({"name": device.name, "required": device.required}),
            Err(error) => json!(error.to_string()),
        };
        let wanted = case.get("expect").unwrap_or(&case["error"]);
        differences.compare(case, &found, wanted);
    }
    differences.finish();
}

#[test]
fn inline_files_of_copy_are_read_as_in_buildkit() {
    let Some(cases) = cases("instr_copy_heredoc.json") else { return };
    let mut differences = Differences::default();
    for case in &cases {
        let Kind::Copy(copy) = single_kind(text(case)) else { panic!("{case}") };
        let inline: Vec<_> = copy
            .heredocs
            .iter()
            .map(|h| json!({"path": h.name, "data": h.content, "expand": h.expand}))
            .collect();
        let found = json!([copy.dest.value, values(&copy.sources), inline]);
        differences.compare(case, &found, &json!([case["dest"], case["sources"], case["inline"]]));
    }
    differences.finish();
}

#[test]
fn heredocs_of_run_are_read_as_in_buildkit() {
    let Some(cases) = cases("instr_run_heredoc.json") else { return };
    let mut differences = Differences::default();
    for case in &cases {
        let Kind::Run(run) = single_kind(text(case)) else { panic!("{case}") };
        let files: Vec<_> = run
            .heredocs
            .iter()
            .map(|h| json!({"name": h.name, "data": h.raw, "chomp": h.chomp}))
            .collect();
        let (shell, words) = command(&run.command);
        let found = json!([shell, words, files]);
        differences.compare(case, &found, &json!([case["shell"], case["cmdline"], case["files"]]));
    }
    differences.finish();
}

#[test]
fn assorted_instructions_are_read_as_in_buildkit() {
    let Some(cases) = cases("instr_misc.json") else { return };
    let mut differences = Differences::default();
    for case in &cases {
        match case["op"].as_str().unwrap() {
            "comments" => {
                let file = parse(text(case)).dockerfile;
                let docs: Vec<_> = file.stages.iter().map(|stage| stage.doc.clone()).collect();
                let args = |instructions: &[Instruction]| -> Vec<Value> {
                    let args = instructions.iter().filter_map(|i| match &i.kind {
                        Kind::Arg(args) => Some(args),
                        _ => None,
                    });
                    args.map(|args| args.iter().map(|a| json!([a.name.value, a.doc])).collect())
                        .collect()
                };
                let globals: Vec<_> =
                    args(&file.global_args).iter().map(|a| a[0].clone()).collect();
                let found = json!({
                    "stage_doc": docs, "meta_args": globals,
                    "stage0_args": args(&file.stages[0].instructions),
                });
                differences.compare(case, &found, &case["expect"]);
            }
            "run_flags_used" => {
                let Kind::Run(run) = single_kind(text(case)) else { panic!("{case}") };
                differences.compare(case, &json!(run.flags_used), &case["expect"]);
            }
            "healthcheck" => {
                let Kind::Healthcheck(health) = single_kind(text(case)) else { panic!("{case}") };
                differences.compare(case, &health_json(&health)["Test"], &case["expect"]);
            }
            "healthcheck_interval" => {
                let error = single(text(case)).err().map(|errors| errors[0].clone());
                let contains = case["error_contains"].as_str();
                differences.compare(case, &error.is_none(), &(case["ok"] == true));
                let told = error.is_none_or(|e| contains.is_some_and(|part| e.contains(part)));
                differences.compare(case, &told, &true);
            }
            op => panic!("unknown op {op}"),
        }
    }
    differences.finish();
}

#[test]
fn odd_instructions_do_no_harm() {
    let Some(cases) = cases("instr_nopanic.json") else { return };
    for case in &cases {
        parse(text(case));
    }
}

const NO_VARIABLES: &str = "'from' doesn't support variable expansion, define alias stage instead";

#[test]
fn whole_files_parse_as_in_buildkit() {
    let Some(cases) = cases("dockerfile_corpus.json") else { return };
    let mut differences = Differences::default();
    for case in &cases {
        let id = case["id"].as_str().unwrap();
        let parsed = parse(text(case));
        let error = case.get("parse_error").or(case.get("instruction_error"));
        if let Some(error) = error.and_then(Value::as_str) {
            let found = first_error(case, &parsed);
            let found = found.as_str().unwrap_or_default();
            // What BuildKit refuses only to ask for an alias means something here.
            let wanted = if error.ends_with(NO_VARIABLES) { "" } else { error };
            differences.compare(id, &found, &wanted);
        } else {
            compare_stages(&mut differences, id, case, &parsed);
        }
        if case.get("parse_error").is_none() {
            compare_tree(&mut differences, id, case);
        }
    }
    differences.finish();
}

/// The first error as BuildKit prints it.
fn first_error(case: &Value, parsed: &Parse) -> Value {
    let Some(error) = parsed.errors().next() else { return Value::Null };
    let message = &error.message;
    if case.get("parse_error").is_some() || message == "no build stage in current context" {
        return json!(message);
    }
    json!(format!("dockerfile parse error on line {}: {message}", error.lines.start))
}

fn compare_tree(differences: &mut Differences, id: &str, case: &Value) {
    let tree = match parse_tree(text(case)) {
        Ok(tree) => tree,
        Err(errors) => return differences.compare(id, &messages(&errors), &Vec::new()),
    };
    differences.compare(format!("{id} dump"), &json!(tree.dump()), &case["dump"]);
    differences.compare(format!("{id} escape"), &json!(tree.escape), &case["escape"]);
    let nodes: Vec<_> = tree.nodes.iter().map(node_json).collect();
    let wanted = case["ast"].as_array().unwrap();
    differences.compare(format!("{id} nodes"), &nodes.len(), &wanted.len());
    for (found, wanted) in nodes.iter().zip(wanted) {
        differences.compare(format!("{id} node"), found, wanted);
    }
    let warnings: Vec<_> = tree
        .empty_continuations
        .iter()
        .map(|found| format!("Empty continuation line found in: {}", found.original))
        .collect();
    differences.compare(format!("{id} warnings"), &json!(warnings), &case["parser_warnings"]);
}

/// A node as the recorded answers have it: what is empty is left out.
fn node_json(node: &Node) -> Value {
    let mut found = json!({
        "cmd": node.command.value, "start": node.lines.start, "end": node.lines.end,
        "original": node.original,
    });
    let mut add = |key: &str, value: Value, present: bool| {
        if present {
            found[key] = value;
        }
    };
    add("args", json!(values(&node.arguments)), !node.arguments.is_empty());
    add("flags", json!(values(&node.flags)), !node.flags.is_empty());
    add("prev_comment", json!(node.comments), !node.comments.is_empty());
    let heredocs: Vec<_> = node.heredocs.iter().map(heredoc_json).collect();
    add("heredocs", json!(heredocs), !heredocs.is_empty());
    add("json", json!(true), node.json);
    let inner = node.inner.as_deref().map(node_json);
    add("sub", json!(inner), inner.is_some());
    found
}

fn compare_stages(differences: &mut Differences, id: &str, case: &Value, parsed: &Parse) {
    let errors: Vec<_> = parsed.errors().map(|e| e.message.clone()).collect();
    differences.compare(format!("{id} errors"), &errors, &Vec::new());
    let file = &parsed.dockerfile;
    let globals: Vec<_> = file.global_args.iter().map(command_json).collect();
    differences.compare(format!("{id} global args"), &json!(globals), &case["meta_args"]);
    let wanted = case["stages"].as_array().unwrap();
    differences.compare(format!("{id} stages"), &file.stages.len(), &wanted.len());
    for (stage, wanted) in file.stages.iter().zip(wanted) {
        compare_stage(differences, id, stage, wanted);
    }
}

fn compare_stage(differences: &mut Differences, id: &str, stage: &Stage, wanted: &Value) {
    let found = json!([
        stage.base.value,
        value(stage.name.as_ref()),
        stage.doc,
        value(stage.platform.as_ref()),
    ]);
    let head = json!([wanted["base"], wanted["name"], wanted["doc"], wanted["platform"]]);
    differences.compare(format!("{id} stage"), &found, &head);
    let commands = wanted["commands"].as_array().cloned().unwrap_or_default();
    differences.compare(format!("{id} count"), &stage.instructions.len(), &commands.len());
    for (instruction, wanted) in stage.instructions.iter().zip(&commands) {
        let mut wanted = wanted.clone();
        if let Some(used) = wanted.pointer_mut("/fields/FlagsUsed").and_then(Value::as_array_mut) {
            used.sort_by_key(|name| name.to_string());
        }
        let found = command_json(instruction);
        differences.compare(format!("{id} {}", instruction.original), &found, &wanted);
    }
}

/// An instruction as the recorded answers have it.
fn command_json(instruction: &Instruction) -> Value {
    let (kind, fields) = match &instruction.kind {
        Kind::Add(add) => (
            "AddCommand",
            json!({
                "SourcePaths": list_or_null(&add.sources),
                "SourceContents": contents(&add.heredocs),
                "DestPath": add.dest.value,
                "Chown": value(add.chown.as_ref()), "Chmod": value(add.chmod.as_ref()),
                "Checksum": value(add.checksum.as_ref()), "Link": add.link,
                "KeepGitDir": add.keep_git_dir, "Unpack": add.unpack,
                "ExcludePatterns": list_or_null(&add.exclude),
            }),
        ),
        Kind::Copy(copy) => (
            "CopyCommand",
            json!({
                "SourcePaths": list_or_null(&copy.sources),
                "SourceContents": contents(&copy.heredocs),
                "DestPath": copy.dest.value,
                "From": value(copy.from.as_ref()),
                "Chown": value(copy.chown.as_ref()), "Chmod": value(copy.chmod.as_ref()),
                "Link": copy.link, "Parents": copy.parents,
                "ExcludePatterns": list_or_null(&copy.exclude),
            }),
        ),
        Kind::Arg(args) => {
            let args: Vec<_> = args
                .iter()
                .map(|arg| {
                    let value = arg.value.as_ref().map(|value| &value.value);
                    json!({"Key": arg.name.value, "Value": value, "DocComment": arg.doc})
                })
                .collect();
            ("ArgCommand", json!({"Args": args}))
        }
        Kind::Cmd(line) => ("CmdCommand", command_fields(line, &[])),
        Kind::Entrypoint(line) => {
            let mut fields = command_fields(line, &[]);
            if fields["CmdLine"] == json!([]) {
                fields["CmdLine"] = Value::Null;
            }
            ("EntrypointCommand", fields)
        }
        Kind::Env(pairs) => ("EnvCommand", json!({"Env": pairs_json(pairs)})),
        Kind::Expose(ports) => ("ExposeCommand", json!({"Ports": values(ports)})),
        Kind::Healthcheck(health) => ("HealthCheckCommand", json!({"Health": health_json(health)})),
        Kind::Label(pairs) => ("LabelCommand", json!({"Labels": pairs_json(pairs)})),
        Kind::Maintainer(name) => ("MaintainerCommand", json!({"Maintainer": name.value})),
        Kind::Onbuild(onbuild) => ("OnbuildCommand", json!({"Expression": onbuild.expression})),
        Kind::Run(run) => return run_json(run),
        Kind::Shell(words) => ("ShellCommand", json!({"Shell": words})),
        Kind::Stopsignal(signal) => ("StopSignalCommand", json!({"Signal": signal.value})),
        Kind::User(user) => ("UserCommand", json!({"User": user.value})),
        Kind::Volume(paths) => ("VolumeCommand", json!({"Volumes": values(paths)})),
        Kind::Workdir(path) => ("WorkdirCommand", json!({"Path": path.value})),
    };
    json!({"type": kind, "fields": fields})
}

fn contents(heredocs: &[Heredoc]) -> Value {
    let contents: Vec<_> = heredocs
        .iter()
        .map(|h| json!({"Path": h.name, "Data": h.content, "Expand": h.expand}))
        .collect();
    if contents.is_empty() { Value::Null } else { json!(contents) }
}

fn pairs_json(pairs: &[parser::instruction::KeyValue]) -> Vec<Value> {
    pairs
        .iter()
        .map(|p| json!({"Key": p.key.value, "Value": p.value.value, "NoDelim": p.legacy}))
        .collect()
}

/// Whether it is the shell form, and the words.
fn command(line: &CommandLine) -> (bool, Vec<String>) {
    match line {
        CommandLine::Exec(words) => (false, words.clone()),
        CommandLine::Shell(text) if text.is_empty() => (true, Vec::new()),
        CommandLine::Shell(text) => (true, vec![text.clone()]),
    }
}

fn command_fields(line: &CommandLine, heredocs: &[Heredoc]) -> Value {
    let (shell, words) = command(line);
    let files: Vec<_> =
        heredocs.iter().map(|h| json!({"Name": h.name, "Data": h.raw, "Chomp": h.chomp})).collect();
    let files = if files.is_empty() { Value::Null } else { json!(files) };
    json!({"CmdLine": words, "PrependShell": shell, "Files": files})
}

fn run_json(run: &parser::instruction::Run) -> Value {
    let mut fields = command_fields(&run.command, &run.heredocs);
    let mut used = run.flags_used.clone();
    used.sort();
    fields["FlagsUsed"] = json!(used);
    let mounts: Result<Vec<_>, _> =
        run.mounts.iter().map(|mount| mount.resolve(|value| Ok(value.to_owned()))).collect();
    let mounts = match mounts {
        Ok(mounts) => mounts,
        Err(error) => {
            let error = error.to_string();
            return json!({"type": "RunCommand", "fields": fields, "expand_error": error});
        }
    };
    json!({
        "type": "RunCommand", "fields": fields,
        "mounts": mounts.iter().map(mount_json).collect::<Vec<_>>(),
        "network": match run.network {
            Network::Default => "default",
            Network::None => "none",
            Network::Host => "host",
        },
        "security": match run.security {
            Security::Sandbox => "sandbox",
            Security::Insecure => "insecure",
        },
    })
}

fn mount_json(mount: &Mount) -> Value {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let sharing = match mount.sharing {
        Sharing::Shared if mount.written.contains("sharing") => "shared",
        Sharing::Shared => "",
        Sharing::Private => "private",
        Sharing::Locked => "locked",
    };
    json!({
        "Type": mount.kind.name(), "From": text(&mount.from), "Source": text(&mount.source),
        "Target": text(&mount.target), "ReadOnly": mount.readonly,
        "SizeLimit": mount.size.unwrap_or(0), "CacheID": text(&mount.id),
        "CacheSharing": sharing, "Required": mount.required, "Env": mount.env,
        "Mode": mount.mode, "UID": mount.uid, "GID": mount.gid,
    })
}

fn health_json(health: &Healthcheck) -> Value {
    let Healthcheck::Cmd {
        command: line,
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
    } = health
    else {
        return json!({"Test": ["NONE"]});
    };
    let (shell, words) = command(line);
    let mut test = vec![if shell { "CMD-SHELL" } else { "CMD" }.to_owned()];
    test.extend(words);
    let mut found = json!({"Test": test});
    let numbers = [
        ("Interval", interval),
        ("Timeout", timeout),
        ("StartPeriod", start_period),
        ("StartInterval", start_interval),
        ("Retries", retries),
    ];
    for (key, number) in numbers {
        if *number != 0 {
            found[key] = json!(number);
        }
    }
    found
}
