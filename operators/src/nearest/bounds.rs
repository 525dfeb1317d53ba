//! From sums of products to the few centres that may be nearest to a row.

use super::code::{Code, ROUNDING};
use super::lanes::{Floats as _, Lanes};
use super::{Centres, Found};

/// The share of a row's square that a distance in f64 may be off by, in up to 2^20 dimensions.
const BLUR: f32 = 1.0 / (1u64 << 36) as f32;
/// What a squared distance in up to 32 heavy dimensions may be off by, as a share of it.
const APART: f32 = 1.0 / (1 << 18) as f32;
/// Values of the widest vector.
const WIDEST: usize = 16;
/// Sums that run side by side.
const LANES: usize = 64;

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
    /// Values in the heavy dimensions, a dimension after the other.
    pub heavy: Vec<f32>,
}

/// Bounds on one row's scores with the centres from `start` on: `x·c - |c|²/2`, which the nearest centre has the largest of.
///
/// `|x·c - x'·c'| <= |x - x'| |c'| + |x| |c - c'|`, where `x'`, `c'` are what the codes say. All roundings here are within the
/// slack that [`ROUNDING`] has put into residuals and bounds.
///
/// All this is of the dimensions that are coded. In the heavy ones, whose values `heavy` has of the row, the score is `-(x - c)²/2`.
/// That is the whole distance but for `|x|²/2` of the coded ones, which all centres share; so scores compare as before. The difference
/// is one rounding off, its square two more and the sum another for each dimension: a part in 2^24 each, of numbers that are not
/// negative. So the sum lies within [`APART`] of itself, which also covers what is lost when it is added to the rest.
///
/// # Safety
/// The processor has the instructions of `V`.
#[inline(always)]
pub unsafe fn bound<V: Lanes, F: Found>(
    terms: &Terms,
    start: usize,
    code: &Code,
    heavy: &[f32],
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
            let mut above = product.plus(of(&terms.bounds[0])).plus(error);
            let mut below = product.plus(of(&terms.bounds[1])).minus(error);
            if !heavy.is_empty() {
                let mut apart = V::Floats::splat(0.0);
                for (&value, centres) in heavy.iter().zip(terms.heavy.chunks_exact(terms.step.len())) {
                    let difference = V::Floats::splat(value).minus(of(centres));
                    apart = apart.plus(difference.times(difference));
                }
                above = above.minus(apart.times(V::Floats::splat(0.5 * (1.0 - APART))));
                below = below.minus(apart.times(V::Floats::splat(0.5 * (1.0 + APART))));
            }
            above.store(&mut upper[at..]);
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
pub unsafe fn gather<V: Lanes>(upper: &[f32], least: f32, start: usize, candidates: &mut Vec<(u32, f32)>) {
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

/// What a squared distance in f32 may be off by, as a share of it: a part in 2^24 for each of its roundings, of a difference, its
/// square, and the sums.
#[inline(always)]
pub fn slack(dimension: usize) -> f32 {
    (dimension / LANES + 2 * LANES + 8) as f32 / (1 << 23) as f32
}

/// Leaves the candidates that may be nearest by distances in f32, where there are more than are wanted.
#[inline(always)]
pub fn narrow<F: Found>(centres: &Centres<'_>, row: &[f32], candidates: &mut Vec<(u32, f32)>) {
    let wanted = if F::TWO { 2 } else { 1 };
    if candidates.len() <= wanted {
        return;
    }
    let slack = slack(row.len());
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

/// `|x - y|²` in f32.
#[inline(always)]
pub fn near_squared(x: &[f32], y: &[f32]) -> f32 {
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
