//! Files of tensors that are nearly sound, and what must hold of each.

use std::io::Write as _;

use super::{TensorFile, made, network, width};

#[path = "../../../tests/fuzz/src/mutations.rs"]
mod fuzz;

/// A safetensors file of that header and so many bytes.
fn safetensors(header: &str, bytes: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![7; bytes]].concat()
}

fn pytorch() -> Vec<u8> {
    let tensor = |key: &str, count, shape: &[u32]| made::tensor("FloatStorage", key, count, [&[0], shape, &[2, 1]]);
    let state = [("conv1.weight", tensor("0", 6, &[3, 2])), ("conv1.bias", tensor("1", 4, &[2, 2]))];
    made::file(&made::dictionary(&state), &[("0", &[1; 24]), ("1", &[2; 16])])
}

#[test]
#[ignore = "feeds a reader for a minute"]
fn tensors_lie_within_their_file() {
    let samples = [
        safetensors(r#"{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}"#, 24),
        safetensors(
            r#"{"__metadata__":{"network":"small"},"b":{"dtype":"BF16","shape":[],"data_offsets":[0,2]},"c":{"dtype":"I64","shape":[0,4],"data_offsets":[2,2]}}"#,
            2,
        ),
        pytorch(),
    ];
    let words = [
        "\"dtype\"",
        "\"F64\"",
        "[",
        "18446744073709551615",
        "-1",
        "PK\u{3}\u{4}",
        "data.pkl",
        "cos\nsystem\n",
        "q\0",
        "\u{0}",
    ];
    fuzz::feed("tensors", &samples, &words, |bytes| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        match TensorFile::open(file.path(), None) {
            Ok(found) => {
                for (name, entry) in &found.header.tensors {
                    assert!(
                        entry.place.bytes.end <= bytes.len() as u64,
                        "`{name}` leaves the file: {:?}",
                        entry.place.bytes
                    );
                    assert!(
                        width(&entry.dtype).is_none() || entry.bytes() < 1 << 20,
                        "`{name}` has {} bytes",
                        entry.bytes()
                    );
                    let _ = found.data(entry);
                }
                let _ = network(&found.header.metadata);
            }
            Err(error) => {
                let said = error.to_string();
                assert!(said.len() < 4096 && !error.help(file.path()).is_empty(), "{said}");
            }
        }
    });
}
