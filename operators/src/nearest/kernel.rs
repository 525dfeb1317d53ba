//! The search of one block of rows, written once over vectors of any length and compiled for several instruction sets.
//!
//! A panel is [`VECTORS`] vectors of centres wide, a tile as many rows as leave its sums in registers. A block's tiles pass over a
//! panel while it stays in the first-level cache, [`DEPTH`] words at a time. When a chunk of panels is through, its sums become
//! bounds on scores: a centre whose upper bound is below the best lower bound so far cannot be the nearest. The few that are left
//! are settled by their distances.

use super::bounds::{bound, gather, narrow};
use super::code::{self, Code, Coded, Frame, GROUP, Packing};
use super::lanes::{Lanes, Portable};
use super::{Centres, Found, squared};

/// Rows in a block, a multiple of [`GROUP`].
pub const BLOCK: usize = 96;
/// Words between two visits to a tile's sums: that of a panel, 24 KiB, stays in L1 while a block's rows pass.
pub(super) const DEPTH: usize = 128;
/// Vectors of centres in a panel: with 8 rows of AVX-512, 24 sums, 3 centres and a row's word fill 28 of 32 registers.
pub const VECTORS: usize = 3;
/// Panels whose sums are kept while a block passes over them.
pub(super) const PANELS: usize = 8;
/// Scores above that may have overflowed on their way.
pub(super) const LARGEST_SCORE: f32 = 1e36;

/// The instruction sets that the search is compiled for. All find the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// AVX-512 with byte products.
    #[cfg(target_arch = "x86_64")]
    VnniBytes,
    /// AVX-512 with products of 16 bits.
    #[cfg(target_arch = "x86_64")]
    VnniShorts,
    #[cfg(target_arch = "x86_64")]
    Avx2Shorts,
    Portable,
}

impl Kernel {
    /// Those that this processor has, best first. Bytes are too coarse where there are few dimensions, and the work is not in the
    /// products then; where there are very many, their sums would overflow.
    pub fn all(dimension: usize) -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bw") {
                if (64..=1 << 16).contains(&dimension) {
                    all.push(Self::VnniBytes);
                }
                all.push(Self::VnniShorts);
            }
            if is_x86_feature_detected!("avx2") {
                all.push(Self::Avx2Shorts);
            }
        }
        all.push(Self::Portable);
        all
    }

    /// The best that this processor has.
    pub fn best(dimension: usize) -> Self {
        Self::all(dimension)[0]
    }

    /// Words in a vector.
    pub fn width(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::VnniBytes | Self::VnniShorts => 16,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2Shorts => 8,
            Self::Portable => Portable::WIDTH,
        }
    }

    /// How its words are packed.
    pub fn packing(self) -> Packing {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::VnniBytes => Packing::Bytes,
            _ => Packing::Shorts,
        }
    }

    /// The largest magnitude of a whole number, so that no sum of products overflows 32 bits.
    pub fn levels(self, dimension: usize) -> f32 {
        match self.packing() {
            Packing::Bytes => 127.0,
            Packing::Shorts => ((i32::MAX as usize / dimension).isqrt().clamp(1, 8191)) as f32,
        }
    }

    /// Searches for a block's rows: `first..first + found.len()` of the coded ones, whose values are `rows`.
    pub fn run<F: Found>(
        self,
        centres: &Centres<'_>,
        rows: &[f32],
        coded: Coded<'_>,
        first: usize,
        scratch: &mut Scratch,
        found: &mut [F],
    ) {
        assert_eq!(self, centres.panels.frame.kernel, "the kernel that the centres were coded for");
        /// One instruction set's.
        macro_rules! with {
            ($features:literal, $lanes:ty, $rows:literal) => {{
                #[target_feature(enable = $features)]
                fn run<F: Found>(
                    centres: &Centres<'_>,
                    rows: &[f32],
                    coded: Coded<'_>,
                    first: usize,
                    scratch: &mut Scratch,
                    found: &mut [F],
                ) {
                    // SAFETY: the instructions are there, since this function's are.
                    unsafe { block::<$lanes, $rows, F>(centres, rows, coded, first, scratch, found) }
                }
                // SAFETY: `all` found the instructions.
                unsafe { run(centres, rows, coded, first, scratch, found) }
            }};
        }
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::VnniBytes => with!("avx512f,avx512bw,avx512vnni", super::lanes::x86::VnniBytes, 8),
            #[cfg(target_arch = "x86_64")]
            Self::VnniShorts => with!("avx512f,avx512bw,avx512vnni", super::lanes::x86::VnniShorts, 8),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2Shorts => with!("avx2", super::lanes::x86::Avx2Shorts, 4),
            // SAFETY: it needs no instructions beyond the target's.
            Self::Portable => unsafe { block::<Portable, 4, F>(centres, rows, coded, first, scratch, found) },
        }
    }

    /// Codes rows of a frame.
    pub fn fill(self, frame: &Frame, rows: &[f32], words: &mut [u32], codes: &mut [Code]) {
        /// One instruction set's.
        #[cfg(target_arch = "x86_64")]
        macro_rules! with {
            ($features:literal) => {{
                #[target_feature(enable = $features)]
                fn fill(frame: &Frame, rows: &[f32], words: &mut [u32], codes: &mut [Code]) {
                    code::fill(frame, rows, words, codes);
                }
                // SAFETY: `all` found the instructions.
                unsafe { fill(frame, rows, words, codes) }
            }};
        }
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::VnniBytes | Self::VnniShorts => with!("avx512f,avx512bw"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2Shorts => with!("avx2"),
            Self::Portable => code::fill(frame, rows, words, codes),
        }
    }
}

/// One thread's memory.
pub struct Scratch {
    /// A block's sums of products with [`PANELS`] panels, row by row.
    pub(super) sums: Vec<i32>,
    /// Each row's values in the heavy dimensions.
    pub(super) heavy: Vec<f32>,
    /// One row's upper bounds.
    pub(super) upper: Vec<f32>,
    /// For each row, the best two lower bounds so far.
    lower: Vec<[f32; 2]>,
    /// For each row, the centres that may be the nearest, with their upper bounds, and then with their squared distances in f32.
    candidates: Vec<Vec<(u32, f32)>>,
}

impl Scratch {
    /// Room for a search with that kernel.
    pub fn new(kernel: Kernel) -> Self {
        let chunk = PANELS * VECTORS * kernel.width();
        Self {
            sums: vec![0; BLOCK * chunk],
            heavy: Vec::new(),
            upper: vec![0.0; chunk],
            lower: vec![[0.0; 2]; BLOCK],
            candidates: vec![Vec::new(); BLOCK],
        }
    }
}

/// Searches for up to [`BLOCK`] rows, `ROWS` of them in a tile.
///
/// # Safety
/// The processor has the instructions of `V`, and the centres' frame is of that kernel.
#[inline(always)]
unsafe fn block<V: Lanes, const ROWS: usize, F: Found>(
    centres: &Centres<'_>,
    rows: &[f32],
    coded: Coded<'_>,
    first: usize,
    scratch: &mut Scratch,
    found: &mut [F],
) {
    let (count, words) = (found.len(), centres.panels.frame.words());
    assert!(count <= BLOCK && first.is_multiple_of(GROUP), "a block of {count} rows from {first} on");
    let (padded, panel) = (centres.panels.terms.step.len(), VECTORS * V::WIDTH);
    let chunk = PANELS * panel;
    assert!(padded.is_multiple_of(V::WIDTH) && scratch.sums.len() >= BLOCK * chunk && scratch.upper.len() >= chunk);
    let (dimension, heavy) = (centres.dimension(), centres.panels.frame.heavy());
    scratch.heavy.clear();
    for row in 0..count {
        scratch.lower[row] = [f32::NEG_INFINITY; 2];
        scratch.candidates[row].clear();
        scratch.heavy.extend(centres.panels.frame.heavy_values(&rows[row * dimension..][..dimension]));
    }
    for start in (0..padded).step_by(chunk) {
        let columns = chunk.min(padded - start);
        for depth in (0..words).step_by(DEPTH) {
            let some = DEPTH.min(words - depth);
            for column in (0..columns).step_by(panel) {
                let width = panel.min(columns - column);
                let centre_words = &centres.panels.words[(start + column) * words + depth * width..][..some * width];
                for row in (0..count).step_by(ROWS) {
                    let (group, within) = ((first + row) / GROUP, (first + row) % GROUP);
                    let row_words = &coded.words[(group * words + depth) * GROUP..][..some * GROUP];
                    let sums = &mut scratch.sums[row * chunk + column..];
                    // SAFETY: as this function's.
                    unsafe {
                        match width / V::WIDTH {
                            3 => tile::<V, ROWS, 3>(&row_words[within..], centre_words, sums, chunk, depth > 0),
                            2 => tile::<V, ROWS, 2>(&row_words[within..], centre_words, sums, chunk, depth > 0),
                            _ => tile::<V, ROWS, 1>(&row_words[within..], centre_words, sums, chunk, depth > 0),
                        }
                    }
                }
            }
        }
        for row in 0..count {
            let sums = &scratch.sums[row * chunk..][..columns];
            let (upper, lower) = (&mut scratch.upper[..columns], &mut scratch.lower[row]);
            let heavy = &scratch.heavy[row * heavy..][..heavy];
            // SAFETY: as this function's.
            unsafe {
                bound::<V, F>(&centres.panels.terms, start, &coded.codes[first + row], heavy, sums, upper, lower);
                let least = if F::TWO { lower[1] } else { lower[0] };
                gather::<V>(upper, least, start, &mut scratch.candidates[row]);
            }
        }
    }
    for (row, found) in found.iter_mut().enumerate() {
        let (lower, candidates) = (scratch.lower[row], &mut scratch.candidates[row]);
        let least = if F::TWO { lower[1] } else { lower[0] };
        let values = &rows[row * dimension..][..dimension];
        let k = centres.count() as u32;
        #[expect(clippy::neg_cmp_op_on_partial_ord, reason = "NaN counts as not below")]
        candidates.retain(|&(centre, upper)| centre < k && !(upper < least));
        if coded.codes[first + row].norm * centres.panels.longest > LARGEST_SCORE {
            candidates.clear();
            candidates.extend((0..k).map(|centre| (centre, 0.0)));
        } else {
            narrow::<F>(centres, values, candidates);
        }
        *found = F::settle(candidates, &|centre| squared(values, centres.centre(centre)));
    }
}

/// Adds a tile's products to its sums, or starts them. Its loops are plain ones over constant ranges: they are unrolled, and the sums stay
/// in registers.
///
/// # Safety
/// The processor has the instructions of `V`.
#[expect(clippy::needless_range_loop, reason = "iterators over arrays keep these in memory")]
#[inline(always)]
pub(super) unsafe fn tile<V: Lanes, const ROWS: usize, const WIDE: usize>(
    rows: &[u32],
    centres: &[u32],
    sums: &mut [i32],
    stride: usize,
    more: bool,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut all = [[V::zero(); WIDE]; ROWS];
        if more {
            for row in 0..ROWS {
                for vector in 0..WIDE {
                    all[row][vector] = V::load_sums(&sums[row * stride + vector * V::WIDTH..]);
                }
            }
        }
        let words = centres.len() / (WIDE * V::WIDTH);
        assert!(rows.len() >= (words - 1) * GROUP + ROWS, "a word of each row");
        for word in 0..words {
            // SAFETY: both slices were measured above.
            let (rows, centres) = (
                rows.get_unchecked(word * GROUP..word * GROUP + ROWS),
                centres.get_unchecked(word * WIDE * V::WIDTH..(word + 1) * WIDE * V::WIDTH),
            );
            let mut vectors = [V::zero(); WIDE];
            for (vector, to) in vectors.iter_mut().enumerate() {
                *to = V::load(&centres[vector * V::WIDTH..]);
            }
            for row in 0..ROWS {
                let row_word = V::splat(*rows.get_unchecked(row));
                for vector in 0..WIDE {
                    all[row][vector] = all[row][vector].plus_dot(row_word, vectors[vector]);
                }
            }
        }
        for row in 0..ROWS {
            for vector in 0..WIDE {
                all[row][vector].store(&mut sums[row * stride + vector * V::WIDTH..]);
            }
        }
    }
}
