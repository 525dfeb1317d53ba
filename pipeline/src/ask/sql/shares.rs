//! Who may hold how much of a query's memory.
//!
//! Sorts and aggregates can go to files when they hold much; merges of what lies in those files cannot, and neither can joins. In
//! DataFusion's own pool a sort may take all that is left, and the merge of the sort beside it is then refused its first batch. So here
//! those that can go to files share one half of the memory, and the other half is for those that cannot.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};

/// A pool of memory of which those that can go to files take at most a half.
#[derive(Debug)]
pub struct Shares {
    /// Counts all of it.
    pool: FairSpillPool,
    /// Bytes that those may hold together who can go to files.
    half: usize,
    /// How many they are.
    spilling: AtomicUsize,
}

impl Shares {
    /// A pool of so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self { pool: FairSpillPool::new(bytes), half: bytes / 2, spilling: AtomicUsize::new(0) }
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.pool, f)
    }
}

impl MemoryPool for Shares {
    fn name(&self) -> &str {
        "shares"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.spilling.fetch_add(usize::from(consumer.can_spill()), Ordering::Relaxed);
        self.pool.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.spilling.fetch_sub(usize::from(consumer.can_spill()), Ordering::Relaxed);
        self.pool.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.pool.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.pool.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        if reservation.consumer().can_spill() {
            let share = self.half / self.spilling.load(Ordering::Relaxed).max(1);
            if reservation.size() + additional > share {
                return Err(DataFusionError::ResourcesExhausted(format!(
                    "{} may hold {share} bytes of memory",
                    reservation.consumer().name()
                )));
            }
        }
        self.pool.try_grow(reservation, additional)
    }

    fn reserved(&self) -> usize {
        self.pool.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.pool.memory_limit()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_merge_finds_memory_beside_sorts_that_took_all_of_theirs() {
        let pool: Arc<dyn MemoryPool> = Arc::new(Shares::new(100));
        let sorts = ["a", "b"].map(|name| MemoryConsumer::new(name).with_can_spill(true).register(&pool));
        let merge = MemoryConsumer::new("merge").register(&pool);
        for sort in &sorts {
            sort.try_grow(25).unwrap();
            assert!(matches!(sort.try_grow(1), Err(DataFusionError::ResourcesExhausted(_))));
        }
        merge.try_grow(50).unwrap();
        assert!(matches!(merge.try_grow(1), Err(DataFusionError::ResourcesExhausted(_))));
        assert_eq!(pool.reserved(), 100);
        let [a, b] = sorts;
        drop(b);
        a.try_grow(25).unwrap();
    }
}
