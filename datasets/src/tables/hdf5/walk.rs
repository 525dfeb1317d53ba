//! A look through a file's groups and datasets that comes to an end: groups may lie in each other, and in themselves.

use std::cell::Cell;

use hdf5_metno::File;

/// Objects that are looked at, each as often as it is come by.
const MOST_OBJECTS: usize = 20_000;

/// A look through a file.
pub struct Walk<'a> {
    pub file: &'a File,
    /// Whether it has to be known where values lie.
    pub whole: bool,
    left: Cell<usize>,
}

impl<'a> Walk<'a> {
    /// One that begins.
    pub fn new(file: &'a File, whole: bool) -> Self {
        Self { file, whole, left: Cell::new(MOST_OBJECTS) }
    }

    /// Counts an object.
    ///
    /// # Errors
    /// There were too many.
    pub fn step(&self) -> Result<(), String> {
        let left = self.left.get().checked_sub(1);
        let left =
            left.ok_or_else(|| format!("has more than {MOST_OBJECTS} groups and datasets, or groups within themselves"))?;
        self.left.set(left);
        Ok(())
    }
}
