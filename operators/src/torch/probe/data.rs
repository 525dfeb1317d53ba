//! Features and labels, brought together by `image_id`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type};
use tessera_schemas::{IMAGE_ID, column, text, vector};

use super::{FEATURES, LABELS, Probe, Target};
use crate::operator::{Order, RunError, Sink, Tables};
use crate::random::Draw;
use crate::vectors;

/// The share of images that are drawn for a split which is not given.
const SHARE: f64 = 0.2;

/// What an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    Train,
    Validation,
    Test,
}

impl Split {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }

    fn of(name: &str) -> Option<Self> {
        match name {
            "train" => Some(Self::Train),
            "validation" | "val" | "valid" => Some(Self::Validation),
            "test" => Some(Self::Test),
            _ => None,
        }
    }
}

/// All labelled images, in the order of their ids.
pub struct Examples {
    /// The classes' names, sorted, or in the order of `classes`.
    pub classes: Vec<String>,
    /// Whether an image shows one class alone.
    pub exclusive: bool,
    /// For each image: its class; or, where several may hold, -1, 0 or 1 for each.
    pub targets: Vec<Vec<i32>>,
    /// What each image is for.
    pub splits: Vec<Split>,
    /// Their ids.
    ids: Vec<String>,
    /// For each layer: `n x D`.
    pub values: Vec<Vec<f32>>,
    /// Images that have features and no label.
    pub unlabelled: usize,
    /// Rows of `labels` of splits that are none of the three, by their names.
    others: BTreeMap<String, usize>,
}

/// What `labels` says of an image: its split and targets.
type Labels = HashMap<String, (Split, Vec<i32>)>;

impl Examples {
    /// Reads both tables.
    ///
    /// # Errors
    /// They cannot be read, an image is in `labels` twice, or there is nothing to learn from.
    pub fn read(probe: &Probe, tables: &dyn Tables, seed: u64, sink: &mut dyn Sink) -> Result<Self, RunError> {
        let mut others = BTreeMap::new();
        let (labels, classes) = labels(probe, tables, seed, &mut others)?;
        let expected = tables.rows(FEATURES)?;
        let (mut ids, mut values) = (Vec::new(), vec![Vec::new(); probe.columns.len()]);
        let (mut unlabelled, mut read) = (0, 0);
        for batch in tables.scan(FEATURES, Order::Stored)? {
            let batch = batch?;
            let names = text(&batch, IMAGE_ID)?;
            let known: Vec<usize> = (0..batch.num_rows()).filter(|&row| labels.contains_key(names.value(row))).collect();
            unlabelled += batch.num_rows() - known.len();
            ids.extend(known.iter().map(|&row| names.value(row).to_owned()));
            for (name, values) in probe.columns.iter().zip(&mut values) {
                let (rows, dimension) = vector(&batch, name)?;
                vectors::check_images(&batch, name, &rows, dimension)?;
                known.iter().for_each(|&row| values.extend_from_slice(&rows[row * dimension..][..dimension]));
            }
            read += batch.num_rows();
            sink.progress(read, expected, "reading features");
            if sink.cancelled() {
                return Err(RunError::Cancelled);
            }
        }
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by(|&a, &b| ids[a].cmp(&ids[b]));
        for values in &mut values {
            let dimension = values.len() / order.len().max(1);
            *values = order.iter().flat_map(|&row| &values[row * dimension..][..dimension]).copied().collect();
        }
        let ids: Vec<String> = order.iter().map(|&row| std::mem::take(&mut ids[row])).collect();
        let (splits, targets) = ids.iter().map(|id| labels[id].clone()).unzip();
        let exclusive = matches!(probe.target, Target::One(_));
        let examples = Self { classes, exclusive, targets, splits, ids, values, unlabelled, others };
        examples.check()?;
        Ok(examples)
    }

    fn check(&self) -> Result<(), RunError> {
        let counts = [Split::Train, Split::Validation, Split::Test].map(|split| (split.name(), self.count(split)));
        let found = counts.map(|(name, count)| format!("{count} for {name}")).join(", ");
        let train = || (0..self.splits.len()).filter(|&row| self.splits[row] == Split::Train);
        let differ = match self.exclusive {
            true => train().map(|row| self.targets[row][0]).collect::<BTreeSet<_>>().len() > 1,
            false => train().any(|row| self.targets[row].contains(&1)),
        };
        if counts[0].1 < 5 || !differ {
            let message = format!("there is too little to learn from: labelled images with features are {found}");
            let others = self.left_out().map_or(String::new(), |line| format!("; {line}"));
            return Err(RunError::Input(format!("{message}; at least 5 of two classes are needed for train{others}")));
        }
        Ok(())
    }

    /// Says which rows of `labels` have no part in it, if some have none.
    pub fn left_out(&self) -> Option<String> {
        let names: Vec<String> = self.others.keys().map(|name| format!("`{name}`")).collect();
        let count: usize = self.others.values().sum();
        (count > 0).then(|| format!("{count} rows of `{LABELS}` are left out: of the splits {}", names.join(", ")))
    }

    /// How many images a split has.
    pub fn count(&self, split: Split) -> usize {
        self.splits.iter().filter(|&&found| found == split).count()
    }

    /// Without images for the test, takes those for validation; says whether it did.
    pub fn measure_validation(&mut self) -> bool {
        if self.count(Split::Test) > 0 || self.count(Split::Validation) == 0 {
            return false;
        }
        self.splits.iter_mut().filter(|split| **split == Split::Validation).for_each(|split| *split = Split::Test);
        true
    }

    /// Draws a fifth of the training images for validation, if there are none; says whether it did.
    pub fn hold_out(&mut self, seed: u64) -> bool {
        if self.count(Split::Validation) > 0 {
            return false;
        }
        for (split, id) in self.splits.iter_mut().zip(&self.ids) {
            if *split == Split::Train && Draw::new(seed, "probe", "validation", id, 0).chance(SHARE) {
                *split = Split::Validation;
            }
        }
        if self.count(Split::Validation) == 0 {
            let first = self.splits.iter_mut().find(|split| **split == Split::Train).expect("some are for training");
            *first = Split::Validation;
        }
        true
    }
}

/// What an image shows, as `labels` has it.
enum Shown {
    /// The class of that name.
    One(String),
    /// For each class -1, 0 or 1.
    Each(Vec<i32>),
}

/// What `labels` says, and the classes' names. Rows of splits that are none of the three are counted in `others`, by split.
fn labels(
    probe: &Probe,
    tables: &dyn Tables,
    seed: u64,
    others: &mut BTreeMap<String, usize>,
) -> Result<(Labels, Vec<String>), RunError> {
    let mut rows: Vec<(String, Split, Shown)> = Vec::new();
    for batch in tables.scan(LABELS, Order::Stored)? {
        let batch = batch?;
        let ids = text(&batch, IMAGE_ID)?;
        let splits = probe.split.as_ref().map(|name| as_text(&batch, name)).transpose()?;
        let targets = targets(probe, &batch)?;
        for (row, target) in targets.into_iter().enumerate() {
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
                None if Draw::new(seed, "probe", "test", id, 0).chance(SHARE) => Some(Split::Test),
                None => Some(Split::Train),
            };
            if let (Some(split), Some(target)) = (split, target) {
                rows.push((id.to_owned(), split, target));
            }
        }
    }
    let name = |(_, _, shown): &'_ (String, Split, Shown)| match shown {
        Shown::One(name) => Some(name.clone()),
        Shown::Each(_) => None,
    };
    let names: BTreeSet<String> = rows.iter().filter_map(name).collect();
    let number: BTreeMap<String, i32> = names.into_iter().zip(0..).collect();
    let classes = match &probe.target {
        Target::One(_) => number.keys().cloned().collect(),
        Target::Each(classes) => classes.clone(),
    };
    let mut labels = Labels::with_capacity(rows.len());
    for (id, split, shown) in rows {
        let target = match shown {
            Shown::One(name) => vec![number[&name]],
            Shown::Each(target) => target,
        };
        if labels.insert(id.clone(), (split, target)).is_some() {
            return Err(RunError::Input(format!("`{LABELS}` has image `{id}` twice")));
        }
    }
    Ok((labels, classes))
}

/// What each row says; none where it is null.
fn targets(probe: &Probe, batch: &RecordBatch) -> Result<Vec<Option<Shown>>, RunError> {
    match &probe.target {
        Target::One(label) => {
            let names = as_text(batch, label)?;
            let names = names.as_string::<i32>();
            Ok(names.iter().map(|name| name.map(|name| Shown::One(name.to_owned()))).collect())
        }
        Target::Each(classes) => {
            let columns: Vec<_> = classes
                .iter()
                .map(|name| Ok(cast(column(batch, name)?, &DataType::Int32)?))
                .collect::<Result<_, RunError>>()?;
            let ids = text(batch, IMAGE_ID)?;
            let of = |row: usize| {
                // A null says as little as a 0.
                let one = |(column, name): (&arrow::array::ArrayRef, &String)| {
                    let values = column.as_primitive::<Int32Type>();
                    match if values.is_valid(row) { values.value(row) } else { 0 } {
                        value @ -1..=1 => Ok(value),
                        value => {
                            let reason = format!("its `{name}` is {value}, and a column of a class has 1, -1, or 0");
                            Err(RunError::Row { image_id: ids.value(row).to_owned(), reason })
                        }
                    }
                };
                Ok(Some(Shown::Each(columns.iter().zip(classes).map(one).collect::<Result<_, RunError>>()?)))
            };
            (0..batch.num_rows()).map(of).collect()
        }
    }
}

fn as_text(batch: &RecordBatch, name: &str) -> Result<arrow::array::ArrayRef, RunError> {
    Ok(cast(column(batch, name)?, &DataType::Utf8)?)
}
