//! Admission of steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use solver::Slots;

#[tokio::test(start_paused = true)]
async fn a_strict_limit_holds() {
    let slots = Slots::strict(2);
    let first = slots.acquire().await;
    let _second = slots.acquire().await;
    assert!(tokio::time::timeout(Duration::from_secs(60), slots.acquire()).await.is_err());
    drop(first);
    slots.acquire().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_machine_admits_more_and_a_busy_one_does_not() {
    let idle = Arc::new(AtomicBool::new(false));
    let slots = Slots::elastic(1, {
        let idle = idle.clone();
        move || idle.load(Ordering::Relaxed)
    });
    let _first = slots.acquire().await;
    assert!(tokio::time::timeout(Duration::from_secs(60), slots.acquire()).await.is_err());
    idle.store(true, Ordering::Relaxed);
    let _second = slots.acquire().await;
    let _third = slots.acquire().await;
}
