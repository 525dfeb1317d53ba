//! Features and labels, brought together by `image_id`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tessera_schemas::{IMAGE_ID, text};

use super::labels::{Label, Labels};
use super::{FEATURES, LABELS, Probe, Target};
use crate::numbers::{Numbers, Slots, Writer};
use crate::operator::{Order, RunError, Sink, Tables};
use crate::sorted::{Item, Sorter};
use crate::vectors;

/// The share of the memory that sorting features' or labels' ids may take.
const IDS: usize = 8;
/// Values that are brought into order before memory is given back.
const SOME: usize = 1 << 16;

/// Images with their labels, by id.
type Items = Box<dyn Iterator<Item = Result<Item, RunError>>>;

/// What an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Split {
    Train,
    /// For training, unless there are no images for validation: then these, a fifth of them, are held out.
    Reserve,
    Validation,
    Test,
}

impl Split {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train | Self::Reserve => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }

    /// That of a name.
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "train" => Some(Self::Train),
            "validation" | "val" | "valid" => Some(Self::Validation),
            "test" => Some(Self::Test),
            _ => None,
        }
    }

    /// Whether it is that one; what is held in reserve is for training.
    pub fn is(self, other: Self) -> bool {
        self == other || (self == Self::Reserve && other == Self::Train)
    }

    /// That of a number, as `as u8` made it.
    pub fn numbered(number: u8) -> Self {
        [Self::Train, Self::Reserve, Self::Validation, Self::Test][usize::from(number)]
    }
}

/// All labelled images, in the order of their ids.
pub struct Examples {
    /// The classes' names, sorted, or in the order of `classes`.
    pub classes: Vec<String>,
    /// Whether an image shows one class alone.
    pub exclusive: bool,
    /// For each image: its class; or, where several may hold, -1, 0 or 1 for each.
    pub targets: Numbers<i32>,
    /// What each image is for: a [`Split`]'s number.
    splits: Slots<u8>,
    /// For each layer: `n x D`.
    pub values: Vec<Numbers<f32>>,
    /// Images that have features and no label.
    pub unlabelled: usize,
    /// Whether they are in files, to be looked at piece by piece.
    pub in_files: bool,
    /// Rows of `labels` of splits that are none of the three, by their names.
    others: BTreeMap<String, usize>,
}

impl Examples {
    /// Reads both tables; into files in a folder, but for so many bytes, if that is given.
    ///
    /// # Errors
    /// They cannot be read, an image is in `labels` twice, or there is nothing to learn from.
    pub fn read(
        probe: &Probe,
        tables: &dyn Tables,
        seed: u64,
        spill: Option<(&Path, usize)>,
        sink: &mut dyn Sink,
    ) -> Result<Self, RunError> {
        let folder = spill.map(|(folder, _)| folder);
        let sorter = || Sorter::new(spill.map(|(folder, most)| (folder, most / IDS)));
        let Labels { sorted, code, others } = Labels::read(probe, tables, seed, sorter()?)?;
        // In memory, only features that have a label are kept. In files, which are sorted, that is not known before the end.
        let (known, mut labels): (Option<Vec<Item>>, Items) = match spill {
            None => (Some(sorted.collect::<Result<_, _>>()?), Box::new(std::iter::empty())),
            Some(_) => (None, Box::new(sorted)),
        };
        let is_known =
            |id: &str| known.as_ref().is_none_or(|known| known.binary_search_by(|item| item.0.as_str().cmp(id)).is_ok());
        let expected = tables.rows(FEATURES)?;
        let (mut ids, mut count, mut read, mut unlabelled) = (sorter()?, 0u32, 0, 0);
        let writers = probe.columns.iter().map(|_| Writer::new(0, folder));
        let mut writers: Vec<Writer<f32>> = writers.collect::<Result<_, _>>()?;
        for batch in tables.scan(FEATURES, Order::Stored)? {
            let batch = batch?;
            let names = text(&batch, IMAGE_ID)?;
            let rows: Vec<usize> = (0..batch.num_rows()).filter(|&row| is_known(names.value(row))).collect();
            unlabelled += batch.num_rows() - rows.len();
            for &row in &rows {
                ids.push(names.value(row), &count.to_ne_bytes())?;
                count += 1;
            }
            for (name, writer) in probe.columns.iter().zip(&mut writers) {
                let (values, dimension) = vectors::of_images(&batch, name)?;
                match rows.len() == batch.num_rows() {
                    true => writer.extend(&values)?,
                    false => rows.iter().try_for_each(|&row| writer.extend(&values[row * dimension..][..dimension]))?,
                }
            }
            read += batch.num_rows();
            sink.progress(read, expected, "reading features");
            if sink.cancelled() {
                return Err(RunError::Cancelled);
            }
        }
        if let Some(known) = known {
            labels = Box::new(known.into_iter().map(Ok));
        }
        let mut labels = Unique { labels, last: None };
        let mut label = labels.next().transpose()?;
        let (mut order, mut targets, mut splits) =
            (Writer::new(0, folder)?, Writer::new(0, folder)?, Writer::new(0, folder)?);
        let (mut examples, mut came_so) = (0, true);
        for item in ids.finish()? {
            let (id, row) = item?;
            while label.as_ref().is_some_and(|label| label.0 < id) {
                label = labels.next().transpose()?;
            }
            let Some((_, label)) = label.as_ref().filter(|label| label.0 == id) else {
                unlabelled += 1;
                continue;
            };
            let row = u32::from_ne_bytes(row.try_into().expect("four bytes were attached"));
            came_so &= row as usize == examples;
            let Label { split, target } = code.label(label);
            order.extend(&[row])?;
            splits.extend(&[split as u8])?;
            targets.extend(&target)?;
            examples += 1;
        }
        while label.is_some() {
            label = labels.next().transpose()?;
        }
        let order = order.finish()?;
        let in_order = |values: Numbers<f32>| match came_so && examples == count as usize {
            true => Ok(values),
            false => sorted_rows(&values, values.len() / (count as usize).max(1), &order, folder),
        };
        let values = writers.into_iter().map(|writer| in_order(writer.finish()?)).collect::<Result<_, _>>()?;
        let exclusive = matches!(probe.target, Target::One(_));
        let (classes, targets, splits) = (code.classes(), targets.finish()?, splits.finish()?);
        let splits = Slots::filled(&splits, folder)?;
        let in_files = folder.is_some();
        let examples = Self { classes, exclusive, targets, splits, values, unlabelled, in_files, others };
        examples.check()?;
        Ok(examples)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.splits.len()
    }

    /// What an image is for.
    pub fn split(&self, row: usize) -> Split {
        Split::numbered(self.splits[row])
    }

    /// Says that some will not be looked at soon.
    pub fn release(&self, rows: std::ops::Range<usize>) {
        let width = if self.exclusive { 1 } else { self.classes.len() };
        self.targets.release(rows.start * width..rows.end * width);
        self.splits.release(rows);
    }

    /// What an image shows: its class, or a number for each.
    pub fn target(&self, row: usize) -> &[i32] {
        let width = if self.exclusive { 1 } else { self.classes.len() };
        &self.targets[row * width..][..width]
    }

    fn check(&self) -> Result<(), RunError> {
        let counts = [Split::Train, Split::Validation, Split::Test].map(|split| (split.name(), self.count(split)));
        let found = counts.map(|(name, count)| format!("{count} for {name}")).join(", ");
        let mut shown = BTreeSet::new();
        self.rows_of(Split::Train, |row| match self.exclusive {
            true => drop(shown.insert(self.target(row)[0])),
            false => shown.extend((0..).zip(self.target(row)).filter(|(_, shows)| **shows == 1).map(|(class, _)| class)),
        });
        let differ = shown.len() > usize::from(self.exclusive);
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
        (count > 0).then(|| format!("{count} rows of `{LABELS}` are left out, being of the splits {}", names.join(", ")))
    }

    /// How many images a split has.
    pub fn count(&self, split: Split) -> usize {
        let mut count = 0;
        self.rows_of(split, |_| count += 1);
        count
    }

    /// Looks at the images of a split.
    fn rows_of(&self, split: Split, mut look: impl FnMut(usize)) {
        for start in (0..self.len()).step_by(SOME) {
            let range = start..self.len().min(start + SOME);
            range.clone().filter(|&row| self.split(row).is(split)).for_each(&mut look);
            self.release(range);
        }
    }

    /// Without images for the test, takes those for validation; says whether it did.
    pub fn measure_validation(&mut self) -> bool {
        if self.count(Split::Test) > 0 || self.count(Split::Validation) == 0 {
            return false;
        }
        self.change(|split| if split == Split::Validation { Split::Test } else { split });
        true
    }

    /// Holds out a fifth of the training images for validation, if there are none; says whether it did.
    pub fn hold_out(&mut self) -> bool {
        if self.count(Split::Validation) > 0 {
            return false;
        }
        self.change(|split| if split == Split::Reserve { Split::Validation } else { split });
        if self.count(Split::Validation) == 0 {
            let first = (0..self.len()).find(|&row| self.split(row) == Split::Train).expect("some are for training");
            self.splits[first] = Split::Validation as u8;
        }
        true
    }

    fn change(&mut self, to: impl Fn(Split) -> Split) {
        self.splits.iter_mut().for_each(|split| *split = to(Split::numbered(*split)) as u8);
    }
}

/// Labels of which no image has two.
struct Unique {
    labels: Items,
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
