//! Vectors of f32, for kernels that are written once and compiled for several instruction sets.

/// A vector of [`WIDTH`](Self::WIDTH) lanes.
///
/// # Safety
/// Every function needs the instructions of the type that it belongs to.
pub trait Lanes: Copy {
    /// Lanes in a vector.
    const WIDTH: usize;
    /// One truth value a lane.
    type Mask: Copy;
    /// The same value in all lanes.
    unsafe fn splat(value: f32) -> Self;
    /// `start`, `start + 1`, …
    unsafe fn count_from(start: f32) -> Self;
    /// The first [`WIDTH`](Self::WIDTH) values. There must be as many.
    unsafe fn load(values: &[f32]) -> Self;
    /// The converse of [`load`](Self::load).
    unsafe fn store(self, values: &mut [f32]);
    /// `self * factor + summand`, rounded once.
    unsafe fn times_plus(self, factor: Self, summand: Self) -> Self;
    /// `self + other`.
    unsafe fn plus(self, other: Self) -> Self;
    /// `self - other`.
    unsafe fn minus(self, other: Self) -> Self;
    /// `self > other`.
    unsafe fn above(self, other: Self) -> Self::Mask;
    /// Lane by lane one or the other.
    unsafe fn pick(mask: Self::Mask, yes: Self, no: Self) -> Self;
}

/// Writes an implementation from the names of one instruction set.
#[cfg(target_arch = "x86_64")]
macro_rules! x86 {
    ($vector:ty, $mask:ty, $width:literal, $splat:ident, $load:ident, $store:ident, $fma:ident, $add:ident, $sub:ident, $above:expr, |$m:ident, $y:ident, $n:ident| $pick:expr) => {
        impl Lanes for $vector {
            const WIDTH: usize = $width;
            type Mask = $mask;
            #[inline(always)]
            unsafe fn splat(value: f32) -> Self {
                unsafe { $splat(value) }
            }
            #[inline(always)]
            unsafe fn count_from(start: f32) -> Self {
                const STEPS: [f32; $width] = {
                    let mut steps = [0.0; $width];
                    let mut lane = 0;
                    while lane < $width {
                        steps[lane] = lane as f32;
                        lane += 1;
                    }
                    steps
                };
                unsafe { $fma($splat(1.0), $load(STEPS.as_ptr()), $splat(start)) }
            }
            #[inline(always)]
            unsafe fn load(values: &[f32]) -> Self {
                debug_assert!(values.len() >= $width);
                unsafe { $load(values.as_ptr()) }
            }
            #[inline(always)]
            unsafe fn store(self, values: &mut [f32]) {
                debug_assert!(values.len() >= $width);
                unsafe { $store(values.as_mut_ptr(), self) }
            }
            #[inline(always)]
            unsafe fn times_plus(self, factor: Self, summand: Self) -> Self {
                unsafe { $fma(self, factor, summand) }
            }
            #[inline(always)]
            unsafe fn plus(self, other: Self) -> Self {
                unsafe { $add(self, other) }
            }
            #[inline(always)]
            unsafe fn minus(self, other: Self) -> Self {
                unsafe { $sub(self, other) }
            }
            #[inline(always)]
            unsafe fn above(self, other: Self) -> Self::Mask {
                unsafe { $above(self, other) }
            }
            #[inline(always)]
            unsafe fn pick(mask: Self::Mask, yes: Self, no: Self) -> Self {
                let ($m, $y, $n) = (mask, yes, no);
                unsafe { $pick }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Lanes;

    x86!(
        __m512,
        __mmask16,
        16,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_fmadd_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_cmp_ps_mask::<_CMP_GT_OQ>,
        |mask, yes, no| _mm512_mask_blend_ps(mask, no, yes)
    );
    x86!(
        __m256,
        __m256,
        8,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_fmadd_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_cmp_ps::<_CMP_GT_OQ>,
        |mask, yes, no| _mm256_blendv_ps(no, yes, mask)
    );
}

impl Lanes for [f32; 4] {
    const WIDTH: usize = 4;
    type Mask = [bool; 4];
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        [value; 4]
    }
    #[inline(always)]
    unsafe fn count_from(start: f32) -> Self {
        [start, start + 1.0, start + 2.0, start + 3.0]
    }
    #[inline(always)]
    unsafe fn load(values: &[f32]) -> Self {
        [values[0], values[1], values[2], values[3]]
    }
    #[inline(always)]
    unsafe fn store(self, values: &mut [f32]) {
        values[..4].copy_from_slice(&self);
    }
    #[inline(always)]
    unsafe fn times_plus(self, factor: Self, summand: Self) -> Self {
        std::array::from_fn(|lane| self[lane].mul_add(factor[lane], summand[lane]))
    }
    #[inline(always)]
    unsafe fn plus(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] + other[lane])
    }
    #[inline(always)]
    unsafe fn minus(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] - other[lane])
    }
    #[inline(always)]
    unsafe fn above(self, other: Self) -> Self::Mask {
        std::array::from_fn(|lane| self[lane] > other[lane])
    }
    #[inline(always)]
    unsafe fn pick(mask: Self::Mask, yes: Self, no: Self) -> Self {
        std::array::from_fn(|lane| if mask[lane] { yes[lane] } else { no[lane] })
    }
}
