//! The nearest two of `k` centres for each of `n` rows: what `kmeans` and `assign` spend their time on.
//!
//! `|x - c|² = |x|² - 2 (x·c - |c|²/2)`, so the centre with the largest score `x·c - |c|²/2` is the nearest. The products run in
//! blocks with the search for the largest two fused in: no `n x k` matrix exists. The centres' mean is taken off both sides
//! first, since products of numbers far from zero lose what tells centres apart. The distances of the best two are then
//! computed anew from differences, in f64; where these are equal, the lower number comes first.
//!
//! A row's result depends on the row and the centres alone, bit for bit: each score is one chain of fused multiply-adds over
//! the dimensions, in order, whatever the instruction set, the row's place in its block, or the number of threads.

mod kernel;
mod lanes;

use std::borrow::Cow;
use std::sync::Mutex;

use arrow::datatypes::{DataType, SchemaRef};
use tessera_schemas::features;

use crate::operator::BindError;
use crate::parallel;
use kernel::{Aligned, Kernel, STRIP, Scratch, VECTORS, panel_columns};

pub use kernel::BLOCK;

/// The largest magnitude that a value may have: squares of differences then fit f32 in 2^20 dimensions.
pub const LARGEST: f32 = 1e15;
/// The most centres: their numbers travel through the kernel as f32.
pub const MOST_CENTRES: usize = 1 << 24;

/// Blocks in one unit of parallel work.
const BLOCKS: usize = 8;

/// One centre, seen from a row.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Near {
    /// The centre's number.
    pub centre: u32,
    /// Squared Euclidean distance.
    pub squared: f64,
}

/// The nearest two centres of a row; the second is there if `k` is more than one.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Nearest {
    /// The nearest.
    pub first: Near,
    /// The next.
    pub second: Option<Near>,
}

/// Centres, made ready for the search.
pub struct Centres<'a> {
    /// `k x D`, as given.
    plain: Cow<'a, [f32]>,
    dimension: usize,
    kernel: Kernel,
    /// The centres' mean, D.
    mean: Vec<f32>,
    /// Panels of [`VECTORS`] vectors: for each padded dimension one value a centre; the last panel has as many vectors as it needs.
    packed: Aligned,
    /// `|c - mean|²/2`, infinite for the padding behind the last centre.
    half_norms: Aligned,
}

impl<'a> Centres<'a> {
    /// From `k x dimension` finite values of magnitude up to [`LARGEST`].
    ///
    /// # Panics
    /// There is no centre, or more than [`MOST_CENTRES`], or the values do not fill the last one.
    pub fn new(plain: impl Into<Cow<'a, [f32]>>, dimension: usize) -> Self {
        Self::with(Kernel::best(), plain.into(), dimension)
    }

    fn with(kernel: Kernel, plain: Cow<'a, [f32]>, dimension: usize) -> Self {
        assert!(dimension > 0 && !plain.is_empty() && plain.len().is_multiple_of(dimension), "no whole number of centres");
        let (k, width) = (plain.len() / dimension, kernel.width());
        assert!(k <= MOST_CENTRES, "more than {MOST_CENTRES} centres");
        let padded = k.next_multiple_of(width);
        let mean = mean(&plain, dimension);
        let depth = dimension.next_multiple_of(STRIP);
        let mut packed = Aligned::zeros(padded * depth);
        let mut half_norms = Aligned::zeros(padded);
        half_norms.fill(f32::INFINITY);
        for (number, centre) in plain.chunks_exact(dimension).enumerate() {
            let panel = number / (VECTORS * width);
            let columns = panel_columns(padded, width, panel);
            let start = panel * VECTORS * width * depth + number % (VECTORS * width);
            let mut norm = 0.0;
            for (l, (value, mean)) in centre.iter().zip(&mean).enumerate() {
                let value = value - mean;
                packed[start + l * columns] = value;
                norm += f64::from(value) * f64::from(value);
            }
            half_norms[number] = (norm / 2.0) as f32;
        }
        Self { plain, dimension, kernel, mean, packed, half_norms }
    }

    /// The nearest two centres of each of the `n x D` rows, on that many threads.
    ///
    /// Rows must be finite, of magnitude up to [`LARGEST`]; of others, the result has no meaning.
    pub fn find(&self, rows: &[f32], threads: usize) -> Vec<Nearest> {
        let mut found = vec![Nearest::default(); rows.len() / self.dimension];
        self.find_into(rows, threads, &mut found);
        found
    }

    /// The same, into memory that is there.
    ///
    /// # Panics
    /// It has another length than there are rows.
    pub fn find_into(&self, rows: &[f32], threads: usize, found: &mut [Nearest]) {
        assert_eq!(rows.len(), found.len() * self.dimension, "one result a row");
        let rows = rows.chunks(BLOCK * BLOCKS * self.dimension);
        let units: Vec<_> = rows.zip(found.chunks_mut(BLOCK * BLOCKS)).map(Mutex::new).collect();
        parallel::each(threads, units.len(), |unit| {
            let (rows, found) = &mut *units[unit].lock().expect("each unit is locked once");
            let mut scratch = Scratch::new(self);
            for (rows, found) in rows.chunks(BLOCK * self.dimension).zip(found.chunks_mut(BLOCK)) {
                self.kernel.run(self, rows, &mut scratch, found);
            }
        });
    }
}

/// A value that [`Centres`] cannot work with.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("has {value:?} in dimension {dimension}; values must be finite, of magnitude up to {LARGEST:e}")]
pub struct Unfit {
    /// Its row.
    pub row: usize,
    /// Its place in the row.
    pub dimension: usize,
    /// What it is.
    pub value: f32,
}

/// Checks `n x dimension` values.
///
/// # Errors
/// One is not finite, or its magnitude is above [`LARGEST`]: the first such.
pub fn check(rows: &[f32], dimension: usize) -> Result<(), Unfit> {
    let fits = |value: &f32| value.abs() <= LARGEST;
    if rows.iter().fold(true, |all, value| all & fits(value)) {
        return Ok(());
    }
    let at = rows.iter().position(|value| !fits(value)).expect("the fold found one");
    Err(Unfit { row: at / dimension, dimension: at % dimension, value: rows[at] })
}

/// The length of the vectors in the column that a stage's `column` names.
///
/// # Errors
/// There is no such column, it holds no vectors, or empty ones.
pub fn dimension(schema: &SchemaRef, column: &str) -> Result<usize, BindError> {
    let fault = match features::dimension(schema, column) {
        Ok(0) => format!("column `{column}` holds vectors of no values"),
        Ok(dimension) => return Ok(dimension),
        Err(error) => error.to_string(),
    };
    let is_vector =
        |kind: &DataType| matches!(kind, DataType::FixedSizeList(item, 1..) if item.data_type() == &DataType::Float32);
    let known: Vec<_> = schema.fields().iter().filter(|f| is_vector(f.data_type())).map(|f| f.name().as_str()).collect();
    let help = if known.is_empty() {
        "the input has no column of vectors; `infer` makes one".to_owned()
    } else {
        format!("columns of vectors: {}", known.join(", "))
    };
    Err(BindError::key("column", fault).help(help))
}

/// Column means, D.
fn mean(rows: &[f32], dimension: usize) -> Vec<f32> {
    let mut sums = vec![0.0; dimension];
    for row in rows.chunks_exact(dimension) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += f64::from(*value);
        }
    }
    let count = (rows.len() / dimension) as f64;
    sums.iter().map(|sum| (sum / count) as f32).collect()
}

/// `|x - y|²`, summed in 16 chains so that it is quick and the same everywhere.
#[inline(always)]
pub fn squared_distance(x: &[f32], y: &[f32]) -> f64 {
    let mut sums = [0.0; 16];
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<16>(), y.as_chunks::<16>());
    for (x, y) in x.iter().zip(y) {
        for lane in 0..16 {
            let difference = f64::from(x[lane]) - f64::from(y[lane]);
            sums[lane] += difference * difference;
        }
    }
    for (sum, (x, y)) in sums.iter_mut().zip(x_rest.iter().zip(y_rest)) {
        let difference = f64::from(*x) - f64::from(*y);
        *sum += difference * difference;
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests;
