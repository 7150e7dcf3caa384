//! Work that blocks, from code that awaits.

use crate::error::BuildError;

/// Enters a blocking room.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BuildError> + Send + 'static,
) -> Result<T, BuildError> {
    tokio::task::spawn_blocking(work).await.expect("work in a blocking room does not panic")
}
