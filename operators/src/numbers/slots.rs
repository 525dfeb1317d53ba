//! Numbers that are written again and again.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};
use std::path::Path;
use std::sync::Mutex;

use bytemuck::Pod;
use memmap2::{MmapMut, UncheckedAdvice};

use super::{nameless, pages, refused};
use crate::operator::RunError;

/// Numbers, all zero bytes at first, in memory or in a mapped file.
pub struct Slots<T>(Place<T>);

enum Place<T> {
    Memory(Vec<T>),
    File(MmapMut, PhantomData<T>),
}

impl<T: Pod> Slots<T> {
    /// `count` zeros; if `folder` is given, in a nameless file there.
    ///
    /// # Errors
    /// The disk has no room for them.
    pub fn new(count: usize, folder: Option<&Path>) -> Result<Self, RunError> {
        let Some(folder) = folder.filter(|_| count > 0) else {
            return Ok(Self(Place::Memory(vec![T::zeroed(); count])));
        };
        let file = nameless(folder)?;
        file.set_len((count * size_of::<T>()) as u64).map_err(|source| refused(folder, source))?;
        allocated(&file, folder)?;
        // SAFETY: the file has no name, so no other process can shorten it or write to it.
        let map = unsafe { MmapMut::map_mut(&file) }.map_err(|source| refused(folder, source))?;
        Ok(Self(Place::File(map, PhantomData)))
    }

    /// Slots with the given numbers, which can be changed.
    ///
    /// # Errors
    /// The disk has no room for them.
    pub fn filled(numbers: &[T], folder: Option<&Path>) -> Result<Self, RunError> {
        let mut slots = Self::new(numbers.len(), folder)?;
        slots.copy_from_slice(numbers);
        Ok(slots)
    }

    /// The numbers in units of so many, each of which one thread at a time may change.
    pub fn units(&mut self, size: usize) -> Units<'_, T> {
        let file = match &self.0 {
            Place::Memory(_) => None,
            Place::File(map, _) => Some(Window { start: map.as_ptr().cast_mut(), bytes: map.len() }),
        };
        Units { size, file, units: self.chunks_mut(size.max(1)).map(Mutex::new).collect() }
    }

    /// As [`Numbers::release`](super::Numbers::release); what was written is kept.
    pub fn release(&self, range: Range<usize>) {
        if let Place::File(map, _) = &self.0
            && let Some((start, length)) = pages::<T>(range, map.len())
        {
            // SAFETY: the map is shared with its file, which keeps what was written. A refusal costs memory only.
            let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, length) };
        }
    }
}

impl<T: Pod> Deref for Slots<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Place::Memory(numbers) => numbers,
            Place::File(map, _) => bytemuck::cast_slice(map),
        }
    }
}

impl<T: Pod> DerefMut for Slots<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.0 {
            Place::Memory(numbers) => numbers,
            Place::File(map, _) => bytemuck::cast_slice_mut(map),
        }
    }
}

/// Slots that several threads change, a unit each.
pub struct Units<'a, T> {
    size: usize,
    file: Option<Window>,
    units: Vec<Mutex<&'a mut [T]>>,
}

/// A shared map's memory.
struct Window {
    start: *mut u8,
    bytes: usize,
}

// SAFETY: the pointer is only handed to `madvise`, which may be called from any thread, and leaves a shared map's content as it is.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

impl<T: Pod> Units<'_, T> {
    /// Changes one unit, and gives its memory back if it is a file's: it will not be looked at soon.
    pub fn change<R>(&self, unit: usize, work: impl FnOnce(&mut [T]) -> R) -> R {
        let mut slots = self.units[unit].lock().expect("a panic ends the run");
        let done = work(&mut slots);
        let first = unit * self.size;
        if let Some(window) = &self.file
            && let Some((start, length)) = pages::<T>(first..first + slots.len(), window.bytes)
        {
            // SAFETY: the range lies within the map, and begins with a page. A refusal costs memory only.
            let _ = unsafe { libc::madvise(window.start.add(start).cast(), length, libc::MADV_DONTNEED) };
        }
        done
    }
}

/// Takes the file's room on the disk now: a write to a map for which there is none would end the process.
fn allocated(file: &std::fs::File, folder: &Path) -> Result<(), RunError> {
    use std::os::fd::AsRawFd as _;
    let length = file.metadata().map_err(|source| refused(folder, source))?.len();
    // SAFETY: the descriptor is open.
    if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length as libc::off_t) } == 0 {
        return Ok(());
    }
    match std::io::Error::last_os_error() {
        // Some file systems cannot promise room.
        error if error.kind() == std::io::ErrorKind::Unsupported => Ok(()),
        error => Err(refused(folder, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parallel;

    #[test]
    fn what_threads_write_is_there_in_memory_and_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        // More than two of the pages by which memory is given back.
        let count = 1_300_000;
        for folder in [None, Some(folder.path())] {
            let mut slots: Slots<u32> = Slots::new(count, folder).unwrap();
            assert!(slots.iter().all(|&slot| slot == 0));
            for round in 1..3 {
                let units = slots.units(1000);
                parallel::each(3, count / 1000, |unit| {
                    units.change(unit, |slots| slots.iter_mut().for_each(|slot| *slot += round * unit as u32));
                });
            }
            slots.release(0..count);
            assert!(slots.iter().enumerate().all(|(place, &slot)| slot == 3 * (place / 1000) as u32));
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(Slots::<f64>::new(0, Some(folder.path())).unwrap().is_empty());
    }

    #[test]
    fn a_disk_without_room_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Slots::<f64>::new(1 << 57, Some(folder.path())).err().unwrap().to_string();
        assert!(error.contains("(temporary file): "), "{error}");
    }
}
