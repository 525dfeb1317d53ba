//! Vectors that are searched among, laid out for the kernel.

use std::sync::Arc;

use super::bounds::Terms;
use super::code::{self, Frame, ROUNDING};
use super::kernel::VECTORS;

/// Codes of vectors in a frame, and what bounds the products with them.
pub struct Panels {
    /// Where the codes are relative to.
    pub(super) frame: Arc<Frame>,
    /// How many vectors there are.
    pub(super) count: usize,
    /// Panels of [`VECTORS`] vectors: for each word one of each vector; the last panel has as many as it needs.
    pub(super) words: Vec<u32>,
    /// One value a vector, and more for padding.
    pub(super) terms: Terms,
    /// The largest of their lengths in the frame.
    pub(super) longest: f32,
}

impl Panels {
    /// Bytes that a vector takes beside its codes, where no dimension is heavy.
    pub const BESIDE: usize = 6 * size_of::<u32>();

    /// Codes vectors, which are finite and of magnitude up to [`LARGEST`](crate::vectors::LARGEST).
    pub fn new<'a>(frame: &Arc<Frame>, vectors: impl ExactSizeIterator<Item = &'a [f32]>) -> Self {
        let (count, width) = (vectors.len(), frame.kernel.width());
        let (padded, words, packing) = (count.next_multiple_of(width), frame.words(), frame.kernel.packing());
        let panel = VECTORS * width;
        let mut all = vec![0; padded * words];
        let far = vec![f32::NEG_INFINITY; padded];
        let mut terms = Terms {
            offset: vec![0; padded],
            step: vec![0.0; padded],
            norm: vec![0.0; padded],
            residual: vec![0.0; padded],
            bounds: [far.clone(), far],
            heavy: vec![0.0; padded * frame.heavy()],
        };
        let mut scratch = code::Scratch::new(frame);
        let mut longest = 0.0f32;
        for (number, vector) in vectors.enumerate() {
            let code = frame.code(vector, &mut scratch);
            let first = number / panel * panel;
            let columns = panel.min(padded - first);
            for (at, numbers) in scratch.numbers.chunks_exact(packing.values()).take(words).enumerate() {
                all[first * words + at * columns + number % panel] = packing.pack(numbers, 0);
            }
            terms.offset[number] = packing.offset() * scratch.numbers.iter().sum::<i32>();
            terms.step[number] = code.step;
            terms.norm[number] = code.norm + code.residual;
            terms.residual[number] = code.residual;
            let half = frame.half_square(vector) as f32;
            // Steps multiplied may fall below f32's normal numbers, and be off by 2^-150 before 2^31 products are multiplied with them.
            let slack = ROUNDING * half + 1e-35;
            (terms.bounds[0][number], terms.bounds[1][number]) = (slack - half, -slack - half);
            for (values, value) in terms.heavy.chunks_exact_mut(padded).zip(frame.heavy_values(vector)) {
                values[number] = value;
            }
            longest = longest.max(code.norm);
        }
        Self { frame: Arc::clone(frame), count, words: all, terms, longest }
    }
}
