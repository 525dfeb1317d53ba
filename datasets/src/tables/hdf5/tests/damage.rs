//! Files that are damaged: errors, whatever the library makes of them.

use super::*;
use crate::tables::raw::Raw;

/// A small file with all that the library has to understand: groups, types, indexes of chunks, attributes, a heap.
fn small() -> (TempDir, PathBuf) {
    made(|file| {
        let group = file.create_group("g").unwrap();
        dataset(&group, "long", &[4], &["a", "bc", "", "d"].map(|text| text.parse::<VarLenUnicode>().unwrap()));
        dataset(&group, "yes", &[4], &[true, false, true, true]);
        let numbers = group.new_dataset::<f32>().shape((4, 3)).chunk((1, 2)).shuffle().deflate(4).create("f").unwrap();
        numbers.write_raw(&[0.5_f32; 12]).unwrap();
        numbers.new_attr::<FixedUnicode<8>>().create("tessera.x").unwrap();
        file.link_soft("/g", "soft").unwrap();
    })
}

/// As a user meets it: an error names the file, and nothing else ends.
fn survive(path: &Path, bytes: &[u8], what: impl std::fmt::Display) -> bool {
    fs::write(path, bytes).unwrap();
    match read_back(path, one("/g")) {
        Ok(batch) => {
            assert!(batch.num_rows() < 1 << 20, "{what}");
            true
        }
        Err(error) => {
            assert!(error.to_string().contains("a.h5: "), "{what}: {error}");
            false
        }
    }
}

#[test]
fn truncated_files_are_errors() {
    let (_dir, path) = small();
    let whole = fs::read(&path).unwrap();
    assert!(survive(&path, &whole, "whole"));
    for length in (0..whole.len()).step_by(whole.len() / 40) {
        assert!(!survive(&path, &whole[..length], length), "{length} bytes");
    }
}

#[test]
fn flipped_bytes_are_errors_or_other_values() {
    let (_dir, path) = small();
    let whole = fs::read(&path).unwrap();
    let step = std::env::var("TESSERA_FLIPS").ok().and_then(|text| text.parse().ok()).unwrap_or(257);
    for at in (0..whole.len()).step_by(step) {
        for value in [0, 0xff, whole[at] ^ 0x40] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            survive(&path, &bytes, format!("byte {at} is {value}"));
        }
    }
}

/// Values are checked beside the library: a chunk that was changed is named.
#[test]
fn a_damaged_chunk_is_named() {
    let values: Vec<f32> = (0..3000).map(|at| at as f32).collect();
    let (_dir, path) = made(|file| {
        let made = file.new_dataset::<f32>().shape((1000, 3)).chunk((100, 3)).deflate(4).create("f").unwrap();
        made.write_raw(&values).unwrap();
    });
    let file = H5File::open(&path).unwrap();
    let chunk = file.dataset("f").unwrap().chunk_info(7).unwrap();
    file.close().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[chunk.addr as usize + 100] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let message = refusal(&path, one("f"));
    assert!(message.starts_with("a.h5: is damaged: the chunk of `f` at (700, 0): "), "{message}");
}

/// A crash of the child that asks the library first is an error of the parent.
#[test]
fn a_crash_of_the_library_is_an_error() {
    let (_dir, path) = small();
    let size = fs::metadata(&path).unwrap().len();
    let raw = Raw { files: &LocalFiles, path: &path, size };
    let me = std::process::id();
    let error = super::super::driver::with_file(raw, |_| {
        if std::process::id() != me {
            std::process::abort();
        }
        Ok(())
    });
    assert!(error.unwrap_err().to_string().ends_with("a.h5: is damaged: HDF5's library crashes at it"));
    assert!(super::super::driver::with_file(raw, |file| Ok(file.link_exists("g"))).unwrap());
}
