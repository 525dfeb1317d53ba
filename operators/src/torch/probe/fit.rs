//! Logistic regression by L-BFGS.

use std::collections::VecDeque;

use tch::{Kind, Reduction, Tensor};

use super::data::{Examples, Split};
use crate::operator::RunError;
use crate::torch::score::{self, Score};

/// Steps that the approximation of the curvature remembers.
const MEMORY: usize = 10;
/// It has converged when no component of the mean loss's gradient is larger: scikit-learn's default.
const TOLERANCE: f64 = 1e-4;
/// Halvings of a step before it gives up.
const HALVINGS: usize = 20;
/// A step is taken if it gains that share of what the slope promises.
const ARMIJO: f64 = 1e-4;

/// A layer's features, standardised, and the weights that were fitted last.
pub struct Fitter<'a> {
    examples: &'a Examples,
    /// Standardised features of all images, `n x (D + 1)`: the last is 1.
    rows: Tensor,
    /// Those that are learnt from, and their targets: classes (n) or -1, 0, 1 (`n x K`, f32).
    learnt: Tensor,
    targets: Tensor,
    /// `(D + 1) x K`; the last row, the biases, is not pulled towards zero.
    weights: Tensor,
    pull: Tensor,
}

impl<'a> Fitter<'a> {
    /// From a layer's values, `n x D`; learns from the images of those splits.
    ///
    /// # Errors
    /// libtorch refuses, as when memory is short.
    pub fn new(values: &[f32], examples: &'a Examples, splits: &[Split]) -> Result<Self, RunError> {
        let n = examples.splits.len() as i64;
        let all = Tensor::f_from_slice(values)?.f_view([n, -1])?;
        let places: Vec<i64> = (0..n).filter(|&row| splits.contains(&examples.splits[row as usize])).collect();
        let index = Tensor::f_from_slice(&places)?;
        let of_train = all.f_index_select(0, &index)?;
        let mean = of_train.f_mean_dim([0i64].as_slice(), true, Kind::Float)?;
        let deviation = of_train.f_std_dim([0i64].as_slice(), false, true)?;
        // A value that never differs says nothing.
        let deviation = deviation.f_where_self(&deviation.f_gt(1e-12)?, &deviation.f_full_like(f64::INFINITY)?)?;
        let rows =
            Tensor::f_cat(&[all.f_sub(&mean)?.f_div(&deviation)?, Tensor::f_ones([n, 1], (Kind::Float, all.device()))?], 1)?;
        let learnt = rows.f_index_select(0, &index)?;
        let targets: Vec<i32> = places.iter().flat_map(|&row| &examples.targets[row as usize]).copied().collect();
        let targets = Tensor::f_from_slice(&targets)?;
        let (width, classes) = (rows.size()[1], examples.classes.len() as i64);
        let targets = match examples.exclusive {
            true => targets.f_to_kind(Kind::Int64)?,
            false => targets.f_to_kind(Kind::Float)?.f_view([-1, classes])?,
        };
        let pull = Tensor::f_ones([width, 1], (Kind::Double, rows.device()))?;
        let _ = pull.f_get(width - 1)?.f_fill_(0.0)?;
        let weights = Tensor::f_zeros([width, classes], (Kind::Double, rows.device()))?;
        Ok(Self { examples, rows, learnt, targets, weights, pull })
    }

    /// Minimises `Σ loss + |W|² / 2c`, from the weights that are there.
    ///
    /// # Errors
    /// It was cancelled, or libtorch refuses.
    pub fn fit(&mut self, c: f64, iterations: usize, cancelled: &dyn Fn() -> bool) -> Result<(), RunError> {
        let decay = 1.0 / (c * self.learnt.size()[0] as f64);
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
        let n = self.learnt.size()[0] as f64;
        let scores = self.learnt.f_matmul(&weights.f_to_kind(Kind::Float)?)?;
        let (loss, slope) = if self.examples.exclusive {
            let logs = scores.f_log_softmax(1, Kind::Float)?;
            let loss = logs.f_nll_loss::<&Tensor>(&self.targets, None, Reduction::Sum, -100)?;
            let classes = self.examples.classes.len() as i64;
            (loss, logs.f_exp()? - self.targets.f_one_hot(classes)?.f_to_kind(Kind::Float)?)
        } else {
            // log(1 + exp(-t s)) where t is not 0, and its slope -t / (1 + exp(t s)).
            let margin = &scores * &self.targets;
            let counts = self.targets.f_abs()?;
            let loss = (margin.f_neg()?.f_softplus()? * counts).f_sum(Kind::Double)?;
            (loss, margin.f_neg()?.f_sigmoid()? * self.targets.f_neg()?)
        };
        let pulled = weights * &self.pull;
        let value = number(&loss)? / n + 0.5 * decay * dot(&pulled, &pulled)?;
        let gradient = self.learnt.f_tr()?.f_matmul(&slope)?.f_to_kind(Kind::Double)? / n + pulled * decay;
        Ok((value, gradient))
    }

    /// What the weights are worth on a split.
    ///
    /// # Errors
    /// libtorch refuses.
    pub fn scores(&self, split: Split) -> Result<Vec<Score>, RunError> {
        let places: Vec<usize> = (0..self.examples.splits.len()).filter(|&row| self.examples.splits[row] == split).collect();
        let index: Vec<i64> = places.iter().map(|&row| row as i64).collect();
        let rows = self.rows.f_index_select(0, &Tensor::f_from_slice(&index)?)?;
        let scores = rows.f_matmul(&self.weights.f_to_kind(Kind::Float)?)?;
        if self.examples.exclusive {
            let classes: Vec<i32> = places.iter().map(|&row| self.examples.targets[row][0]).collect();
            return Ok(score::top(&scores, &classes)?.into());
        }
        let targets: Vec<Vec<i32>> = places.iter().map(|&row| self.examples.targets[row].clone()).collect();
        let scores = Vec::<f32>::try_from(scores.f_contiguous()?.f_view([-1])?)?;
        Ok(score::precisions(&scores, &targets, &self.examples.classes))
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
