//! The process's allocator: the system's, with a bound on what is asked for at once while a query runs.
//!
//! A function that is to pad two thousand texts to a billion letters asks for two terabytes at once. No look at the process comes in
//! time for that, and Rust ends a process whose allocator refuses by its own abort.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that may be asked for at once.
static MOST: AtomicUsize = AtomicUsize::new(usize::MAX);
/// The sentence for a request that exceeds the limit.
static SENTENCE: RwLock<String> = RwLock::new(String::new());

/// The system's allocator, which ends the process in one sentence when more is asked for than is [allowed](allow).
pub struct Bounded;

// SAFETY: all is the system's allocator's work; a process that is ended gets nothing.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        // SAFETY: the caller's promises are the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        // SAFETY: the caller's promises are the system's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the system's.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        check(size);
        // SAFETY: the caller's promises are the system's.
        unsafe { System.realloc(block, layout, size) }
    }
}

/// From now on, no more bytes than that may be asked for at once, of all threads; the sentence is said of more.
pub(super) fn allow(most: u64, sentence: String) {
    if let Ok(mut said) = SENTENCE.write() {
        *said = sentence;
    }
    MOST.store(usize::try_from(most).unwrap_or(usize::MAX), Ordering::Relaxed);
}

/// Any number of bytes may be asked for again.
pub(super) fn allow_all() {
    MOST.store(usize::MAX, Ordering::Relaxed);
}

#[inline]
fn check(size: usize) {
    if size > MOST.load(Ordering::Relaxed) {
        end();
    }
}

/// Ends the process; nothing is allocated any more.
#[cold]
fn end() -> ! {
    let said = SENTENCE.try_read();
    let text = said.as_ref().map_or("error: out of memory\n", |said| said.as_str());
    // SAFETY: the text is there; what cannot be said is not.
    let _ = unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
    // SAFETY: it does not return. What the process wrote is on the disk, or was never published.
    unsafe { libc::_exit(1) }
}
