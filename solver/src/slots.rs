//! How many steps may run at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Time between two looks at whether the machine idles.
const LOOK: Duration = Duration::from_millis(3);
/// Looks in a row that must find the machine idle before one more step starts.
const CALM: u32 = 2;

/// Admits steps: up to `limit` at once and, where the limit is not strict, one more whenever the
/// machine idles, because the steps that run mostly wait.
pub struct Slots {
    permits: Arc<Semaphore>,
    /// Says whether a core is free. `None`: the limit is strict.
    idle: Option<Box<dyn Fn() -> bool + Send + Sync>>,
    /// One waiter at a time watches for idleness.
    watcher: tokio::sync::Mutex<()>,
}

/// The right to run a step, until dropped.
pub struct Slot {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Slots {
    /// Never more than `limit` steps.
    pub fn strict(limit: usize) -> Self {
        Self::with_idle(limit, None)
    }

    /// `limit` steps, and more while `idle` says that a core is free.
    pub fn elastic(limit: usize, idle: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self::with_idle(limit, Some(Box::new(idle)))
    }

    fn with_idle(limit: usize, idle: Option<Box<dyn Fn() -> bool + Send + Sync>>) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(limit.max(1))),
            idle,
            watcher: tokio::sync::Mutex::new(()),
        }
    }

    /// Waits for a slot.
    pub async fn acquire(&self) -> Slot {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return Slot { _permit: Some(permit) };
        }
        let permit = self.permits.clone().acquire_owned();
        let Some(idle) = &self.idle else {
            return Slot { _permit: permit.await.ok() };
        };
        tokio::select! {
            permit = permit => Slot { _permit: permit.ok() },
            () = self.calm(idle) => Slot { _permit: None },
        }
    }

    async fn calm(&self, idle: &(dyn Fn() -> bool + Send + Sync)) {
        let _watching = self.watcher.lock().await;
        let mut calm = 0;
        while calm < CALM {
            tokio::time::sleep(LOOK).await;
            calm = if idle() { calm + 1 } else { 0 };
        }
    }
}
