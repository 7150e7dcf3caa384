//! The commands of a shell script, as far as they can be told apart without running it.

/// A command: its program and arguments, quotes and escapes taken off, variables as written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command {
    /// The program, without the directory it is in.
    pub(super) program: String,
    /// What is behind it.
    pub(super) arguments: Vec<String>,
}

impl Command {
    /// The first argument that is no option.
    pub(super) fn verb(&self) -> &str {
        self.operands().next().unwrap_or_default()
    }

    /// Arguments that are no options.
    pub(super) fn operands(&self) -> impl Iterator<Item = &str> {
        self.arguments.iter().map(String::as_str).filter(|word| !word.starts_with('-'))
    }

    /// Whether one of these is among the arguments.
    pub(super) fn has(&self, options: &[&str]) -> bool {
        self.arguments.iter().any(|word| options.contains(&word.as_str()))
    }

    /// What it does, whatever its options.
    pub(super) fn short(&self) -> String {
        format!("{} {}", self.program, self.verb()).trim_end().to_owned()
    }

    /// How it begins, to be recognised.
    pub(super) fn shown(&self) -> String {
        const WORDS: usize = 3;
        let words = std::iter::once(&self.program).chain(&self.arguments);
        words.take(1 + WORDS).map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    fn of(words: Vec<String>) -> Option<Self> {
        let mut words = words.into_iter().skip_while(|word| is_in_front(word));
        let program = words.next()?;
        let program = program.rsplit('/').next().unwrap_or_default().to_owned();
        Some(Self { program, arguments: words.collect() })
    }
}

/// What stands in front of a program: words of the shell, other programs that start it, variables.
fn is_in_front(word: &str) -> bool {
    const WORDS: [&str; 14] = [
        "if", "then", "else", "elif", "while", "until", "do", "!", "{", "time", "exec", "sudo",
        "env", "command",
    ];
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let sets = word.split_once('=').is_some_and(|(name, _)| {
        name.chars().all(is_name) && name.starts_with(|c: char| !c.is_ascii_digit())
    });
    sets || WORDS.contains(&word)
}

/// The commands in the order in which they are written.
pub(super) fn commands(script: &str) -> Vec<Command> {
    let mut commands = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = script.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                None | Some('\n') => {}
                Some(escaped) => word.get_or_insert_default().push(escaped),
            },
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                word.extend(characters.by_ref().take_while(|c| *c != character));
            }
            '#' if word.is_none() => while characters.next_if(|c| *c != '\n').is_some() {},
            ';' | '&' | '|' | '\n' | '(' | ')' | '`' => {
                words.extend(word.take());
                commands.extend(Command::of(std::mem::take(&mut words)));
            }
            blank if blank.is_whitespace() => words.extend(word.take()),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    commands.extend(Command::of(words));
    commands
}

#[cfg(test)]
mod tests {
    use super::commands;

    #[test]
    fn a_script_is_split_into_commands() {
        let cases = [
            ("apt-get update && apt-get -y install a", "apt-get [update]; apt-get [-y install a]"),
            ("set -e; A=1 sudo /usr/bin/apk add 'a b' \"c\"d", "set [-e]; apk [add a b cd]"),
            ("if ! x; then\n# no; not\n y \\\n  z; fi", "x []; y [z]; fi []"),
            ("a | b > c & (d) # e", "a []; b [> c]; d []"),
            ("x 'never closed", "x [never closed]"),
            ("A=1", ""),
            ("", ""),
        ];
        for (script, want) in cases {
            let found = commands(script);
            let shown = found.iter().map(|c| format!("{} [{}]", c.program, c.arguments.join(" ")));
            assert_eq!(shown.collect::<Vec<_>>().join("; "), want, "{script}");
        }
    }
}
