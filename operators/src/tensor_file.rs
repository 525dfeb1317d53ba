//! Files of named tensors: safetensors, and what `torch.save` writes.
//!
//! safetensors files as they are written: where each tensor's bytes go is known before any of them is there. As files of either kind are
//! read ([`TensorFile`]), what is said of the tensors is known before any of them is.
//!
//! safetensors: <https://github.com/huggingface/safetensors>. Eight bytes with the header's length, the header as JSON, then the
//! tensors' bytes, row-major and little endian, with no gaps between them. PyTorch's files: `pytorch`.

mod file;
mod kind;
#[cfg(test)]
pub mod made;
#[cfg(test)]
mod mutations;
mod network;
mod pytorch;
mod safetensors_file;

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Map, Value, json};

pub use file::{Entry, Header, HeaderError, TensorFile};
pub use kind::Kind;
pub use network::{entries, network};

/// Bytes that the header's length is a multiple of, so that the first tensor is aligned.
const ALIGNMENT: usize = 8;

/// A tensor that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its type, as the format names it: `F32`, `F16`, `BF16`, `I64`, …
    pub dtype: String,
    /// Its shape, outermost first; empty for a scalar.
    pub shape: Vec<u64>,
}

/// A file's beginning, and the places of what comes behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The file's first bytes.
    pub head: Vec<u8>,
    /// Of each tensor, in the order in which they were given: its bytes, counted from the file's start.
    pub places: Vec<Range<u64>>,
    /// The file's length.
    pub length: u64,
}

/// Bytes of a value of that type.
pub fn width(dtype: &str) -> Option<u64> {
    match dtype {
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" => Some(1),
        "U16" | "I16" | "F16" | "BF16" => Some(2),
        "U32" | "I32" | "F32" => Some(4),
        "U64" | "I64" | "F64" => Some(8),
        _ => None,
    }
}

impl Layout {
    /// Lays tensors out: wide types first, so that each is aligned, and by name.
    ///
    /// # Errors The format does not have a tensor's type, a name is there twice, or a shape is too large.
    pub fn new(tensors: &[Tensor], metadata: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut sized = Vec::new();
        for (at, tensor) in tensors.iter().enumerate() {
            let Tensor { name, dtype, shape } = tensor;
            let width = width(dtype).ok_or_else(|| format!("tensor `{name}`: safetensors has no type {dtype}"))?;
            let bytes = shape.iter().try_fold(width, |bytes, &side| bytes.checked_mul(side));
            let bytes = bytes.ok_or_else(|| format!("tensor `{name}`: the shape {shape:?} is too large"))?;
            sized.push((std::cmp::Reverse(width), name, at, bytes));
        }
        sized.sort();
        let mut header = Map::new();
        if !metadata.is_empty() {
            header.insert("__metadata__".to_owned(), json!(metadata));
        }
        let mut offsets = vec![0..0; tensors.len()];
        let mut end = 0;
        for (_, name, at, bytes) in sized {
            let start = end;
            end += bytes;
            offsets[at] = start..end;
            let entry = json!({"dtype": tensors[at].dtype, "shape": tensors[at].shape, "data_offsets": [start, end]});
            if header.insert(name.clone(), entry).is_some() {
                return Err(format!("the tensor `{name}` is there twice"));
            }
        }
        let mut json = Value::Object(header).to_string().into_bytes();
        json.resize(json.len().next_multiple_of(ALIGNMENT), b' ');
        let head = [&(json.len() as u64).to_le_bytes()[..], &json].concat();
        let begin = head.len() as u64;
        let places = offsets.into_iter().map(|place| begin + place.start..begin + place.end).collect();
        Ok(Self { head, places, length: begin + end })
    }
}

#[cfg(test)]
mod tests {
    use safetensors::{Dtype, SafeTensors};

    use super::*;

    fn tensor(name: &str, dtype: &str, shape: &[u64]) -> Tensor {
        Tensor { name: name.into(), dtype: dtype.into(), shape: shape.to_vec() }
    }

    #[test]
    fn the_formats_own_reader_finds_every_tensor() {
        let tensors = [tensor("b", "F32", &[2, 3]), tensor("a", "U8", &[3]), tensor("steps", "I64", &[])];
        let metadata = BTreeMap::from([("network".to_owned(), "small".to_owned())]);
        let layout = Layout::new(&tensors, &metadata).unwrap();
        let mut file = layout.head.clone();
        file.resize(layout.length as usize, 0);
        for (place, fill) in layout.places.iter().zip(1..) {
            file[place.start as usize..place.end as usize].fill(fill);
        }
        let read = SafeTensors::deserialize(&file).unwrap();
        assert_eq!(read.len(), 3);
        for (tensor, (dtype, fill)) in tensors.iter().zip([(Dtype::F32, 1), (Dtype::U8, 2), (Dtype::I64, 3)]) {
            let found = read.tensor(&tensor.name).unwrap();
            assert_eq!(found.dtype(), dtype);
            assert_eq!(found.shape().iter().map(|&side| side as u64).collect::<Vec<_>>(), tensor.shape);
            assert!(found.data().iter().all(|&byte| byte == fill), "{}", tensor.name);
        }
        let (_, header) = SafeTensors::read_metadata(&file).unwrap();
        assert_eq!(header.metadata().as_ref().unwrap()["network"], "small");
        assert_eq!(layout.places[2].start % 8, 0, "aligned");
    }

    #[test]
    fn what_the_format_lacks_is_refused() {
        let refused = |tensors: &[Tensor]| Layout::new(tensors, &BTreeMap::new()).unwrap_err();
        assert_eq!(refused(&[tensor("t", "C64", &[1])]), "tensor `t`: safetensors has no type C64");
        assert_eq!(refused(&[tensor("t", "F32", &[1]), tensor("t", "F32", &[1])]), "the tensor `t` is there twice");
        assert!(refused(&[tensor("t", "F64", &[u64::MAX, 2])]).contains("too large"));
    }
}
