//! Features and labels, brought together by `image_id`.

use std::iter::Peekable;
use std::path::Path;

use arrow::array::RecordBatch;
use tessera_schemas::{IMAGE_ID, text};

use super::data::Examples;
use super::labels::{Code, Label, Labels};
use super::{FEATURES, LABELS, Target, Wanted};
use crate::numbers::{Numbers, Slots, Writer};
use crate::operator::{RunError, Sink, Tables, read_all};
use crate::sorted::{Item, Sorted, Sorter};
use crate::vectors;

/// The share of the memory that sorting features' or labels' ids may take.
const IDS: usize = 8;
/// Values that are brought into order before memory is given back.
const SOME: usize = 1 << 16;

/// The labelled images, and of each layer their features, `n x D`, in the same order.
///
/// With `spill`, a folder and a number of bytes, both are in nameless files there but for so many bytes.
///
/// # Errors
/// The tables cannot be read, or an image is in `labels` twice.
pub fn read(
    wanted: Wanted<'_>,
    tables: &dyn Tables,
    seed: u64,
    spill: Option<(&Path, usize)>,
    sink: &mut dyn Sink,
) -> Result<(Examples, Vec<Numbers<f32>>), RunError> {
    let folder = spill.map(|(folder, _)| folder);
    let sorter = || Sorter::new(spill.map(|(folder, most)| (folder, most / IDS)));
    let Labels { sorted, code, others } = Labels::read(wanted, tables, seed, sorter()?)?;
    let labels = match spill {
        None => Labelled::Listed(sorted.collect::<Result<_, _>>()?),
        Some(_) => Labelled::Sorted(sorted),
    };
    let mut features = Features::new(wanted.columns, sorter()?, folder)?;
    read_all(tables, FEATURES, sink, "reading features", |batch, _| features.add(batch, &labels))?;
    let Features { ids, rows, layers, mut unlabelled, .. } = features;
    let mut matched = Matched::new(folder)?;
    unlabelled += matched.merge(ids.finish()?, labels, &code)?;
    let Matched { order, targets, splits, count, rises } = matched;
    let order = order.finish()?;
    let in_order = |layer: Writer<f32>| -> Result<Numbers<f32>, RunError> {
        let values = layer.finish()?;
        match rises && count == rows as usize {
            true => Ok(values),
            false => sorted_rows(&values, values.len() / (rows as usize).max(1), &order, folder),
        }
    };
    let layers = layers.into_iter().map(in_order).collect::<Result<_, _>>()?;
    let exclusive = matches!(wanted.target, Target::One(_));
    let (classes, targets, splits) = (code.classes(), targets.finish()?, Slots::filled(&splits.finish()?, folder)?);
    let examples = Examples { classes, exclusive, targets, splits, unlabelled, in_files: folder.is_some(), others };
    Ok((examples, layers))
}

/// Labels by their images' ids.
enum Labelled {
    /// In memory, so that features without a label are left away as they come.
    Listed(Vec<Item>),
    /// In files: which features have a label is known when both are sorted.
    Sorted(Sorted),
}

impl Labelled {
    /// Whether there may be a label of that image.
    fn may_have(&self, id: &str) -> bool {
        match self {
            Self::Listed(items) => items.binary_search_by(|item| item.0.as_str().cmp(id)).is_ok(),
            Self::Sorted(_) => true,
        }
    }

    /// All of them, in the order of the ids.
    fn all(self) -> Unique {
        match self {
            Self::Listed(items) => Unique { labels: Box::new(items.into_iter().map(Ok)), last: None },
            Self::Sorted(sorted) => Unique { labels: Box::new(sorted), last: None },
        }
    }
}

/// Labels of which no image has two.
struct Unique {
    labels: Box<dyn Iterator<Item = Result<Item, RunError>>>,
    last: Option<String>,
}

impl Iterator for Unique {
    type Item = Result<Item, RunError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.labels.next()?;
        Some(item.and_then(|item| match self.last.replace(item.0.clone()) {
            Some(last) if last == item.0 => Err(RunError::Input(format!("`{LABELS}` has image `{last}` twice"))),
            _ => Ok(item),
        }))
    }
}

/// Features as they come.
struct Features<'a> {
    columns: &'a [String],
    /// Each row's id, and its number.
    ids: Sorter,
    rows: u32,
    /// A layer a column.
    layers: Vec<Writer<f32>>,
    /// Rows that were left away.
    unlabelled: usize,
}

impl<'a> Features<'a> {
    fn new(columns: &'a [String], ids: Sorter, folder: Option<&Path>) -> Result<Self, RunError> {
        let layers = columns.iter().map(|_| Writer::new(0, folder)).collect::<Result<_, _>>()?;
        Ok(Self { columns, ids, rows: 0, layers, unlabelled: 0 })
    }

    /// Adds those rows of a batch that may have a label.
    fn add(&mut self, batch: &RecordBatch, labels: &Labelled) -> Result<(), RunError> {
        let ids = text(batch, IMAGE_ID)?;
        let rows: Vec<usize> = (0..batch.num_rows()).filter(|&row| labels.may_have(ids.value(row))).collect();
        self.unlabelled += batch.num_rows() - rows.len();
        for &row in &rows {
            self.ids.push(ids.value(row), &self.rows.to_ne_bytes())?;
            self.rows += 1;
        }
        for (name, layer) in self.columns.iter().zip(&mut self.layers) {
            let (values, dimension) = vectors::of_images(batch, name)?;
            match rows.len() == batch.num_rows() {
                true => layer.extend(&values)?,
                false => rows.iter().try_for_each(|&row| layer.extend(&values[row * dimension..][..dimension]))?,
            }
        }
        Ok(())
    }
}

/// The images that have features and a label, in the order of their ids.
struct Matched {
    /// Each one's row among the features.
    order: Writer<u32>,
    targets: Writer<i32>,
    splits: Writer<u8>,
    count: usize,
    /// Whether `order` is 0, 1, 2 and so on.
    rises: bool,
}

impl Matched {
    fn new(folder: Option<&Path>) -> Result<Self, RunError> {
        let (order, targets, splits) = (Writer::new(0, folder)?, Writer::new(0, folder)?, Writer::new(0, folder)?);
        Ok(Self { order, targets, splits, count: 0, rises: true })
    }

    /// Walks through both tables, which are sorted by id. Returns how many features have no label.
    fn merge(&mut self, features: Sorted, labels: Labelled, code: &Code) -> Result<usize, RunError> {
        let mut labels: Peekable<Unique> = labels.all().peekable();
        let mut unlabelled = 0;
        for item in features {
            let (id, row) = item?;
            while let Some(earlier) = labels.next_if(|label| label.as_ref().map_or(true, |label| label.0 < id)) {
                earlier?;
            }
            match labels.peek() {
                Some(Ok((labelled, label))) if *labelled == id => {
                    let row = u32::from_ne_bytes(row.try_into().expect("four bytes were attached"));
                    self.push(row, &code.label(label))?;
                }
                _ => unlabelled += 1,
            }
        }
        // Those that are left may hold an image twice.
        labels.try_for_each(|label| label.map(drop))?;
        Ok(unlabelled)
    }

    fn push(&mut self, row: u32, label: &Label) -> Result<(), RunError> {
        self.rises &= row as usize == self.count;
        self.order.extend(&[row])?;
        self.splits.extend(&[label.split as u8])?;
        self.targets.extend(&label.target)?;
        self.count += 1;
        Ok(())
    }
}

/// Rows of so many values in that order.
fn sorted_rows(
    values: &Numbers<f32>,
    dimension: usize,
    order: &[u32],
    folder: Option<&Path>,
) -> Result<Numbers<f32>, RunError> {
    let mut sorted = Writer::new(order.len() * dimension, folder)?;
    for some in order.chunks((SOME / dimension.max(1)).max(1)) {
        some.iter().try_for_each(|&row| sorted.extend(&values[row as usize * dimension..][..dimension]))?;
        values.release(0..values.len());
    }
    sorted.finish()
}
