//! Long runs of numbers, in memory or, where that would be too small, in a file that is mapped: [`Numbers`] are written once and then
//! read from anywhere, [`Slots`] are written again and again. The file has no name, so nothing of it is left behind, however the
//! process ends.

mod slots;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::marker::PhantomData;
use std::ops::{Deref, Range};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use bytemuck::Pod;
use memmap2::{Mmap, UncheckedAdvice};

use crate::operator::RunError;
use crate::parallel;

pub use slots::Slots;

/// A buffer that is written at once.
const BUFFER: usize = 1 << 20;

/// The largest page by which systems bring a file into memory.
const PAGE: usize = 2 << 20;

/// Numbers that are there to be read.
pub struct Numbers<T>(Place<T>);

enum Place<T> {
    Memory(Vec<T>),
    File(Mmap, PhantomData<T>),
}

impl<T> From<Vec<T>> for Numbers<T> {
    fn from(numbers: Vec<T>) -> Self {
        Self(Place::Memory(numbers))
    }
}

impl<T: Pod> Deref for Numbers<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Place::Memory(numbers) => numbers,
            Place::File(map, _) => bytemuck::cast_slice(map),
        }
    }
}

impl<T: Pod + Send + Sync> Numbers<T> {
    /// `count` numbers in chunks of `chunk`, each made by `work` from its number and room of zeros, on that many threads; in a
    /// nameless file in `folder`, if one is given.
    ///
    /// # Errors
    /// The file cannot be written: the disk is full, say.
    pub fn made(
        count: usize,
        chunk: usize,
        threads: usize,
        folder: Option<&Path>,
        work: impl Fn(usize, &mut [T]) + Sync,
    ) -> Result<Self, RunError> {
        let Some(folder) = folder.filter(|_| count > 0) else {
            let mut all = vec![T::zeroed(); count];
            let chunks: Vec<_> = all.chunks_mut(chunk.max(1)).map(Mutex::new).collect();
            parallel::each(threads, chunks.len(), |number| {
                work(number, &mut chunks[number].lock().expect("each chunk is locked once"));
            });
            drop(chunks);
            return Ok(Self(Place::Memory(all)));
        };
        let file = nameless(folder)?;
        let written = parallel::each(threads, count.div_ceil(chunk), |number| {
            let first = number * chunk;
            let mut some = vec![T::zeroed(); chunk.min(count - first)];
            work(number, &mut some);
            file.write_all_at(bytemuck::cast_slice(&some), (first * size_of::<T>()) as u64)
        });
        written.into_iter().collect::<Result<(), _>>().map_err(|source| refused(folder, source))?;
        mapped(&file, folder)
    }

    /// Says that these will not be read soon: if they are a file's, their memory is given back once a whole [`PAGE`] of them was said.
    /// Ranges should come one behind the other.
    pub fn release(&self, range: Range<usize>) {
        if let Place::File(map, _) = &self.0
            && let Some((start, length)) = pages::<T>(range, map.len())
        {
            // SAFETY: pages of a map of a file that nobody writes to are read anew when they are looked at again. A refusal
            // costs memory only.
            let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, length) };
        }
    }
}

/// The first byte and the number of bytes of the pages that end with this range of numbers; `None` if the range ends within a page. The
/// page before them is included, for other threads may have come back to it.
fn pages<T>(range: Range<usize>, bytes: usize) -> Option<(usize, usize)> {
    let (start, end) = (range.start * size_of::<T>() / PAGE, range.end * size_of::<T>());
    let end = if end >= bytes { bytes } else { end / PAGE * PAGE };
    (end > start * PAGE).then(|| {
        let start = start.saturating_sub(1) * PAGE;
        (start, end - start)
    })
}

/// Numbers as they come.
pub struct Writer<T>(To<T>);

enum To<T> {
    Memory(Vec<T>),
    File(BufWriter<File>, PathBuf),
}

impl<T: Pod + Send + Sync> Writer<T> {
    /// To memory, with room for `expected` numbers so that they are copied once; or to a nameless file in `folder`.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn new(expected: usize, folder: Option<&Path>) -> Result<Self, RunError> {
        Ok(Self(match folder {
            None => To::Memory(Vec::with_capacity(expected)),
            Some(folder) => To::File(BufWriter::with_capacity(BUFFER, nameless(folder)?), folder.to_owned()),
        }))
    }

    /// Adds some.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn extend(&mut self, numbers: &[T]) -> Result<(), RunError> {
        match &mut self.0 {
            To::Memory(all) => all.extend_from_slice(numbers),
            To::File(file, folder) => {
                file.write_all(bytemuck::cast_slice(numbers)).map_err(|source| refused(folder, source))?;
            }
        }
        Ok(())
    }

    /// All of them.
    ///
    /// # Errors
    /// The last ones cannot be written, or the file cannot be mapped.
    pub fn finish(self) -> Result<Numbers<T>, RunError> {
        match self.0 {
            To::Memory(numbers) => Ok(numbers.into()),
            To::File(file, folder) => {
                let file = file.into_inner().map_err(|error| refused(&folder, error.into_error()))?;
                mapped(&file, &folder)
            }
        }
    }
}

/// A file without a name.
pub(crate) fn nameless(folder: &Path) -> Result<File, RunError> {
    tempfile::tempfile_in(folder).map_err(|source| refused(folder, source))
}

fn mapped<T>(file: &File, folder: &Path) -> Result<Numbers<T>, RunError> {
    // SAFETY: the file has no name, so no other process can shorten it, and this one writes to it no more.
    let map = unsafe { Mmap::map(file) }.map_err(|source| refused(folder, source))?;
    Ok(Numbers(Place::File(map, PhantomData)))
}

/// What a nameless file in that folder was refused with.
pub(crate) fn refused(folder: &Path, source: std::io::Error) -> RunError {
    RunError::Io { path: folder.join("(temporary file)"), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_hold_what_memory_holds() {
        let folder = tempfile::tempdir().unwrap();
        let square = |number: usize, some: &mut [u32]| {
            some.iter_mut().enumerate().for_each(|(place, value)| *value = ((number * 7 + place) as u32).pow(2));
        };
        let expected: Vec<u32> = (0..100u32).map(|number| number.pow(2)).collect();
        for folder in [None, Some(folder.path())] {
            let made = Numbers::made(100, 7, 3, folder, square).unwrap();
            made.release(10..50);
            assert_eq!(*made, expected);
            assert!(Numbers::<u32>::made(0, 7, 3, folder, square).unwrap().is_empty());
            let mut writer = Writer::new(4, folder).unwrap();
            expected.chunks(9).for_each(|some| writer.extend(some).unwrap());
            assert_eq!(*writer.finish().unwrap(), expected);
            assert!(Writer::<f32>::new(0, folder).unwrap().finish().unwrap().is_empty());
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn whole_pages_are_given_back() {
        let page = PAGE / 4;
        let of = |range| pages::<u32>(range, 5 * PAGE / 2).map(|(start, length)| (start / PAGE, length));
        assert_eq!(of(0..page - 1), None);
        assert_eq!(of(page - 9..page), Some((0, PAGE)));
        assert_eq!(of(page + 5..3 * page / 2), None);
        assert_eq!(of(2 * page - 1..2 * page + 7), Some((0, 2 * PAGE)));
        assert_eq!(of(2 * page..5 * page / 2), Some((1, 3 * PAGE / 2)));
        assert_eq!(of(0..0), None);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = Writer::<f32>::new(4, Some(Path::new("/nowhere/at/all"))).err().unwrap();
        assert!(error.to_string().starts_with("/nowhere/at/all/(temporary file): "), "{error}");
    }
}
