//! The hosts that one operation tried, and how each failed.

use crate::cause::Cause;
use crate::endpoint::Endpoint;
use crate::error::Error;

/// Collects the failures of hosts until one succeeds.
pub(crate) struct Attempts {
    action: &'static str,
    subject: String,
    failures: Vec<(String, Cause)>,
}

impl Attempts {
    pub(crate) fn new(action: &'static str, subject: impl ToString) -> Self {
        Self { action, subject: subject.to_string(), failures: Vec::new() }
    }

    pub(crate) fn failed(&mut self, endpoint: &Endpoint, cause: Cause) {
        self.failures.push((endpoint.host().to_owned(), cause));
    }

    /// The error of the host that was tried last, with the failures of those before it.
    pub(crate) fn into_error(mut self) -> Error {
        let (host, cause) = self.failures.pop().expect("an error follows a failure");
        Error { action: self.action, subject: self.subject, host, before: self.failures, cause }
    }

    /// The error of a failure that trying another host cannot fix.
    pub(crate) fn fatal(mut self, endpoint: &Endpoint, cause: Cause) -> Error {
        self.failed(endpoint, cause);
        self.into_error()
    }
}
