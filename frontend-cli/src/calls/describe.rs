//! `--call subrequests.describe`: which methods there are.

use serde_json::{Value, json};

use super::{columns, pretty};

struct Method {
    name: &'static str,
    description: &'static str,
    /// An option that it takes, and what that is.
    options: &'static [(&'static str, &'static str)],
    results: &'static [&'static str],
}

const VERSION: &str = "1.0.0";

const METHODS: [Method; 4] = [
    Method {
        name: "frontend.outline",
        description: "List all parameters current build target supports",
        options: &[("target", "Target build stage")],
        results: &["result.json", "result.txt"],
    },
    Method {
        name: "frontend.targets",
        description: "List all targets current build supports",
        options: &[],
        results: &["result.json", "result.txt"],
    },
    Method {
        name: "frontend.lint",
        description: "Lint a Dockerfile",
        options: &[],
        results: &["result.json", "result.txt", "result.statuscode"],
    },
    Method {
        name: "frontend.subrequests.describe",
        description: "List available subrequest types",
        options: &[],
        results: &["result.json", "result.txt"],
    },
];

/// For people.
pub fn text() -> String {
    let rows = METHODS.iter().map(|method| {
        let name = method.name.strip_prefix("frontend.").unwrap_or(method.name);
        [name, VERSION, method.description]
    });
    let heading = [["NAME", "VERSION", "DESCRIPTION"]];
    columns(&heading.into_iter().chain(rows).collect::<Vec<_>>(), 1)
}

/// BuildKit's JSON.
pub fn json() -> String {
    let named =
        |(name, description): (&str, &str)| json!({ "name": name, "description": description });
    let list = |named: Vec<Value>| if named.is_empty() { Value::Null } else { Value::Array(named) };
    let methods = METHODS.iter().map(|method| {
        json!({
            "name": method.name,
            "version": VERSION,
            "type": "rpc",
            "description": method.description,
            "opts": list(method.options.iter().map(|&option| named(option)).collect()),
            "inputs": null,
            "metadata": list(method.results.iter().map(|&result| named((result, ""))).collect()),
            "refs": null,
        })
    });
    pretty(&methods.collect())
}
