//! Work that blocks or is given up, from code that awaits.

use tokio_util::sync::CancellationToken;

use crate::error::BuildError;

/// Enters a blocking room.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BuildError> + Send + 'static,
) -> Result<T, BuildError> {
    tokio::task::spawn_blocking(work).await.expect("work in a blocking room does not panic")
}

/// Does `work` until the build is cancelled.
pub(crate) async fn until<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T, BuildError>>,
) -> Result<T, BuildError> {
    cancel.run_until_cancelled(work).await.unwrap_or(Err(BuildError::Canceled))
}
