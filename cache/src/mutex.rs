//! Locks within a process.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks what stays usable when a thread that had it panicked.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
