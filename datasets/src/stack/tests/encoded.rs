//! Files' bytes in HDF5 files, as others write them: made by the library itself.

use std::ffi::CString;

use hdf5_metno::types::VarLenArray;
use hdf5_metno::{File as H5File, Group};
use hdf5_metno_sys::h5d::{H5Dclose, H5Dcreate2, H5Dwrite};
use hdf5_metno_sys::h5p::{H5P_CLS_DATASET_CREATE, H5P_DEFAULT, H5Pclose, H5Pcreate, H5Pset_chunk, H5Pset_deflate};
use hdf5_metno_sys::h5s::{H5S_ALL, H5S_class_t, H5Sclose, H5Screate, H5Screate_simple};
use hdf5_metno_sys::h5t::{H5T_C_S1, H5T_class_t, H5T_str_t, H5Tclose, H5Tcopy, H5Tcreate, H5Tset_size, H5Tset_strpad};

use super::*;

/// A picture that is a PNG by its first bytes, and ends in no zero.
fn picture(at: usize) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x05\0\0\0\x07\x08\x02\0\0\0".to_vec();
    bytes.extend((0..40 + at * 37 % 500).map(|i| (i * 31 + at * 7) as u8));
    bytes.push(0x82);
    bytes
}

/// Writes `a.h5`.
fn made(dir: &TempDir, write: impl FnOnce(&H5File)) -> PathBuf {
    let path = dir.path().join("a.h5");
    let file = H5File::create(&path).unwrap();
    write(&file);
    file.close().unwrap();
    path
}

/// A dataset of values of so many bytes, opaque or text; of one value, if it has no rows. Packed, it is in chunks.
fn fixed(group: &Group, name: &str, values: &[Vec<u8>], width: usize, class: H5T_class_t, is_packed: bool, is_scalar: bool) {
    let mut bytes = vec![0; values.len() * width];
    for (place, value) in bytes.chunks_mut(width).zip(values) {
        place[..value.len()].copy_from_slice(value);
    }
    let name = CString::new(name).unwrap();
    let rows = [values.len() as u64];
    // SAFETY: the library's lock is held, all ids are its own, and the bytes are as many as type and space say.
    hdf5_metno::sync::sync(|| unsafe {
        let kind = if class == H5T_class_t::H5T_STRING { H5Tcopy(*H5T_C_S1) } else { H5Tcreate(class, width) };
        if class == H5T_class_t::H5T_STRING {
            assert!(H5Tset_size(kind, width) >= 0 && H5Tset_strpad(kind, H5T_str_t::H5T_STR_NULLPAD) >= 0);
        }
        let space = if is_scalar {
            H5Screate(H5S_class_t::H5S_SCALAR)
        } else {
            H5Screate_simple(1, rows.as_ptr(), std::ptr::null())
        };
        let list = H5Pcreate(*H5P_CLS_DATASET_CREATE);
        if is_packed {
            assert!(H5Pset_chunk(list, 1, [3].as_ptr()) >= 0 && H5Pset_deflate(list, 4) >= 0);
        }
        let made = H5Dcreate2(group.id(), name.as_ptr(), kind, space, H5P_DEFAULT, list, H5P_DEFAULT);
        assert!(made >= 0);
        assert!(H5Dwrite(made, kind, H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes.as_ptr().cast()) >= 0);
        assert!(H5Dclose(made) >= 0 && H5Pclose(list) >= 0 && H5Sclose(space) >= 0 && H5Tclose(kind) >= 0);
    });
}

fn long(group: &Group, name: &str, values: &[Vec<u8>], is_packed: bool) {
    let values: Vec<VarLenArray<u8>> = values.iter().map(|value| VarLenArray::from_slice(value)).collect();
    let builder = group.new_dataset::<VarLenArray<u8>>().shape(values.len());
    let builder = if is_packed { builder.chunk(7).deflate(4) } else { builder };
    builder.create(name).unwrap().write_raw(&values).unwrap();
}

/// All rows and what was left out; each image's bytes, as `decode` gets them, are those that its row was made of.
fn rows(stack: &Stack) -> (RecordBatch, Vec<LeftOut>) {
    let listed = stack.list(&LocalFiles).unwrap().files;
    let prints: Vec<Fingerprint> = listed.into_iter().map(|entry| Fingerprint { entry, ..Fingerprint::default() }).collect();
    let found: Vec<Found> = stack.rows(&LocalFiles, &prints).unwrap().map(|found| found.unwrap()).collect();
    let rows = arrow::compute::concat_batches(&stack.schema(), found.iter().map(|found| &found.rows)).unwrap();
    let sources: Vec<Source<'_>> = images::sources(&rows).unwrap().collect();
    let order: Vec<usize> = (0..sources.len()).rev().chain([0]).collect();
    let wanted: Vec<Source<'_>> = order.iter().map(|at| sources[*at].clone()).collect();
    let read = stack.access().read_each(&LocalFiles, stack.root(), stack.root(), &wanted);
    for (at, bytes) in order.into_iter().zip(read) {
        let digest = FileDigest::of(&blake3::hash(&bytes.unwrap())).to_string();
        assert_eq!(digest, text(&rows, "digest").unwrap().value(at));
    }
    (rows, found.into_iter().flat_map(|found| found.left_out).collect())
}

fn digests(rows: &RecordBatch) -> Vec<String> {
    text(rows, "digest").unwrap().iter().map(|digest| digest.unwrap().to_owned()).collect()
}

fn digest(bytes: &[u8]) -> String {
    FileDigest::of(&blake3::hash(bytes)).to_string()
}

#[test]
fn files_bytes_are_images_a_row_each() {
    let dir = TempDir::new().unwrap();
    let pictures: Vec<Vec<u8>> = (0..50).map(picture).collect();
    let expected: Vec<String> = pictures.iter().map(|bytes| digest(bytes)).collect();
    for is_packed in [false, true] {
        for kind in ["lists", "opaque", "text", "padded"] {
            let path = made(&dir, |file| {
                match kind {
                    "lists" => long(file, "jpg", &pictures, is_packed),
                    "opaque" => fixed(file, "jpg", &pictures, 600, H5T_class_t::H5T_OPAQUE, is_packed, false),
                    "text" => fixed(file, "jpg", &pictures, 600, H5T_class_t::H5T_STRING, is_packed, false),
                    _ => {
                        let bytes: Vec<u8> =
                            pictures.iter().flat_map(|bytes| [bytes, &vec![0; 600 - bytes.len()][..]].concat()).collect();
                        let builder = file.new_dataset::<u8>().shape([50, 600]);
                        let builder = if is_packed { builder.chunk([7, 64]).deflate(4) } else { builder };
                        builder.create("jpg").unwrap().write_raw(&bytes).unwrap();
                    }
                }
                // What looks alike and is no image.
                fixed(file, "note", &vec![b"a text of some length".to_vec(); 50], 30, H5T_class_t::H5T_STRING, false, false);
                file.new_dataset::<i32>()
                    .shape(50)
                    .create("label")
                    .unwrap()
                    .write_raw(&(0..50).collect::<Vec<i32>>())
                    .unwrap();
            });
            let stack = Stack::open(&LocalFiles, &path, None).unwrap();
            assert_eq!(stack.access(), Access::Array("/jpg".to_owned()));
            let (rows, left_out) = rows(&stack);
            let what = format!("{kind}, {is_packed}");
            assert_eq!((digests(&rows), left_out.len()), (expected.clone(), 0), "{what}");
            assert_eq!(text(&rows, "label").unwrap().value(49), "49");
            assert_eq!(text(&rows, "note").unwrap().value(3), "a text of some length");
            assert_eq!(
                (text(&rows, "image_id").unwrap().value(7), text(&rows, "format").unwrap().value(7)),
                ("a.h5/07", "png")
            );
            let width = rows.column_by_name("width").unwrap().as_primitive::<arrow::datatypes::Int64Type>();
            assert_eq!(width.value(0), 5);
            let has_place = images::sources(&rows).unwrap().all(|source| source.offset.is_some());
            assert_eq!(has_place, kind == "lists" || !is_packed, "{what}");
        }
    }
}

#[test]
fn rows_without_bytes_are_left_out_and_named() {
    let dir = TempDir::new().unwrap();
    let mut pictures: Vec<Vec<u8>> = (0..40).map(picture).collect();
    pictures[3].clear();
    pictures[33].clear();
    let path = made(&dir, |file| {
        long(file, "jpg", &pictures, false);
        file.new_dataset::<i32>().shape(40).create("number").unwrap().write_raw(&(0..40).collect::<Vec<i32>>()).unwrap();
    });
    let (rows, left_out) = rows(&Stack::open(&LocalFiles, &path, None).unwrap());
    let numbers = rows.column_by_name("number").unwrap().as_primitive::<arrow::datatypes::Int32Type>();
    assert!(numbers.values().iter().copied().eq((0..40).filter(|at| ![3, 33].contains(at))));
    assert_eq!(left_out.iter().map(|one| &*one.path).collect::<Vec<_>>(), ["a.h5/03", "a.h5/33"]);
    assert_eq!(left_out[0].reason, "the row has no bytes");
}

/// A picture a dataset: single values, or numbers of one byte, in one piece or packed.
#[test]
fn a_group_of_pictures_is_a_data_set() {
    let dir = TempDir::new().unwrap();
    let path = made(&dir, |file| {
        for (class, first) in [("cat", 0), ("dog", 100)] {
            let group = file.create_group(&format!("images/{class}")).unwrap();
            for at in first..first + 80 {
                let (name, bytes) = (format!("{at:03}.png"), picture(at));
                match at % 4 {
                    0 => {
                        fixed(&group, &name, std::slice::from_ref(&bytes), bytes.len(), H5T_class_t::H5T_OPAQUE, false, true)
                    }
                    1 => {
                        fixed(&group, &name, std::slice::from_ref(&bytes), bytes.len(), H5T_class_t::H5T_STRING, false, true)
                    }
                    2 => group.new_dataset::<u8>().shape(bytes.len()).create(&*name).unwrap().write_raw(&bytes).unwrap(),
                    _ => {
                        let builder = group.new_dataset::<u8>().shape(bytes.len()).chunk(50).deflate(4);
                        builder.create(&*name).unwrap().write_raw(&bytes).unwrap();
                    }
                }
            }
        }
        file.new_dataset::<i32>().shape(3).create("other").unwrap().write_raw(&[1, 2, 3]).unwrap();
    });
    for (column, id) in [(None, "a.h5/images/cat/000.png"), (Some("images"), "a.h5/cat/000.png")] {
        let stack = Stack::open(&LocalFiles, &path, column).unwrap();
        let (rows, left_out) = rows(&stack);
        assert_eq!((rows.num_rows(), left_out.len()), (160, 0));
        let expected: Vec<String> = (0..80).chain(100..180).map(|at| digest(&picture(at))).collect();
        assert_eq!(digests(&rows), expected);
        assert_eq!(text(&rows, "image_id").unwrap().value(0), id);
        let label = text(&rows, "label").unwrap();
        assert_eq!((label.value(0), label.value(159)), if column.is_some() { ("cat", "dog") } else { ("images", "images") });
    }
    let flat = Stack::open(&LocalFiles, &path, Some("/images/cat/")).unwrap();
    assert!(flat.schema().field_with_name("label").is_err());
    assert_eq!(rows(&flat).0.num_rows(), 80);
}

#[test]
fn what_may_be_the_images_is_said() {
    let dir = TempDir::new().unwrap();
    let pictures: Vec<Vec<u8>> = (0..4).map(picture).collect();
    let path = made(&dir, |file| {
        long(file, "a", &pictures, false);
        long(file, "b", &pictures, false);
        long(file, "words", &vec![b"words, and no picture at all".to_vec(); 4], false);
    });
    let refused = |column: Option<&str>| Stack::open(&LocalFiles, &path, column).unwrap_err().to_string();
    assert!(
        refused(None).contains("several datasets may be the images: /a, /b; column = \"/a\" says which"),
        "{}",
        refused(None)
    );
    assert_eq!(rows(&Stack::open(&LocalFiles, &path, Some("b")).unwrap()).0.num_rows(), 4);
    let path = made(&dir, |file| long(file, "words", &vec![b"words, and no picture at all".to_vec(); 4], false));
    let refused = Stack::open(&LocalFiles, &path, None).unwrap_err().to_string();
    assert!(
        refused.contains("has no dataset of images: images are uint8, N x H x W x 3") && refused.contains("`/words`"),
        "{refused}"
    );
}

/// Whatever bytes are flipped: an error that names the file, or images that are what they were listed as.
#[test]
fn damaged_files_are_told() {
    let dir = TempDir::new().unwrap();
    let pictures: Vec<Vec<u8>> = (0..6).map(picture).collect();
    let path = made(&dir, |file| long(file, "jpg", &pictures, false));
    let whole = std::fs::read(&path).unwrap();
    let mut refused = 0;
    for at in (0..whole.len()).step_by(83) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&path, &bytes).unwrap();
        let outcome = Stack::open(&LocalFiles, &path, None).and_then(|stack| {
            let listed = stack.list(&LocalFiles)?.files;
            let prints: Vec<Fingerprint> =
                listed.into_iter().map(|entry| Fingerprint { entry, ..Fingerprint::default() }).collect();
            for found in stack.rows(&LocalFiles, &prints)? {
                let rows = found?.rows;
                let sources: Vec<Source<'_>> = images::sources(&rows).unwrap().collect();
                let read = stack.access().read_each(&LocalFiles, stack.root(), stack.root(), &sources);
                for (bytes, listed) in read.into_iter().zip(digests(&rows)) {
                    assert_eq!(digest(&bytes?), listed);
                }
            }
            Ok(())
        });
        if let Err(error) = outcome {
            assert!(error.to_string().contains("a.h5"), "{error}");
            refused += 1;
        }
    }
    assert!(refused > 5, "{refused}");
}
