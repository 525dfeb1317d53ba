//! A look through a file's groups and datasets that comes to an end: groups may lie in each other, and in themselves.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use hdf5_metno::{File, Group};

/// Objects that are looked at, each as often as it is come by.
const MOST_OBJECTS: usize = 20_000;

/// A look through a file.
pub struct Walk<'a> {
    pub file: &'a File,
    /// Whether it has to be known where values lie.
    pub whole: bool,
    left: Cell<usize>,
    /// The groups that were looked into, by what tells an object of the file.
    entered: RefCell<HashSet<String>>,
}

impl<'a> Walk<'a> {
    /// One that begins.
    pub fn new(file: &'a File, whole: bool) -> Self {
        Self { file, whole, left: Cell::new(MOST_OBJECTS), entered: RefCell::default() }
    }

    /// Begins a group. Returns whether it comes by for the first time: of such, there are no more than the file has room for, and only what
    /// lies in others need be counted.
    pub fn enter(&self, group: &Group) -> bool {
        group.loc_info().is_ok_and(|about| self.entered.borrow_mut().insert(format!("{:?}", about.token)))
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
