//! Vectors of whole numbers and of f32, so that the kernel is written once.

/// A vector of 32-bit words.
///
/// # Safety
/// Of all its functions: the processor has the instructions, and slices hold `WIDTH` values at least.
pub trait Lanes: Copy {
    /// Words in it.
    const WIDTH: usize;
    /// As many f32.
    type Floats: Floats;

    /// Zeros.
    unsafe fn zero() -> Self;
    /// The word in all lanes.
    unsafe fn splat(word: u32) -> Self;
    /// The first words of a slice.
    unsafe fn load(words: &[u32]) -> Self;
    /// The sums of a slice's first words.
    unsafe fn load_sums(sums: &[i32]) -> Self;
    /// Writes sums.
    unsafe fn store(self, sums: &mut [i32]);
    /// `self` plus the products of the whole numbers in each word of `rows` and `centres`.
    unsafe fn plus_dot(self, rows: Self, centres: Self) -> Self;
    /// The sums of a slice's beginning, less offsets.
    unsafe fn floats(sums: &[i32], offsets: &[i32]) -> Self::Floats;
}

/// A vector of f32.
///
/// # Safety
/// As of [`Lanes`].
pub trait Floats: Copy {
    /// The value in all lanes.
    unsafe fn splat(value: f32) -> Self;
    /// The first values of a slice.
    unsafe fn load(values: &[f32]) -> Self;
    /// Writes values.
    unsafe fn store(self, values: &mut [f32]);
    /// `self + other`.
    unsafe fn plus(self, other: Self) -> Self;
    /// `self - other`.
    unsafe fn minus(self, other: Self) -> Self;
    /// `self * other`.
    unsafe fn times(self, other: Self) -> Self;
    /// The larger of each two; `other` if one is no number.
    unsafe fn larger(self, other: Self) -> Self;
    /// The smaller of each two; `other` if one is no number.
    unsafe fn smaller(self, other: Self) -> Self;
    /// A bit for each value that is not below `other`; what is no number is not.
    unsafe fn reaches(self, other: Self) -> u32;
}

/// Vectors of some processors: the type, its words, its numbers, and their instructions.
#[cfg(target_arch = "x86_64")]
macro_rules! x86 {
    ($name:ident($raw:ty), $floats:ident, $width:literal, $zero:ident, $splat:ident, $load:ident, $store:ident,
     |$sum:ident, $rows:ident, $centres:ident| $dot:expr) => {
        #[derive(Clone, Copy)]
        pub struct $name($raw);

        impl Lanes for $name {
            const WIDTH: usize = $width;
            type Floats = $floats;
            #[inline(always)]
            unsafe fn zero() -> Self {
                Self(unsafe { $zero() })
            }
            #[inline(always)]
            unsafe fn splat(word: u32) -> Self {
                Self(unsafe { $splat(word as i32) })
            }
            #[inline(always)]
            unsafe fn load(words: &[u32]) -> Self {
                debug_assert!(words.len() >= $width);
                Self(unsafe { $load(words.as_ptr().cast()) })
            }
            #[inline(always)]
            unsafe fn load_sums(sums: &[i32]) -> Self {
                debug_assert!(sums.len() >= $width);
                Self(unsafe { $load(sums.as_ptr().cast()) })
            }
            #[inline(always)]
            unsafe fn store(self, sums: &mut [i32]) {
                debug_assert!(sums.len() >= $width);
                unsafe { $store(sums.as_mut_ptr().cast(), self.0) }
            }
            #[inline(always)]
            unsafe fn plus_dot(self, rows: Self, centres: Self) -> Self {
                let ($sum, $rows, $centres) = (self.0, rows.0, centres.0);
                Self(unsafe { $dot })
            }
            #[inline(always)]
            unsafe fn floats(sums: &[i32], offsets: &[i32]) -> $floats {
                unsafe { $floats::between(Self::load_sums(sums).0, Self::load_sums(offsets).0) }
            }
        }
    };
}

/// The same of f32.
#[cfg(target_arch = "x86_64")]
macro_rules! x86_floats {
    ($name:ident($raw:ty), $whole:ty, $width:literal, $between:expr, $splat:ident, $load:ident, $store:ident, $add:ident,
     $sub:ident, $mul:ident, $max:ident, $min:ident, $reaches:expr) => {
        #[derive(Clone, Copy)]
        pub struct $name($raw);

        impl $name {
            #[inline(always)]
            unsafe fn between(sums: $whole, offsets: $whole) -> Self {
                Self(unsafe { $between(sums, offsets) })
            }
        }

        impl Floats for $name {
            #[inline(always)]
            unsafe fn splat(value: f32) -> Self {
                Self(unsafe { $splat(value) })
            }
            #[inline(always)]
            unsafe fn load(values: &[f32]) -> Self {
                debug_assert!(values.len() >= $width);
                Self(unsafe { $load(values.as_ptr()) })
            }
            #[inline(always)]
            unsafe fn store(self, values: &mut [f32]) {
                debug_assert!(values.len() >= $width);
                unsafe { $store(values.as_mut_ptr(), self.0) }
            }
            #[inline(always)]
            unsafe fn plus(self, other: Self) -> Self {
                Self(unsafe { $add(self.0, other.0) })
            }
            #[inline(always)]
            unsafe fn minus(self, other: Self) -> Self {
                Self(unsafe { $sub(self.0, other.0) })
            }
            #[inline(always)]
            unsafe fn times(self, other: Self) -> Self {
                Self(unsafe { $mul(self.0, other.0) })
            }
            #[inline(always)]
            unsafe fn larger(self, other: Self) -> Self {
                Self(unsafe { $max(self.0, other.0) })
            }
            #[inline(always)]
            unsafe fn smaller(self, other: Self) -> Self {
                Self(unsafe { $min(self.0, other.0) })
            }
            #[inline(always)]
            unsafe fn reaches(self, other: Self) -> u32 {
                unsafe { $reaches(self.0, other.0) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
pub mod x86 {
    use std::arch::x86_64::*;

    use super::{Floats, Lanes};

    x86_floats!(
        Floats16(__m512),
        __m512i,
        16,
        |sums, offsets| _mm512_cvtepi32_ps(_mm512_sub_epi32(sums, offsets)),
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_mul_ps,
        _mm512_max_ps,
        _mm512_min_ps,
        |a, b| u32::from(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(a, b))
    );
    x86_floats!(
        Floats8(__m256),
        __m256i,
        8,
        |sums, offsets| _mm256_cvtepi32_ps(_mm256_sub_epi32(sums, offsets)),
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_mul_ps,
        _mm256_max_ps,
        _mm256_min_ps,
        |a, b| _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(a, b)) as u32
    );

    x86!(
        VnniBytes(__m512i),
        Floats16,
        16,
        _mm512_setzero_si512,
        _mm512_set1_epi32,
        _mm512_loadu_si512,
        _mm512_storeu_si512,
        |sum, rows, centres| _mm512_dpbusd_epi32(sum, rows, centres)
    );
    x86!(
        VnniShorts(__m512i),
        Floats16,
        16,
        _mm512_setzero_si512,
        _mm512_set1_epi32,
        _mm512_loadu_si512,
        _mm512_storeu_si512,
        |sum, rows, centres| _mm512_dpwssd_epi32(sum, rows, centres)
    );
    x86!(
        Avx2Shorts(__m256i),
        Floats8,
        8,
        _mm256_setzero_si256,
        _mm256_set1_epi32,
        _mm256_loadu_si256,
        _mm256_storeu_si256,
        |sum, rows, centres| _mm256_add_epi32(sum, _mm256_madd_epi16(rows, centres))
    );
}

/// Vectors of any processor.
#[derive(Clone, Copy)]
pub struct Portable([u32; 4]);

impl Lanes for Portable {
    const WIDTH: usize = 4;
    type Floats = [f32; 4];
    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0; 4])
    }
    #[inline(always)]
    unsafe fn splat(word: u32) -> Self {
        Self([word; 4])
    }
    #[inline(always)]
    unsafe fn load(words: &[u32]) -> Self {
        Self([words[0], words[1], words[2], words[3]])
    }
    #[inline(always)]
    unsafe fn load_sums(sums: &[i32]) -> Self {
        Self([sums[0] as u32, sums[1] as u32, sums[2] as u32, sums[3] as u32])
    }
    #[inline(always)]
    unsafe fn store(self, sums: &mut [i32]) {
        sums[..4].copy_from_slice(&self.0.map(|sum| sum as i32));
    }
    #[inline(always)]
    unsafe fn plus_dot(self, rows: Self, centres: Self) -> Self {
        let halves = |word: u32| [i32::from(word as i16), i32::from((word >> 16) as i16)];
        Self(std::array::from_fn(|lane| {
            let ([a, b], [c, d]) = (halves(rows.0[lane]), halves(centres.0[lane]));
            (self.0[lane] as i32 + (a * c + b * d)) as u32
        }))
    }
    #[inline(always)]
    unsafe fn floats(sums: &[i32], offsets: &[i32]) -> [f32; 4] {
        std::array::from_fn(|lane| (sums[lane] - offsets[lane]) as f32)
    }
}

impl Floats for [f32; 4] {
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        [value; 4]
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
    unsafe fn plus(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] + other[lane])
    }
    #[inline(always)]
    unsafe fn minus(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] - other[lane])
    }
    #[inline(always)]
    unsafe fn times(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] * other[lane])
    }
    #[inline(always)]
    unsafe fn larger(self, other: Self) -> Self {
        std::array::from_fn(|lane| if self[lane] > other[lane] { self[lane] } else { other[lane] })
    }
    #[inline(always)]
    unsafe fn smaller(self, other: Self) -> Self {
        std::array::from_fn(|lane| if self[lane] < other[lane] { self[lane] } else { other[lane] })
    }
    #[inline(always)]
    unsafe fn reaches(self, other: Self) -> u32 {
        #[expect(clippy::neg_cmp_op_on_partial_ord, reason = "NaN counts as not below")]
        let reaches = |lane: usize| u32::from(!(self[lane] < other[lane])) << lane;
        (0..4).map(reaches).sum()
    }
}
