//! What holds for any input.

use parser::json_form::{self, JsonForm};
use parser::{Expander, Parse, parse, parse_bytes, parse_onbuild, parse_tree};
use proptest::prelude::*;

/// Pieces that mean something, so that their mixtures go deep.
const PIECES: [&str; 48] = [
    "FROM ",
    "RUN ",
    "COPY ",
    "ADD ",
    "ENV ",
    "ARG ",
    "LABEL ",
    "ONBUILD ",
    "HEALTHCHECK ",
    "CMD ",
    "VOLUME ",
    "EXPOSE ",
    "SHELL ",
    "USER ",
    "a",
    "b=c",
    "é",
    "=",
    " ",
    "\t",
    "\n",
    "\r\n",
    "\\",
    "\\\n",
    "`",
    "#",
    "# escape=`\n",
    "# check=skip=all\n",
    "\u{feff}",
    "\"",
    "'",
    "[",
    "]",
    ",",
    "{",
    "}",
    "$",
    "${",
    ":-",
    "/",
    "<<",
    "<<E ",
    "\nE\n",
    "--from=",
    "--mount=type=",
    "--",
    "AS ",
    "\u{a0}",
];

fn dockerfile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        9 => proptest::sample::select(&PIECES[..]).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Spans are parts of the text, lines exist.
fn check_places(text: &str, parsed: &Parse) {
    let count = text.split_inclusive('\n').count().max(1) as u32;
    for problem in &parsed.diagnostics {
        assert!(text.get(problem.span.range()).is_some(), "{problem:?}");
        assert!(problem.lines.start >= 1 && problem.lines.end <= count, "{problem:?}");
        assert!(problem.lines.start <= problem.lines.end, "{problem:?}");
    }
    for stage in &parsed.dockerfile.stages {
        assert!(text.get(stage.span.range()).is_some(), "{stage:?}");
        for instruction in &stage.instructions {
            assert!(text.get(instruction.span.range()).is_some(), "{instruction:?}");
        }
    }
}

proptest! {
    #[test]
    fn any_text_parses_to_something_or_to_problems(text in dockerfile()) {
        let parsed = parse(&text);
        check_places(&text, &parsed);
        prop_assert!(parsed.has_errors() || !parsed.dockerfile.stages.is_empty()
            || !parsed.dockerfile.global_args.is_empty());
        let _ = parse_onbuild(&text);
    }

    #[test]
    fn any_bytes_parse_to_something_or_to_problems(bytes in any::<Vec<u8>>()) {
        let parsed = parse_bytes(&bytes);
        if let Ok(text) = str::from_utf8(&bytes) {
            prop_assert_eq!(parsed, parse(text));
        }
    }

    #[test]
    fn one_line_stands_where_its_span_says(line in "[A-Z]{1,8}( [a-z=\\[\\]\"'$é-]{0,9}){0,5}") {
        let text = format!("FROM a\n {line} \nRUN b\n");
        if let Ok(tree) = parse_tree(&text) {
            let node = &tree.nodes[1];
            prop_assert_eq!(&text[node.span.range()], node.original.trim());
            for word in node.flags.iter().chain(&node.arguments).filter(|w| !node.json && !w.value.is_empty()) {
                let written = &text[word.span.range()];
                prop_assert!(written.len() >= word.value.len(), "{:?} {:?}", written, word);
            }
        }
    }

    #[test]
    fn a_quoted_word_expands_to_itself(word in any::<String>()) {
        let single = format!("'{}'", word.replace('\'', "'\\''"));
        let escaped: String = word.chars().flat_map(|c| ['\\', c]).collect();
        let none = |_: &str| None;
        for quoted in [single, escaped] {
            let found = Expander::new('\\').word(&quoted, &none).unwrap();
            prop_assert_eq!(&found.text, &word);
            let words = Expander::new('\\').words(&quoted, &none).unwrap();
            prop_assert_eq!(words.concat(), word.clone());
        }
    }

    #[test]
    fn any_word_expands_or_fails(word in dockerfile(), value in any::<String>()) {
        let variables = |name: &str| (name == "a").then(|| value.clone());
        for expander in [
            Expander::new('\\'), Expander::new('`'), Expander::new('\\').for_heredoc(),
            Expander::new('\\').keep_quotes().keep_escapes().keep_unset(),
        ] {
            let _ = expander.word(&word, &variables).map_err(|e| assert!(e.at <= word.len()));
            let _ = expander.words(&word, &variables);
        }
    }

    #[test]
    fn arrays_of_strings_survive_being_written(words in any::<Vec<String>>()) {
        let text = serde_json::to_string(&words).unwrap();
        let JsonForm::Strings(found) = json_form::parse(&text) else { panic!("{text}") };
        prop_assert_eq!(found.into_iter().map(|(s, _)| s).collect::<Vec<_>>(), words);
    }

    #[test]
    fn json_is_told_from_other_text(text in "\\[[\\[\\]{},:\"a1. e+-]{0,12}\\]?") {
        let found = json_form::parse(&text);
        let strings: Option<Vec<String>> = serde_json::from_str(&text).ok();
        let json = serde_json::from_str::<serde_json::Value>(&text).is_ok();
        match found {
            JsonForm::Strings(found) => {
                prop_assert_eq!(Some(found.into_iter().map(|(s, _)| s).collect()), strings);
            }
            JsonForm::NotStrings => prop_assert!(json && strings.is_none(), "{}", text),
            JsonForm::None => prop_assert!(!json, "{}", text),
        }
    }
}

#[test]
fn files_are_bounded() {
    let cases = [
        ("a".repeat(parser::tree::MAX_FILE + 1), "dockerfile greater than max allowed size"),
        ("FROM a\n".repeat(parser::tree::MAX_INSTRUCTIONS + 1), "more than 65536 instructions"),
        ("ARG a b c\n".repeat(60_000) + &"ARG a \\\n".repeat(200_000), "more than 262144 words"),
        ("FROM a\nENV ".to_owned() + &"a=b \\\n".repeat(100_000), "more than 262144 words"),
        ("FROM a\nRUN ".to_owned() + &"--mount=x \\\n".repeat(300_000), "more than 262144 words"),
        (format!("FROM a\nRUN {}\n", "x".repeat(parser::MAX_LINE)), "dockerfile line greater than"),
    ];
    for (text, wanted) in cases {
        let parsed = parse(&text);
        let error = parsed.errors().next().expect("it is too much");
        assert!(error.message.contains(wanted), "{}", &error.message[..80]);
    }
}

/// A megabyte of each: done in an instant when time grows with the length, never when it grows
/// with the length squared.
#[test]
fn bombs_are_parsed_in_linear_time() {
    const LENGTH: usize = 1 << 20;
    let fill = |unit: &str| unit.repeat(LENGTH / unit.len());
    let bombs = [
        format!("FROM a\nRUN {}", fill("x \\\n")),
        format!("FROM a\nRUN {}", fill("\\\n\n")),
        format!("FROM a\nRUN {}", fill("\\\n# c\n")),
        format!("FROM a\nRUN {}", fill("<<E \\\n")),
        format!("FROM a\nCOPY {}/x\n{}", "<<E ".repeat(30_000), "E\n".repeat(30_000)),
        format!("FROM a\nCOPY {}/x\n{}", "<<E ".repeat(300), fill("line\n") + "E\n"),
        format!("FROM a\nRUN {}", fill("--mount=type=x \\\n")),
        format!("FROM a\nRUN {}", fill("--x \\\n")),
        format!("FROM a\nARG {}", fill("--x \\\n")),
        format!("FROM a\nENV {}", fill("a=\"b\\\" \\\nc\" \\\n")),
        format!("FROM a\n{}ARG {}", fill("# a1 b\n"), fill("a \\\n")),
        format!("FROM a\nCMD [{}", fill("\"a\", \\\n")),
        format!("FROM a\nCMD {}", fill("[\\\n")),
        format!("FROM a\nLABEL a={}", fill("${a:-\\\n")),
        format!("FROM a\nRUN <<E {}", fill("${a:-\\\n")),
        format!("FROM a\n{}", fill("ONBUILD \\\n")),
        fill("# c\n"),
        fill("\n"),
        fill("\\\n"),
        fill("X\n"),
        fill("FROM a\n"),
    ];
    for bomb in &bombs {
        let parsed = parse(bomb);
        assert!(parsed.diagnostics.len() <= 2 * parser::tree::MAX_PROBLEMS + 10);
    }
    let mut foreign = bombs[0].clone().into_bytes();
    foreign.iter_mut().step_by(2).for_each(|byte| *byte = 0xff);
    parse_bytes(&foreign);
    parse_bytes(&[b'#'].iter().chain(&foreign).copied().collect::<Vec<_>>());
}
