//! Vectors as small whole numbers, with a bound on what the rounding loses.
//!
//! A vector is taken relative to a [`Frame`], divided by a step of its own, and rounded: `x ≈ step · q`. The frame's centre keeps
//! the numbers small, its scale (a power of two, so exact) keeps squares of them within f32. Dimensions that would take all steps
//! for themselves have no part in it ([`heavy`](super::heavy)).

use bytemuck::{Pod, Zeroable};

use super::heavy;
use super::kernel::Kernel;

/// Rows whose codes lie interleaved.
pub const GROUP: usize = 8;
/// What all roundings of f32 on the way to a score lose at most, as a share of the magnitudes involved.
pub const ROUNDING: f32 = 1.0 / (1 << 20) as f32;
/// Values that are worked on side by side.
const LANES: usize = 16;
/// Added to an f32 below 2^22, it leaves that number, rounded to whole, in the lower bits.
const ROUNDER: f32 = 1.5 * (1 << 23) as f32;
/// A vector with no larger value than that, in a frame, counts as zero.
const TINY: f32 = 1e-30;
/// The largest scale beside heavy dimensions, as a power of two.
const HIGHEST: u32 = 60;

/// Where codes are relative to.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The mean that is subtracted, D values.
    mean: Vec<f32>,
    /// The factors that follow, D values: the scale, and 0 in heavy dimensions.
    scales: Vec<f32>,
    scale: f32,
    /// Dimensions that are not coded, rising.
    heavy: Vec<usize>,
    /// What works on the codes.
    pub kernel: Kernel,
}

impl Frame {
    /// A frame around `k x dimension` centres, for the best kernel that there is.
    pub fn around(centres: &[f32], dimension: usize) -> Self {
        Self::with(Kernel::best(dimension), centres, dimension)
    }

    /// A frame as [`new`](Self::new) makes it, for a given kernel.
    pub fn with(kernel: Kernel, centres: &[f32], dimension: usize) -> Self {
        let mean = mean(centres, dimension);
        let mut peaks = vec![0.0f32; dimension];
        for centre in centres.chunks_exact(dimension) {
            for ((peak, value), mean) in peaks.iter_mut().zip(centre).zip(&mean) {
                *peak = peak.max((value - mean).abs());
            }
        }
        let heavy = heavy::choose(kernel, centres, &mean, &peaks);
        heavy.iter().for_each(|&place| peaks[place] = 0.0);
        let largest = peaks.into_iter().fold(0.0, f32::max);
        // The power of two that brings the largest to [1, 2), unless it is hardly above zero: its exponent's bits, negated. Values of
        // heavy dimensions, of up to 10^15, are to stay within f32 as well.
        let least = if heavy.is_empty() { 1 } else { 127 - HIGHEST };
        let exponent = if largest > 0.0 { (largest.to_bits() >> 23).clamp(least, 253) } else { 127 };
        let scale = f32::from_bits((254 - exponent) << 23);
        let mut scales = vec![scale; dimension];
        heavy.iter().for_each(|&place| scales[place] = 0.0);
        Self { mean, scales, scale, heavy, kernel }
    }

    /// Whether codes of one are codes of the other.
    pub fn same(&self, other: &Self) -> bool {
        self.kernel == other.kernel && self.scales == other.scales && self.mean == other.mean
    }

    /// The factor on all that is coded.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// How many dimensions are heavy.
    pub fn heavy(&self) -> usize {
        self.heavy.len()
    }

    /// A vector's values in the heavy dimensions, scaled.
    pub fn heavy_values<'a>(&'a self, vector: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
        self.heavy.iter().map(|&place| vector[place] * self.scale)
    }

    /// The mean that is subtracted from every vector, D values.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// Values of a vector.
    pub fn dimension(&self) -> usize {
        self.mean.len()
    }

    /// Words of 32 bits that a vector's codes take.
    pub fn words(&self) -> usize {
        self.dimension().div_ceil(self.kernel.packing().values())
    }

    /// Rounds one vector to whole numbers of magnitude up to the kernel's, which are left in `scratch`.
    #[inline(always)]
    pub fn code(&self, vector: &[f32], scratch: &mut Scratch) -> Code {
        let Scratch { shifted, numbers } = scratch;
        for ((shifted, value), (mean, scale)) in shifted.iter_mut().zip(vector).zip(self.mean.iter().zip(&self.scales)) {
            *shifted = (value - mean) * scale;
        }
        let (shifted, _) = shifted.as_chunks::<LANES>();
        let (numbers, _) = numbers.as_chunks_mut::<LANES>();
        let mut largest = [0.0f32; LANES];
        for shifted in shifted {
            for (largest, value) in largest.iter_mut().zip(shifted) {
                let size = value.abs();
                *largest = if size > *largest { size } else { *largest };
            }
        }
        let largest = largest.into_iter().fold(0.0, f32::max);
        let levels = self.kernel.levels(self.dimension());
        let (step, inverse) = if largest > TINY { (largest / levels, levels / largest) } else { (0.0, 0.0) };
        let (mut norm, mut residual) = ([0.0f64; LANES], [0.0f64; LANES]);
        for (shifted, numbers) in shifted.iter().zip(numbers) {
            for lane in 0..LANES {
                let value = shifted[lane];
                let rounded = (value * inverse + ROUNDER) - ROUNDER;
                numbers[lane] = (value * inverse + ROUNDER).to_bits() as i32 - ROUNDER.to_bits() as i32;
                let lost = f64::from(value) - f64::from(rounded) * f64::from(step);
                norm[lane] += f64::from(value) * f64::from(value);
                residual[lane] += lost * lost;
            }
        }
        // Rounded up, and by what the subtraction of the mean has lost.
        let up = |sum: f64| (sum.sqrt() * (1.0 + 1e-6)) as f32 + f32::MIN_POSITIVE;
        let norm = up(norm.iter().sum());
        Code { step, norm, residual: up(residual.iter().sum()) + ROUNDING * norm }
    }

    /// Half the squared distance of a vector from the frame's centre in the dimensions that are not heavy, in the frame's scale.
    pub fn half_square(&self, vector: &[f32]) -> f64 {
        let squared = |((value, mean), scale): ((&f32, &f32), &f32)| {
            let difference = (f64::from(*value) - f64::from(*mean)) * f64::from(*scale);
            difference * difference
        };
        vector.iter().zip(&self.mean).zip(&self.scales).map(squared).sum::<f64>() / 2.0
    }
}

/// Room for one vector, and for what it becomes; zeros behind its end.
pub struct Scratch {
    shifted: Vec<f32>,
    /// The whole numbers.
    pub numbers: Vec<i32>,
}

impl Scratch {
    /// Room for the codes of vectors in a frame.
    pub fn new(frame: &Frame) -> Self {
        let length = frame.dimension().next_multiple_of(LANES);
        Self { shifted: vec![0.0; length], numbers: vec![0; length] }
    }
}

/// What a vector's code has beside its whole numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[repr(C)]
pub struct Code {
    /// The factor that turns the whole numbers into the vector's values.
    pub step: f32,
    /// Not below the vector's length.
    pub norm: f32,
    /// Not below the length of what the whole numbers leave out.
    pub residual: f32,
}

// SAFETY: three f32 side by side, with nothing between them; any bytes are f32s, zeros among them.
unsafe impl Zeroable for Code {}
// SAFETY: as above.
unsafe impl Pod for Code {}

/// How whole numbers lie in a word of 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Four of 8 bits: those of rows are offset by [`Packing::offset`], since the instruction multiplies unsigned with signed bytes.
    Bytes,
    /// Two of 16 bits.
    Shorts,
}

impl Packing {
    /// Whole numbers in a word.
    pub fn values(self) -> usize {
        match self {
            Self::Bytes => 4,
            Self::Shorts => 2,
        }
    }

    /// The number that is added to each of a row's whole numbers.
    pub fn offset(self) -> i32 {
        match self {
            Self::Bytes => 128,
            Self::Shorts => 0,
        }
    }

    /// One word.
    #[inline(always)]
    pub fn pack(self, numbers: &[i32], offset: i32) -> u32 {
        let place = |word: u32, (place, number): (usize, &i32)| match self {
            Self::Bytes => word | u32::from((number + offset) as u8) << (8 * place),
            Self::Shorts => word | u32::from((number + offset) as u16) << (16 * place),
        };
        numbers.iter().enumerate().fold(0, place)
    }
}

/// Coded rows, in groups of [`GROUP`]: for each word of a row, that word of each row of the group.
#[derive(Debug, Clone, Copy)]
pub struct Coded<'a> {
    /// All groups' words, the last group's filled up.
    pub words: &'a [u32],
    /// One a row.
    pub codes: &'a [Code],
}

/// The words that so many rows take.
pub fn words(frame: &Frame, rows: usize) -> usize {
    rows.next_multiple_of(GROUP) * frame.words()
}

/// Codes rows. What is behind the last one's words is left as it is.
#[inline(always)]
pub fn fill(frame: &Frame, rows: &[f32], words: &mut [u32], codes: &mut [Code]) {
    let packing = frame.kernel.packing();
    let mut scratch = Scratch::new(frame);
    let size = GROUP * frame.words();
    for (place, (row, code)) in rows.chunks_exact(frame.dimension()).zip(codes).enumerate() {
        *code = frame.code(row, &mut scratch);
        let to = words[place / GROUP * size..][..size].iter_mut().skip(place % GROUP).step_by(GROUP);
        match packing {
            Packing::Bytes => {
                let (numbers, _) = scratch.numbers.as_chunks::<4>();
                to.zip(numbers).for_each(|(word, numbers)| *word = packing.pack(numbers, packing.offset()));
            }
            Packing::Shorts => {
                let (numbers, _) = scratch.numbers.as_chunks::<2>();
                to.zip(numbers).for_each(|(word, numbers)| *word = packing.pack(numbers, packing.offset()));
            }
        }
    }
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
