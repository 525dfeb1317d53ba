//! What a pass computes in: `auto`, `float32` or `bfloat16`.
//!
//! libtorch's own autocast knows, through tch, float16 on CUDA only. What it does is little: it hands casts of the weights to
//! convolutions and matrix products, here done by [`Tensors::cast`](super::tensors::Tensors::cast). bfloat16 has the range of 32
//! bits, so that no gradient needs to be scaled.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Kind;

use super::device::Device;

/// The `precision` key of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// bfloat16 on CUDA, and float32 on a CPU.
    #[default]
    Auto,
    /// 32 bits.
    Float32,
    /// 16 bits with the range of 32: 8 of them are the exponent.
    Bfloat16,
}

impl Precision {
    /// The precision on that device of this machine, which is `auto` no longer.
    pub fn on(self, device: Device) -> Self {
        match self {
            Self::Auto if device.is_cuda() => Self::Bfloat16,
            Self::Auto => Self::Float32,
            known => known,
        }
    }

    /// The kind of tensors; none for float32, and for what is not known yet.
    pub fn reduced(self) -> Option<Kind> {
        match self {
            Self::Auto | Self::Float32 => None,
            Self::Bfloat16 => Some(Kind::BFloat16),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_what_the_device_makes_of_it() {
        let on = |precision: Precision, device| precision.on(device);
        assert_eq!(on(Precision::Auto, Device::Cpu), Precision::Float32);
        assert_eq!(on(Precision::Auto, Device::Cuda(3)), Precision::Bfloat16);
        assert_eq!(on(Precision::Bfloat16, Device::Cpu).reduced(), Some(Kind::BFloat16));
        assert_eq!(on(Precision::Float32, Device::Cuda(0)).reduced(), None);
        let here = if Device::Auto.here() == "cpu" { Precision::Float32 } else { Precision::Bfloat16 };
        assert_eq!(on(Precision::Auto, Device::Auto), here);
    }
}
