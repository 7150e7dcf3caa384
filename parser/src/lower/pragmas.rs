//! Comments that are for us, where they stand.

use super::fault::{Fallible, Fault};
use crate::check::Place;
use crate::diagnostic::Diagnostic;
use crate::instruction::{Dockerfile, Kind};
use crate::pragma;

/// Fails for the first one that is not understood, or that stands above what is not a step.
pub(super) fn check(dockerfile: &Dockerfile) -> Result<(), Diagnostic> {
    for argument in &dockerfile.global_args {
        no_pragma(&argument.comments, &argument.keyword)
            .map_err(|fault| fault.at(Place::instruction(argument)))?;
    }
    for stage in &dockerfile.stages {
        no_pragma(&stage.comments, &stage.keyword)
            .map_err(|fault| fault.at(Place::stage(stage)))?;
        for instruction in &stage.instructions {
            let checked = match &instruction.kind {
                Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) => {
                    pragma::of(&instruction.comments).map(drop).map_err(Fault::new)
                }
                _ => no_pragma(&instruction.comments, &instruction.keyword),
            };
            checked.map_err(|fault| fault.at(Place::instruction(instruction)))?;
        }
    }
    Ok(())
}

fn no_pragma(comments: &[String], keyword: &str) -> Fallible {
    match pragma::of(comments).map_err(Fault::new)? {
        None => Ok(()),
        Some(_) => {
            let message = format!("a `# mybuild:` comment above `{keyword}` does nothing");
            Err(Fault::new(message).with_hint(pragma::HINT))
        }
    }
}
