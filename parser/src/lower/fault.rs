//! What is wrong with an instruction, before its place is known.

use crate::check::Place;
use crate::diagnostic::Diagnostic;

/// A message, and perhaps a way out.
#[derive(Debug)]
pub(super) struct Fault {
    message: String,
    hint: Option<String>,
}

pub(super) type Fallible<T = ()> = Result<T, Fault>;

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn context(mut self, before: &str) -> Self {
        self.message = format!("{before}: {}", self.message);
        self
    }

    pub(super) fn at(self, place: Place<'_>) -> Diagnostic {
        Diagnostic { hint: self.hint, ..Diagnostic::error(self.message, place.span, place.lines) }
    }
}

impl From<crate::expand::ExpandError> for Fault {
    fn from(error: crate::expand::ExpandError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<oci::InvalidReference> for Fault {
    fn from(error: oci::InvalidReference) -> Self {
        Self::new(error.to_string())
    }
}

impl From<llb::GraphError> for Fault {
    fn from(error: llb::GraphError) -> Self {
        Self::new(error.to_string())
    }
}
