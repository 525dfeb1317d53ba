//! Files of named tensors as they are read: which tensors a file has is known before any of their bytes is read, and those are read a
//! tensor at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::kind::Kind;
use super::{pytorch, safetensors_file, width};

/// A file of named tensors.
#[derive(Debug)]
pub struct TensorFile {
    file: File,
    /// What it says of its tensors.
    pub header: Header,
}

/// What a file says of its tensors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    /// The tensors by name.
    pub tensors: BTreeMap<String, Entry>,
    /// Other entries.
    pub metadata: BTreeMap<String, String>,
    /// For a file with dictionaries in a dictionary: the name of the dictionary that the tensors are from.
    pub state: Option<String>,
    /// The entries among the tensors that cannot be read as tensors, by name, and what they are.
    pub left_out: BTreeMap<String, String>,
}

/// A tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its type, as safetensors names it.
    pub dtype: String,
    /// Its shape, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Where its values lie.
    pub place: Place,
}

/// Where a tensor's values lie in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// From the first one's first byte to behind the last one's last, all within the file.
    pub bytes: Range<u64>,
    /// For each side, how many values further the next value along it lies; `None` if values lie row-major without gaps.
    pub strides: Option<Vec<usize>>,
}

/// Why a file has no tensors that can be used.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The file is of another kind.
    #[error("is {}, and weights are read from safetensors and from what `torch.save` writes since PyTorch 1.6", .0.describe())]
    Other(Kind),
    /// The file is shorter or longer than its header says.
    #[error("has {found} bytes, and its header speaks of {expected}")]
    Length {
        /// Bytes of the file.
        found: u64,
        /// Bytes that it should have.
        expected: u64,
    },
    /// The file's header is damaged.
    #[error("is no sound safetensors file: {0}")]
    Malformed(String),
    /// The file has no dictionaries to choose from.
    #[error("is a safetensors file, which has no dictionaries of tensors to choose from")]
    NoStates,
    /// `torch.save` wrote something else into it, or something into it that is wrong.
    #[error(transparent)]
    Pytorch(#[from] pytorch::Fault),
}

impl HeaderError {
    /// Advice for a file of that path.
    pub fn help(&self, path: &Path) -> String {
        match self {
            Self::Io(_) => "look at its permissions".to_owned(),
            Self::Other(kind) => kind.to_weights(path),
            Self::Length { .. } => "fetch or write it anew: it was cut off on its way".to_owned(),
            Self::Malformed(_) => Kind::Unknown.to_weights(path),
            Self::NoStates => "remove the key".to_owned(),
            Self::Pytorch(fault) => fault.help(path),
        }
    }

    /// Whether it is the choice of a dictionary that is wrong, and not the file.
    pub fn is_choice(&self) -> bool {
        matches!(self, Self::NoStates | Self::Pytorch(pytorch::Fault::Unknown { .. }))
    }
}

impl Entry {
    /// Bytes of its values.
    pub fn bytes(&self) -> usize {
        match (&self.place.strides, width(&self.dtype)) {
            (Some(_), Some(width)) => self.shape.iter().product::<usize>() * width as usize,
            _ => (self.place.bytes.end - self.place.bytes.start) as usize,
        }
    }
}

impl TensorFile {
    /// Reads a file's header, and none of its tensors. Of a file with several dictionaries of tensors, `state` names one.
    ///
    /// # Errors
    /// It is no sound file of tensors, or it is not known which of them are meant.
    pub fn open(path: &Path, state: Option<&str>) -> Result<Self, HeaderError> {
        Self::of(File::open(path)?, state)
    }

    /// Reads the header of an open file.
    pub(super) fn of(mut file: File, state: Option<&str>) -> Result<Self, HeaderError> {
        let header = match (Kind::of_file(&mut file)?, state) {
            (Kind::Safetensors, None) => safetensors_file::header(&mut file)?,
            (Kind::Safetensors, Some(_)) => return Err(HeaderError::NoStates),
            (Kind::Torch, _) => pytorch::header(&file, state)?,
            (other, _) => return Err(HeaderError::Other(other)),
        };
        Ok(Self { file, header })
    }

    /// A tensor's bytes: row-major, little endian.
    ///
    /// # Errors
    /// The file cannot be read, or is shorter than it was.
    pub fn data(&self, tensor: &Entry) -> io::Result<Vec<u8>> {
        let Place { bytes, strides } = &tensor.place;
        let length = usize::try_from(bytes.end - bytes.start).map_err(io::Error::other)?;
        let mut data = vec![0; length];
        self.file.read_exact_at(&mut data, bytes.start)?;
        Ok(match (strides, width(&tensor.dtype)) {
            (Some(strides), Some(width)) => in_rows(&data, width as usize, &tensor.shape, strides),
            _ => data,
        })
    }
}

/// Values of so many bytes each, brought from a layout with strides into rows.
fn in_rows(data: &[u8], width: usize, shape: &[usize], strides: &[usize]) -> Vec<u8> {
    let count: usize = shape.iter().product();
    let mut rows = Vec::with_capacity(count * width);
    let mut at = vec![0; shape.len()];
    let mut value = 0;
    for _ in 0..count {
        rows.extend_from_slice(&data[value * width..(value + 1) * width]);
        for side in (0..shape.len()).rev() {
            at[side] += 1;
            value += strides[side];
            if at[side] < shape[side] {
                break;
            }
            value -= at[side] * strides[side];
            at[side] = 0;
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_are_undone() {
        let data: Vec<u8> = (0..12).collect();
        assert_eq!(in_rows(&data, 1, &[3, 4], &[4, 1]), data);
        assert_eq!(in_rows(&data, 1, &[4, 3], &[1, 4]), [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]);
        assert_eq!(in_rows(&data, 2, &[3, 2], &[1, 3]), [0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11]);
        assert_eq!(in_rows(&data, 1, &[2, 2], &[0, 5]), [0, 5, 0, 5]);
        assert_eq!(in_rows(&data, 4, &[], &[]), [0, 1, 2, 3]);
        assert_eq!(in_rows(&data, 4, &[2, 0], &[1, 1]), [0; 0]);
    }
}
