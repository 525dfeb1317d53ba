//! safetensors files as they are read.

use std::fs::File;
use std::io::{Read as _, Seek as _};

use safetensors::tensor::{Metadata, TensorInfo};

use super::file::{Entry, Header, HeaderError, Place};

/// The longest header of a sound file, as the format's own library has it.
pub const HEADER_BYTES: u64 = 100_000_000;
/// Bytes of the header's length.
pub const LENGTH_BYTES: u64 = 8;

/// Reads the header of a file that is known to begin as such files do.
///
/// # Errors
/// It is not sound.
pub fn header(file: &mut File) -> Result<Header, HeaderError> {
    let found = file.metadata()?.len();
    file.rewind()?;
    let mut length = [0; LENGTH_BYTES as usize];
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > HEADER_BYTES {
        return Err(HeaderError::Malformed(format!("its header would have {length} bytes")));
    }
    let begin = LENGTH_BYTES + length;
    if found < begin {
        return Err(HeaderError::Length { found, expected: begin });
    }
    let mut json = Vec::new();
    file.take(length).read_to_end(&mut json)?;
    // The library looks at each tensor's place: they lie one behind another, as long as their types and shapes say.
    let header: Metadata = serde_json::from_slice(&json).map_err(|error| HeaderError::Malformed(error.to_string()))?;
    let expected = begin.saturating_add(header.data_len() as u64);
    if found != expected {
        return Err(HeaderError::Length { found, expected });
    }
    let entry = |info: &TensorInfo| {
        let (start, end) = info.data_offsets;
        let bytes = begin + start as u64..begin + end as u64;
        Entry { dtype: info.dtype.to_string(), shape: info.shape.clone(), place: Place { bytes, strides: None } }
    };
    let metadata = header.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    let tensors = header.tensors().into_iter().map(|(name, info)| (name, entry(info))).collect();
    Ok(Header { tensors, metadata, ..Header::default() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use tessera_schemas::weights;

    use super::*;
    use crate::tensor_file::{Layout, Tensor, TensorFile, entries, network};

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
        bytes.resize(layout.length as usize - 1, 0);
        bytes.push(9);
        std::fs::write(&path, &bytes).unwrap();
        let file = TensorFile::open(&path, None).unwrap();
        let header = &file.header;
        let found: Vec<_> =
            header.tensors.iter().map(|(name, found)| (name.as_str(), found.dtype.as_str(), found.shape.clone())).collect();
        assert_eq!(found, [("b", "F32", vec![2, 3]), ("n", "I64", vec![])]);
        assert_eq!(header.tensors.values().map(Entry::bytes).collect::<Vec<_>>(), [24, 8]);
        let data: Vec<_> = header.tensors.values().map(|tensor| file.data(tensor).unwrap().pop()).collect();
        assert_eq!(data, [Some(9), Some(0)], "wide ones lie first");
        assert_eq!(network(&header.metadata).unwrap(), said);
        let error = TensorFile::open(&path, Some("teacher")).unwrap_err();
        assert!(error.is_choice() && error.to_string().contains("no dictionaries of tensors to choose from"), "{error}");
        // Whatever is cut off, and what is too much.
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let error = TensorFile::open(&path, None).unwrap_err();
            assert!(matches!(error, HeaderError::Other(_) | HeaderError::Length { .. }), "{length}: {error}");
        }
        bytes.push(0);
        std::fs::write(&path, &bytes).unwrap();
        let error = TensorFile::open(&path, None).unwrap_err().to_string();
        assert_eq!(error, format!("has {} bytes, and its header speaks of {}", bytes.len(), bytes.len() - 1));
    }

    #[test]
    fn what_is_no_header_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let error = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let error = TensorFile::open(&path, None).unwrap_err();
            (error.to_string(), error.help(Path::new("w.pth")))
        };
        let (message, help) = error(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.");
        assert!(message.starts_with("is a file that `torch.save` wrote before PyTorch 1.6"), "{message}");
        assert!(help.contains("torch.save(torch.load(\"w.pth\", map_location=\"cpu\", weights_only=True), "), "{help}");
        let (message, help) = error(b"\x80\x03}.");
        assert!(
            message.starts_with("is a pickle of Python's that") && help.contains("pickle.load(open(\"w.pth\""),
            "{help}"
        );
        let (message, help) = error(b"PK\x03\x04 archive/constants.pkl");
        assert!(message.starts_with("is a TorchScript model") && help.contains("model = "), "{message}; {help}");
        assert_eq!(
            error(b"").0,
            "is empty, and weights are read from safetensors and from what `torch.save` writes since PyTorch 1.6"
        );
        assert!(error(b"\x02\0\0\0\0\0\0\0[]").0.starts_with("is of no known kind, "));
        assert!(error(b"\x03\0\0\0\0\0\0\0{x}").0.starts_with("is no sound safetensors file: "));
        let offsets = b"{\"a\":{\"dtype\":\"F32\",\"shape\":[9],\"data_offsets\":[0,4]}}";
        let (message, _) = error(&[&(offsets.len() as u64).to_le_bytes()[..], offsets, &[0; 4]].concat());
        assert!(message.starts_with("is no sound safetensors file: "), "{message}");
        let entry = |text: &str| BTreeMap::from([("mean".to_owned(), text.to_owned())]);
        assert_eq!(
            network(&entry("0.5,0.5")).unwrap_err(),
            "its `mean` is `0.5,0.5`, and should be three numbers: red,green,blue"
        );
        assert_eq!(network(&entry("0.5, 0.25,1")).unwrap().mean, Some([0.5, 0.25, 1.0]));
    }
}
