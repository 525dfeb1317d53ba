//! Logistic regression: a layer's weights, what they cost, and what they are worth.

use tch::{Device, Kind, Reduction, Tensor};

use super::data::{Examples, Split};
use super::layer::{Layer, Piece};
use super::lbfgs::{self, dot, number};
use crate::numbers::Numbers;
use crate::operator::RunError;
use crate::torch::score::{self, Score};

/// A layer's features, and the weights that were fitted last.
pub struct Fitter<'a> {
    layer: Layer<'a>,
    /// What is learnt from.
    splits: Vec<Split>,
    /// All of that, where it fits into memory.
    learnt: Option<Piece>,
    /// `(D + 1) x K`; the last row, the biases, is not pulled towards zero.
    weights: Tensor,
    /// `(D + 1) x 1`: 1 for what is pulled towards zero, and 0.
    pull: Tensor,
}

impl<'a> Fitter<'a> {
    /// From a layer's values, `n x D`; learns from the images of those splits.
    ///
    /// # Errors
    /// libtorch refuses, as when memory is short.
    pub fn new(values: &'a Numbers<f32>, examples: &'a Examples, splits: &[Split]) -> Result<Self, RunError> {
        let layer = Layer::new(values, examples, splits);
        let (width, classes) = (layer.dimension() as i64 + 1, examples.classes.len() as i64);
        let pull = Tensor::f_ones([width, 1], (Kind::Double, Device::Cpu))?;
        let _ = pull.f_get(width - 1)?.f_fill_(0.0)?;
        let weights = Tensor::f_zeros([width, classes], (Kind::Double, Device::Cpu))?;
        let learnt = if examples.in_files { None } else { layer.pieces(splits).next().transpose()? };
        Ok(Self { layer, splits: splits.to_vec(), learnt, weights, pull })
    }

    /// Minimises `Σ loss + |W|² / 2c`, from the weights that are there.
    ///
    /// # Errors
    /// It was cancelled, or libtorch refuses.
    pub fn fit(&mut self, c: f64, iterations: usize, cancelled: &dyn Fn() -> bool) -> Result<(), RunError> {
        let decay = 1.0 / (c * self.layer.count as f64);
        let objective = |weights: &Tensor| self.objective(weights, decay);
        self.weights = lbfgs::minimise(self.weights(), iterations, objective, cancelled)?;
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
            None => self.layer.pieces(&self.splits).try_for_each(|piece| add(&piece?))?,
        }
        let n = self.layer.count as f64;
        let pulled = weights * &self.pull;
        let value = loss / n + 0.5 * decay * dot(&pulled, &pulled)?;
        Ok((value, slope / n + pulled * decay))
    }

    /// The sum of some examples' losses, and its gradient.
    fn loss(&self, Piece { rows, targets }: &Piece, weights: &Tensor) -> Result<(f64, Tensor), RunError> {
        let scores = rows.f_matmul(weights)?;
        let (loss, slope) = if self.layer.examples.exclusive {
            let logs = scores.f_log_softmax(1, Kind::Float)?;
            let loss = logs.f_nll_loss::<&Tensor>(targets, None, Reduction::Sum, -100)?;
            let classes = self.layer.examples.classes.len() as i64;
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
        let examples = self.layer.examples;
        let (mut tops, mut all, mut targets) = (Vec::new(), Vec::new(), Vec::new());
        for piece in self.layer.pieces(&[split]) {
            let piece = piece?;
            let scores = piece.rows.f_matmul(&weights)?;
            if examples.exclusive {
                let classes = Vec::<i32>::try_from(piece.targets.f_to_kind(Kind::Int)?)?;
                tops.push(score::top(&scores, &classes)?);
            } else {
                all.extend(Vec::<f32>::try_from(scores.f_contiguous()?.f_view([-1])?)?);
                let shown = Vec::<i32>::try_from(piece.targets.f_to_kind(Kind::Int)?.f_view([-1])?)?;
                targets.extend(shown.chunks_exact(examples.classes.len()).map(<[i32]>::to_vec));
            }
        }
        if !examples.exclusive {
            return Ok(score::precisions(&all, &targets, &examples.classes));
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

    /// The weights, `(D + 1) x K`; another fit makes others.
    pub fn weights(&self) -> Tensor {
        self.weights.shallow_clone()
    }

    /// The weights for features as they are, before standardising: `K x D`, and K biases.
    ///
    /// # Errors
    /// libtorch refuses.
    pub fn plain(&self) -> Result<(Vec<f32>, Vec<f64>), RunError> {
        let classes = self.layer.examples.classes.len();
        let rows = Vec::<f64>::try_from(self.weights.f_contiguous()?.f_view([-1])?)?;
        let (rows, last) = rows.split_at(self.layer.dimension() * classes);
        let (mut weights, mut biases) = (Vec::with_capacity(rows.len()), last.to_vec());
        for (class, bias) in biases.iter_mut().enumerate() {
            let of_class = rows.iter().skip(class).step_by(classes);
            for (weight, (mean, deviation)) in of_class.zip(self.layer.standards()) {
                let plain = (weight / f64::from(deviation)) as f32;
                *bias -= f64::from(plain) * f64::from(mean);
                weights.push(plain);
            }
        }
        Ok((weights, biases))
    }

    /// The same with weights that were fitted to the same rows.
    pub fn with(self, weights: Tensor) -> Self {
        Self { weights, ..self }
    }

    /// Works on so many rows at once.
    #[cfg(test)]
    pub fn piecewise(&mut self, rows: usize) {
        self.layer.piecewise(rows);
    }
}
