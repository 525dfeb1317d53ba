//! What the examples of a table are: pieces, classes, and where they lie.

use arrow::array::{Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use tessera_schemas::pixels::{self, PIXELS, Pixels};
use tessera_schemas::puzzles::{self, Puzzles};
use tessera_schemas::{IMAGE_ID, clusters, column, meta, presence, text, whole_numbers};

use crate::names::Names;
use crate::operator::RunError;
use crate::torch::input::Normalisation;

/// Columns of classes that images are looked for, unless config names one.
const TARGETS: [&str; 2] = [clusters::CLUSTER, "label"];

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
    fn table(message: impl Into<String>, help: &'static str) -> Self {
        Self { key: None, message: message.into(), help }
    }

    fn key(key: &'static str, message: impl Into<String>, help: &'static str) -> Self {
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
        let whole = |kind: &DataType| matches!(kind, DataType::Int32 | DataType::Int64);
        let fits = |name: &str| schema.field_with_name(name).is_ok_and(|field| whole(field.data_type()));
        let known = || {
            let fields = schema.fields().iter().filter(|field| whole(field.data_type()));
            let names: Vec<&str> = fields.map(|field| field.name().as_str()).collect();
            if names.is_empty() { "it has none".to_owned() } else { format!("there are: {}", names.join(", ")) }
        };
        let help = "pseudo-labels: `label_join` images with what `assign` made; labels: number them in an `sql` stage";
        let unfit = |name: &str| {
            Fault::key("target", format!("`{name}` is no column of whole numbers of its input ({})", known()), help)
        };
        let target = match target {
            Some(target) => target.clone(),
            None => match TARGETS.into_iter().find(|name| fits(name)) {
                Some(name) => Names::One(name.to_owned()),
                None => Names::Several(presence::names(schema)),
            },
        };
        let (classes, content) = match target {
            Names::One(target) => {
                if !fits(&target) {
                    return Err(unfit(&target));
                }
                let field = column::field(schema, &target).map_err(|error| Fault::table(error.to_string(), help))?;
                let classes = classes.or_else(|| meta::number(field, meta::CLASSES).ok()).ok_or_else(|| {
                    let message =
                        format!("has no key `classes`, and its input does not say how many there are in `{target}`");
                    Fault::table(message, "classes = N, for classes 0 to N - 1")
                })?;
                (classes, Content::Images { target })
            }
            Names::Several(targets) if targets.is_empty() => {
                let columns = TARGETS.map(|name| format!("`{name}`")).join(" or ");
                let message = format!("its images have no classes: no whole numbers in {columns} ({})", known());
                return Err(Fault::table(message, help));
            }
            Names::Several(targets) => {
                if let Some(name) = targets.iter().find(|name| !fits(name)) {
                    return Err(unfit(name));
                }
                if classes.is_some() {
                    let message = "is of one column, and each of several columns is a class";
                    return Err(Fault::key("classes", message, "remove it, or let `target` name one column"));
                }
                (targets.len(), Content::Presence { targets })
            }
        };
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

    /// A batch's bytes, and the columns that say what its examples show.
    pub(super) fn rows<'a>(&self, batch: &'a RecordBatch) -> Result<(&'a [u8], Vec<Int64Array>), RunError> {
        let number = |name: &String| -> Result<Int64Array, RunError> { Ok(whole_numbers(batch, name)?) };
        match &self.content {
            Content::Puzzles { .. } => {
                let puzzles = Puzzles::of(batch)?;
                Ok((puzzles.tiles, vec![puzzles.permutations.iter().map(|&class| i64::from(class)).collect()]))
            }
            Content::Images { target } => Ok((Pixels::of(batch)?.bytes, vec![number(target)?])),
            Content::Presence { targets } => {
                Ok((Pixels::of(batch)?.bytes, targets.iter().map(number).collect::<Result<_, _>>()?))
            }
        }
    }

    /// What the example at a row shows, checked.
    pub(super) fn class(&self, columns: &[Int64Array], row: usize, batch: &RecordBatch) -> Result<Vec<i64>, RunError> {
        let fault = |reason: String| -> RunError {
            let image_id = text(batch, IMAGE_ID).map(|ids| ids.value(row).to_owned()).unwrap_or_default();
            RunError::Row { image_id, reason }
        };
        if let Content::Presence { targets } = &self.content {
            let one = |(column, name): (&Int64Array, &String)| match if column.is_null(row) { 0 } else { column.value(row) }
            {
                value @ -1..=1 => Ok(value),
                value => Err(fault(format!("its `{name}` is {value}, and a column of a class has 1, -1, or 0"))),
            };
            return columns.iter().zip(targets).map(one).collect();
        }
        let classes = &columns[0];
        if classes.is_null(row) {
            return Err(fault("it has no class; `label_join` with unmatched = \"drop\" leaves such images out".to_owned()));
        }
        let class = classes.value(row);
        if class < 0 || class >= self.classes as i64 {
            return Err(fault(format!("its class is {class}, and should be in 0..{}", self.classes)));
        }
        Ok(vec![class])
    }
}
