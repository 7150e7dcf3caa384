//! Layers on their way to the disk before they are committed.

use std::io::{self, Read};
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

/// Bytes of a compressed layer that are unpacked before the disk is given something to do: a fraction
/// of a second's work.
const UNPACKED: u64 = 8 << 20;

/// Passes on the bytes of a layer that is unpacked, and starts to write to the disk what was made of
/// them, again and again.
pub(crate) struct WriteBackReader<R, S> {
    reader: R,
    start: S,
    /// Bytes since the last time.
    seen: u64,
}

impl<R, S: Fn()> WriteBackReader<R, S> {
    pub(crate) fn new(reader: R, start: S) -> Self {
        Self { reader, start, seen: 0 }
    }
}

impl<R: Read, S: Fn()> Read for WriteBackReader<R, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.seen >= UNPACKED {
            (self.start)();
            self.seen = 0;
        }
        let count = self.reader.read(buffer)?;
        self.seen += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

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
    #[test]
    fn what_is_unpacked_goes_to_the_disk_by_and_by() {
        for (length, expected) in [(0, 0), (UNPACKED, 1), (3 * UNPACKED + 1, 3)] {
            let started = Cell::new(0);
            let bytes = io::repeat(1).take(length);
            let mut reader = WriteBackReader::new(bytes, || started.set(started.get() + 1));
            assert_eq!(io::copy(&mut reader, &mut io::sink()).unwrap(), length);
            assert_eq!(started.get(), expected, "{length} bytes");
        }
    }
}
