//! `puzzles`: Jigsaw++ puzzles, `G·G` tiles of `T x T x 3` bytes an image, in the order of the permutation (paper, section 4).

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int32Array, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::{IMAGE_ID, SchemaError, column, int32, meta, pixels};

/// The name of the column of tiles.
pub const TILES: &str = "tiles";
/// The name of the column with the permutation's number, the class to predict.
pub const PERMUTATION: &str = "permutation";

/// What a reader of puzzles must know before it sees one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Tiles a side.
    pub grid: usize,
    /// Pixels a tile's side.
    pub tile: usize,
    /// Number of permutations.
    pub permutations: usize,
}

/// `image_id`, `permutation`, `occluded` (bit i: place i holds a tile of another image), `gray`, `tiles`.
///
/// `normalisation` is one of those of [`meta::NORMALISATION`]; the reader applies it.
pub fn schema(layout: Layout, normalisation: &str) -> SchemaRef {
    let permutation = Field::new(PERMUTATION, DataType::Int32, false);
    let tiles = pixels::tensor_field(TILES, &[layout.grid * layout.grid, layout.tile, layout.tile, 3]);
    Arc::new(Schema::new(vec![
        Field::new(IMAGE_ID, DataType::Utf8, false),
        meta::with(permutation, meta::CLASSES, layout.permutations.to_string()),
        Field::new("occluded", DataType::UInt32, false),
        Field::new("gray", DataType::Boolean, false),
        meta::with(tiles, meta::NORMALISATION, normalisation),
    ]))
}

/// The layout in a schema's metadata.
///
/// # Errors
/// It is not a puzzles schema.
pub fn layout(schema: &SchemaRef) -> Result<Layout, SchemaError> {
    let [places, tile, _, _] = meta::array::<usize, 4>(column::field(schema, TILES)?, meta::SHAPE)?;
    let permutations = meta::number(column::field(schema, PERMUTATION)?, meta::CLASSES)?;
    Ok(Layout { grid: places.isqrt(), tile, permutations })
}

/// Columns of one batch of puzzles, as a builder collects them.
#[derive(Debug, Default)]
pub struct Columns {
    /// The images' ids.
    pub ids: Vec<String>,
    /// The permutations' numbers.
    pub permutations: Vec<i32>,
    /// Occluded places, as bits.
    pub occluded: Vec<u32>,
    /// Whether the puzzle is gray.
    pub gray: Vec<bool>,
    /// `N x G·G x T x T x 3`.
    pub tiles: Vec<u8>,
}

impl Columns {
    /// A batch of the schema, which [`schema`] made (no copy of the tiles).
    ///
    /// # Errors
    /// The columns differ in length, or are of another layout.
    pub fn finish(self, schema: &SchemaRef) -> Result<RecordBatch, SchemaError> {
        let layout = layout(schema)?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(self.ids)),
            Arc::new(Int32Array::from(self.permutations)),
            Arc::new(UInt32Array::from(self.occluded)),
            Arc::new(BooleanArray::from(self.gray)),
            pixels::list(self.tiles, layout.grid * layout.grid * layout.tile * layout.tile * 3),
        ];
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    }
}

/// A batch's puzzles, checked.
#[derive(Debug, Clone, Copy)]
pub struct Puzzles<'a> {
    /// `N`, each below [`Layout::permutations`].
    pub permutations: &'a [i32],
    /// `N x G·G x T x T x 3`.
    pub tiles: &'a [u8],
    /// What the tiles are.
    pub layout: Layout,
}

impl<'a> Puzzles<'a> {
    /// # Errors
    /// A column is missing, has another type or a null, or metadata is not there.
    pub fn of(batch: &'a RecordBatch) -> Result<Self, SchemaError> {
        let layout = layout(batch.schema_ref())?;
        let permutations = column::without_nulls(int32(batch, PERMUTATION)?, PERMUTATION)?;
        let (tiles, _) = column::octets(batch, TILES)?;
        Ok(Self { permutations: permutations.values(), tiles, layout })
    }
}
