//! Work of the engine, which stays on the thread that it began on.

use tokio::runtime::Handle;
use tonic::Status;

/// Does `work` on a thread of its own. It goes on when nobody waits for it any more.
pub(crate) async fn apart<T, W>(work: impl FnOnce() -> W + Send + 'static) -> Result<T, Status>
where
    T: Send + 'static,
    W: Future<Output = Result<T, Status>>,
{
    let handle = Handle::current();
    let done = tokio::task::spawn_blocking(move || handle.block_on(work())).await;
    done.unwrap_or_else(|_| Err(Status::internal("the work has crashed")))
}
