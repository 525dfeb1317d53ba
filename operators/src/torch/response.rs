//! Local response normalisation on the CPU, forward and backward: see [`Layer::LocalResponse`](super::network::Layer::LocalResponse).
//!
//! libtorch's own, an average pooling in three dimensions, takes a fifth of a training step of the paper's AlexNet more than a
//! product with a banded matrix does. Here each way is one pass over memory: a row of channels at a time, the sums by running windows.
//! libtorch cannot be told the gradient of such a pass from outside. So a learning pass is cut here, and goes backward piece by
//! piece: see [`Tape`](super::forward::Tape).
//!
//! Rows do not depend on each other or on the number of threads.

use tch::{Device, Kind, TchError, Tensor};

use crate::parallel;

/// Values that a thread takes at once.
const STRETCH: usize = 1 << 16;

/// `x / (1 + alpha / size · s)^beta`, `s` the sum of squares of the `size` channels around.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Response {
    /// Channels of a window.
    pub size: usize,
    /// See the formula.
    pub alpha: f64,
    /// See the formula.
    pub beta: f64,
}

impl Response {
    /// Whether [`Response::forward`] and [`Response::backward`] can work on those maps.
    pub fn fits(maps: &Tensor) -> bool {
        maps.device() == Device::Cpu && maps.kind() == Kind::Float && maps.dim() == 4
    }

    /// Of maps `N x C x H x W`; no gradient flows through it.
    ///
    /// # Errors
    /// libtorch refuses: memory is short.
    pub fn forward(self, maps: &Tensor) -> Result<Tensor, TchError> {
        let maps = rows(maps)?;
        let out = maps.f_empty_like()?;
        let channels = maps.size()[3] as usize;
        each_stretch(values(&maps), &out, channels, |from, to| {
            let (mut sums, mut scale) = (vec![0.0; channels], vec![0.0; channels]);
            for (x, y) in from.chunks_exact(channels).zip(to.chunks_exact_mut(channels)) {
                self.scales(x, &mut sums, &mut scale);
                y.iter_mut().zip(x).zip(&scale).for_each(|((y, x), scale)| *y = x * scale);
            }
        });
        out.f_permute([0, 3, 1, 2])
    }

    /// The gradient by the maps, from the maps and the gradient by what [`Response::forward`] made of them. It is written over the
    /// latter.
    ///
    /// # Errors
    /// As [`Response::forward`].
    pub fn backward(self, maps: &Tensor, gradient: Tensor) -> Result<Tensor, TchError> {
        let (maps, gradient) = (rows(maps)?, rows(&gradient)?);
        let channels = maps.size()[3] as usize;
        let factor = (2.0 * self.alpha * self.beta / self.size as f64) as f32;
        each_stretch(values(&maps), &gradient, channels, |from, to| {
            let [mut sums, mut scale, mut pull] = [(); 3].map(|()| vec![0.0; channels]);
            for (x, g) in from.chunks_exact(channels).zip(to.chunks_exact_mut(channels)) {
                self.scales(x, &mut sums, &mut scale);
                // With u = 1 + alpha / size · s: dx = g · u^-beta - factor · x · (sum over the window of g · x · u^(-beta - 1)).
                for c in 0..channels {
                    pull[c] = g[c] * x[c] * scale[c] / sums[c];
                }
                // A window around a channel holds those whose windows, mirrored, hold it.
                self.windows(&pull, &mut sums, true);
                for c in 0..channels {
                    g[c] = g[c] * scale[c] - factor * x[c] * sums[c];
                }
            }
        });
        gradient.f_permute([0, 3, 1, 2])
    }

    /// Of a row: `1 + alpha / size · s`, and that to the power of `-beta`.
    fn scales(self, row: &[f32], sums: &mut [f32], scale: &mut [f32]) {
        scale.iter_mut().zip(row).for_each(|(square, x)| *square = x * x);
        self.windows(scale, sums, false);
        let alpha = (self.alpha / self.size as f64) as f32;
        sums.iter_mut().for_each(|sum| *sum = 1.0 + alpha * *sum);
        if self.beta == 0.75 {
            // The usual value, by square roots: a power takes ten times as long.
            for (scale, sum) in scale.iter_mut().zip(&*sums) {
                let root = sum.sqrt();
                *scale = 1.0 / (root * root.sqrt());
            }
        } else {
            let power = -self.beta as f32;
            scale.iter_mut().zip(&*sums).for_each(|(scale, sum)| *scale = sum.powf(power));
        }
    }

    /// Sums over the window around each value; those beyond the ends are zeros. An even window reaches one further down, or if
    /// `mirrored` up.
    fn windows(self, values: &[f32], sums: &mut [f32], mirrored: bool) {
        let (down, up) = (self.size / 2, (self.size - 1) / 2);
        let (down, up) = if mirrored { (up, down) } else { (down, up) };
        let count = values.len();
        sums.copy_from_slice(values);
        for step in 1..=down.min(count) {
            sums[step..].iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
        for step in 1..=up.min(count) {
            sums[..count - step].iter_mut().zip(&values[step..]).for_each(|(sum, value)| *sum += value);
        }
    }
}

/// `N x H x W x C`, contiguous, without the history of its making.
fn rows(maps: &Tensor) -> Result<Tensor, TchError> {
    maps.f_detach()?.f_permute([0, 2, 3, 1])?.f_contiguous()
}

/// The values of a contiguous tensor of f32 on the CPU.
fn values(tensor: &Tensor) -> &[f32] {
    // SAFETY: the tensor owns that many values of that type, side by side (`rows` made it contiguous; `Response::fits` holds for it),
    // and nobody writes to them while it is borrowed: only `each_stretch` does, to another tensor.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<f32>(), tensor.numel()) }
}

/// Calls `work` with stretches of rows of `from` and of the contiguous tensor `to`, on as many threads as libtorch has here.
fn each_stretch(from: &[f32], to: &Tensor, channels: usize, work: impl Fn(&[f32], &mut [f32]) + Sync) {
    /// Where a tensor's values begin.
    struct Start(*mut f32);
    // SAFETY: threads reach disjoint stretches through it.
    unsafe impl Sync for Start {}
    impl Start {
        fn stretch(&self, at: usize, length: usize) -> *mut [f32] {
            std::ptr::slice_from_raw_parts_mut(self.0.wrapping_add(at), length)
        }
    }
    let (start, stretch) = (Start(to.data_ptr().cast()), STRETCH.div_ceil(channels) * channels);
    assert_eq!(from.len(), to.numel(), "one value each");
    parallel::each(tch::get_num_threads() as usize, from.len().div_ceil(stretch), |number| {
        let (at, length) = (number * stretch, stretch.min(from.len() - number * stretch));
        // SAFETY: within the tensor's values (the assertion above), handed out once for each number, and no other reference to
        // them lives: `from` is another tensor's.
        let to = unsafe { &mut *start.stretch(at, length) };
        work(&from[at..at + length], to);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maps(channels: i64, seed: i64) -> Tensor {
        tch::manual_seed(seed);
        let maps = Tensor::randn([3, channels, 5, 4], (Kind::Float, Device::Cpu)) * 20.0;
        super::super::input::channels_last(&maps).unwrap()
    }

    /// As PyTorch's `local_response_norm` does it, differentiable.
    fn reference(maps: &Tensor, response: Response) -> Tensor {
        let Response { size, alpha, beta } = response;
        let squares = maps.square().unsqueeze(1);
        let padding = [0, 0, 0, 0, size as i64 / 2, (size as i64 - 1) / 2];
        let padded = squares.constant_pad_nd(padding);
        let means = padded.avg_pool3d([size as i64, 1, 1], [1, 1, 1], [0, 0, 0], false, true, None).squeeze_dim(1);
        maps / (means * alpha + 1.0).pow_tensor_scalar(beta)
    }

    fn worst(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[]) / b.abs().max().double_value(&[])
    }

    #[test]
    fn both_ways_are_pytorchs() {
        for (channels, size, alpha, beta) in [(96, 5, 1e-4, 0.75), (7, 5, 0.1, 0.75), (9, 4, 0.05, 0.5), (3, 9, 0.01, 0.75)]
        {
            let response = Response { size, alpha, beta };
            let maps = maps(channels, 1).set_requires_grad(true);
            let expected = reference(&maps, response);
            let found = response.forward(&maps).unwrap();
            assert_eq!(found.size(), expected.size());
            assert!(worst(&found, &expected) < 1e-6, "{response:?}: {}", worst(&found, &expected));
            let gradient = super::tests::maps(channels, 2);
            let expected = Tensor::run_backward(&[(expected * &gradient).sum(Kind::Float)], &[&maps], false, false);
            let found = response.backward(&maps, gradient.copy()).unwrap();
            assert!(worst(&found, &expected[0]) < 1e-5, "{response:?}: {}", worst(&found, &expected[0]));
        }
    }

    #[test]
    fn threads_change_no_bit() {
        let response = Response { size: 5, alpha: 1e-2, beta: 0.75 };
        let maps = Tensor::randn([40, 96, 7, 7], (Kind::Float, Device::Cpu));
        let before = tch::get_num_threads();
        let of = |threads| {
            tch::set_num_threads(threads);
            (response.forward(&maps).unwrap(), response.backward(&maps, maps.copy()).unwrap())
        };
        let (one, three) = (of(1), of(3));
        tch::set_num_threads(before);
        assert!(one.0.equal(&three.0) && one.1.equal(&three.1));
    }
}
