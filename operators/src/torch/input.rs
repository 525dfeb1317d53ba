//! Bytes to normalised tensors, and tensors to vectors.

use tch::{Device, Kind, TchError, Tensor};

use super::normalisation::Normalisation;

/// Standard deviations are not taken below one gray level: else the noise of a flat tile is blown up, or divided by zero.
pub const LEAST_DEVIATION: f64 = 1.0;

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
    let (factors, shifts) = scales(bytes, (height * width * 3) as usize, normalisation);
    // Rows of `W · 3` values: libtorch is ten times slower on rows of three.
    let rows = |scales: &[[f32; 3]]| {
        let row = |scale: &[f32; 3]| scale.repeat(width as usize);
        Tensor::f_from_slice(&scales.iter().flat_map(row).collect::<Vec<_>>())?
            .f_reshape([-1, 1, width * 3])?
            .f_to_device(device)
    };
    let tensor = Tensor::f_from_data_size(bytes, &[count, height, width * 3], Kind::Uint8)?;
    let mut values = tensor.f_to_device(device)?.f_to_kind(Kind::Float)?;
    let values = values.f_mul_(&rows(&factors)?)?.f_add_(&rows(&shifts)?)?;
    values.f_view([count, height, width, 3])?.f_permute([0, 3, 1, 2])
}

/// What bytes are multiplied with, and what is added then: a channel each, for all images or for one image each.
fn scales(bytes: &[u8], image: usize, normalisation: Normalisation) -> (Vec<[f32; 3]>, Vec<[f32; 3]>) {
    let own = |sums: [u64; 3], squares: [u64; 3], count: u64| -> ([f32; 3], [f32; 3]) {
        let scale = |c: usize| {
            let (sum, square) = (u128::from(sums[c]), u128::from(squares[c]));
            let variance = (square * u128::from(count) - sum * sum) as f64 / (count as f64 * count as f64);
            let factor = 1.0 / variance.sqrt().max(LEAST_DEVIATION);
            (factor, -(sum as f64) / count as f64 * factor)
        };
        (std::array::from_fn(|c| scale(c).0 as f32), std::array::from_fn(|c| scale(c).1 as f32))
    };
    let images = || bytes.chunks_exact(image).map(sums);
    match normalisation {
        Normalisation::Fixed { mean, deviation } => {
            let of = |f: fn(f64, f64) -> f64| std::array::from_fn(|c| f(mean[c].into(), deviation[c].into()) as f32);
            (vec![of(|_, deviation| 1.0 / (255.0 * deviation))], vec![of(|mean, deviation| -mean / deviation)])
        }
        Normalisation::Own => {
            let all = |values: [u64; 3]| [values.iter().sum(); 3];
            images().map(|(sums, squares)| own(all(sums), all(squares), image as u64)).unzip()
        }
        Normalisation::OwnPerChannel => images().map(|(sums, squares)| own(sums, squares, image as u64 / 3)).unzip(),
    }
}

/// Sums and sums of squares of each channel of interleaved pixels; exact, so that no order or width of registers matters.
fn sums(pixels: &[u8]) -> ([u64; 3], [u64; 3]) {
    /// Sixteen pixels: lanes for the compiler to keep in registers.
    const LANES: usize = 48;
    /// Squares of as many bytes fit a lane of 32 bits.
    const ROUNDS: usize = 1 << 16;
    let (mut sums, mut squares) = ([0u64; 3], [0u64; 3]);
    for stretch in pixels.chunks(LANES * ROUNDS) {
        let (mut first, mut second) = ([0u32; LANES], [0u32; LANES]);
        let (chunks, rest) = stretch.as_chunks::<LANES>();
        for chunk in chunks {
            for lane in 0..LANES {
                let value = u32::from(chunk[lane]);
                first[lane] += value;
                second[lane] += value * value;
            }
        }
        for lane in 0..LANES {
            sums[lane % 3] += u64::from(first[lane]);
            squares[lane % 3] += u64::from(second[lane]);
        }
        for (i, &value) in rest.iter().enumerate() {
            sums[i % 3] += u64::from(value);
            squares[i % 3] += u64::from(value) * u64::from(value);
        }
    }
    (sums, squares)
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
    fn sums_are_exact_for_any_length() {
        for pixels in [0, 1, 15, 16, 17, 16 * 65536 + 5] {
            let bytes: Vec<u8> = (0..pixels * 3).map(|i| if i % 3 == 0 { 255 } else { (i * 31 % 256) as u8 }).collect();
            let channel = |c: usize, power| bytes.iter().skip(c).step_by(3).map(|v| u64::from(*v).pow(power)).sum::<u64>();
            assert_eq!(sums(&bytes), ([0, 1, 2].map(|c| channel(c, 1)), [0, 1, 2].map(|c| channel(c, 2))));
        }
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
