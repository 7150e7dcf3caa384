//! Work that blocks or is given up, from code that awaits.

use tokio_util::sync::CancellationToken;

use crate::error::BuildError;

/// Enters a blocking room.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BuildError> + Send + 'static,
) -> Result<T, BuildError> {
    tokio::task::spawn_blocking(work).await.expect("work in a blocking room does not panic")
}

/// Does `work` until the build is cancelled. What fails then has failed because of it.
pub(crate) async fn until<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T, BuildError>>,
) -> Result<T, BuildError> {
    match cancel.run_until_cancelled(work).await {
        Some(Err(_)) if cancel.is_cancelled() => Err(BuildError::Canceled),
        Some(ended) => ended,
        None => Err(BuildError::Canceled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_fails_once_it_is_cancelled_is_cancelled() {
        let cancel = CancellationToken::new();
        let failing = || async { Err::<(), _>(BuildError::refused("no")) };
        assert!(matches!(until(&cancel, failing()).await, Err(BuildError::Refused(_))));
        let stopped = async {
            cancel.cancel();
            failing().await
        };
        assert!(matches!(until(&cancel, stopped).await, Err(BuildError::Canceled)));
        assert!(matches!(
            until(&cancel, std::future::pending::<Result<(), _>>()).await,
            Err(BuildError::Canceled)
        ));
    }
}
