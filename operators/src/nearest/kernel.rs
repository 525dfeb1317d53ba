//! The search of one block of rows, written once over vectors of any length and compiled for several instruction sets.
//!
//! A panel is [`VECTORS`] vectors of centres wide, a tile as many rows as leave its sums in registers. A block's tiles pass over a
//! panel while it stays in the first-level cache, [`DEPTH`] words at a time. When a chunk of panels is through, its sums become
//! bounds on scores: a centre whose upper bound is below the best lower bound so far cannot be the nearest. The few that are left
//! are settled by their distances.

use super::code::{Code, Codes, Frame, GROUP, Packing, ROUNDING};
use super::lanes::{Floats as _, Lanes, Portable};
use super::{Centres, Found, squared_distance};

/// Rows in a block, a multiple of [`GROUP`].
pub const BLOCK: usize = 96;
/// Words between two visits to a tile's sums: that of a panel, 24 KiB, stays in L1 while a block's rows pass.
const DEPTH: usize = 128;
/// Vectors of centres in a panel: with 8 rows of AVX-512, 24 sums, 3 centres and a row's word fill 28 of 32 registers.
pub const VECTORS: usize = 3;
/// Panels whose sums are kept while a block passes over them.
const PANELS: usize = 8;
/// Scores above that may have overflowed on their way.
const LARGEST_SCORE: f32 = 1e36;

/// Of a row's square, the share that a distance in f64 may be off by, in up to 2^20 dimensions.
const BLUR: f32 = 1.0 / (1u64 << 36) as f32;

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
        coded: &Codes,
        first: usize,
        scratch: &mut Scratch,
        found: &mut [F],
    ) {
        assert_eq!(self, centres.frame.kernel, "the kernel that the centres were coded for");
        /// One instruction set's.
        macro_rules! with {
            ($features:literal, $lanes:ty, $rows:literal) => {{
                #[target_feature(enable = $features)]
                fn run<F: Found>(
                    centres: &Centres<'_>,
                    rows: &[f32],
                    coded: &Codes,
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

    /// Codes rows of a frame in place of those that were there.
    pub fn fill(self, frame: &Frame, rows: &[f32], codes: &mut Codes) {
        /// One instruction set's.
        #[cfg(target_arch = "x86_64")]
        macro_rules! with {
            ($features:literal) => {{
                #[target_feature(enable = $features)]
                fn fill(frame: &Frame, rows: &[f32], codes: &mut Codes) {
                    codes.fill(frame, rows);
                }
                // SAFETY: `all` found the instructions.
                unsafe { fill(frame, rows, codes) }
            }};
        }
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::VnniBytes | Self::VnniShorts => with!("avx512f,avx512bw"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2Shorts => with!("avx2"),
            Self::Portable => codes.fill(frame, rows),
        }
    }
}

/// One thread's memory.
pub struct Scratch {
    /// A block's sums of products with [`PANELS`] panels, row by row.
    sums: Vec<i32>,
    /// One row's upper bounds.
    upper: Vec<f32>,
    /// For each row, the best two lower bounds so far.
    lower: Vec<[f32; 2]>,
    /// For each row, the centres that may be the nearest, with their upper bounds, and then with their squared distances in f32.
    candidates: Vec<Vec<(u32, f32)>>,
}

impl Scratch {
    /// For a search with that kernel.
    pub fn new(kernel: Kernel) -> Self {
        let chunk = PANELS * VECTORS * kernel.width();
        Self {
            sums: vec![0; BLOCK * chunk],
            upper: vec![0.0; chunk],
            lower: vec![[0.0; 2]; BLOCK],
            candidates: vec![Vec::new(); BLOCK],
        }
    }
}

/// What the search needs to know of the centres beside their codes, one value a centre; the padding behind the last is far away.
pub struct Terms {
    /// The products of the rows' offset with the centre's whole numbers.
    pub offset: Vec<i32>,
    /// Steps.
    pub step: Vec<f32>,
    /// Bounds on the lengths of what the codes say.
    pub norm: Vec<f32>,
    /// Bounds on what the whole numbers leave out.
    pub residual: Vec<f32>,
    /// `-|c|²/2`, rounded up and down.
    pub bounds: [Vec<f32>; 2],
}

/// Searches for up to [`BLOCK`] rows, `ROWS` of them in a tile.
///
/// # Safety
/// The processor has the instructions of `V`, and the centres' frame is of that kernel.
#[inline(always)]
unsafe fn block<V: Lanes, const ROWS: usize, F: Found>(
    centres: &Centres<'_>,
    rows: &[f32],
    coded: &Codes,
    first: usize,
    scratch: &mut Scratch,
    found: &mut [F],
) {
    let (count, words) = (found.len(), centres.frame.words());
    assert!(count <= BLOCK && first.is_multiple_of(GROUP), "a block of {count} rows from {first} on");
    let (padded, panel) = (centres.terms.step.len(), VECTORS * V::WIDTH);
    let chunk = PANELS * panel;
    assert!(padded.is_multiple_of(V::WIDTH) && scratch.sums.len() >= BLOCK * chunk && scratch.upper.len() >= chunk);
    for row in 0..count {
        scratch.lower[row] = [f32::NEG_INFINITY; 2];
        scratch.candidates[row].clear();
    }
    for start in (0..padded).step_by(chunk) {
        let columns = chunk.min(padded - start);
        for depth in (0..words).step_by(DEPTH) {
            let some = DEPTH.min(words - depth);
            for column in (0..columns).step_by(panel) {
                let width = panel.min(columns - column);
                let centre_words = &centres.words[(start + column) * words + depth * width..][..some * width];
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
            // SAFETY: as this function's.
            unsafe {
                bound::<V, F>(&centres.terms, start, &coded.codes[first + row], sums, upper, lower);
                let least = if F::TWO { lower[1] } else { lower[0] };
                gather::<V>(upper, least, start, &mut scratch.candidates[row]);
            }
        }
    }
    let dimension = centres.dimension();
    for (row, found) in found.iter_mut().enumerate() {
        let (lower, candidates) = (scratch.lower[row], &mut scratch.candidates[row]);
        let least = if F::TWO { lower[1] } else { lower[0] };
        let values = &rows[row * dimension..][..dimension];
        let k = centres.count() as u32;
        #[expect(clippy::neg_cmp_op_on_partial_ord, reason = "NaN counts as not below")]
        candidates.retain(|&(centre, upper)| centre < k && !(upper < least));
        if coded.codes[first + row].norm * centres.longest > LARGEST_SCORE {
            candidates.clear();
            candidates.extend((0..k).map(|centre| (centre, 0.0)));
        } else {
            narrow::<F>(centres, values, candidates);
        }
        *found = F::settle(candidates, &|centre| squared_distance(values, centres.centre(centre)));
    }
}

/// Adds a tile's products to its sums, or starts them.
///
/// # Safety
/// The processor has the instructions of `V`.
#[inline(always)]
unsafe fn tile<V: Lanes, const ROWS: usize, const VECTORS: usize>(
    rows: &[u32],
    centres: &[u32],
    sums: &mut [i32],
    stride: usize,
    more: bool,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut all = [[V::zero(); VECTORS]; ROWS];
        if more {
            for (row, all) in all.iter_mut().enumerate() {
                for (vector, sum) in all.iter_mut().enumerate() {
                    *sum = V::load_sums(&sums[row * stride + vector * V::WIDTH..]);
                }
            }
        }
        let words = centres.len() / (VECTORS * V::WIDTH);
        assert!(rows.len() >= (words - 1) * GROUP + ROWS, "a word of each row");
        for word in 0..words {
            // SAFETY: both slices were measured above.
            let (rows, centres) = (
                rows.get_unchecked(word * GROUP..word * GROUP + ROWS),
                centres.get_unchecked(word * VECTORS * V::WIDTH..(word + 1) * VECTORS * V::WIDTH),
            );
            let vectors: [V; VECTORS] = std::array::from_fn(|vector| V::load(&centres[vector * V::WIDTH..]));
            for (row, all) in all.iter_mut().enumerate() {
                let row = V::splat(rows[row]);
                for (sum, centres) in all.iter_mut().zip(vectors) {
                    *sum = sum.plus_dot(row, centres);
                }
            }
        }
        for (row, all) in all.into_iter().enumerate() {
            for (vector, sum) in all.into_iter().enumerate() {
                sum.store(&mut sums[row * stride + vector * V::WIDTH..]);
            }
        }
    }
}

/// Bounds on one row's scores with the centres from `start` on: `x·c - |c|²/2`, which the nearest centre has the largest of.
///
/// `|x·c - x'·c'| <= |x - x'| |c'| + |x| |c - c'|`, where `x'`, `c'` are what the codes say. All roundings here are within the
/// slack that [`ROUNDING`] has put into residuals and bounds.
///
/// # Safety
/// The processor has the instructions of `V`.
#[inline(always)]
unsafe fn bound<V: Lanes, F: Found>(
    terms: &Terms,
    start: usize,
    code: &Code,
    sums: &[i32],
    upper: &mut [f32],
    lower: &mut [f32; 2],
) {
    // SAFETY: the caller's.
    unsafe {
        let step = V::Floats::splat(code.step);
        let residual = V::Floats::splat(code.residual + ROUNDING * code.norm);
        let norm = V::Floats::splat(code.norm);
        // What distances in f64 cannot tell apart is for them to settle.
        let blur = V::Floats::splat(code.norm * code.norm * BLUR);
        let (mut best, mut next) = (V::Floats::splat(lower[0]), V::Floats::splat(f32::NEG_INFINITY));
        for at in (0..sums.len()).step_by(V::WIDTH) {
            let of = |values: &[f32]| V::Floats::load(&values[start + at..]);
            let product = V::floats(&sums[at..], &terms.offset[start + at..]).times(of(&terms.step).times(step));
            let error = residual.times(of(&terms.norm)).plus(norm.times(of(&terms.residual))).plus(blur);
            product.plus(of(&terms.bounds[0])).plus(error).store(&mut upper[at..]);
            let below = product.plus(of(&terms.bounds[1])).minus(error);
            if F::TWO {
                next = below.smaller(best).larger(next);
            }
            best = below.larger(best);
        }
        let (mut bests, mut nexts) = ([f32::NEG_INFINITY; WIDEST], [f32::NEG_INFINITY; WIDEST]);
        best.store(&mut bests);
        next.store(&mut nexts);
        if F::TWO {
            // The lanes' best started with the row's: it counts once.
            let mut two = *lower;
            for value in bests.into_iter().filter(|best| *best > lower[0]).chain(nexts) {
                if value > two[0] {
                    two = [value, two[0]];
                } else if value > two[1] {
                    two[1] = value;
                }
            }
            *lower = two;
        } else {
            lower[0] = bests.into_iter().fold(lower[0], f32::max);
        }
    }
}

/// Notes the centres from `start` on whose upper bounds are not below `least`; a bound that is no number says nothing.
///
/// # Safety
/// The processor has the instructions of `V`.
#[inline(always)]
unsafe fn gather<V: Lanes>(upper: &[f32], least: f32, start: usize, candidates: &mut Vec<(u32, f32)>) {
    // SAFETY: the caller's.
    unsafe {
        let limit = V::Floats::splat(least);
        for at in (0..upper.len()).step_by(V::WIDTH) {
            let mut reaches = V::Floats::load(&upper[at..]).reaches(limit);
            while reaches != 0 {
                let place = at + reaches.trailing_zeros() as usize;
                candidates.push(((start + place) as u32, upper[place]));
                reaches &= reaches - 1;
            }
        }
    }
}

/// Leaves the candidates that may be nearest by distances in f32, where there are more than are wanted.
///
/// Such a distance is off by a part in 2^24 for each of its roundings: of a difference, its square, and the sums.
#[inline(always)]
fn narrow<F: Found>(centres: &Centres<'_>, row: &[f32], candidates: &mut Vec<(u32, f32)>) {
    let wanted = if F::TWO { 2 } else { 1 };
    if candidates.len() <= wanted {
        return;
    }
    let slack = (row.len() / LANES + 2 * LANES + 8) as f32 / (1 << 23) as f32;
    let mut farthest = [f32::INFINITY; 2];
    for (centre, near) in candidates.iter_mut() {
        *near = near_squared(row, centres.centre(*centre));
        let most = *near * (1.0 + slack) + f32::MIN_POSITIVE;
        if most < farthest[0] {
            farthest = [most, farthest[0]];
        } else if most < farthest[1] {
            farthest[1] = most;
        }
    }
    let limit = farthest[wanted - 1];
    #[expect(clippy::neg_cmp_op_on_partial_ord, reason = "NaN counts as not above")]
    candidates.retain(|&(_, near)| !(near * (1.0 - slack) - f32::MIN_POSITIVE > limit));
}

/// Values of the widest vector.
const WIDEST: usize = 16;
/// Sums that run side by side.
const LANES: usize = 64;

/// `|x - y|²` in f32.
#[inline(always)]
fn near_squared(x: &[f32], y: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in x.iter().zip(y) {
        sums = std::array::from_fn(|lane| {
            let difference = x[lane] - y[lane];
            sums[lane] + difference * difference
        });
    }
    let rest: f32 = x_rest.iter().zip(y_rest).map(|(x, y)| (x - y) * (x - y)).sum();
    sums.iter().sum::<f32>() + rest
}
