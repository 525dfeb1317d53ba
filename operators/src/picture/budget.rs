//! How much memory all workers together decode with.

use std::sync::{Condvar, LazyLock, Mutex, PoisonError};

/// What one of the largest images needs at the usual limit, beside [`PER_CORE`] bytes for each core's everyday ones.
const LARGEST: u64 = 1 << 30;
const PER_CORE: u64 = 128 << 20;

/// Bytes that are lent to decoders, in the order in which they ask.
#[derive(Debug)]
pub struct Budget {
    total: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lent: u64,
    most: u64,
    /// The place of the next to ask, and of the next to be served.
    next: u64,
    serving: u64,
}

/// Bytes that were lent, until it is dropped.
#[derive(Debug)]
pub struct Permit<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Budget {
    /// So many bytes.
    pub fn new(total: u64) -> Self {
        Self { total, state: Mutex::default(), changed: Condvar::new() }
    }

    /// What this process decodes with.
    pub fn decoding() -> &'static Self {
        static DECODING: LazyLock<Budget> = LazyLock::new(Budget::usual);
        &DECODING
    }

    /// What this process keeps decoded images in, from one batch of their crops to the next. Nobody waits for it: who waited here
    /// would wait for those who read the crops, and they may wait for a decoder.
    pub fn keeping() -> &'static Self {
        static KEEPING: LazyLock<Budget> = LazyLock::new(Budget::usual);
        &KEEPING
    }

    fn usual() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
        Self::new(LARGEST + PER_CORE * cores)
    }

    /// Waits until so many bytes are free; more than there are wait for all. Who holds a permit must not ask for another.
    pub fn take(&self, bytes: u64) -> Permit<'_> {
        let bytes = bytes.min(self.total);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let place = state.next;
        state.next += 1;
        while state.serving != place || state.lent + bytes > self.total {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.serving += 1;
        state.lent += bytes;
        state.most = state.most.max(state.lent);
        // The next may be waiting for nothing but its turn.
        self.changed.notify_all();
        Permit { budget: self, bytes }
    }

    /// Takes so many bytes if they are free now.
    pub fn try_take(&self, bytes: u64) -> Option<Permit<'_>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.lent + bytes > self.total {
            return None;
        }
        state.lent += bytes;
        state.most = state.most.max(state.lent);
        Some(Permit { budget: self, bytes })
    }

    /// The most that was lent at once.
    #[cfg(test)]
    pub fn most(&self) -> u64 {
        self.state.lock().unwrap().most
    }
}

impl Permit<'_> {
    /// Gives back what is more than that.
    pub fn shrink(&mut self, bytes: u64) {
        let less = self.bytes.saturating_sub(bytes);
        self.bytes -= less;
        self.budget.state.lock().unwrap_or_else(PoisonError::into_inner).lent -= less;
        self.budget.changed.notify_all();
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn never_more_is_lent_than_there_is_and_all_are_served() {
        let (budget, held, served) = (Budget::new(100), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for worker in 0..8 {
                let (budget, held, served) = (&budget, &held, &served);
                scope.spawn(move || {
                    for round in 0..200 {
                        // Some ask for more than there is: they are alone then.
                        let bytes = (worker * 37 + round * 11) % 130;
                        let permit = budget.take(bytes);
                        let now = held.fetch_add(bytes.min(100), Ordering::SeqCst) + bytes.min(100);
                        assert!(now <= 100, "{now}");
                        std::thread::yield_now();
                        held.fetch_sub(bytes.min(100), Ordering::SeqCst);
                        drop(permit);
                        served.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(served.into_inner(), 1600);
        assert!(budget.most() <= 100 && budget.state.lock().unwrap().lent == 0);
    }

    #[test]
    fn who_needs_much_is_not_overtaken_for_ever() {
        let budget = Budget::new(10);
        let first = budget.take(6);
        std::thread::scope(|scope| {
            let large = scope.spawn(|| drop(budget.take(10)));
            while budget.state.lock().unwrap().next < 2 {
                std::thread::yield_now();
            }
            let small = scope.spawn(|| drop(budget.take(1)));
            while budget.state.lock().unwrap().next < 3 {
                std::thread::yield_now();
            }
            // The small one would fit, and waits behind the large one.
            assert_eq!(budget.state.lock().unwrap().serving, 1);
            drop(first);
            large.join().unwrap();
            small.join().unwrap();
        });
    }
}
