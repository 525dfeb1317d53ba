//! What a query may take: memory, beyond which sorts and joins go to files and everything else fails, and time.
//!
//! DataFusion counts what sorts, joins and aggregates hold, and they spill or refuse. What it does not count (a text that is repeated
//! a million times, a function that does not come back) is seen from outside: a thread looks at the process's memory and at the
//! clock.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use datafusion::error::Result;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use tessera_operators::memory::Memory;

/// How often the process is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long a query that ran out of time may take to see it.
const GRACE: Duration = Duration::from_millis(500);
/// Consumers that a message about memory names.
const NAMED: usize = 3;
/// What a process may take beside the memory of its queries: batches on their way, buffers of readers.
const BESIDE: u64 = 256 << 20;

/// What a query may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Memory of what it holds.
    pub memory: Memory,
    /// Time, if that is bounded.
    pub timeout: Option<Duration>,
}

impl Default for Limits {
    /// Half of the memory that is free, and all the time in the world.
    fn default() -> Self {
        // It is three quarters of what is free.
        Self { memory: Memory(Memory::free().0 / 3 * 2), timeout: None }
    }
}

/// Why a query is at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    /// It took longer than it may.
    #[error("the query took longer than the {} s that --timeout gives it", .0.as_secs_f64())]
    Time(Duration),
    /// The process took more memory than it may.
    #[error("the query took more than the {0} that --memory gives it: ask for fewer rows or columns, or give it more")]
    Memory(Memory),
}

impl Limits {
    /// What DataFusion runs in: a pool that sorts, joins and aggregates share, and files to spill to.
    ///
    /// # Errors
    /// There is no folder for temporary files.
    pub fn runtime(&self) -> Result<Arc<RuntimeEnv>> {
        let bytes = usize::try_from(self.memory.0).unwrap_or(usize::MAX);
        let named = NAMED.try_into().expect("not 0");
        let pool = TrackConsumersPool::new(FairSpillPool::new(bytes), named);
        RuntimeEnvBuilder::new().with_memory_pool(Arc::new(pool)).build_arc()
    }

    /// Watches the process from now on, until what is returned is dropped. `exceeded` is told once, and `end` shortly after if the
    /// query goes on all the same.
    pub fn watch(
        self,
        exceeded: impl FnOnce(Exceeded) + Send + 'static,
        end: impl FnOnce(Exceeded) + Send + 'static,
    ) -> Watch {
        let (sender, over) = channel::<()>();
        let start = Instant::now();
        let rest = resident().unwrap_or(0);
        let most = rest.saturating_add(self.memory.0).saturating_add(BESIDE);
        let work = move || {
            let found = loop {
                match over.recv_timeout(LOOK) {
                    Err(RecvTimeoutError::Timeout) => {}
                    _ => return,
                }
                if self.timeout.is_some_and(|timeout| start.elapsed() > timeout) {
                    break Exceeded::Time(self.timeout.unwrap_or_default());
                }
                if resident().is_some_and(|bytes| bytes > most) {
                    break Exceeded::Memory(self.memory);
                }
            };
            exceeded(found);
            if let Err(RecvTimeoutError::Timeout) = over.recv_timeout(GRACE) {
                end(found);
            }
        };
        // Without a thread, DataFusion's own limits hold.
        let _ = std::thread::Builder::new().name("tessera-watch".into()).spawn(work);
        Watch { _over: sender }
    }
}

/// A watch that ends when it is dropped.
pub struct Watch {
    _over: Sender<()>,
}

/// Bytes of the process's memory, files that it maps left out.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn time_and_memory_are_watched() {
        let few = |memory, timeout| {
            let (told, heard) = channel();
            let ended = told.clone();
            let limits = Limits { memory: Memory(memory), timeout };
            let watch =
                limits.watch(move |why| told.send((why, false)).unwrap(), move |why| ended.send((why, true)).unwrap());
            (watch, heard)
        };
        let (_watch, heard) = few(u64::MAX, Some(Duration::from_millis(80)));
        let why = Exceeded::Time(Duration::from_millis(80));
        assert_eq!((heard.recv().unwrap(), heard.recv().unwrap()), ((why, false), (why, true)));
        let (watch, heard) = few(1 << 20, None);
        let held = vec![1u8; BESIDE as usize + (64 << 20)];
        assert_eq!(heard.recv().unwrap().0, Exceeded::Memory(Memory(1 << 20)));
        drop((watch, held));
        assert!(heard.recv().is_err(), "it is over before its end");
    }
}
