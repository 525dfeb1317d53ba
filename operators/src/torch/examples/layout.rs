//! What the examples of a table are: pieces, classes, and where they lie.

use arrow::datatypes::SchemaRef;
use tessera_schemas::pixels::{self, PIXELS};
use tessera_schemas::puzzles;
use tessera_schemas::{IMAGE_ID, column, meta};

use super::targets;
use crate::names::Names;
use crate::torch::normalisation::Normalisation;

/// What the examples of a table are.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// Different classes.
    pub classes: usize,
    /// Pieces that the network sees one by one: a puzzle's tiles, or 1.
    pub pieces: usize,
    /// Height and width of a piece.
    pub side: [usize; 2],
    /// How pieces are normalised.
    pub normalisation: Normalisation,
    /// What an example and its class are.
    pub content: Content,
}

/// What an example and its class are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A puzzle and its permutation.
    Puzzles {
        /// How tables name the normalisation of its tiles.
        normalisation: String,
    },
    /// An image and the number in a column.
    Images {
        /// The column.
        target: String,
    },
    /// An image, and for each class whether it shows it: 1, -1, or 0 (also null) for one that does not count.
    Presence {
        /// The classes' columns.
        targets: Vec<String>,
    },
}

/// A key of the config that is to blame, or else the table, and why; fragments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key.
    pub key: Option<&'static str>,
    /// What is wrong.
    pub message: String,
    /// What would help.
    pub help: &'static str,
}

impl Fault {
    pub(super) fn table(message: impl Into<String>, help: &'static str) -> Self {
        Self { key: None, message: message.into(), help }
    }

    pub(super) fn key(key: &'static str, message: impl Into<String>, help: &'static str) -> Self {
        Self { key: Some(key), message: message.into(), help }
    }
}

impl Layout {
    /// Of a table of puzzles, or else of images whose classes are numbers in a column or several: `target`, by default `cluster`,
    /// `label` or all columns that are marked as classes. How many classes a single column has its metadata says, or `classes`.
    ///
    /// # Errors
    /// It is neither, or a key does not fit it.
    pub fn of(
        schema: &SchemaRef,
        target: Option<&Names>,
        classes: Option<usize>,
        normalisation: Normalisation,
    ) -> Result<Self, Fault> {
        let has = |name| schema.field_with_name(name).is_ok();
        match (has(puzzles::TILES), has(PIXELS)) {
            (true, _) => Self::of_puzzles(schema, target, classes),
            (false, true) => Self::of_images(schema, target, classes, normalisation),
            (false, false) => {
                let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                let message = format!("its table has neither `tiles` nor `pixels` (there are: {})", names.join(", "));
                Err(Fault::table(message, "`jigsaw` makes puzzles; `decode`, `tile` and `augment` make images"))
            }
        }
    }

    fn of_puzzles(schema: &SchemaRef, target: Option<&Names>, classes: Option<usize>) -> Result<Self, Fault> {
        let unfit = |error: tessera_schemas::SchemaError| Fault::table(error.to_string(), "`jigsaw` makes puzzles");
        for (key, given) in [("target", target.is_some()), ("classes", classes.is_some())] {
            if given {
                let message = "is for images, and the input is a table of puzzles, whose classes are their permutations";
                return Err(Fault::key(key, message, "remove it"));
            }
        }
        let puzzles::Layout { grid, tile, permutations } = puzzles::layout(schema).map_err(unfit)?;
        let tiles = column::field(schema, puzzles::TILES).map_err(unfit)?;
        let name = tiles.metadata().get(meta::NORMALISATION).map_or("none", String::as_str);
        let normalisation = Normalisation::of_tiles(name).ok_or_else(|| {
            let message = format!("its tiles' normalisation is `{name}`; `tile`, `tile-channel` and `none` are known");
            Fault::table(message, "`jigsaw` makes puzzles")
        })?;
        let (pieces, side, content) = (grid * grid, [tile, tile], Content::Puzzles { normalisation: name.to_owned() });
        Ok(Self { classes: permutations, pieces, side, normalisation, content })
    }

    fn of_images(
        schema: &SchemaRef,
        target: Option<&Names>,
        classes: Option<usize>,
        normalisation: Normalisation,
    ) -> Result<Self, Fault> {
        let size = pixels::size(schema).map_err(|error| Fault::table(error.to_string(), "`decode` makes images"))?;
        let (classes, content) = targets::classes(schema, target, classes)?;
        Ok(Self { classes, pieces: 1, side: size.into(), normalisation, content })
    }

    /// The columns that examples are made of: their ids, what they are to be told apart by, and what is seen of them.
    pub fn columns(&self) -> Vec<&str> {
        let (targets, seen): (&[String], _) = match &self.content {
            Content::Puzzles { .. } => return vec![IMAGE_ID, puzzles::PERMUTATION, puzzles::TILES],
            Content::Images { target } => (std::slice::from_ref(target), PIXELS),
            Content::Presence { targets } => (targets, PIXELS),
        };
        std::iter::once(IMAGE_ID).chain(targets.iter().map(String::as_str)).chain([seen]).collect()
    }

    /// Bytes of an example.
    pub(super) fn bytes(&self) -> usize {
        self.pieces * self.side[0] * self.side[1] * 3
    }
}
