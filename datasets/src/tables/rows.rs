//! A range of a table's rows, as Python slices: `1000:2000`, `:500`, `-100:`.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use super::Batches;

/// Rows of a table, of all of its files in their order: from `start` on, up to `end` without it. Negative numbers count from the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowRange {
    /// The first row; `None` for the table's first.
    pub start: Option<i64>,
    /// The row behind the last; `None` for all that are left.
    pub end: Option<i64>,
}

/// A file's rows, whatever their number.
pub const ALL: Range<u64> = 0..u64::MAX;

impl RowRange {
    /// Which rows of so many these are. As in Python, what lies beyond the table is left away.
    ///
    /// # Errors
    /// None are.
    pub fn of(&self, rows: u64) -> Result<Range<u64>, String> {
        let place = |at: i64| match u64::try_from(at) {
            Ok(at) => at.min(rows),
            Err(_) => rows.saturating_sub(at.unsigned_abs()),
        };
        let (start, end) = (self.start.map_or(0, place), self.end.map_or(rows, place));
        if start < end {
            Ok(start..end)
        } else {
            Err(format!("has {rows} rows, and none of them are in `rows` = \"{self}\""))
        }
    }
}

impl FromStr for RowRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| match text.trim() {
            "" => Some(None),
            text => text.parse().ok().map(Some),
        };
        let parts: Vec<&str> = text.split(':').collect();
        let range = match parts[..] {
            [start, end] => number(start).zip(number(end)),
            [_, _, _] => return Err(format!("\"{text}\" has a step, and ranges of rows have none: write \"START:END\"")),
            _ => None,
        };
        let (start, end) = range.ok_or_else(|| {
            format!("\"{text}\" is no range of rows, such as \"1000:2000\" (without the row 2000), \":500\" or \"-100:\"")
        })?;
        Ok(Self { start, end })
    }
}

impl fmt::Display for RowRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |at: Option<i64>| at.map_or(String::new(), |at| at.to_string());
        write!(f, "{}:{}", text(self.start), text(self.end))
    }
}

/// What both have.
pub fn both(one: &Range<u64>, other: &Range<u64>) -> Range<u64> {
    let start = one.start.max(other.start);
    start..one.end.min(other.end).max(start)
}

/// The part in a range of batches that begin at row `first` of their file. Nothing is read behind it.
pub fn within(batches: Batches<'_>, first: u64, range: Range<u64>) -> Batches<'_> {
    if range == ALL {
        return batches;
    }
    let (mut batches, mut next) = (batches, first);
    Box::new(std::iter::from_fn(move || {
        while next < range.end {
            let batch = match batches.next()? {
                Ok(batch) => batch,
                Err(error) => return Some(Err(error)),
            };
            let here = next..next + batch.num_rows() as u64;
            let part = both(&here, &range);
            next = here.end;
            if !part.is_empty() {
                return Some(Ok(batch.slice((part.start - here.start) as usize, (part.end - part.start) as usize)));
            }
        }
        None
    }))
}

#[cfg(test)]
mod tests;
