//! One layer's features, standardised, piece by piece.

use std::ops::Range;

use tch::{Kind, Tensor};

use super::data::{Examples, Split};
use crate::numbers::Numbers;
use crate::operator::RunError;
use crate::wide::wide;

/// Values that are worked on at once where they lie in a file, with what is computed of them.
const AT_ONCE: usize = 1 << 20;
/// Values for each class that a row's loss takes beside its scores: logarithms, exponentials, and a class in 64 bits.
const OF_A_CLASS: usize = 6;

/// The features of all examples in one layer, and how they are standardised.
pub struct Layer<'a> {
    pub examples: &'a Examples,
    /// `n x D`.
    values: &'a Numbers<f32>,
    /// How many rows are worked on at once.
    at_once: usize,
    /// What is taken off each of a row's values, and what it is divided by.
    mean: Vec<f32>,
    deviation: Vec<f32>,
    /// How many rows mean and deviation are of.
    pub count: usize,
}

/// Some examples.
pub struct Piece {
    /// Standardised features, `m x (D + 1)`: the last is 1.
    pub rows: Tensor,
    /// Classes (m) or -1, 0, 1 (`m x K`, f32).
    pub targets: Tensor,
}

impl<'a> Layer<'a> {
    /// Of values `n x D`, standardised by the mean and the deviation of some splits.
    pub fn new(values: &'a Numbers<f32>, examples: &'a Examples, splits: &[Split]) -> Self {
        let dimension = values.len() / examples.len();
        let of_a_row = dimension + 1 + OF_A_CLASS * examples.classes.len();
        let at_once = if examples.in_files { (AT_ONCE / of_a_row).max(1) } else { examples.len() };
        let (mean, deviation) = (vec![0.0; dimension], vec![1.0; dimension]);
        let plain = Self { examples, values, at_once, mean, deviation, count: 0 };
        let (count, mean, deviation) = plain.moments(splits);
        Self { mean, deviation, count, ..plain }
    }

    /// How many values a row has.
    pub fn dimension(&self) -> usize {
        self.mean.len()
    }

    /// What is taken off each of a row's values, and what it is divided by.
    pub fn standards(&self) -> impl Iterator<Item = (f32, f32)> {
        self.mean.iter().copied().zip(self.deviation.iter().copied())
    }

    /// How many rows some splits have, their mean and deviation: in f64, of differences from the first row and then from the mean, so
    /// that a column's offset takes no precision.
    fn moments(&self, splits: &[Split]) -> (usize, Vec<f32>, Vec<f32>) {
        let (mut count, mut first, mut mean) = (0usize, Vec::new(), vec![0.0f64; self.dimension()]);
        for row in self.rows(splits) {
            if count == 0 {
                first = row.iter().map(|&value| f64::from(value)).collect();
            }
            add(&mut mean, row, &first, false);
            count += 1;
        }
        mean.iter_mut().zip(&first).for_each(|(sum, first)| *sum = first + *sum / count as f64);
        let mut squares = vec![0.0; self.dimension()];
        self.rows(splits).for_each(|row| add(&mut squares, row, &mean, true));
        // A value that never differs says nothing.
        let deviation = |square: &f64| match (square / count as f64).sqrt() {
            deviation if deviation > 1e-12 => deviation as f32,
            _ => f32::INFINITY,
        };
        (count, mean.iter().map(|&mean| mean as f32).collect(), squares.iter().map(deviation).collect())
    }

    /// The numbers of rows that are worked on at once.
    fn stretches(&self) -> impl Iterator<Item = Range<usize>> + use<'a> {
        let (n, at_once) = (self.examples.len(), self.at_once);
        (0..n).step_by(at_once).map(move |start| start..n.min(start + at_once))
    }

    /// The rows of some splits, as they are.
    fn rows(&self, splits: &[Split]) -> impl Iterator<Item = &'a [f32]> {
        let (examples, values, dimension) = (self.examples, self.values, self.dimension());
        self.stretches().flat_map(move |range| {
            // Those before are done with.
            let before = range.start.saturating_sub(range.len())..range.start;
            values.release(before.start * dimension..before.end * dimension);
            examples.release(before);
            let rows = range.filter(move |&row| splits.iter().any(|split| examples.split(row).is(*split)));
            rows.map(move |row| &values[row * dimension..][..dimension])
        })
    }

    /// The examples of some splits, piece by piece; all at once where they are in memory.
    pub fn pieces(&self, splits: &[Split]) -> impl Iterator<Item = Result<Piece, RunError>> {
        self.stretches().filter_map(move |range| {
            let within = |row: &usize| splits.iter().any(|split| self.examples.split(*row).is(*split));
            let places: Vec<usize> = range.clone().filter(within).collect();
            let piece = (!places.is_empty()).then(|| self.piece(&places));
            let dimension = self.dimension();
            self.values.release(range.start * dimension..range.end * dimension);
            self.examples.release(range);
            piece
        })
    }

    fn piece(&self, places: &[usize]) -> Result<Piece, RunError> {
        let (m, width) = (places.len() as i64, self.dimension() + 1);
        let mut rows = vec![1.0f32; places.len() * width];
        for (to, &place) in rows.chunks_exact_mut(width).zip(places) {
            let from = &self.values[place * (width - 1)..][..width - 1];
            let terms = from.iter().zip(self.mean.iter().zip(&self.deviation));
            to.iter_mut().zip(terms).for_each(|(to, (value, (mean, deviation)))| *to = (value - mean) / deviation);
        }
        let rows = Tensor::f_from_slice(&rows)?.f_view([m, width as i64])?;
        let targets: Vec<i32> = places.iter().flat_map(|&place| self.examples.target(place)).copied().collect();
        let targets = Tensor::f_from_slice(&targets)?;
        let targets = match self.examples.exclusive {
            true => targets.f_to_kind(Kind::Int64)?,
            false => targets.f_to_kind(Kind::Float)?.f_view([m, -1])?,
        };
        Ok(Piece { rows, targets })
    }

    /// Works on so many rows at once.
    #[cfg(test)]
    pub fn piecewise(&mut self, rows: usize) {
        self.at_once = rows;
    }
}

wide! {
    /// Adds a row's differences from some values, or the squares of those.
    fn add(sums: &mut [f64], row: &[f32], from: &[f64], squared: bool) {
        for (sum, (value, from)) in sums.iter_mut().zip(row.iter().zip(from)) {
            let difference = f64::from(*value) - from;
            *sum += if squared { difference * difference } else { difference };
        }
    }
}
