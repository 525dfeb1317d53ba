//! An allocator that has no piece as large as no input of a fuzzer needs: who asks for one has to take a no, or the process ends.

use std::alloc::{GlobalAlloc, Layout, System};

/// Bytes of the largest piece: blocks of HDF5's rows have up to 256 MiB.
const LARGEST: usize = 320 << 20;

/// The system's allocator.
pub struct Bounded;

/// What a function of the system gives, if the piece is small enough.
fn bounded(size: usize, give: impl FnOnce() -> *mut u8) -> *mut u8 {
    if size > LARGEST { std::ptr::null_mut() } else { give() }
}

// SAFETY: every call is handed on.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        bounded(layout.size(), || unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        bounded(layout.size(), || unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        bounded(size, || unsafe { System.realloc(place, layout, size) })
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        unsafe { System.dealloc(place, layout) }
    }
}
