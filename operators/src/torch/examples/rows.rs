//! A batch of examples, row by row.

use arrow::array::{Array, Int64Array, RecordBatch, StringArray};
use tessera_schemas::pixels::Pixels;
use tessera_schemas::puzzles::Puzzles;
use tessera_schemas::{IMAGE_ID, text, whole_numbers};

use super::layout::{Content, Layout};
use crate::operator::RunError;

/// The columns of a batch.
pub(super) struct Rows<'a> {
    layout: &'a Layout,
    pub ids: &'a StringArray,
    /// What is seen, one example after the other.
    bytes: &'a [u8],
    /// What is shown: a column, or one for each class.
    classes: Vec<Int64Array>,
}

impl<'a> Rows<'a> {
    /// The rows of a batch.
    ///
    /// # Errors
    /// It is not of that layout.
    pub fn of(layout: &'a Layout, batch: &'a RecordBatch) -> Result<Self, RunError> {
        let number = |name: &String| -> Result<Int64Array, RunError> { Ok(whole_numbers(batch, name)?) };
        let (bytes, classes) = match &layout.content {
            Content::Puzzles { .. } => {
                let puzzles = Puzzles::of(batch)?;
                (puzzles.tiles, vec![puzzles.permutations.iter().map(|&class| i64::from(class)).collect()])
            }
            Content::Images { target } => (Pixels::of(batch)?.bytes, vec![number(target)?]),
            Content::Presence { targets } => {
                (Pixels::of(batch)?.bytes, targets.iter().map(number).collect::<Result<_, _>>()?)
            }
        };
        Ok(Self { layout, ids: text(batch, IMAGE_ID)?, bytes, classes })
    }

    /// What is seen of some examples.
    pub fn bytes(&self, rows: std::ops::Range<usize>) -> &'a [u8] {
        let width = self.layout.bytes();
        &self.bytes[rows.start * width..rows.end * width]
    }

    /// Adds what an example shows: its class; or, where several may hold, -1, 0 or 1 for each.
    ///
    /// # Errors
    /// It shows nothing, or what cannot be.
    pub fn extend_by_class(&self, row: usize, classes: &mut Vec<i64>) -> Result<(), RunError> {
        let found = match &self.layout.content {
            Content::Presence { targets } => {
                let shown = self.classes.iter().zip(targets).map(|(column, name)| presence(column, row, name));
                shown.collect::<Result<Vec<_>, _>>()
            }
            Content::Puzzles { .. } | Content::Images { .. } => {
                class(&self.classes[0], row, self.layout.classes).map(|class| vec![class])
            }
        };
        let refused = |reason| RunError::Row { image_id: self.ids.value(row).to_owned(), reason };
        classes.extend(found.map_err(refused)?);
        Ok(())
    }
}

/// Whether an example shows a class: 1, -1, or 0 (also null) for one that does not count.
fn presence(column: &Int64Array, row: usize, name: &str) -> Result<i64, String> {
    match if column.is_null(row) { 0 } else { column.value(row) } {
        value @ -1..=1 => Ok(value),
        value => Err(format!("its `{name}` is {value}, and a column of a class has 1, -1, or 0")),
    }
}

/// An example's class, one of so many.
fn class(column: &Int64Array, row: usize, classes: usize) -> Result<i64, String> {
    if column.is_null(row) {
        return Err("it has no class; `label_join` with unmatched = \"drop\" leaves such images out".to_owned());
    }
    let class = column.value(row);
    if class < 0 || class >= classes as i64 {
        return Err(format!("its class is {class}, and should be 0 to {}", classes - 1));
    }
    Ok(class)
}
