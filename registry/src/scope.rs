//! What a token permits.

/// The actions of a request: `repository:library/alpine:pull`, several separated by spaces.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    pub(crate) actions: String,
    /// The repository, for credential files with entries by repository.
    pub(crate) path: String,
}

impl Scope {
    /// Nothing but who the user is.
    pub(crate) fn none() -> Self {
        Self { actions: String::new(), path: String::new() }
    }
}
