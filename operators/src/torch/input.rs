//! Bytes to normalised tensors, and tensors to vectors.

use tch::{Device, Kind, TchError, Tensor};

/// Standard deviations are not taken below one gray level: else the noise of a flat tile is blown up, or divided by zero.
const LEAST_DEVIATION: f64 = 1.0;

/// How bytes become a network's input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Normalisation {
    /// By each image's or tile's own mean and standard deviation, over all its channels together.
    Own,
    /// The same for each channel on its own.
    OwnPerChannel,
    /// `(value / 255 - mean) / deviation`, the same for all, a channel each.
    Fixed {
        /// Means.
        mean: [f32; 3],
        /// Standard deviations.
        deviation: [f32; 3],
    },
}

impl Normalisation {
    /// What the tables' metadata calls `tile`, `tile-channel` and `none`.
    pub fn of_tiles(text: &str) -> Option<Self> {
        match text {
            "tile" => Some(Self::Own),
            "tile-channel" => Some(Self::OwnPerChannel),
            "none" => Some(Self::Fixed { mean: [0.0; 3], deviation: [1.0; 3] }),
            _ => None,
        }
    }
}

/// `N x H x W x 3` bytes as a normalised `N x 3 x H x W` tensor of f32 on the device, its strides still channels last.
///
/// The one copy made on the way (of the bytes, to the tensor) takes below a hundredth of a forward pass.
///
/// # Errors
/// libtorch refuses.
///
/// # Panics
/// There are not that many bytes.
pub fn normalised(
    bytes: &[u8],
    [height, width]: [usize; 2],
    normalisation: Normalisation,
    device: Device,
) -> Result<Tensor, TchError> {
    let (height, width) = (height as i64, width as i64);
    let count = bytes.len() as i64 / (height * width * 3);
    assert_eq!(count * height * width * 3, bytes.len() as i64, "bytes of whole images");
    let tensor = Tensor::f_from_data_size(bytes, &[count, height, width, 3], Kind::Uint8)?;
    let mut values = tensor.f_to_device(device)?.f_to_kind(Kind::Float)?;
    let (factor, shift) = match normalisation {
        Normalisation::Own => own(&values, &[1, 2, 3])?,
        Normalisation::OwnPerChannel => own(&values, &[1, 2])?,
        Normalisation::Fixed { mean, deviation } => {
            let channel = |f: fn(f64, f64) -> f64| {
                let values: [f32; 3] = std::array::from_fn(|c| f(mean[c].into(), deviation[c].into()) as f32);
                Tensor::f_from_slice(&values)?.f_to_device(device)
            };
            (channel(|_, deviation| 1.0 / (255.0 * deviation))?, channel(|mean, deviation| -mean / deviation)?)
        }
    };
    values.f_mul_(&factor)?.f_add_(&shift)?.f_permute([0, 3, 1, 2])
}

/// Factor and shift that give values zero mean and unit deviation over those dimensions.
fn own(values: &Tensor, dimensions: &[i64]) -> Result<(Tensor, Tensor), TchError> {
    let (deviation, mean) = values.f_std_mean_correction(dimensions, 0, true)?;
    let factor = deviation.f_clamp_min(LEAST_DEVIATION)?.f_reciprocal()?;
    let shift = mean.f_neg()?.f_mul(&factor)?;
    Ok((factor, shift))
}

/// The strides of a convolution's `O x I x H x W` weights, or of images, put channels last; others stay.
///
/// # Errors
/// libtorch refuses.
pub fn channels_last(tensor: &Tensor) -> Result<Tensor, TchError> {
    match tensor.dim() {
        4 => tensor.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2]),
        _ => Ok(tensor.shallow_clone()),
    }
}

/// Copies the first rows of a tensor of f32, each in the order of its dimensions (C, H, W), behind `out`'s values.
///
/// # Errors
/// libtorch refuses.
pub fn append_rows(tensor: &Tensor, rows: usize, out: &mut Vec<f32>) -> Result<(), TchError> {
    let tensor = tensor.f_narrow(0, 0, rows as i64)?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
    let (start, count) = (out.len(), tensor.numel());
    out.resize(start + count, 0.0);
    tensor.f_copy_data(&mut out[start..], count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two images of 2 x 1 pixels: one with values, one flat.
    const BYTES: [u8; 12] = [10, 20, 30, 50, 40, 30, 7, 7, 7, 7, 7, 7];

    fn values(normalisation: Normalisation) -> Vec<f32> {
        let tensor = normalised(&BYTES, [2, 1], normalisation, Device::Cpu).unwrap();
        assert_eq!(tensor.size(), [2, 3, 2, 1]);
        let mut out = Vec::new();
        append_rows(&tensor, 2, &mut out).unwrap();
        out
    }

    fn close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?}, not {expected:?}");
    }

    #[test]
    fn an_images_own_mean_and_deviation() {
        let scale = (1000.0f32 / 6.0).sqrt().recip();
        let expected: Vec<f32> = [-20.0, 20.0, -10.0, 10.0, 0.0, 0.0].iter().map(|v| v * scale).chain([0.0; 6]).collect();
        close(&values(Normalisation::Own), &expected);
    }

    #[test]
    fn a_channels_own_mean_and_deviation() {
        let expected: Vec<f32> = [-1.0, 1.0, -1.0, 1.0, 0.0, 0.0].into_iter().chain([0.0; 6]).collect();
        close(&values(Normalisation::OwnPerChannel), &expected);
    }

    #[test]
    fn fixed_means_and_deviations() {
        let found = values(Normalisation::Fixed { mean: [0.1, 0.2, 0.3], deviation: [1.0, 2.0, 0.5] });
        let value = |v: f32, mean: f32, deviation: f32| (v / 255.0 - mean) / deviation;
        let expected =
            [(10.0, 0.1, 1.0), (50.0, 0.1, 1.0), (20.0, 0.2, 2.0), (40.0, 0.2, 2.0), (30.0, 0.3, 0.5), (30.0, 0.3, 0.5)];
        close(&found[..6], &expected.map(|(v, mean, deviation)| value(v, mean, deviation)));
    }

    #[test]
    fn channels_last_changes_strides_only() {
        let tensor = Tensor::arange(24, (Kind::Float, Device::Cpu)).view([2, 3, 2, 2]);
        let last = channels_last(&tensor).unwrap();
        assert_eq!((last.size(), last.stride()), (vec![2, 3, 2, 2], vec![12, 1, 6, 3]));
        assert!(last.equal(&tensor));
        let mut out = vec![-1.0];
        append_rows(&last, 1, &mut out).unwrap();
        assert_eq!(out, [-1.0].into_iter().chain((0..12).map(|v| v as f32)).collect::<Vec<_>>());
    }
}
