//! `--secret`.

use std::path::PathBuf;

use super::csv;
use crate::client::{Secret, SecretSource};
use crate::environment::Environment;
use crate::error::UsageError;

/// `id=NAME[,type=file|env][,src=FILE][,env=VARIABLE]`.
///
/// With neither `src` nor `env` the environment variable of that name is meant, and where there is
/// none the file of that name, as BuildKit has it.
pub(super) fn parse(text: &str, environment: &Environment) -> Result<Secret, UsageError> {
    let invalid = |what: String| UsageError::new(format!("`--secret {text}`: {what}"));
    let (mut id, mut kind, mut file, mut variable) = (None, None, None, None);
    for (key, value) in csv::pairs(text)? {
        match key.as_str() {
            "id" => id = Some(value),
            "type" if matches!(value.as_str(), "file" | "env") => kind = Some(value),
            "type" => return Err(invalid(format!("`type={value}`: want `file` or `env`"))),
            "src" | "source" => file = Some(value),
            "env" => variable = Some(value),
            _ => return Err(invalid(format!("unknown key `{key}`"))),
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| invalid("`id` is missing".to_owned()))?;
    let is_set = |name: &str| environment.variables.contains_key(name);
    let source = match (kind.as_deref(), file, variable) {
        (_, Some(_), Some(_)) => return Err(invalid("both `src` and `env` are given".to_owned())),
        (Some("env"), Some(variable), None) | (None | Some("env"), None, Some(variable)) => {
            SecretSource::Env(variable)
        }
        (Some("file"), None, Some(_)) => {
            return Err(invalid("`env` does not go with `type=file`".to_owned()));
        }
        (_, Some(file), None) => SecretSource::File(file.into()),
        (Some("env"), None, None) => SecretSource::Env(id.clone()),
        (None, None, None) if is_set(&id) => SecretSource::Env(id.clone()),
        (_, None, _) => SecretSource::File(PathBuf::from(&id)),
    };
    // A missing file is a mistake; a variable that is not set is an empty secret, as in BuildKit.
    match &source {
        SecretSource::File(path) if !path.exists() => {
            Err(invalid(format!("no file `{}`", path.display())))
        }
        _ => Ok(Secret { id, source }),
    }
}
