//! What is good for a time, and is fetched again before that is over.

use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;

/// So long before its end something is not used any more: a request on its way takes a while.
const RESERVE: Duration = Duration::from_secs(300);

/// Something with its end; `None` if it has none.
#[derive(Debug, Clone)]
pub(crate) struct Granted<T> {
    pub(crate) value: T,
    pub(crate) until: Option<SystemTime>,
}

/// Keeps what was granted last. Who asks while it is being fetched waits for that.
pub(crate) struct Lease<T>(Mutex<Option<Granted<T>>>);

impl<T: Clone> Lease<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// What is kept, if it is good for a while yet; else what `fetch` brings.
    pub(crate) async fn get<E>(
        &self,
        fetch: impl Future<Output = Result<Granted<T>, E>>,
    ) -> Result<T, E> {
        let mut kept = self.0.lock().await;
        if let Some(granted) = kept.as_ref()
            && granted.is_good(SystemTime::now())
        {
            return Ok(granted.value.clone());
        }
        let granted = fetch.await?;
        Ok(kept.insert(granted).value.clone())
    }
}

impl<T> Granted<T> {
    fn is_good(&self, now: SystemTime) -> bool {
        self.until.is_none_or(|until| now + RESERVE < until)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn what_ends_soon_is_fetched_again() {
        for (left, expected) in [(None, 1), (Some(3600), 1), (Some(299), 3), (Some(0), 3)] {
            let until = left.map(|seconds| SystemTime::now() + Duration::from_secs(seconds));
            let (lease, asked) = (Lease::new(), Cell::new(0));
            for _ in 0..3 {
                let fetch = async {
                    asked.set(asked.get() + 1);
                    Ok::<_, ()>(Granted { value: asked.get(), until })
                };
                lease.get(fetch).await.unwrap();
            }
            assert_eq!(asked.get(), expected, "{left:?}");
        }
        let lease = Lease::<u8>::new();
        assert_eq!(lease.get(async { Err("no") }).await, Err("no"));
        let granted = Granted { value: 1, until: None };
        assert_eq!(lease.get(async { Ok::<_, ()>(granted) }).await, Ok(1));
    }
}
