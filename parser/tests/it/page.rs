//! `docs/dockerfile.md` names every instruction and every flag that there is.

use std::collections::BTreeMap;

use parser::Diagnostic;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/dockerfile.md");
const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// The words in backticks of each row of the table, by instruction.
fn rows(page: &str) -> BTreeMap<String, Vec<String>> {
    let mut rows: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut names: Vec<String> = Vec::new();
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let quoted = |cell: &str| -> Vec<String> {
            cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
        };
        let first = quoted(cells[1]);
        if first.iter().any(|name| INSTRUCTIONS.contains(&name.as_str())) {
            names = first;
        } else if !cells[1].is_empty() {
            names.clear();
        }
        for name in &names {
            rows.entry(name.clone()).or_default().extend(quoted(cells[2]));
        }
    }
    rows
}

/// The flags that an instruction takes, by what it says of one that it does not take.
fn flags(instruction: &str) -> Vec<String> {
    let parsed = parser::parse(&format!("FROM scratch\n{instruction} --no-such-flag a b\n"));
    let hints: Vec<String> =
        parsed.diagnostics.iter().filter_map(|Diagnostic { hint, .. }| hint.clone()).collect();
    let takes = format!("{instruction} takes --");
    let known = hints.iter().find_map(|hint| hint.strip_prefix(&takes));
    known.map_or_else(Vec::new, |known| known.split(", --").map(str::to_owned).collect())
}

#[test]
fn the_page_names_every_instruction_and_flag() {
    let page = std::fs::read_to_string(PAGE).expect("a page of this project");
    let rows = rows(&page);
    let mut count = 0;
    for instruction in INSTRUCTIONS {
        let row = rows.get(instruction).unwrap_or_else(|| panic!("`{instruction}` is not there"));
        for flag in flags(instruction) {
            let is_there =
                row.iter().any(|word| word.split('=').next() == Some(&format!("--{flag}")));
            assert!(is_there, "`{instruction} --{flag}` is not in the page");
            count += 1;
        }
    }
    assert!(count > 20, "flags are found: {count}");
}
