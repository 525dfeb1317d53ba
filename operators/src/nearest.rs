//! The nearest two of `k` centres for each of `n` rows: what `kmeans` and `assign` spend their time on.
//!
//! `|x - c|² = |x|² - 2 (x·c - |c|²/2)`, so the centre with the largest score `x·c - |c|²/2` is the nearest. The products run in
//! blocks with the search for the largest two fused in: no `n x k` matrix exists. The centres' mean is taken off both sides
//! first, since products of numbers far from zero lose what tells centres apart. The distances of the best two are then
//! computed anew from differences, in f64; where these are equal, the lower number comes first.
//!
//! A row's result depends on the row and the centres alone, bit for bit: each score is one chain of fused multiply-adds over
//! the dimensions, in order, whatever the instruction set, the row's place in its block, or the number of threads.

mod lanes;

use std::borrow::Cow;

use arrow::datatypes::{DataType, SchemaRef};
use lanes::Lanes;
use tessera_schemas::features;

use crate::operator::BindError;
use crate::parallel;

/// The largest magnitude that a value may have: squares of differences then fit f32 in 2^20 dimensions.
pub const LARGEST: f32 = 1e15;
/// The most centres: their numbers travel through the kernel as f32.
pub const MOST_CENTRES: usize = 1 << 24;

/// Rows in a block, a multiple of all kernels' group sizes: a block of 256 dimensions takes 96 KiB, a share of a core's L2.
pub const BLOCK: usize = 96;
/// Dimensions between two visits to a tile's sums, so that a panel of centres stays in L1 while a block's rows pass.
const DEPTH: usize = 256;
/// Vectors of centres in a panel: with 8 rows of AVX-512, 24 sums, 3 centres and a row's value fill 28 of 32 registers.
const VECTORS: usize = 3;
/// Panels whose unfinished sums are kept while a block passes over them, where the dimensions are many.
const PANELS: usize = 8;
/// Blocks in one unit of parallel work.
const BLOCKS: usize = 8;

/// One centre, seen from a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Near {
    /// The centre's number.
    pub centre: u32,
    /// Squared Euclidean distance.
    pub squared: f64,
}

/// The nearest two centres of a row; the second is there if `k` is more than one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nearest {
    /// The nearest.
    pub first: Near,
    /// The next.
    pub second: Option<Near>,
}

/// Centres, made ready for the search.
pub struct Centres<'a> {
    /// `k x D`, as given.
    plain: Cow<'a, [f32]>,
    dimension: usize,
    kernel: Kernel,
    /// The centres' mean, D.
    mean: Vec<f32>,
    /// Panels of [`VECTORS`] vectors: for each dimension one value a centre; the last panel has as many vectors as it needs.
    packed: Aligned,
    /// `|c - mean|²/2`, infinite for the padding behind the last centre.
    half_norms: Aligned,
}

impl<'a> Centres<'a> {
    /// From `k x dimension` finite values of magnitude up to [`LARGEST`].
    ///
    /// # Panics
    /// There is no centre, or more than [`MOST_CENTRES`], or the values do not fill the last one.
    pub fn new(plain: impl Into<Cow<'a, [f32]>>, dimension: usize) -> Self {
        Self::with(Kernel::best(), plain.into(), dimension)
    }

    fn with(kernel: Kernel, plain: Cow<'a, [f32]>, dimension: usize) -> Self {
        assert!(dimension > 0 && !plain.is_empty() && plain.len().is_multiple_of(dimension), "no whole number of centres");
        let (k, width) = (plain.len() / dimension, kernel.width());
        assert!(k <= MOST_CENTRES, "more than {MOST_CENTRES} centres");
        let padded = k.next_multiple_of(width);
        let mean = mean(&plain, dimension);
        let mut packed = Aligned::zeros(padded * dimension);
        let mut half_norms = Aligned::zeros(padded);
        half_norms.fill(f32::INFINITY);
        for (number, centre) in plain.chunks_exact(dimension).enumerate() {
            let panel = number / (VECTORS * width);
            let columns = panel_columns(padded, width, panel);
            let start = panel * VECTORS * width * dimension + number % (VECTORS * width);
            let mut norm = 0.0;
            for (l, (value, mean)) in centre.iter().zip(&mean).enumerate() {
                let value = value - mean;
                packed[start + l * columns] = value;
                norm += f64::from(value) * f64::from(value);
            }
            half_norms[number] = (norm / 2.0) as f32;
        }
        Self { plain, dimension, kernel, mean, packed, half_norms }
    }

    /// The nearest two centres of each of the `n x D` rows, on that many threads.
    ///
    /// Rows must be finite, of magnitude up to [`LARGEST`]; of others, the result has no meaning.
    pub fn find(&self, rows: &[f32], threads: usize) -> Vec<Nearest> {
        let unit = BLOCK * BLOCKS * self.dimension;
        let search = |unit_number: usize| {
            let rows = &rows[unit_number * unit..rows.len().min((unit_number + 1) * unit)];
            let mut scratch = Scratch::new(self);
            let mut found = Vec::with_capacity(rows.len() / self.dimension);
            for rows in rows.chunks(BLOCK * self.dimension) {
                self.kernel.run(self, rows, &mut scratch, &mut found);
            }
            found
        };
        parallel::each(threads, rows.len().div_ceil(unit), search).concat()
    }
}

/// A value that [`Centres`] cannot work with.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("has {value:?} in dimension {dimension}; values must be finite, of magnitude up to {LARGEST:e}")]
pub struct Unfit {
    /// Its row.
    pub row: usize,
    /// Its place in the row.
    pub dimension: usize,
    /// What it is.
    pub value: f32,
}

/// Checks `n x dimension` values.
///
/// # Errors
/// One is not finite, or its magnitude is above [`LARGEST`]: the first such.
pub fn check(rows: &[f32], dimension: usize) -> Result<(), Unfit> {
    let fits = |value: &f32| value.abs() <= LARGEST;
    if rows.iter().fold(true, |all, value| all & fits(value)) {
        return Ok(());
    }
    let at = rows.iter().position(|value| !fits(value)).expect("the fold found one");
    Err(Unfit { row: at / dimension, dimension: at % dimension, value: rows[at] })
}

/// The length of the vectors in the column that a stage's `column` names.
///
/// # Errors
/// There is no such column, it holds no vectors, or empty ones.
pub fn dimension(schema: &SchemaRef, column: &str) -> Result<usize, BindError> {
    let fault = match features::dimension(schema, column) {
        Ok(0) => format!("column `{column}` holds vectors of no values"),
        Ok(dimension) => return Ok(dimension),
        Err(error) => error.to_string(),
    };
    let is_vector =
        |kind: &DataType| matches!(kind, DataType::FixedSizeList(item, 1..) if item.data_type() == &DataType::Float32);
    let known: Vec<_> = schema.fields().iter().filter(|f| is_vector(f.data_type())).map(|f| f.name().as_str()).collect();
    let help = if known.is_empty() {
        "the input has no column of vectors; `infer` makes one".to_owned()
    } else {
        format!("columns of vectors: {}", known.join(", "))
    };
    Err(BindError::key("column", fault).help(help))
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

/// How many centres a panel holds, the last one's padding included.
fn panel_columns(padded: usize, width: usize, panel: usize) -> usize {
    (padded - panel * VECTORS * width).min(VECTORS * width)
}

/// `|x - y|²`, summed in 16 chains so that it is quick and the same everywhere.
#[inline(always)]
pub fn squared_distance(x: &[f32], y: &[f32]) -> f64 {
    let mut sums = [0.0; 16];
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<16>(), y.as_chunks::<16>());
    for (x, y) in x.iter().zip(y) {
        for lane in 0..16 {
            let difference = f64::from(x[lane]) - f64::from(y[lane]);
            sums[lane] += difference * difference;
        }
    }
    for (sum, (x, y)) in sums.iter_mut().zip(x_rest.iter().zip(y_rest)) {
        let difference = f64::from(*x) - f64::from(*y);
        *sum += difference * difference;
    }
    sums.iter().sum()
}

/// f32 values from a cache line's start on, since a vector that straddles two lines loads at half the speed.
struct Aligned {
    lines: Vec<Line>,
    length: usize,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

impl Aligned {
    fn zeros(length: usize) -> Self {
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
struct Scratch {
    /// A block's rows less the mean, in groups: for each dimension one value a row of the group.
    rows: Aligned,
    /// Products of a block with [`PANELS`] panels.
    sums: Aligned,
    /// A row's best score, its centre, the second score, its centre: four vectors, lane by lane.
    best: Aligned,
}

impl Scratch {
    fn new(centres: &Centres<'_>) -> Self {
        let width = centres.kernel.width();
        Self {
            rows: Aligned::zeros(BLOCK * centres.dimension),
            sums: Aligned::zeros(PANELS * BLOCK * VECTORS * width),
            best: Aligned::zeros(BLOCK * 4 * width),
        }
    }
}

/// The instruction sets that the search is compiled for. All give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernel {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Kernel {
    fn all() -> Vec<Self> {
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

    fn best() -> Self {
        Self::all()[0]
    }

    /// Values in a vector.
    fn width(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => 16,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 8,
            Self::Portable => 4,
        }
    }

    /// Searches for up to [`BLOCK`] rows, and appends what it finds.
    fn run(self, centres: &Centres<'_>, rows: &[f32], scratch: &mut Scratch, found: &mut Vec<Nearest>) {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f")]
        fn avx512(centres: &Centres<'_>, rows: &[f32], scratch: &mut Scratch, found: &mut Vec<Nearest>) {
            // SAFETY: the instructions are there, since this function's are.
            unsafe { block::<std::arch::x86_64::__m512, 8>(centres, rows, scratch, found) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        fn avx2(centres: &Centres<'_>, rows: &[f32], scratch: &mut Scratch, found: &mut Vec<Nearest>) {
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
    found: &mut Vec<Nearest>,
) {
    let dimension = centres.dimension;
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
        for start in (0..dimension).step_by(DEPTH) {
            let depth = DEPTH.min(dimension - start);
            for panel in first_panel..panels.min(first_panel + PANELS) {
                let columns = panel_columns(padded, V::WIDTH, panel);
                let first = panel * VECTORS * V::WIDTH;
                let values = &centres.packed[first * dimension..][start * columns..][..depth * columns];
                for group in 0..groups {
                    let rows = &scratch.rows[(group * dimension + start) * GROUP..][..depth * GROUP];
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
                    if start + depth == dimension {
                        let best = &mut scratch.best[group * GROUP * 4 * V::WIDTH..][..GROUP * 4 * V::WIDTH];
                        // SAFETY: passed on to the caller.
                        unsafe { search::<V>(sums, &centres.half_norms[first..][..columns], first, best) };
                    }
                }
            }
        }
    }
    let centre = |number: u32| &centres.plain[number as usize * dimension..][..dimension];
    for (row, best) in rows.chunks_exact(dimension).zip(scratch.best.chunks_exact(4 * V::WIDTH)) {
        let (first, second) = largest_two(best, V::WIDTH);
        let near = |number| Near { centre: number, squared: squared_distance(row, centre(number)) };
        let (first, second) = (near(first), second.map(near));
        found.push(match second {
            Some(second) if (second.squared, second.centre) < (first.squared, first.centre) => {
                Nearest { first: second, second: Some(first) }
            }
            _ => Nearest { first, second },
        });
    }
}

/// Writes a block's rows less the mean in groups, dimension by dimension; the last group is filled up with zeros.
#[inline(always)]
fn pack<const GROUP: usize>(rows: &[f32], mean: &[f32], packed: &mut [f32]) {
    let dimension = mean.len();
    for (rows, packed) in rows.chunks(GROUP * dimension).zip(packed.chunks_exact_mut(GROUP * dimension)) {
        if rows.len() < packed.len() {
            packed.fill(0.0);
        }
        for (place, row) in rows.chunks_exact(dimension).enumerate() {
            for (values, (value, mean)) in packed.as_chunks_mut::<GROUP>().0.iter_mut().zip(row.iter().zip(mean)) {
                values[place] = value - mean;
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
        for (values, centres) in rows.as_chunks::<GROUP>().0.iter().zip(centres.chunks_exact(N * V::WIDTH)) {
            let mut panel = [V::splat(0.0); N];
            for n in 0..N {
                panel[n] = V::load(&centres[n * V::WIDTH..]);
            }
            for row in 0..GROUP {
                let value = V::splat(values[row]);
                for n in 0..N {
                    tile[row][n] = value.times_plus(panel[n], tile[row][n]);
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
fn largest_two(best: &[f32], width: usize) -> (u32, Option<u32>) {
    const NONE: (f32, f32) = (f32::NEG_INFINITY, 0.0);
    let (mut first, mut second) = (NONE, NONE);
    let comes_before = |a: (f32, f32), b: (f32, f32)| a.0 > b.0 || (a.0 == b.0 && a.1 < b.1);
    for part in [0, 2] {
        for lane in 0..width {
            let found = (best[part * width + lane], best[(part + 1) * width + lane]);
            if found.0 == f32::NEG_INFINITY {
                continue;
            }
            if first.0 == f32::NEG_INFINITY || comes_before(found, first) {
                (first, second) = (found, first);
            } else if second.0 == f32::NEG_INFINITY || comes_before(found, second) {
                second = found;
            }
        }
    }
    (first.1 as u32, (second.0 > f32::NEG_INFINITY).then_some(second.1 as u32))
}

#[cfg(test)]
mod tests;
