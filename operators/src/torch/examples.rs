//! Training examples: from a table's batches, whatever their size, to exactly as many a step as asked for.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tessera_schemas::puzzles::{self, Puzzles};
use tessera_schemas::{column, meta};

use super::input::Normalisation;
use crate::operator::RunError;

/// What the examples of a table are.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// Different classes.
    pub classes: usize,
    /// Pieces that the network sees one by one: a puzzle's tiles.
    pub pieces: usize,
    /// Height and width of a piece.
    pub side: [usize; 2],
    /// How pieces are normalised.
    pub normalisation: Normalisation,
    /// The same, as tables name it.
    pub normalisation_name: String,
}

impl Layout {
    /// Of a table of puzzles.
    ///
    /// # Errors
    /// It is none, or its normalisation is unknown; the message is a fragment.
    pub fn of_puzzles(schema: &SchemaRef) -> Result<Self, String> {
        let puzzles::Layout { grid, tile, permutations } = puzzles::layout(schema).map_err(|error| error.to_string())?;
        let tiles = column::field(schema, puzzles::TILES).map_err(|error| error.to_string())?;
        let name = tiles.metadata().get(meta::NORMALISATION).map_or("none", String::as_str);
        let normalisation = Normalisation::of_tiles(name)
            .ok_or_else(|| format!("its tiles' normalisation is `{name}`; `tile`, `tile-channel` and `none` are known"))?;
        let (pieces, side, name) = (grid * grid, [tile, tile], name.to_owned());
        Ok(Self { classes: permutations, pieces, side, normalisation, normalisation_name: name })
    }

    /// Bytes of an example.
    fn bytes(&self) -> usize {
        self.pieces * self.side[0] * self.side[1] * 3
    }
}

/// Examples of one step.
#[derive(Debug, Default, PartialEq)]
pub struct Examples {
    /// `N x pieces x H x W x 3`.
    pub bytes: Vec<u8>,
    /// Each example's class.
    pub classes: Vec<i64>,
}

/// Cuts batches of puzzles anew. The last examples are left out unless they fill a step, or there was no other; a single example
/// is never a step (batch normalisation needs two).
pub struct Steps<'a, I> {
    batches: I,
    layout: &'a Layout,
    size: usize,
    current: Option<(RecordBatch, usize)>,
    pending: Examples,
    yielded: bool,
}

impl<'a, I: Iterator<Item = Result<RecordBatch, RunError>>> Steps<'a, I> {
    /// Steps of `size` examples.
    pub fn new(batches: I, layout: &'a Layout, size: usize) -> Self {
        Self { batches, layout, size, current: None, pending: Examples::default(), yielded: false }
    }

    /// Moves rows into the pending step until it is full; whether it is.
    fn fill(&mut self) -> Result<bool, RunError> {
        loop {
            if let Some((batch, start)) = &mut self.current {
                let puzzles = Puzzles::of(batch)?;
                let rows = (self.size - self.pending.classes.len()).min(puzzles.permutations.len() - *start);
                let (range, width) = (*start..*start + rows, self.layout.bytes());
                for &class in &puzzles.permutations[range.clone()] {
                    if class < 0 || class as usize >= self.layout.classes {
                        let classes = self.layout.classes;
                        let message = format!("a puzzle's permutation is {class}, and should be in 0..{classes}");
                        return Err(RunError::Input(message));
                    }
                    self.pending.classes.push(class.into());
                }
                self.pending.bytes.extend_from_slice(&puzzles.tiles[range.start * width..range.end * width]);
                *start = range.end;
                if self.pending.classes.len() == self.size {
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
        let alone = !self.yielded && self.pending.classes.len() > 1;
        self.yielded = true;
        let bytes = Vec::with_capacity(self.pending.bytes.len());
        let examples = std::mem::replace(&mut self.pending, Examples { bytes, classes: Vec::new() });
        (full || alone).then_some(Ok(examples))
    }
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Puzzles of 2 x 2 tiles of 8 pixels: tile `i` of class `c` is bright at pixel `(i + c) % 4` of its rows, and random besides.
    pub fn table(rows: usize, classes: usize) -> RecordBatch {
        let layout = puzzles::Layout { grid: 2, tile: 8, permutations: classes };
        let mut columns = puzzles::Columns::default();
        let mut draw = crate::random::Draw::new(1, "test", "puzzles", "", 0);
        for row in 0..rows {
            let class = draw.below(classes);
            columns.ids.push(format!("{row:04}"));
            columns.permutations.push(class as i32);
            columns.occluded.push(0);
            columns.gray.push(false);
            for i in 0..4 * 8 * 8 * 3 {
                let (tile, x) = (i / 192, i / 3 % 8);
                let bright = x % 4 == (tile + class) % 4;
                columns.tiles.push(draw.below(100) as u8 + if bright { 100 } else { 0 });
            }
        }
        columns.finish(&puzzles::schema(layout, "tile")).unwrap()
    }

    #[test]
    fn a_layout_is_read_from_the_schema() {
        let schema =
            |normalisation| puzzles::schema(puzzles::Layout { grid: 3, tile: 16, permutations: 701 }, normalisation);
        let layout = Layout::of_puzzles(&schema("tile-channel")).unwrap();
        assert_eq!((layout.classes, layout.pieces, layout.side), (701, 9, [16, 16]));
        assert_eq!(layout.normalisation, Normalisation::OwnPerChannel);
        let error = Layout::of_puzzles(&schema("median")).unwrap_err();
        assert_eq!(error, "its tiles' normalisation is `median`; `tile`, `tile-channel` and `none` are known");
    }

    #[test]
    fn a_wrong_class_is_an_error() {
        let table = table(4, 3);
        let layout = Layout { classes: 1, ..Layout::of_puzzles(&table.schema()).unwrap() };
        let error = Steps::new(std::iter::once(Ok(table)), &layout, 4).next().unwrap().unwrap_err().to_string();
        assert!(error.ends_with("and should be in 0..1"), "{error}");
    }

    proptest! {
        #[test]
        fn steps_do_not_depend_on_how_rows_come(cuts in prop::collection::vec(0usize..6, 0..8), size in 2usize..9) {
            let table = table(10, 3);
            let layout = Layout::of_puzzles(&table.schema()).unwrap();
            let whole: Vec<_> = Steps::new(std::iter::once(Ok(table.clone())), &layout, size).map(Result::unwrap).collect();
            prop_assert_eq!(whole.len(), 10 / size);
            prop_assert!(whole.iter().all(|step| step.classes.len() == size && step.bytes.len() == size * 768));
            let mut start = 0;
            let mut batches = Vec::new();
            for rows in cuts.into_iter().chain([10]) {
                let rows = rows.min(10 - start);
                batches.push(Ok(table.slice(start, rows)));
                start += rows;
            }
            let cut: Vec<_> = Steps::new(batches.into_iter(), &layout, size).map(Result::unwrap).collect();
            prop_assert_eq!(whole, cut);
        }
    }

    #[test]
    fn the_only_step_may_be_short() {
        let table = table(3, 2);
        let layout = Layout::of_puzzles(&table.schema()).unwrap();
        let steps: Vec<_> = Steps::new(std::iter::once(Ok(table.clone())), &layout, 8).collect();
        assert_eq!(steps.len(), 1);
        assert_eq!(steps[0].as_ref().unwrap().classes.len(), 3);
        assert_eq!(Steps::new(std::iter::once(Ok(table.slice(0, 1))), &layout, 8).count(), 0);
        assert_eq!(Steps::new(std::iter::empty(), &layout, 8).count(), 0);
    }
}
