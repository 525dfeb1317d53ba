//! What a pass computes in: `auto`, `float32` or `bfloat16`.
//!
//! libtorch's own autocast knows, through tch, float16 on CUDA only. What it does is little: it hands casts of the weights to
//! convolutions and matrix products, here done by [`Tensors::cast`](super::tensors::Tensors::cast). bfloat16 has the range of 32
//! bits, so that no gradient needs to be scaled.

use serde::{Deserialize, Serialize};
use tch::Kind;

/// The `precision` key of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// bfloat16 on CUDA, else float32.
    #[default]
    Auto,
    /// 32 bits.
    Float32,
    /// 16 bits with the range of 32: 8 of them are the exponent.
    Bfloat16,
}

impl Precision {
    /// The kind of tensors on that device; none for float32.
    pub fn reduced(self, device: tch::Device) -> Option<Kind> {
        match self {
            Self::Auto => device.is_cuda().then_some(Kind::BFloat16),
            Self::Float32 => None,
            Self::Bfloat16 => Some(Kind::BFloat16),
        }
    }
}
