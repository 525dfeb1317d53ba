//! What a query may take: memory, beyond which sorts and joins go to files and everything else fails, and time.
//!
//! DataFusion counts what sorts, joins and aggregates hold, and they spill or refuse. What it does not count (a text that is repeated
//! a million times, a function that does not come back) is seen from outside: a thread looks at the process's memory and at the
//! clock, and the [allocator] refuses what is asked for at once.

pub mod allocator;

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::disk_manager::DiskManagerBuilder;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use tessera_operators::memory::Memory;

use super::shares::Shares;
use crate::engine::spill::Files;

/// How often the process is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// How long a query that ran out of time may take to see it.
const GRACE: Duration = Duration::from_millis(500);
/// Sorted runs that are merged at once: of more, some are merged to longer ones before.
pub(super) const FAN_IN: usize = 64;
/// Bytes of memory that a batch has to have to get pages of its own, which go back to the system with it. The allocator would keep
/// others, and by itself it takes ever larger ones for small.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const OWN_PAGES: libc::c_int = 256 << 10;
/// Bytes of all files that a query spills to.
const SPILLED: u64 = 100 << 30;
/// What a process may take beside the memory of its queries: batches on their way, buffers of readers.
const BESIDE: u64 = 256 << 20;

/// What a query may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most memory that a query may hold.
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

impl Exceeded {
    /// The limit that a query met at which DataFusion failed, if it was one.
    pub fn found_in(error: &DataFusionError, limits: Limits) -> Option<Self> {
        matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)).then_some(Self::Memory(limits.memory))
    }
}

impl Limits {
    /// What DataFusion runs in: a pool that sorts, joins and aggregates share, and files to spill to.
    ///
    /// # Errors
    /// There is no folder for temporary files.
    pub fn runtime(&self) -> Result<Arc<RuntimeEnv>> {
        let bytes = usize::try_from(self.memory.0).unwrap_or(usize::MAX);
        let files = DiskManagerBuilder::default()
            .with_temp_file_factory(Arc::new(Files::new(std::env::temp_dir(), SPILLED)))
            .with_max_spill_merge_fan_in(FAN_IN);
        let pool = Arc::new(Shares::new(bytes));
        RuntimeEnvBuilder::new().with_memory_pool(pool).with_disk_manager_builder(files).build_arc()
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
        return_large_blocks();
        let rest = resident().unwrap_or(0);
        let most = rest.saturating_add(self.memory.0).saturating_add(BESIDE);
        allocator::allow(self.memory.0.saturating_add(BESIDE), format!("error: {}\n", Exceeded::Memory(self.memory)));
        let work = move || {
            let found = loop {
                match over.recv_timeout(LOOK) {
                    Err(RecvTimeoutError::Timeout) => {}
                    _ => return,
                }
                if self.timeout.is_some_and(|timeout| start.elapsed() > timeout) {
                    break Exceeded::Time(self.timeout.unwrap_or_default());
                }
                let is_over = || resident().is_some_and(|bytes| bytes > most);
                if is_over() {
                    // Some of it may be the allocator's alone.
                    return_free_blocks();
                }
                if is_over() {
                    break Exceeded::Memory(self.memory);
                }
            };
            exceeded(found);
            let told = Instant::now();
            // One that takes ever more is not waited for.
            while told.elapsed() < GRACE && resident().is_none_or(|bytes| bytes < most.saturating_add(BESIDE / 2)) {
                match over.recv_timeout(LOOK) {
                    Err(RecvTimeoutError::Timeout) => {}
                    _ => return,
                }
            }
            end(found);
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

impl Drop for Watch {
    fn drop(&mut self) {
        allocator::allow_all();
    }
}

/// Has the allocator give large blocks back to the system as soon as they are free.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn return_large_blocks() {
    // SAFETY: it takes two numbers. A refusal leaves the allocator as it was.
    let _ = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn return_large_blocks() {}

/// Has the allocator give all that is free back to the system.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn return_free_blocks() {
    // SAFETY: it touches what nobody holds.
    let _ = unsafe { libc::malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn return_free_blocks() {}

/// Bytes of the process's memory, files that it maps left out.
fn resident() -> Option<u64> {
    // The whole, what is resident, and what of that is shared, in pages.
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = pages.split(' ').skip(1).map_while(|pages| pages.parse::<u64>().ok());
    let (resident, shared) = (pages.next()?, pages.next()?);
    // SAFETY: it reads a constant of the system.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
    Some(resident.saturating_sub(shared) * page)
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
