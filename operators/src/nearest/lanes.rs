//! Vectors of whole numbers, so that the kernel is written once.

/// A vector of 32-bit words.
pub trait Lanes: Copy {
    /// Words in it.
    const WIDTH: usize;

    /// Zeros.
    unsafe fn zero() -> Self;
    /// The same word everywhere.
    unsafe fn splat(word: u32) -> Self;
    /// The first words of a slice.
    unsafe fn load(words: &[u32]) -> Self;
    /// The sums of a slice's first words.
    unsafe fn load_sums(sums: &[i32]) -> Self;
    /// Writes sums.
    unsafe fn store(self, sums: &mut [i32]);
    /// `self` plus the products of the whole numbers in each word of `rows` and `centres`.
    unsafe fn plus_dot(self, rows: Self, centres: Self) -> Self;
}

/// Vectors of some processors: the type, its words, its numbers, and their instructions.
#[cfg(target_arch = "x86_64")]
macro_rules! x86 {
    ($name:ident($raw:ty), $width:literal, $zero:ident, $splat:ident, $load:ident, $store:ident,
     |$sum:ident, $rows:ident, $centres:ident| $dot:expr) => {
        #[derive(Clone, Copy)]
        pub struct $name($raw);

        impl Lanes for $name {
            const WIDTH: usize = $width;
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
        }
    };
}

#[cfg(target_arch = "x86_64")]
pub mod x86 {
    use std::arch::x86_64::*;

    use super::Lanes;

    x86!(
        VnniBytes(__m512i),
        16,
        _mm512_setzero_si512,
        _mm512_set1_epi32,
        _mm512_loadu_si512,
        _mm512_storeu_si512,
        |sum, rows, centres| _mm512_dpbusd_epi32(sum, rows, centres)
    );
    x86!(
        VnniShorts(__m512i),
        16,
        _mm512_setzero_si512,
        _mm512_set1_epi32,
        _mm512_loadu_si512,
        _mm512_storeu_si512,
        |sum, rows, centres| _mm512_dpwssd_epi32(sum, rows, centres)
    );
    x86!(
        Avx2Shorts(__m256i),
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
}
