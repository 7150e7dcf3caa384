//! Work of the engine, which stays on the thread that it began on.

use std::thread;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tonic::Status;

/// As large as that of a process's first thread.
const STACK: usize = 8 << 20;

/// Does `work` on a thread of its own. It goes on when nobody waits for it any more.
pub(crate) async fn apart<T, W>(work: impl FnOnce() -> W + Send + 'static) -> Result<T, Status>
where
    T: Send + 'static,
    W: Future<Output = Result<T, Status>>,
{
    let handle = Handle::current();
    let (sender, receiver) = oneshot::channel();
    let thread = thread::Builder::new().name("build".to_owned()).stack_size(STACK);
    let started = thread.spawn(move || {
        // Whoever asked may be gone.
        let _ = sender.send(handle.block_on(work()));
    });
    started.map_err(|error| Status::resource_exhausted(format!("no thread: {error}")))?;
    receiver.await.unwrap_or_else(|_| Err(Status::internal("the work has crashed")))
}
