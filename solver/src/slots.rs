//! How many steps may run at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// Time between two looks at whether the machine idles.
const LOOK: Duration = Duration::from_millis(1);
/// Looks in a row that must find the machine idle before more steps start.
const CALM: u32 = 3;

/// Admits steps: up to `limit` at once and, where the limit is not strict, as many again as are
/// running whenever the machine idles, because the steps that run mostly wait.
pub struct Slots {
    shared: Arc<Shared>,
    /// Says whether a core is free. `None`: the limit is strict.
    idle: Option<Box<dyn Fn() -> bool + Send + Sync>>,
    /// One waiter at a time watches for idleness.
    watcher: tokio::sync::Mutex<()>,
}

struct Shared {
    admission: Mutex<Admission>,
    /// Tells waiters that there may be room.
    room: Notify,
}

/// The right to run a step, until dropped.
pub struct Slot {
    shared: Arc<Shared>,
}

/// Who may start: the policy, without clocks.
#[derive(Debug)]
struct Admission {
    /// As many may run whatever the machine does.
    base: usize,
    /// As many may run now.
    limit: usize,
    running: usize,
    /// Looks in a row that found the machine idle.
    calm: u32,
}

impl Admission {
    fn new(base: usize) -> Self {
        Self { base, limit: base, running: 0, calm: 0 }
    }

    fn enter(&mut self) -> bool {
        let enters = self.running < self.limit;
        self.running += usize::from(enters);
        enters
    }

    /// What follows a step that waited may compute: the room it had is not kept.
    fn leave(&mut self) {
        self.running -= 1;
        self.limit = self.base.max(self.running);
    }

    /// A look at the machine while steps wait for room. If all that run wait for something, as many
    /// again will hardly take more cores than there are.
    fn look(&mut self, idle: bool) {
        self.calm = if idle { self.calm + 1 } else { 0 };
        if self.calm >= CALM {
            self.calm = 0;
            self.limit = self.limit.max(self.running.saturating_mul(2));
        }
    }
}

impl Shared {
    fn admission(&self) -> MutexGuard<'_, Admission> {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.admission().leave();
        self.shared.room.notify_waiters();
    }
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
        let admission = Mutex::new(Admission::new(limit.max(1)));
        let shared = Arc::new(Shared { admission, room: Notify::new() });
        Self { shared, idle, watcher: tokio::sync::Mutex::new(()) }
    }

    /// Waits for a slot.
    pub async fn acquire(&self) -> Slot {
        loop {
            // Asked for first: room that comes between the two calls is not missed.
            let room = self.shared.room.notified();
            if self.shared.admission().enter() {
                return Slot { shared: self.shared.clone() };
            }
            match &self.idle {
                None => room.await,
                Some(idle) => tokio::select! {
                    () = room => {}
                    () = self.watch(idle) => {}
                },
            }
        }
    }

    /// Returns when there is room because the machine idles.
    async fn watch(&self, idle: &(dyn Fn() -> bool + Send + Sync)) {
        let _watching = self.watcher.lock().await;
        loop {
            tokio::time::sleep(LOOK).await;
            let idle = idle();
            let mut admission = self.shared.admission();
            admission.look(idle);
            if admission.running < admission.limit {
                break;
            }
        }
        self.shared.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens, a letter each: a step comes (`+`) or ends (`-`), a look finds the machine idle
    /// (`i`) or busy (`b`). Gives how many run and how many may.
    fn after(base: usize, events: &str) -> (usize, usize) {
        let mut admission = Admission::new(base);
        for event in events.chars() {
            match event {
                '+' => drop(admission.enter()),
                '-' => admission.leave(),
                look => admission.look(look == 'i'),
            }
        }
        (admission.running, admission.limit)
    }

    #[test]
    fn as_many_again_start_while_all_wait() {
        for (events, expected) in [
            ("", (0, 2)),
            ("+", (1, 2)),
            ("+++", (2, 2)),
            // A moment of idleness is none.
            ("++ibibii", (2, 2)),
            ("++iii", (2, 4)),
            ("++iii+++", (4, 4)),
            ("++iii+++iii++++++", (8, 8)),
            // Busy steps keep the others out.
            ("++iii++bbbbbb++", (4, 4)),
            // Room that idleness gave goes with the steps that used it.
            ("++iii++-", (3, 3)),
            ("++iii++----", (0, 2)),
            ("++iii++----+++", (2, 2)),
        ] {
            assert_eq!(after(2, events), expected, "{events}");
        }
    }
}
