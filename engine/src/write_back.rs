//! Layers on their way to the disk before they are committed.

use std::time::Duration;

use cache::Store;
use cache::layer::{Content, Entry, EntryKind, LayerError, LayerSink};

/// Bytes of a tar after which its layer is large: what the step has written, and the tar, take
/// longer to reach the disk than the rest of it takes to be hashed.
const LARGE: u64 = 1 << 20;
/// What an entry costs besides its content.
const HEADER: u64 = 512;

/// How often somebody looks how much a step has written.
const EVERY: Duration = Duration::from_millis(100);

/// Does `work`, and meanwhile brings to the disk what it writes to the store's file system.
pub(crate) async fn written_back<T>(store: &Store, work: impl Future<Output = T>) -> T {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = ticks.tick() => store.write_back_growth(),
        }
    }
}

/// Passes a layer's entries on, and starts to write the store to the disk when there is much of them.
pub(crate) struct WriteBack<'a, S> {
    sink: &'a mut dyn LayerSink,
    start: Option<S>,
    seen: u64,
}

impl<'a, S: FnOnce()> WriteBack<'a, S> {
    pub(crate) fn new(sink: &'a mut dyn LayerSink, start: S) -> Self {
        Self { sink, start: Some(start), seen: 0 }
    }
}

impl<S: FnOnce()> LayerSink for WriteBack<'_, S> {
    fn entry(&mut self, entry: &Entry, content: Content<'_>) -> Result<(), LayerError> {
        let size = if let EntryKind::File { size } = entry.kind { size } else { 0 };
        self.seen = self.seen.saturating_add(HEADER).saturating_add(size);
        if self.seen >= LARGE
            && let Some(start) = self.start.take()
        {
            start();
        }
        self.sink.entry(entry, content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nowhere;

    impl LayerSink for Nowhere {
        fn entry(&mut self, _: &Entry, _: Content<'_>) -> Result<(), LayerError> {
            Ok(())
        }
    }

    #[test]
    fn a_large_layer_starts_it_once() {
        let file = |size| Entry::new("file", EntryKind::File { size }, 0o644);
        for (entries, expected) in [
            (vec![], 0),
            (vec![file(10); 3], 0),
            (vec![file(LARGE)], 1),
            (vec![file(LARGE); 3], 1),
            (vec![file(0); (LARGE / HEADER) as usize], 1),
        ] {
            let mut started = 0;
            let mut nowhere = Nowhere;
            let mut sink = WriteBack::new(&mut nowhere, || started += 1);
            entries.iter().for_each(|entry| sink.entry(entry, Content::None).unwrap());
            assert_eq!(started, expected, "{} entries", entries.len());
        }
    }
}
