//! Training examples: from a table's batches, whatever their size, to exactly as many a step as asked for.

mod layout;
mod rows;
mod targets;

use arrow::array::RecordBatch;

pub use self::layout::{Content, Layout};
use self::rows::Rows;
use crate::operator::RunError;

/// Examples of one step.
#[derive(Debug, Default, PartialEq)]
pub struct Examples {
    /// `N x pieces x H x W x 3`.
    pub bytes: Vec<u8>,
    /// How many there are.
    pub count: usize,
    /// Each example's class; or, where several may hold, -1, 0 or 1 for each class, `N x classes`.
    pub classes: Vec<i64>,
    /// The last example's `image_id`: behind it the next step begins.
    pub last: String,
}

/// Cuts batches of examples anew. The last examples are left out unless they fill a step, or [all](Steps::all) are asked for, or there
/// was no other step; even then, a single example is none (batch normalisation needs two).
pub struct Steps<'a, I> {
    batches: I,
    layout: &'a Layout,
    size: usize,
    current: Option<(RecordBatch, usize)>,
    pending: Examples,
    /// Examples at the end that filled no step.
    left: usize,
    yielded: bool,
    all: bool,
}

impl<'a, I: Iterator<Item = Result<RecordBatch, RunError>>> Steps<'a, I> {
    /// Steps of `size` examples.
    pub fn new(batches: I, layout: &'a Layout, size: usize) -> Self {
        let pending = Examples::default();
        Self { batches, layout, size, current: None, pending, left: 0, yielded: false, all: false }
    }

    /// Steps of examples that go on behind the last example of an earlier step.
    pub fn behind(self) -> Self {
        Self { yielded: true, ..self }
    }

    /// Steps that include the last examples, however few these are.
    pub fn all(self) -> Self {
        Self { all: true, ..self }
    }

    /// How many examples were left out at the end. Known once all steps have come.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Moves rows into the pending step until it is full; whether it is.
    fn fill(&mut self) -> Result<bool, RunError> {
        loop {
            if let Some((batch, start)) = &mut self.current
                && *start < batch.num_rows()
            {
                let rows = Rows::of(self.layout, batch)?;
                let count = (self.size - self.pending.count).min(batch.num_rows() - *start);
                let range = *start..*start + count;
                for row in range.clone() {
                    rows.extend_by_class(row, &mut self.pending.classes)?;
                }
                self.pending.count += count;
                rows.ids.value(range.end - 1).clone_into(&mut self.pending.last);
                *start = range.end;
                self.pending.bytes.extend_from_slice(rows.bytes(range));
                if self.pending.count == self.size {
                    return Ok(true);
                }
            }
            match self.batches.next() {
                Some(batch) => self.current = Some((batch?, 0)),
                None => return Ok(false),
            }
        }
    }
}

impl<I: Iterator<Item = Result<RecordBatch, RunError>>> Iterator for Steps<'_, I> {
    type Item = Result<Examples, RunError>;

    fn next(&mut self) -> Option<Self::Item> {
        let full = match self.fill() {
            Ok(full) => full,
            Err(error) => return Some(Err(error)),
        };
        let alone = if self.all { self.pending.count > 0 } else { !self.yielded && self.pending.count > 1 };
        self.yielded = true;
        let bytes = Vec::with_capacity(self.pending.bytes.len());
        let examples = std::mem::replace(&mut self.pending, Examples { bytes, ..Examples::default() });
        if !(full || alone) {
            self.left = examples.count;
            return None;
        }
        Some(Ok(examples))
    }
}

#[cfg(test)]
pub mod tests;
