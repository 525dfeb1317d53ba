//! The nearest of `k` centres for each of `n` rows: what `kmeans` and `assign` spend their time on.
//!
//! `|x - c|² = |x|² - 2 (x·c - |c|²/2)`, so the centre with the largest score `x·c - |c|²/2` is the nearest. Rows and centres are
//! rounded to whole numbers of 8 or 16 bits ([`code`]), whose products some processors compute four times as fast as those of
//! f32, and which bound each score from both sides ([`bounds`]). Only centres whose upper bound reaches the best lower bound are looked at
//! closer: one or two of a thousand on the features of networks. Several are told apart by their distances, in f32 and where that
//! leaves more than one in f64; of equal distances, the lower number comes first.
//!
//! So the result is exact: that of computing all distances in f64, bit for bit, whatever the instruction set, a row's place in
//! its block, or the number of threads. No `n x k` matrix exists. Bounds from products in low precision are an old idea for nearest
//! neighbours (VA-file: Weber, Schek, Blott, VLDB 1998).

mod bounds;
mod code;
mod heavy;
mod kernel;
mod lanes;
mod panels;
mod several;

use std::borrow::Cow;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::numbers::{Numbers, Slots};
use crate::operator::RunError;
use crate::parallel;
use crate::wide::wide;
use code::{Code, Coded};
use kernel::{Kernel, Scratch};

pub use code::Frame;
pub use kernel::BLOCK;
pub use panels::Panels;
pub use several::{Best, Members, Queries, Searcher};

/// The most centres: enough for any use, and few enough for every sum of their sizes.
pub const MOST_CENTRES: usize = 1 << 24;

/// Rows in one unit of parallel work.
pub const UNIT: usize = 8 * BLOCK;
/// Multiply-adds between two looks at whether the search was cancelled, a thread: some tenths of a second with AVX-512, a second
/// with AVX2.
const WORK: usize = 1 << 36;

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

/// What a search is to find of a row's nearest centres: [`Nearest`], [`Near`], or the number alone, for which most rows need no
/// distance.
pub trait Found: Send {
    /// Whether the second is wanted too.
    const TWO: bool;

    /// Chooses among the candidates, of which there is one at least, and two if wanted and there.
    fn settle(candidates: &[(u32, f32)], distance: &dyn Fn(u32) -> f64) -> Self;
}

impl Found for u32 {
    const TWO: bool = false;

    fn settle(candidates: &[(u32, f32)], distance: &dyn Fn(u32) -> f64) -> Self {
        match candidates {
            [(only, _)] => *only,
            _ => Near::settle(candidates, distance).centre,
        }
    }
}

impl Found for Near {
    const TWO: bool = false;

    fn settle(candidates: &[(u32, f32)], distance: &dyn Fn(u32) -> f64) -> Self {
        Nearest::settle(candidates, distance).first
    }
}

impl Found for Nearest {
    const TWO: bool = true;

    fn settle(candidates: &[(u32, f32)], distance: &dyn Fn(u32) -> f64) -> Self {
        let mut all = candidates.iter().map(|&(centre, _)| Near { centre, squared: distance(centre) });
        let mut best = Self { first: all.next().expect("a row has a nearest centre"), second: None };
        // Candidates come in the order of their numbers: what is only as near stays behind.
        for near in all {
            if near.squared < best.first.squared {
                best = Self { first: near, second: Some(best.first) };
            } else if best.second.is_none_or(|second| near.squared < second.squared) {
                best.second = Some(near);
            }
        }
        best
    }
}

/// Rows made ready to be searched for again and again: `n x D` values, and their codes in a quarter of that memory (half of it
/// without AVX-512's byte products, and where D is below 64).
pub struct CodedRows<'a> {
    values: &'a Numbers<f32>,
    frame: Frame,
    words: Numbers<u32>,
    codes: Slots<Code>,
}

impl<'a> CodedRows<'a> {
    /// Codes rows, which must be finite and of magnitude up to [`LARGEST`](crate::vectors::LARGEST); into files in `folder`, if one is given.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn new(frame: Frame, values: &'a Numbers<f32>, threads: usize, folder: Option<&Path>) -> Result<Self, RunError> {
        let dimension = frame.dimension();
        let n = values.len() / dimension;
        let mut codes: Slots<Code> = Slots::new(n, folder)?;
        let units = codes.units(UNIT);
        let words = Numbers::made(code::words(&frame, n), code::words(&frame, UNIT), threads, folder, |unit, words| {
            units.change(unit, |codes| {
                let range = unit * UNIT * dimension..(unit * UNIT + codes.len()) * dimension;
                frame.kernel.fill(&frame, &values[range.clone()], words, codes);
                values.release(range);
            });
        })?;
        drop(units);
        Ok(Self { values, frame, words, codes })
    }

    /// The frame that the centres were coded in.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The bytes that codes of a row of so many values take.
    pub fn bytes(dimension: usize) -> usize {
        size_of::<u32>() * dimension.div_ceil(Kernel::best(dimension).packing().values()) + size_of::<Code>()
    }
}

/// Centres, made ready for the search.
pub struct Centres<'a> {
    /// `k x D`, as given.
    plain: Cow<'a, [f32]>,
    panels: Panels,
}

impl<'a> Centres<'a> {
    /// From `k x dimension` finite values of magnitude up to [`LARGEST`](crate::vectors::LARGEST).
    ///
    /// # Panics
    /// There is no centre, or more than [`MOST_CENTRES`], or the values do not fill the last one.
    pub fn new(plain: impl Into<Cow<'a, [f32]>>, dimension: usize) -> Self {
        let plain = plain.into();
        let frame = Frame::around(&plain, dimension);
        Self::within(frame, plain)
    }

    /// Centres for the search of rows that were coded in a given frame. The frame fits best if it was made around centres like these.
    ///
    /// # Panics
    /// As [`Centres::new`].
    pub fn within(frame: Frame, plain: impl Into<Cow<'a, [f32]>>) -> Self {
        let (plain, dimension) = (plain.into(), frame.dimension());
        assert!(dimension > 0 && !plain.is_empty() && plain.len().is_multiple_of(dimension), "no whole number of centres");
        let k = plain.len() / dimension;
        assert!(k <= MOST_CENTRES, "more than {MOST_CENTRES} centres");
        let panels = Panels::new(&Arc::new(frame), plain.chunks_exact(dimension));
        Self { plain, panels }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.plain.len() / self.dimension()
    }

    /// Values of a centre.
    pub fn dimension(&self) -> usize {
        self.panels.frame.dimension()
    }

    /// One of them.
    pub fn centre(&self, number: u32) -> &[f32] {
        &self.plain[number as usize * self.dimension()..][..self.dimension()]
    }

    /// What is nearest to each of the `n x D` rows, on that many threads.
    ///
    /// Rows must be finite, of magnitude up to [`LARGEST`](crate::vectors::LARGEST); of others, the result has no meaning.
    pub fn find<F: Found + Default + Clone>(&self, rows: &[f32], threads: usize) -> Vec<F> {
        let (dimension, kernel) = (self.dimension(), self.panels.frame.kernel);
        let mut found = vec![F::default(); rows.len() / dimension];
        let rows = rows.chunks(UNIT * dimension);
        let units: Vec<_> = rows.zip(found.chunks_mut(UNIT)).map(Mutex::new).collect();
        parallel::each(threads, units.len(), |unit| {
            let (rows, found) = &mut *units[unit].lock().expect("each unit is locked once");
            let (mut scratch, mut codes) = (Scratch::new(kernel), [Code::default(); BLOCK]);
            let mut words = vec![0; code::words(&self.panels.frame, BLOCK)];
            for (rows, found) in rows.chunks(BLOCK * dimension).zip(found.chunks_mut(BLOCK)) {
                kernel.fill(&self.panels.frame, rows, &mut words, &mut codes);
                kernel.run(self, rows, Coded { words: &words, codes: &codes }, 0, &mut scratch, found);
            }
        });
        found
    }

    /// The same for rows that were coded before, [`UNIT`] rows at a time: `settle` gets the first one's number and what was found for
    /// each, on whichever thread found it. Asks now and then whether to go on; false: it did not.
    ///
    /// # Panics
    /// The rows were coded in another frame.
    pub fn search<F: Found + Default + Clone>(
        &self,
        rows: &CodedRows<'_>,
        threads: usize,
        settle: &(dyn Fn(usize, &[F]) + Sync),
        cancelled: &dyn Fn() -> bool,
    ) -> bool {
        let dimension = self.dimension();
        assert!(rows.frame.same(&self.panels.frame), "rows and centres of one frame");
        let (count, size) = (rows.codes.len(), code::words(&self.panels.frame, UNIT));
        let units = count.div_ceil(UNIT);
        let at_once = (threads * WORK / (UNIT * self.plain.len())).max(threads);
        (0..units).step_by(at_once).all(|first| {
            parallel::each(threads, at_once.min(units - first), |number| {
                let unit = first + number;
                let (range, words) =
                    (unit * UNIT..count.min((unit + 1) * UNIT), unit * size..rows.words.len().min((unit + 1) * size));
                let values = range.start * dimension..range.end * dimension;
                let coded = Coded { words: &rows.words[words.clone()], codes: &rows.codes[range.clone()] };
                let (mut scratch, mut found) = (Scratch::new(self.panels.frame.kernel), vec![F::default(); range.len()]);
                let blocks = rows.values[values.clone()].chunks(BLOCK * dimension).zip(found.chunks_mut(BLOCK));
                for (block, (values, found)) in blocks.enumerate() {
                    self.panels.frame.kernel.run(self, values, coded, block * BLOCK, &mut scratch, found);
                }
                settle(range.start, &found);
                rows.words.release(words);
                rows.codes.release(range);
                rows.values.release(values);
            });
            !cancelled()
        })
    }
}

wide! {
    /// `|x - y|²` in f64, the same everywhere.
    pub fn squared_distance(x: &[f32], y: &[f32]) -> f64 {
        squared(x, y)
    }
}

wide! {
    /// Whether `|x - y|²`, as [`squared_distance`] gives it, is at most `limit`.
    pub fn is_within(x: &[f32], y: &[f32], limit: f64) -> bool {
        let near = f64::from(bounds::near_squared(x, y));
        let slack = near * f64::from(bounds::slack(x.len())) + f64::from(f32::MIN_POSITIVE);
        if (near - limit).abs() > slack { near < limit } else { squared(x, y) <= limit }
    }
}

/// `|x - y|²`, summed in 16 chains so that it is quick and the same everywhere.
#[inline(always)]
fn squared(x: &[f32], y: &[f32]) -> f64 {
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
