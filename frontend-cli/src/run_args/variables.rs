//! `--env` and `--env-file`.

use std::path::{Path, PathBuf};

use crate::environment::Environment;
use crate::error::UsageError;

/// A file of variables larger than this is none.
const FILE_MAX: u64 = 1 << 20;

/// Files first, as for Docker; a later variable counts.
pub(super) fn resolve(
    files: &[PathBuf],
    texts: &[String],
    environment: &Environment,
) -> Result<Vec<(String, String)>, UsageError> {
    let mut variables = Vec::new();
    for path in files {
        let invalid =
            |why: String| UsageError::new(format!("`--env-file {}`: {why}", path.display()));
        let text = read(path).map_err(|error| invalid(error.to_string()))?;
        variables.extend(lines(&text, environment).map_err(invalid)?);
    }
    for text in texts {
        let invalid = || UsageError::new(format!("`--env {text}`: the name is empty"));
        match text.split_once('=') {
            Some(("", _)) => return Err(invalid()),
            Some((name, value)) => variables.push((name.to_owned(), value.to_owned())),
            None if text.is_empty() => return Err(invalid()),
            None => variables.extend(inherited(text, environment)),
        }
    }
    Ok(variables)
}

/// A variable of this environment; one that is not set stays unset.
fn inherited(name: &str, environment: &Environment) -> Option<(String, String)> {
    Some((name.to_owned(), environment.text(name)?.to_owned()))
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_MAX {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

/// One variable a line; `#` starts a comment line; quotes are part of the value.
fn lines(text: &str, environment: &Environment) -> Result<Vec<(String, String)>, String> {
    let mut variables = Vec::new();
    for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (line, None),
        };
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(format!("line {number}: `{name}` is not a name"));
        }
        match value {
            Some(value) => variables.push((name.to_owned(), value.to_owned())),
            None => variables.extend(inherited(name, environment)),
        }
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_come_from_flags_files_and_the_environment() {
        let mut environment = Environment::default();
        environment.variables.insert("SET".to_owned(), "here".into());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# comment\n\nA=1\n  B=\"two words\" \nSET\nUNSET\nC=x=y\n")
            .unwrap();
        let flags = ["A=2", "SET", "UNSET", "EMPTY="].map(str::to_owned);
        let found = resolve(&[file.path().to_owned()], &flags, &environment).unwrap();
        let found: Vec<String> =
            found.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let wanted = ["A=1", "B=\"two words\" ", "SET=here", "C=x=y", "A=2", "SET=here", "EMPTY="];
        assert_eq!(found, wanted);
        for bad in ["=x", "two words=1"] {
            assert!(lines(bad, &environment).is_err(), "{bad}");
        }
        assert!(resolve(&[], &["=x".to_owned()], &environment).is_err());
        assert!(resolve(&["/nosuch/file".into()], &[], &environment).is_err());
    }
}
