//! A step that failed, as an error that says where it stands.

use llb::VertexId;

use crate::error::{BuildError, NO_SPACE, StepFailure};
use crate::step::worker::BuildWorker;

impl BuildWorker {
    /// A step failed: tells so, and where it stands.
    pub(super) fn failed(&self, vertex: VertexId, error: BuildError) -> BuildError {
        let error = match error {
            // It is about to be tried again.
            BuildError::Changed { .. } | BuildError::Lost { .. } if !self.is_last_attempt => {
                return error;
            }
            BuildError::Lost { message, hint } => BuildError::System { message, hint },
            BuildError::Changed { .. } => {
                BuildError::Input { message: error.to_string(), hint: None }
            }
            error => error,
        };
        let error = self.step_error(vertex, error);
        if !matches!(error, BuildError::Canceled) {
            self.steps.failed(vertex, &error.to_string());
        }
        error
    }

    /// Says which step failed and where it stands in the Dockerfile.
    pub(crate) fn step_error(&self, vertex: VertexId, error: BuildError) -> BuildError {
        let (message, hint) = match error {
            BuildError::Input { message, hint } | BuildError::Refused { message, hint } => {
                (message, hint)
            }
            // The kernel does not always say that this is why.
            BuildError::System { message, hint } => {
                (message, hint.or_else(|| self.store.is_full().then(|| NO_SPACE.to_owned())))
            }
            other => return other,
        };
        let metadata = &self.definition.vertex(vertex).metadata;
        BuildError::Step {
            failure: Box::new(StepFailure {
                name: metadata.name.clone(),
                message,
                exit_code: None,
                span: metadata.span,
                lines: metadata.lines,
                dockerfile: self.dockerfile.clone(),
                log_tail: Vec::new(),
                log_path: None,
                hint,
            }),
        }
    }
}
