//! Where tensors live: `auto`, `cpu` or `cuda:N`.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operator::RunError;

/// The `device` key of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// The first CUDA device where there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of that number.
    Cuda(usize),
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.strip_prefix("cuda:").and_then(|number| number.parse().ok());
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            _ => number(text).map(Self::Cuda).ok_or_else(|| format!("`{text}` is no device: use `auto`, `cpu` or `cuda:N`")),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        match device {
            Device::Auto => "auto".to_owned(),
            Device::Cpu => "cpu".to_owned(),
            Device::Cuda(number) => format!("cuda:{number}"),
        }
    }
}

impl Device {
    /// Whether it is a CUDA device, where it is found.
    pub fn is_cuda(self) -> bool {
        match self {
            Self::Auto => tch::Cuda::device_count() > 0,
            Self::Cpu => false,
            Self::Cuda(_) => true,
        }
    }

    /// The name of the device that it is on this machine: `cpu` or `cuda:N`.
    pub fn here(self) -> String {
        match self {
            Self::Auto if self.is_cuda() => "cuda:0".to_owned(),
            Self::Auto => "cpu".to_owned(),
            named => named.into(),
        }
    }

    /// The device on this machine.
    ///
    /// # Errors
    /// It has no such CUDA device.
    pub fn find(self) -> Result<tch::Device, RunError> {
        let count = tch::Cuda::device_count().max(0) as usize;
        match self {
            Self::Auto if count == 0 => Ok(tch::Device::Cpu),
            Self::Auto => Ok(tch::Device::Cuda(0)),
            Self::Cpu => Ok(tch::Device::Cpu),
            Self::Cuda(number) if number < count => Ok(tch::Device::Cuda(number)),
            Self::Cuda(number) => Err(RunError::Input(format!(
                "there is no device `cuda:{number}`: libtorch sees {count} CUDA devices here; `device = \"auto\"` takes what there is"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        for text in ["auto", "cpu", "cuda:0", "cuda:12"] {
            assert_eq!(String::from(text.parse::<Device>().unwrap()), text);
        }
        for text in ["gpu", "cuda", "cuda:x", "cuda:-1", ""] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_cpu_is_always_there() {
        assert_eq!(Device::Cpu.find().unwrap(), tch::Device::Cpu);
        let error = Device::Cuda(1000).find().unwrap_err().to_string();
        assert!(error.starts_with("there is no device `cuda:1000`"), "{error}");
    }
}
