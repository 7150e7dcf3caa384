//! A step that failed, as an error that says where it stands.

use llb::VertexId;
use registry::chain;

use crate::error::{BuildError, NO_SPACE, StepFailure};
use crate::step::worker::BuildWorker;

impl BuildWorker {
    /// A step failed: tells so, and where it stands.
    pub(super) fn failed(&self, vertex: VertexId, error: BuildError) -> BuildError {
        let error = match error {
            // It is about to be tried again.
            BuildError::Changed { .. } | BuildError::Lost(_) if !self.is_last_attempt => {
                return error;
            }
            BuildError::Lost(fault) => BuildError::System(fault),
            BuildError::Changed { .. } => BuildError::input(error.to_string()),
            error => error,
        };
        let error = self.step_error(vertex, error);
        if !matches!(error, BuildError::Canceled) {
            self.steps.failed(vertex, &chain(&error));
        }
        error
    }

    /// Says which step failed and where it stands in the Dockerfile.
    pub(crate) fn step_error(&self, vertex: VertexId, error: BuildError) -> BuildError {
        let fault = match error {
            BuildError::Input(fault) | BuildError::Refused(fault) => fault,
            // The kernel does not always say that this is why.
            BuildError::System(fault) if fault.hint().is_none() && self.store.is_full() => {
                fault.with_hint(NO_SPACE)
            }
            BuildError::System(fault) => fault,
            other => return other,
        };
        let metadata = &self.definition.vertex(vertex).metadata;
        BuildError::Step {
            failure: Box::new(StepFailure {
                name: metadata.name.clone(),
                fault,
                exit_code: None,
                span: metadata.span,
                lines: metadata.lines,
                dockerfile: self.dockerfile.clone(),
                log_tail: Vec::new(),
                log_path: None,
            }),
        }
    }
}
