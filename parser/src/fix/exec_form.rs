//! Command lines that are the same without a shell.

/// The words of a command line in which a shell would do nothing but split it: a program and its
/// arguments, perhaps quoted, perhaps behind `exec`.
pub(super) fn words(line: &str) -> Option<Vec<String>> {
    let mut words = split(line)?;
    if words.first().is_some_and(|word| word == "exec") {
        words.remove(0);
    }
    let program = words.first()?;
    let is_shells =
        BUILT_IN.contains(&program.as_str()) || program.starts_with('-') || program.contains('=');
    (!is_shells && !program.is_empty()).then_some(words)
}

/// What shells do themselves, or what means something to them as a first word. (Some of these may be
/// programs as well; whether an image has those nobody knows.)
const BUILT_IN: [&str; 55] = [
    ".", ":", "[", "alias", "bg", "break", "builtin", "case", "cd", "command", "continue",
    "declare", "do", "done", "echo", "elif", "else", "esac", "eval", "exec", "exit", "export",
    "false", "fg", "fi", "for", "function", "getopts", "hash", "if", "jobs", "kill", "local",
    "printf", "pwd", "read", "readonly", "return", "set", "shift", "source", "test", "then",
    "time", "times", "trap", "true", "type", "ulimit", "umask", "unalias", "unset", "until",
    "wait", "while",
];

fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' => words.extend(word.take()),
            quote @ ('\'' | '"') => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next()? {
                        end if end == quote => break,
                        '$' | '`' | '\\' if quote == '"' => return None,
                        inner => word.push(inner),
                    }
                }
            }
            'a'..='z' | 'A'..='Z' | '0'..='9' => word.get_or_insert_default().push(character),
            '_' | '.' | '/' | ':' | ',' | '@' | '%' | '+' | '=' | '-' => {
                word.get_or_insert_default().push(character);
            }
            _ => return None,
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn only_what_a_shell_would_split_is_split() {
        let cases = [
            ("nginx -g 'daemon off;'", Some("nginx|-g|daemon off;")),
            (
                "exec  python3 -m \"http.server\" --port=8080",
                Some("python3|-m|http.server|--port=8080"),
            ),
            ("/app/run a'b'\"c\" ''", Some("/app/run|abc|")),
            ("npm start && x", None),
            ("echo hi", None),
            ("run $PORT", None),
            ("run \"$PORT\"", None),
            ("run *.txt", None),
            ("run a\\ b", None),
            ("run ~/x", None),
            ("run {a,b}", None),
            ("run > log", None),
            ("run # a", None),
            ("A=1 run", None),
            ("exec -a x run", None),
            ("run 'open", None),
            ("exec", None),
            ("", None),
        ];
        for (line, want) in cases {
            assert_eq!(words(line).map(|words| words.join("|")).as_deref(), want, "{line}");
        }
    }
}
