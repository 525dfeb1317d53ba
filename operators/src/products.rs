//! Products of rows with vectors: sums in f64, over padded blocks of rows, so that a row's bits depend on no other row.

use gemm::Parallelism;

/// Rows that are multiplied at once.
pub const BLOCK: usize = 64;

/// What rows are multiplied with.
pub struct Products {
    /// `K x D`.
    vectors: Vec<f64>,
    dimension: usize,
}

impl Products {
    /// Of `K x D` values.
    pub fn with(vectors: &[f32], dimension: usize) -> Self {
        Self { vectors: vectors.iter().map(|&value| value.into()).collect(), dimension }
    }

    /// Gives the K products of each of the rows, `n x D`, in their order. There must be a vector.
    pub fn of_each(&self, rows: &[f32], mut each: impl FnMut(&[f64])) {
        let (d, k) = (self.dimension, self.vectors.len() / self.dimension);
        let (mut block, mut products) = (vec![0.0; BLOCK * d], vec![0.0; BLOCK * k]);
        for rows in rows.chunks(BLOCK * d) {
            self.multiply(rows, &mut block, &mut products);
            products.chunks_exact(k).take(rows.len() / d).for_each(&mut each);
        }
    }

    /// Multiplies up to [`BLOCK`] rows: `block` has room for that many in f64, and `products` for theirs.
    fn multiply(&self, rows: &[f32], block: &mut [f64], products: &mut [f64]) {
        let (d, k) = (self.dimension, self.vectors.len() / self.dimension);
        assert!(block.len() == BLOCK * d && products.len() == BLOCK * k && self.vectors.len() == k * d, "a block's room");
        block.fill(0.0);
        block.iter_mut().zip(rows).for_each(|(to, &value)| *to = value.into());
        // SAFETY: the three matrices have the sizes that were asserted: BLOCK x d, d x k (the vectors are its columns), and BLOCK x k, all
        // row by row.
        unsafe {
            gemm::gemm(
                BLOCK,
                k,
                d,
                products.as_mut_ptr(),
                1,
                k as isize,
                false,
                block.as_ptr(),
                1,
                d as isize,
                self.vectors.as_ptr(),
                d as isize,
                1,
                0.0,
                1.0,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    }
}
