//! The rows' ids: the files' own, or the rows' numbers.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, StringArray};
use tessera_schemas::IMAGE_ID;

/// The rows' ids.
pub enum Ids {
    /// The files have them: hashes of those so far, which are shorter than ids and as distinct.
    Given(HashSet<[u8; 16]>),
    /// The rows' numbers, of `digits` each.
    Numbers { next: u64, digits: usize },
}

impl Ids {
    /// Numbers of a table of so many rows, from one on.
    pub fn numbers(rows: u64, first: u64) -> Self {
        Self::Numbers { next: first, digits: rows.saturating_sub(1).to_string().len() }
    }

    /// Checks the ids of a batch, or makes them; `row` is the number of its first in the file.
    ///
    /// # Errors
    /// One is null, or was there before.
    pub fn column(&mut self, found: Option<ArrayRef>, rows: usize, row: u64) -> Result<ArrayRef, String> {
        match self {
            Self::Numbers { next, digits } => {
                let numbers = *next..*next + rows as u64;
                *next = numbers.end;
                let digits = *digits;
                Ok(Arc::new(StringArray::from_iter_values(numbers.map(|number| format!("{number:0digits$}")))))
            }
            Self::Given(seen) => {
                let array = found.expect("given ids are a column");
                for (id, row) in array.as_string::<i32>().iter().zip(row..) {
                    let id = id.ok_or_else(|| format!("row {row}: `{IMAGE_ID}` is null"))?;
                    let hash = blake3::hash(id.as_bytes());
                    let (short, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
                    if !seen.insert(*short) {
                        return Err(format!("row {row}: the {IMAGE_ID} `{id}` occurs for the second time"));
                    }
                }
                Ok(array)
            }
        }
    }
}
