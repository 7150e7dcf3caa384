//! Work that other threads do ahead of the one that wants it, handed out in its order.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::mutex::lock;

/// Pieces of work that other threads may be at.
pub(super) struct Ahead<T, R> {
    work: Arc<dyn Fn(T) -> R + Send + Sync>,
    pieces: VecDeque<Arc<Piece<T, R>>>,
}

/// One piece of work; the first thread to reach it does it.
struct Piece<T, R> {
    state: Mutex<State<T, R>>,
    changed: Condvar,
}

enum State<T, R> {
    Waiting(T),
    Taken,
    Done(R),
}

impl<T: Send + 'static, R: Send + 'static> Ahead<T, R> {
    pub(super) fn new(work: impl Fn(T) -> R + Send + Sync + 'static) -> Self {
        Self { work: Arc::new(work), pieces: VecDeque::new() }
    }

    /// How many pieces were added and not asked for.
    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Adds a piece. Other threads learn of it with the next one: a single one is not worth waking
    /// them.
    pub(super) fn push(&mut self, piece: T) {
        if let Some(last) = self.pieces.back() {
            let (last, work) = (last.clone(), self.work.clone());
            rayon::spawn(move || last.run(&*work));
        }
        let state = Mutex::new(State::Waiting(piece));
        self.pieces.push_back(Arc::new(Piece { state, changed: Condvar::new() }));
    }

    /// The result of the oldest piece, which is done here if nobody is at it; nothing without one.
    pub(super) fn next(&mut self) -> Option<R> {
        let piece = self.pieces.pop_front()?;
        piece.run(&*self.work);
        Some(piece.result())
    }
}

impl<T, R> Drop for Ahead<T, R> {
    fn drop(&mut self) {
        // Nobody wants the rest any more.
        self.pieces.iter().for_each(|piece| drop(piece.take()));
    }
}

impl<T, R> Piece<T, R> {
    fn run(&self, work: &dyn Fn(T) -> R) {
        if let Some(piece) = self.take() {
            let done = work(piece);
            *self.state() = State::Done(done);
            self.changed.notify_one();
        }
    }

    fn take(&self) -> Option<T> {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Waiting(piece) => Some(piece),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Waits for the thread that works on it.
    fn result(&self) -> R {
        let mut state = self.state();
        loop {
            match std::mem::replace(&mut *state, State::Taken) {
                State::Done(result) => return result,
                other => *state = other,
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T, R>> {
        lock(&self.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_whoever_did_the_work() {
        for most in [1, 2, 7] {
            let mut ahead = Ahead::new(|n: usize| n * 2);
            let (mut pushed, mut results) = (0, Vec::new());
            loop {
                while pushed < 100 && ahead.len() < most {
                    ahead.push(pushed);
                    pushed += 1;
                }
                match ahead.next() {
                    Some(result) => results.push(result),
                    None => break,
                }
            }
            assert_eq!(results, (0..100).map(|n| n * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_not_asked_for_is_let_go() {
        let kept = Arc::new(());
        let mut ahead = Ahead::new(|piece: Arc<()>| drop(piece));
        ahead.push(kept.clone());
        drop(ahead);
        assert_eq!(Arc::strong_count(&kept), 1);
    }
}
