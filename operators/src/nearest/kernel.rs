//! The search of one block of rows, written once over vectors of any length and compiled for several instruction sets.
//!
//! A panel is [`VECTORS`] vectors of centres wide, a group as many rows as leave the panel's products with them in registers. A
//! block's groups pass over a panel while it stays in the first-level cache, [`DEPTH`] dimensions at a time; complete products
//! become scores and meet the best two so far, lane by lane.

use super::lanes::Lanes;
use super::{Centres, Near, Nearest, squared_distance};

/// Rows in a block, a multiple of all kernels' group sizes: a block of 256 dimensions takes 96 KiB, a share of a core's L2.
pub const BLOCK: usize = 96;
/// Dimensions between two visits to a tile's sums, so that a panel of centres stays in L1 while a block's rows pass.
const DEPTH: usize = 256;
/// Dimensions that a group's rows are interleaved by; they are padded with zeros to a multiple.
pub const STRIP: usize = 8;
/// Vectors of centres in a panel: with 8 rows of AVX-512, 24 sums, 3 centres and a row's value fill 28 of 32 registers.
pub const VECTORS: usize = 3;
/// Panels whose unfinished sums are kept while a block passes over them, where the dimensions are many.
const PANELS: usize = 8;

/// How many centres a panel holds, the last one's padding included.
pub fn panel_columns(padded: usize, width: usize, panel: usize) -> usize {
    (padded - panel * VECTORS * width).min(VECTORS * width)
}

/// f32 values from a cache line's start on, since a vector that straddles two lines loads at half the speed.
pub struct Aligned {
    lines: Vec<Line>,
    length: usize,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

impl Aligned {
    /// So many zeros.
    pub fn zeros(length: usize) -> Self {
        Self { lines: vec![Line([0.0; 16]); length.div_ceil(16)], length }
    }
}

impl std::ops::Deref for Aligned {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: lines are arrays of 16 f32 without gaps, and `length` is at most 16 times their number.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length) }
    }
}

impl std::ops::DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length) }
    }
}

/// One thread's memory.
pub struct Scratch {
    /// A block's rows less the mean, in groups: for each strip of dimensions that strip of each row of the group.
    rows: Aligned,
    /// Products of a block with [`PANELS`] panels.
    sums: Aligned,
    /// A row's best score, its centre, the second score, its centre: four vectors, lane by lane.
    best: Aligned,
}

impl Scratch {
    /// For a search among those centres.
    pub fn new(centres: &Centres<'_>) -> Self {
        let width = centres.kernel.width();
        Self {
            rows: Aligned::zeros(BLOCK * centres.dimension.next_multiple_of(STRIP)),
            sums: Aligned::zeros(PANELS * BLOCK * VECTORS * width),
            best: Aligned::zeros(BLOCK * 4 * width),
        }
    }
}

/// The instruction sets that the search is compiled for. All give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Kernel {
    /// Those that this processor has, best first.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                all.push(Self::Avx512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                all.push(Self::Avx2);
            }
        }
        all.push(Self::Portable);
        all
    }

    /// The best that this processor has.
    pub fn best() -> Self {
        Self::all()[0]
    }

    /// Values in a vector.
    pub fn width(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => 16,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 8,
            Self::Portable => 4,
        }
    }

    /// Searches for up to [`BLOCK`] rows, and writes down what it finds.
    pub fn run(self, centres: &Centres<'_>, rows: &[f32], scratch: &mut Scratch, found: &mut [Nearest]) {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f")]
        fn avx512(centres: &Centres<'_>, rows: &[f32], scratch: &mut Scratch, found: &mut [Nearest]) {
            // SAFETY: the instructions are there, since this function's are.
            unsafe { block::<std::arch::x86_64::__m512, 8>(centres, rows, scratch, found) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        fn avx2(centres: &Centres<'_>, rows: &[f32], scratch: &mut Scratch, found: &mut [Nearest]) {
            // SAFETY: the instructions are there, since this function's are.
            unsafe { block::<std::arch::x86_64::__m256, 4>(centres, rows, scratch, found) }
        }
        match self {
            // SAFETY: `all` found the instructions.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512(centres, rows, scratch, found) },
            // SAFETY: `all` found the instructions.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2(centres, rows, scratch, found) },
            // SAFETY: it needs no instructions beyond the target's.
            Self::Portable => unsafe { block::<[f32; 4], 8>(centres, rows, scratch, found) },
        }
    }
}

/// Searches for up to [`BLOCK`] rows, `GROUP` of them at a time.
///
/// # Safety
/// The processor has the instructions of `V`.
#[inline(always)]
unsafe fn block<V: Lanes, const GROUP: usize>(
    centres: &Centres<'_>,
    rows: &[f32],
    scratch: &mut Scratch,
    found: &mut [Nearest],
) {
    let (dimension, all) = (centres.dimension, centres.dimension.next_multiple_of(STRIP));
    let count = rows.len() / dimension;
    let groups = count.div_ceil(GROUP);
    assert!(count <= BLOCK && BLOCK.is_multiple_of(GROUP), "a block holds {BLOCK} rows");
    pack::<GROUP>(rows, &centres.mean, &mut scratch.rows);
    for best in scratch.best.chunks_exact_mut(4 * V::WIDTH) {
        for (part, start) in best.chunks_exact_mut(V::WIDTH).zip([f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, 0.0]) {
            part.fill(start);
        }
    }
    let padded = centres.half_norms.len();
    let panels = padded.div_ceil(VECTORS * V::WIDTH);
    for first_panel in (0..panels).step_by(PANELS) {
        for start in (0..all).step_by(DEPTH) {
            let depth = DEPTH.min(all - start);
            for panel in first_panel..panels.min(first_panel + PANELS) {
                let columns = panel_columns(padded, V::WIDTH, panel);
                let first = panel * VECTORS * V::WIDTH;
                let values = &centres.packed[first * all..][start * columns..][..depth * columns];
                for group in 0..groups {
                    let rows = &scratch.rows[(group * all + start) * GROUP..][..depth * GROUP];
                    let place = ((panel - first_panel) * BLOCK + group * GROUP) * VECTORS * V::WIDTH;
                    let sums = &mut scratch.sums[place..][..GROUP * columns];
                    // SAFETY: passed on to the caller.
                    unsafe {
                        match columns / V::WIDTH {
                            VECTORS => multiply::<V, GROUP, VECTORS>(rows, values, start == 0, sums),
                            2 => multiply::<V, GROUP, 2>(rows, values, start == 0, sums),
                            _ => multiply::<V, GROUP, 1>(rows, values, start == 0, sums),
                        }
                    }
                    if start + depth == all {
                        let best = &mut scratch.best[group * GROUP * 4 * V::WIDTH..][..GROUP * 4 * V::WIDTH];
                        // SAFETY: passed on to the caller.
                        unsafe { search::<V>(sums, &centres.half_norms[first..][..columns], first, best) };
                    }
                }
            }
        }
    }
    let best = scratch.best.chunks_exact(4 * V::WIDTH);
    for ((row, best), found) in rows.chunks_exact(dimension).zip(best).zip(found) {
        let (first, second) = largest_two(best, V::WIDTH);
        *found = exactly(row, &centres.plain, first, second);
    }
}

/// Distances from differences, and the order that they give.
#[inline(always)]
fn exactly(row: &[f32], centres: &[f32], first: u32, second: Option<u32>) -> Nearest {
    let mut first = near(row, centres, first);
    let Some(second) = second else {
        return Nearest { first, second: None };
    };
    let mut second = near(row, centres, second);
    if (second.squared, second.centre) < (first.squared, first.centre) {
        std::mem::swap(&mut first, &mut second);
    }
    Nearest { first, second: Some(second) }
}

/// No closure: those are compiled without the instructions of the function around them, unless inlined.
#[inline(always)]
fn near(row: &[f32], centres: &[f32], centre: u32) -> Near {
    let values = &centres[centre as usize * row.len()..][..row.len()];
    Near { centre, squared: squared_distance(row, values) }
}

/// Writes a block's rows less the mean in groups, strip by strip. Where the last group lacks rows, it keeps what it had: finite
/// numbers, whose results nobody reads.
#[inline(always)]
fn pack<const GROUP: usize>(rows: &[f32], mean: &[f32], packed: &mut [f32]) {
    let dimension = mean.len();
    let all = dimension.next_multiple_of(STRIP);
    let (means, means_rest) = mean.as_chunks::<STRIP>();
    for (rows, packed) in rows.chunks(GROUP * dimension).zip(packed.chunks_exact_mut(GROUP * all)) {
        for (place, row) in rows.chunks_exact(dimension).enumerate() {
            let strips = packed.as_chunks_mut::<STRIP>().0.iter_mut().skip(place).step_by(GROUP);
            let (values, rest) = row.as_chunks::<STRIP>();
            for ((strip, values), means) in strips.zip(values).zip(means) {
                *strip = std::array::from_fn(|lane| values[lane] - means[lane]);
            }
            let last = &mut packed[(all - STRIP) * GROUP + place * STRIP..];
            for ((to, value), mean) in last.iter_mut().zip(rest).zip(means_rest) {
                *to = value - mean;
            }
        }
    }
}

/// The products of `GROUP` rows with the `N` vectors of a panel over a stretch of dimensions, added to `sums` (`GROUP x columns`)
/// unless they begin there.
///
/// # Safety
/// The processor has the instructions of `V`.
#[inline(always)]
unsafe fn multiply<V: Lanes, const GROUP: usize, const N: usize>(
    rows: &[f32],
    centres: &[f32],
    begins: bool,
    sums: &mut [f32],
) {
    assert!(sums.len() == GROUP * N * V::WIDTH, "sums of {GROUP} rows");
    // SAFETY: the caller's, for the instructions; every slice has the length that is read or written.
    unsafe {
        let mut tile = [[V::splat(0.0); N]; GROUP];
        if !begins {
            for row in 0..GROUP {
                for n in 0..N {
                    tile[row][n] = V::load(&sums[(row * N + n) * V::WIDTH..]);
                }
            }
        }
        for (values, centres) in rows.chunks_exact(GROUP * STRIP).zip(centres.chunks_exact(STRIP * N * V::WIDTH)) {
            for step in 0..STRIP {
                let mut panel = [V::splat(0.0); N];
                for n in 0..N {
                    panel[n] = V::load(&centres[(step * N + n) * V::WIDTH..]);
                }
                for row in 0..GROUP {
                    let value = V::splat(values[row * STRIP + step]);
                    for n in 0..N {
                        tile[row][n] = value.times_plus(panel[n], tile[row][n]);
                    }
                }
            }
        }
        for row in 0..GROUP {
            for n in 0..N {
                tile[row][n].store(&mut sums[(row * N + n) * V::WIDTH..]);
            }
        }
    }
}

/// Looks for better scores among a group's products with one panel, whose first centre has the number `first`.
///
/// # Safety
/// The processor has the instructions of `V`.
#[inline(always)]
unsafe fn search<V: Lanes>(sums: &[f32], half_norms: &[f32], first: usize, best: &mut [f32]) {
    for (sums, best) in sums.chunks_exact(half_norms.len()).zip(best.chunks_exact_mut(4 * V::WIDTH)) {
        // SAFETY: the caller's, for the instructions; every slice has the length that is read or written.
        unsafe {
            let (mut score, mut centre) = (V::load(best), V::load(&best[V::WIDTH..]));
            let (mut second, mut second_centre) = (V::load(&best[2 * V::WIDTH..]), V::load(&best[3 * V::WIDTH..]));
            let mut number = V::count_from(first as f32);
            for (sums, half_norms) in sums.chunks_exact(V::WIDTH).zip(half_norms.chunks_exact(V::WIDTH)) {
                let found = V::load(sums).minus(V::load(half_norms));
                let (beats, beats_second) = (found.above(score), found.above(second));
                second = V::pick(beats, score, V::pick(beats_second, found, second));
                second_centre = V::pick(beats, centre, V::pick(beats_second, number, second_centre));
                score = V::pick(beats, found, score);
                centre = V::pick(beats, number, centre);
                number = number.plus(V::splat(V::WIDTH as f32));
            }
            score.store(best);
            centre.store(&mut best[V::WIDTH..]);
            second.store(&mut best[2 * V::WIDTH..]);
            second_centre.store(&mut best[3 * V::WIDTH..]);
        }
    }
}

/// The centres of the largest two scores of a row's lanes; of equal scores, those of the lower numbers.
#[inline(always)]
fn largest_two(best: &[f32], width: usize) -> (u32, Option<u32>) {
    // Whole numbers in the order of (score, lower centre), so that no branch is needed.
    let (mut first, mut second) = (0, 0);
    for part in [0, 2] {
        for lane in 0..width {
            let (score, centre) = (best[part * width + lane], best[(part + 1) * width + lane]);
            let key = (u64::from(ordered(score)) << 32) | u64::from(!(centre as u32));
            second = key.min(first).max(second);
            first = key.max(first);
        }
    }
    let found = second >> 32 > u64::from(ordered(f32::NEG_INFINITY));
    (!(first as u32), found.then_some(!(second as u32)))
}

/// A whole number that rises with the value.
#[inline(always)]
fn ordered(value: f32) -> u32 {
    let bits = value.to_bits();
    bits ^ (((bits as i32 >> 31) as u32) | 1 << 31)
}
