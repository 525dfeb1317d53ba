//! Logistic regression by L-BFGS.

use std::collections::VecDeque;
use std::ops::Range;

use tch::{Device, Kind, Reduction, Tensor};

use super::data::{Examples, Split};
use crate::numbers::Numbers;
use crate::operator::RunError;
use crate::torch::score::{self, Score};
use crate::wide::wide;

/// Steps that the approximation of the curvature remembers.
const MEMORY: usize = 10;
/// It has converged when no component of the mean loss's gradient is larger: scikit-learn's default.
const TOLERANCE: f64 = 1e-4;
/// Halvings of a step before it gives up.
const HALVINGS: usize = 20;
/// A step is taken if it gains that share of what the slope promises.
const ARMIJO: f64 = 1e-4;

/// Values that are worked on at once where they lie in a file, with what is computed of them.
const AT_ONCE: usize = 1 << 20;
/// Values for each class that a row's loss takes beside its scores: logarithms, exponentials, and a class in 64 bits.
const OF_A_CLASS: usize = 6;

/// A layer's features, and the weights that were fitted last.
pub struct Fitter<'a> {
    examples: &'a Examples,
    /// `n x D`.
    values: &'a Numbers<f32>,
    /// How many rows are worked on at once.
    some: usize,
    /// What is taken off each of a row's values, and what it is divided by.
    mean: Vec<f32>,
    deviation: Vec<f32>,
    /// What is learnt from.
    splits: Vec<Split>,
    /// All of that, where it fits into memory.
    learnt: Option<Piece>,
    /// How many images that is.
    count: usize,
    /// `(D + 1) x K`; the last row, the biases, is not pulled towards zero.
    weights: Tensor,
    pull: Tensor,
}

/// Some examples.
struct Piece {
    /// Standardised features, `m x (D + 1)`: the last is 1.
    rows: Tensor,
    /// Classes (m) or -1, 0, 1 (`m x K`, f32).
    targets: Tensor,
}

impl<'a> Fitter<'a> {
    /// From a layer's values, `n x D`; learns from the images of those splits.
    ///
    /// # Errors
    /// libtorch refuses, as when memory is short.
    pub fn new(values: &'a Numbers<f32>, examples: &'a Examples, splits: &[Split]) -> Result<Self, RunError> {
        let dimension = values.len() / examples.len();
        let (width, classes) = (dimension as i64 + 1, examples.classes.len() as i64);
        let pull = Tensor::f_ones([width, 1], (Kind::Double, Device::Cpu))?;
        let _ = pull.f_get(width - 1)?.f_fill_(0.0)?;
        let weights = Tensor::f_zeros([width, classes], (Kind::Double, Device::Cpu))?;
        let (mean, deviation) = (vec![0.0; dimension], vec![1.0; dimension]);
        let splits = splits.to_vec();
        let of_a_row = dimension + 1 + OF_A_CLASS * examples.classes.len();
        let some = if examples.in_files { (AT_ONCE / of_a_row).max(1) } else { examples.len() };
        let mut new = Self { examples, values, some, mean, deviation, splits, learnt: None, count: 0, weights, pull };
        (new.count, new.mean, new.deviation) = new.moments();
        if !examples.in_files {
            let learnt = new.pieces(&new.splits).next().transpose()?;
            new.learnt = learnt;
        }
        Ok(new)
    }

    /// How many rows are learnt from, their mean and deviation: in f64, of differences from the first row and then from the mean, so that
    /// a column's offset takes no precision.
    fn moments(&self) -> (usize, Vec<f32>, Vec<f32>) {
        let dimension = self.mean.len();
        let (mut count, mut first, mut mean) = (0usize, Vec::new(), vec![0.0f64; dimension]);
        for row in self.rows(&self.splits) {
            if count == 0 {
                first = row.iter().map(|&value| f64::from(value)).collect();
            }
            add(&mut mean, row, &first, false);
            count += 1;
        }
        mean.iter_mut().zip(&first).for_each(|(sum, first)| *sum = first + *sum / count as f64);
        let mut squares = vec![0.0; dimension];
        self.rows(&self.splits).for_each(|row| add(&mut squares, row, &mean, true));
        // A value that never differs says nothing.
        let deviation = |square: &f64| match (square / count as f64).sqrt() {
            deviation if deviation > 1e-12 => deviation as f32,
            _ => f32::INFINITY,
        };
        (count, mean.iter().map(|&mean| mean as f32).collect(), squares.iter().map(deviation).collect())
    }

    /// The numbers of rows that are worked on at once.
    fn stretches(&self) -> impl Iterator<Item = Range<usize>> + use<'a> {
        let (n, some) = (self.examples.len(), self.some);
        (0..n).step_by(some).map(move |start| start..n.min(start + some))
    }

    /// The rows of some splits, as they are.
    fn rows(&self, splits: &[Split]) -> impl Iterator<Item = &'a [f32]> {
        let (examples, values, dimension) = (self.examples, self.values, self.mean.len());
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
    fn pieces(&self, splits: &[Split]) -> impl Iterator<Item = Result<Piece, RunError>> {
        self.stretches().filter_map(move |range| {
            let within = |row: &usize| splits.iter().any(|split| self.examples.split(*row).is(*split));
            let places: Vec<usize> = range.clone().filter(within).collect();
            let piece = (!places.is_empty()).then(|| self.piece(&places));
            let dimension = self.mean.len();
            self.values.release(range.start * dimension..range.end * dimension);
            self.examples.release(range);
            piece
        })
    }

    fn piece(&self, places: &[usize]) -> Result<Piece, RunError> {
        let (m, width) = (places.len() as i64, self.mean.len() + 1);
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

    /// Minimises `Σ loss + |W|² / 2c`, from the weights that are there.
    ///
    /// # Errors
    /// It was cancelled, or libtorch refuses.
    pub fn fit(&mut self, c: f64, iterations: usize, cancelled: &dyn Fn() -> bool) -> Result<(), RunError> {
        let decay = 1.0 / (c * self.count as f64);
        let mut history: VecDeque<(Tensor, Tensor, f64)> = VecDeque::new();
        let (mut value, mut gradient) = self.objective(&self.weights, decay)?;
        for _ in 0..iterations {
            if cancelled() {
                return Err(RunError::Cancelled);
            }
            if number(&gradient.f_abs()?.f_max()?)? <= TOLERANCE {
                break;
            }
            let mut direction = direction(&gradient, &history)?;
            let mut slope = dot(&gradient, &direction)?;
            if slope >= 0.0 {
                history.clear();
                direction = gradient.f_neg()?;
                slope = -dot(&gradient, &gradient)?;
            }
            // The first step has no curvature to go by.
            let mut step = if history.is_empty() { (1.0 / (-slope).sqrt()).min(1.0) } else { 1.0 };
            let mut found = None;
            for _ in 0..HALVINGS {
                let weights = &self.weights + &direction * step;
                let (next, slopes) = self.objective(&weights, decay)?;
                if next <= value + ARMIJO * step * slope {
                    found = Some((weights, next, slopes));
                    break;
                }
                step /= 2.0;
            }
            // Below what f32 can tell: as good as it gets.
            let Some((weights, next, slopes)) = found else { break };
            let (moved, turned) = (&weights - &self.weights, &slopes - &gradient);
            let curvature = dot(&moved, &turned)?;
            if curvature > 0.0 {
                history.push_back((moved, turned, curvature));
                if history.len() > MEMORY {
                    history.pop_front();
                }
            }
            (self.weights, value, gradient) = (weights, next, slopes);
        }
        Ok(())
    }

    /// The mean loss with the pull, and its gradient.
    fn objective(&self, weights: &Tensor, decay: f64) -> Result<(f64, Tensor), RunError> {
        let small = weights.f_to_kind(Kind::Float)?;
        let (mut loss, mut slope) = (0.0, weights.f_zeros_like()?);
        let mut add = |piece: &Piece| -> Result<(), RunError> {
            let (of_piece, gradient) = self.loss(piece, &small)?;
            loss += of_piece;
            let _ = slope.f_add_(&gradient)?;
            Ok(())
        };
        match &self.learnt {
            Some(all) => add(all)?,
            None => self.pieces(&self.splits).try_for_each(|piece| add(&piece?))?,
        }
        let n = self.count as f64;
        let pulled = weights * &self.pull;
        let value = loss / n + 0.5 * decay * dot(&pulled, &pulled)?;
        Ok((value, slope / n + pulled * decay))
    }

    /// The sum of some examples' losses, and its gradient.
    fn loss(&self, Piece { rows, targets }: &Piece, weights: &Tensor) -> Result<(f64, Tensor), RunError> {
        let scores = rows.f_matmul(weights)?;
        let (loss, slope) = if self.examples.exclusive {
            let logs = scores.f_log_softmax(1, Kind::Float)?;
            let loss = logs.f_nll_loss::<&Tensor>(targets, None, Reduction::Sum, -100)?;
            let classes = self.examples.classes.len() as i64;
            (loss, logs.f_exp()? - targets.f_one_hot(classes)?.f_to_kind(Kind::Float)?)
        } else {
            // log(1 + exp(-t s)) where t is not 0, and its slope -t / (1 + exp(t s)).
            let margin = &scores * targets;
            let counts = targets.f_abs()?;
            let loss = (margin.f_neg()?.f_softplus()? * counts).f_sum(Kind::Double)?;
            (loss, margin.f_neg()?.f_sigmoid()? * targets.f_neg()?)
        };
        Ok((number(&loss)?, rows.f_tr()?.f_matmul(&slope)?.f_to_kind(Kind::Double)?))
    }

    /// What the weights are worth on a split.
    ///
    /// # Errors
    /// libtorch refuses.
    pub fn scores(&self, split: Split) -> Result<Vec<Score>, RunError> {
        let weights = self.weights.f_to_kind(Kind::Float)?;
        let (mut tops, mut all, mut targets) = (Vec::new(), Vec::new(), Vec::new());
        for piece in self.pieces(&[split]) {
            let piece = piece?;
            let scores = piece.rows.f_matmul(&weights)?;
            if self.examples.exclusive {
                let classes = Vec::<i32>::try_from(piece.targets.f_to_kind(Kind::Int)?)?;
                tops.push(score::top(&scores, &classes)?);
            } else {
                all.extend(Vec::<f32>::try_from(scores.f_contiguous()?.f_view([-1])?)?);
                let shown = Vec::<i32>::try_from(piece.targets.f_to_kind(Kind::Int)?.f_view([-1])?)?;
                targets.extend(shown.chunks_exact(self.examples.classes.len()).map(<[i32]>::to_vec));
            }
        }
        if !self.examples.exclusive {
            return Ok(score::precisions(&all, &targets, &self.examples.classes));
        }
        let whole = |place: usize| {
            let (images, hits) = tops.iter().fold((0, 0.0), |(images, hits), top| {
                (images + top[place].images, hits + (top[place].value * top[place].images as f64).round())
            });
            let value = if images == 0 { 0.0 } else { hits / images as f64 };
            Score { metric: ["top1", "top5"][place], class: None, value, images }
        };
        Ok(vec![whole(0), whole(1)])
    }

    /// Works on so many rows at once.
    #[cfg(test)]
    pub fn piecewise(&mut self, rows: usize) {
        self.some = rows;
    }

    /// The weights, `(D + 1) x K`; another fit makes others.
    pub fn weights(&self) -> Tensor {
        self.weights.shallow_clone()
    }

    /// Takes weights that were fitted to the same rows.
    pub fn take(&mut self, weights: Tensor) {
        self.weights = weights;
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

/// The way down by what the last steps say of the curvature (the two-loop recursion: Nocedal, 1980).
fn direction(gradient: &Tensor, history: &VecDeque<(Tensor, Tensor, f64)>) -> Result<Tensor, RunError> {
    let mut way = gradient.f_neg()?;
    let mut shares = Vec::with_capacity(history.len());
    for (moved, turned, curvature) in history.iter().rev() {
        let share = dot(moved, &way)? / curvature;
        way -= turned * share;
        shares.push(share);
    }
    if let Some((_, turned, curvature)) = history.back() {
        way *= *curvature / dot(turned, turned)?;
    }
    for ((moved, turned, curvature), share) in history.iter().zip(shares.into_iter().rev()) {
        way += moved * (share - dot(turned, &way)? / curvature);
    }
    Ok(way)
}

fn dot(a: &Tensor, b: &Tensor) -> Result<f64, RunError> {
    number(&(a * b).f_sum(Kind::Double)?)
}

fn number(scalar: &Tensor) -> Result<f64, RunError> {
    Ok(scalar.f_double_value(&[])?)
}
