//! The labelled images: what each is for, and what it shows.

use std::collections::{BTreeMap, BTreeSet};

use super::LABELS;
use crate::numbers::{Numbers, Slots};
use crate::operator::RunError;

/// Images that are looked at before memory is given back.
const SOME: usize = 1 << 16;

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
    pub splits: Slots<u8>,
    /// Images that have features and no label.
    pub unlabelled: usize,
    /// Whether they are in files, to be looked at piece by piece.
    pub in_files: bool,
    /// Rows of `labels` of splits that are none of the three, by their names.
    pub others: BTreeMap<String, usize>,
}

impl Examples {
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

    /// Checks that there is something to learn.
    ///
    /// # Errors
    /// There are too few images for training, or they all show the same.
    pub fn check(&self) -> Result<(), RunError> {
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
