//! What a token is for.

/// What a request wants to do: `repository:library/alpine:pull`, several separated by spaces.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    pub(crate) actions: String,
    /// Repository, for credential files that tell repositories apart.
    pub(crate) path: String,
}
