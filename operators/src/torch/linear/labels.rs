//! What the table of labels says of each image.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{Array as _, ArrayRef, AsArray as _, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use tessera_schemas::{IMAGE_ID, column, text, whole_numbers};

use super::data::Split;
use super::{LABELS, Splits, Target, Wanted};
use crate::operator::{Order, RunError, Tables};
use crate::random::Draw;
use crate::sorted::{Sorted, Sorter};

/// The share of images that are drawn for a split which is not given.
const SHARE: f64 = 0.2;

/// All labels, in the order of their images' ids.
pub struct Labels {
    /// Ids, and what [`Code`] makes labels of.
    pub sorted: Sorted,
    /// How labels are written.
    pub code: Code,
    /// Rows of splits that are none of the three, by their names.
    pub others: BTreeMap<String, usize>,
}

/// What an image is for, and what it shows.
pub struct Label {
    pub split: Split,
    /// Its class; or, where several may hold, -1, 0 or 1 for each.
    pub target: Vec<i32>,
}

/// Labels as bytes: the split's number, and the target's numbers; classes with names have those in which the names came.
pub enum Code {
    /// For each name, by its number: the number that it has among the sorted names; and those.
    One(Vec<i32>, Vec<String>),
    /// The classes' names.
    Each(Vec<String>),
}

impl Labels {
    /// Reads the table.
    ///
    /// # Errors
    /// It cannot be read, or says of a class what cannot be said.
    pub fn read(wanted: Wanted<'_>, tables: &dyn Tables, seed: u64, mut sorter: Sorter) -> Result<Self, RunError> {
        let (mut others, mut names) = (BTreeMap::new(), HashMap::new());
        let (drawn, all) = (*wanted.splits == Splits::Drawn, *wanted.splits == Splits::All);
        for batch in tables.scan(LABELS, Order::Stored)? {
            let batch = batch?;
            let ids = text(&batch, IMAGE_ID)?;
            let splits = match wanted.splits {
                Splits::Column(name) => Some(as_text(&batch, name)?),
                Splits::Drawn | Splits::All => None,
            };
            let mut targets = Targets::of(wanted.target, &batch)?;
            for row in 0..batch.num_rows() {
                let id = ids.value(row);
                let split = match &splits {
                    Some(splits) if splits.is_null(row) => None,
                    Some(splits) => {
                        let name = splits.as_string::<i32>().value(row);
                        let split = Split::of(name);
                        if split.is_none() {
                            *others.entry(name.to_owned()).or_default() += 1;
                        }
                        split
                    }
                    None if drawn && Draw::new(seed, "probe", "test", id, 0).chance(SHARE) => Some(Split::Test),
                    None => Some(Split::Train),
                };
                let target = targets.row(row, id, &mut names)?;
                let (Some(mut split), Some(target)) = (split, target) else { continue };
                if split == Split::Train && !all && Draw::new(seed, "probe", "validation", id, 0).chance(SHARE) {
                    split = Split::Reserve;
                }
                let numbers = target.iter().flat_map(|number| number.to_ne_bytes());
                let label: Vec<u8> = std::iter::once(split as u8).chain(numbers).collect();
                sorter.push(id, &label)?;
            }
        }
        let code = match wanted.target {
            Target::Each(classes) => Code::Each(classes.clone()),
            Target::One(_) => {
                let mut sorted: Vec<(String, i32)> = names.into_iter().collect();
                sorted.sort();
                let mut places = vec![0; sorted.len()];
                sorted.iter().zip(0..).for_each(|((_, number), place)| places[*number as usize] = place);
                Code::One(places, sorted.into_iter().map(|(name, _)| name).collect())
            }
        };
        Ok(Self { sorted: sorter.finish()?, code, others })
    }
}

impl Code {
    /// What those bytes say.
    pub fn label(&self, bytes: &[u8]) -> Label {
        let number = |bytes: &[u8; 4]| i32::from_ne_bytes(*bytes);
        let mut target: Vec<i32> = bytes[1..].as_chunks::<4>().0.iter().map(number).collect();
        if let Self::One(places, _) = self {
            target[0] = places[target[0] as usize];
        }
        Label { split: Split::numbered(bytes[0]), target }
    }

    /// The classes' names.
    pub fn classes(self) -> Vec<String> {
        match self {
            Self::One(_, names) | Self::Each(names) => names,
        }
    }
}

/// The columns of a batch that say what images show.
enum Targets<'a> {
    One(ArrayRef),
    Each(Vec<(&'a String, Int64Array)>),
}

impl<'a> Targets<'a> {
    fn of(target: &'a Target, batch: &RecordBatch) -> Result<Self, RunError> {
        Ok(match target {
            Target::One(label) => Self::One(as_text(batch, label)?),
            Target::Each(classes) => {
                let one = |name: &'a String| Ok((name, whole_numbers(batch, name)?));
                Self::Each(classes.iter().map(one).collect::<Result<_, RunError>>()?)
            }
        })
    }

    /// What a row says, with names by the numbers in which they came; none where it says nothing.
    fn row(&mut self, row: usize, id: &str, names: &mut HashMap<String, i32>) -> Result<Option<Vec<i32>>, RunError> {
        match self {
            Self::One(labels) if labels.is_null(row) => Ok(None),
            Self::One(labels) => {
                let (name, next) = (labels.as_string::<i32>().value(row), names.len() as i32);
                let number = match names.get(name) {
                    Some(number) => *number,
                    None => *names.entry(name.to_owned()).or_insert(next),
                };
                Ok(Some(vec![number]))
            }
            Self::Each(columns) => {
                // What a null says of a class is what a 0 says: nothing.
                let one =
                    |(name, values): &(&String, Int64Array)| match if values.is_null(row) { 0 } else { values.value(row) } {
                        value @ -1..=1 => Ok(value as i32),
                        value => {
                            let reason = format!("its `{name}` is {value}, and a column of a class has 1, -1, or 0");
                            Err(RunError::Row { image_id: id.to_owned(), reason })
                        }
                    };
                columns.iter().map(one).collect::<Result<_, _>>().map(Some)
            }
        }
    }
}

fn as_text(batch: &RecordBatch, name: &str) -> Result<ArrayRef, RunError> {
    Ok(cast(column(batch, name)?, &DataType::Utf8)?)
}
