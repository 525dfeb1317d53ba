//! safetensors files as they are read: what a file says of its tensors before their bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use safetensors::tensor::Metadata;
use tessera_schemas::{meta, weights};

use super::kind::Kind;

/// The longest header of a sound file, as the format's own library has it.
const HEADER_BYTES: u64 = 100_000_000;
/// Bytes of the header's length.
const LENGTH_BYTES: u64 = 8;

/// What a file says of its tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Each tensor's type, as the format names it, and shape.
    pub tensors: BTreeMap<String, (String, Vec<usize>)>,
    /// Other entries.
    pub metadata: BTreeMap<String, String>,
}

/// Why a file has no header that can be used.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("is {}, and a safetensors file is needed", .0.describe())]
    Other(Kind),
    /// It is shorter or longer than its header says.
    #[error("has {found} bytes, and its header speaks of {expected}")]
    Length {
        /// Bytes of the file.
        found: u64,
        /// Bytes that it should have.
        expected: u64,
    },
    /// Its header is none.
    #[error("is no sound safetensors file: {0}")]
    Malformed(String),
}

impl HeaderError {
    /// What helps.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Io(_) => "look at its permissions",
            Self::Other(kind) => kind.to_safetensors(),
            Self::Length { .. } => "fetch or write it anew: it was cut off on its way",
            Self::Malformed(_) => Kind::Unknown.to_safetensors(),
        }
    }
}

impl Header {
    /// Reads a file's header, and none of its tensors.
    ///
    /// # Errors
    /// It is no sound safetensors file.
    pub fn read(path: &Path) -> Result<Self, HeaderError> {
        let mut file = File::open(path)?;
        let found = file.metadata()?.len();
        let mut length = [0; LENGTH_BYTES as usize];
        if found <= LENGTH_BYTES {
            return Err(HeaderError::Other(Kind::of(path)?));
        }
        file.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        let mut begin = [0; 1];
        file.read_exact(&mut begin)?;
        if begin != *b"{" || length > HEADER_BYTES {
            return Err(HeaderError::Other(Kind::of(path)?));
        }
        if found < LENGTH_BYTES + length {
            return Err(HeaderError::Length { found, expected: LENGTH_BYTES + length });
        }
        let mut json = begin.to_vec();
        file.take(length.saturating_sub(1)).read_to_end(&mut json)?;
        let header: Metadata = serde_json::from_slice(&json).map_err(|error| HeaderError::Malformed(error.to_string()))?;
        let expected = LENGTH_BYTES + length + header.data_len() as u64;
        if found != expected {
            return Err(HeaderError::Length { found, expected });
        }
        Ok(Self::of(&header))
    }

    /// What the format's own library read.
    pub fn of(header: &Metadata) -> Self {
        let tensor =
            |(name, info): (String, &safetensors::tensor::TensorInfo)| (name, (info.dtype.to_string(), info.shape.clone()));
        let metadata = header.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
        Self { tensors: header.tensors().into_iter().map(tensor).collect(), metadata }
    }
}

/// The keys under which a file says what [`weights::Network`] holds.
const NETWORK: &str = "network";
const MEAN: &str = "mean";
const DEVIATION: &str = "deviation";
const NORMALISATION: &str = "normalisation";

/// Entries that say which network's the tensors are, and how its images are normalised.
pub fn entries(network: &weights::Network) -> BTreeMap<String, String> {
    let entries = [
        // What PyTorch's loaders look for.
        ("format", Some("pt".to_owned())),
        (NETWORK, network.name.clone()),
        (MEAN, network.mean.map(|mean| meta::join(&mean))),
        (DEVIATION, network.deviation.map(|deviation| meta::join(&deviation))),
        (NORMALISATION, network.normalisation.clone()),
    ];
    entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// What such entries say.
///
/// # Errors
/// A mean or deviation is not three numbers; a fragment that names it.
pub fn network(metadata: &BTreeMap<String, String>) -> Result<weights::Network, String> {
    let numbers = |key: &str| {
        let parse = |text: &String| -> Option<[f32; 3]> {
            let values: Result<Vec<f32>, _> = text.split(',').map(|part| part.trim().parse()).collect();
            values.ok()?.try_into().ok()
        };
        let of = |text| {
            parse(text).ok_or_else(|| format!("its `{key}` is `{text}`, and should be three numbers: red,green,blue"))
        };
        metadata.get(key).map(of).transpose()
    };
    Ok(weights::Network {
        name: metadata.get(NETWORK).cloned(),
        mean: numbers(MEAN)?,
        deviation: numbers(DEVIATION)?,
        normalisation: metadata.get(NORMALISATION).cloned(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Layout, Tensor};
    use super::*;

    #[test]
    fn a_header_is_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let said = weights::Network {
            name: Some("small".to_owned()),
            mean: Some([0.1, 0.25, 0.333_333_34]),
            deviation: Some([1.0, 0.5, 1e-3]),
            normalisation: None,
        };
        let tensor = |name: &str, dtype: &str, shape: &[u64]| Tensor {
            name: name.to_owned(),
            dtype: dtype.to_owned(),
            shape: shape.to_vec(),
        };
        let layout = Layout::new(&[tensor("b", "F32", &[2, 3]), tensor("n", "I64", &[])], &entries(&said)).unwrap();
        let mut bytes = layout.head.clone();
        bytes.resize(layout.length as usize, 0);
        std::fs::write(&path, &bytes).unwrap();
        let header = Header::read(&path).unwrap();
        let tensors = [("b", ("F32", vec![2, 3])), ("n", ("I64", vec![]))];
        let tensors = tensors.map(|(name, (dtype, shape))| (name.to_owned(), (dtype.to_owned(), shape)));
        assert_eq!(header.tensors, BTreeMap::from(tensors));
        assert_eq!(network(&header.metadata).unwrap(), said);
        // Whatever is cut off, and what is too much.
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let error = Header::read(&path).unwrap_err();
            assert!(matches!(error, HeaderError::Other(_) | HeaderError::Length { .. }), "{length}: {error}");
        }
        bytes.push(0);
        std::fs::write(&path, &bytes).unwrap();
        let error = Header::read(&path).unwrap_err().to_string();
        assert_eq!(error, format!("has {} bytes, and its header speaks of {}", bytes.len(), bytes.len() - 1));
    }

    #[test]
    fn what_is_no_header_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let error = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let error = Header::read(&path).unwrap_err();
            (error.to_string(), error.help())
        };
        let (message, help) = error(b"PK\x03\x04 archive/data.pkl archive/data/0");
        assert!(
            message.starts_with("is a file of PyTorch's own format") && help.contains("save_file("),
            "{message}; {help}"
        );
        let (message, help) = error(b"PK\x03\x04 archive/constants.pkl");
        assert!(message.starts_with("is a TorchScript model") && help.contains("model = "), "{message}; {help}");
        assert_eq!(error(b"").0, "is empty, and a safetensors file is needed");
        assert!(error(b"\x02\0\0\0\0\0\0\0[]").0.starts_with("is of no known kind, "));
        assert!(error(b"\x03\0\0\0\0\0\0\0{x}").0.starts_with("is no sound safetensors file: "));
        let entry = |text: &str| BTreeMap::from([("mean".to_owned(), text.to_owned())]);
        assert_eq!(
            network(&entry("0.5,0.5")).unwrap_err(),
            "its `mean` is `0.5,0.5`, and should be three numbers: red,green,blue"
        );
        assert_eq!(network(&entry("0.5, 0.25,1")).unwrap().mean, Some([0.5, 0.25, 1.0]));
    }
}
